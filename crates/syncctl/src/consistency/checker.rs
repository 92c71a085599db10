//! The checker's own code on the stores, without a server.

use super::StoreArgs;
use consistency::{AutoFix, Checker, ConsistencyConfig, Strategy};
use domain::StoreUrl;
use settings::Settings;
use std::time::Duration;
use sync_engine::Stores;

/// Time that a checker looks at what seems wrong before it says so.
const CONFIRM_AFTER: Duration = Duration::from_millis(500);

/// These stores. Their schema must be current, and the cache must hold the database's number of shards.
pub(super) async fn stores(args: &StoreArgs) -> anyhow::Result<Stores> {
    let mut settings = Settings::default();
    settings.database.url = args.database_url.clone().into();
    args.cache.tell(&mut settings.redis);
    let opened = crate::open::stores(&mut settings).await?;
    // Nobody else can tell whether these two belong together.
    eprintln!("{}", which(args));
    Ok(opened)
}

/// Which two are compared: never a user, a password or an option.
fn which(args: &StoreArgs) -> String {
    let database = match StoreUrl::parse(&args.database_url, &["mysql", "mariadb"]) {
        Ok(url) => {
            let place = domain::addresses::join(&url.host, url.port.unwrap_or(3306));
            format!("{place} {}", url.path.as_deref().unwrap_or_default())
        }
        // A file.
        Err(_) => "the database in a file".to_owned(),
    };
    format!("database {database} and {}", args.cache.which())
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        stores: StoreArgs,
    }

    #[test]
    fn it_is_said_which_stores_are_compared_and_no_secret() {
        let told = |words: &[&str]| {
            let line = Line::try_parse_from([&["x"], words].concat()).unwrap_or_else(|error| panic!("{error}"));
            which(&line.stores)
        };
        let full = [
            "--database-url=mysql://app:sesame@db:3307/likes?ssl-mode=DISABLED",
            "--redis-url=redis://me:sesame@[::1]/3",
            "--redis-prefix=app:",
        ];
        assert_eq!(
            told(&full),
            "database db:3307 likes and Redis [::1]:6379 database 3, keys that begin with \"app:\""
        );
        let bare = ["--database-url=mysql://db/likes", "--redis-url=redis://h"];
        assert_eq!(told(&bare), "database db:3306 likes and Redis h:6379 database 0, keys without a prefix");
    }
}
