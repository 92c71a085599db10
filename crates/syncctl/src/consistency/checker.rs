//! The checker's own code on the stores, without a server.

use super::StoreArgs;
use consistency::{AutoFix, Checker, ConsistencyConfig, Strategy};
use settings::Settings;
use std::time::Duration;
use sync_engine::Stores;

/// Time that a checker looks at what seems wrong before it says so.
const CONFIRM_AFTER: Duration = Duration::from_millis(500);

/// These stores. Their schema must be current, and the cache must hold the database's number of shards.
pub(super) async fn stores(args: &StoreArgs) -> anyhow::Result<Stores> {
    let mut settings = Settings::default();
    settings.database.url = args.database_url.clone().into();
    settings.redis.url = args.redis_url.clone().into();
    settings.redis.key_prefix.clone_from(&args.redis_prefix);
    settings.redis.ca_file.clone_from(&args.redis_ca_file);
    crate::open::stores(&mut settings).await
}

/// A checker on these stores.
pub(super) async fn checker(args: &StoreArgs, strategy: Strategy) -> anyhow::Result<Checker> {
    let stores = stores(args).await?;
    let config = ConsistencyConfig {
        max_rate: args.max_rate,
        history: Duration::from_secs(u64::from(args.history_days) * 86_400),
        stuck_after: Duration::from_secs_f64(args.stuck_after),
        confirm_after: CONFIRM_AFTER,
        // No lease is held: this is how long a token is used, and one step may repair a lot.
        lease: Duration::from_secs(120),
        auto_fix: AutoFix { enabled: true, strategy, dry_run: false },
        ..ConsistencyConfig::default()
    };
    config.validate().map_err(anyhow::Error::msg)?;
    Ok(Checker::new(stores, config, format!("syncctl-{}", std::process::id())))
}
