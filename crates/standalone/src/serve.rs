//! Wiring: embedded stores under the services of the separate programs.

use crate::args::Plan;
use crate::{demo, hello, replay};
use anyhow::Context as _;
use domain::ShardCount;
use embedded_cache::{EmbeddedCache, EmbeddedConfig};
use event_store::{DatabaseConfig, EventStore};
use interaction_api::assembly::register_likes;
use interaction_api::{Assembly, Sockets};
use service_runtime::{ConfigError, Context, Criticality, HealthRegistry};
use settings::Settings;
use settings::health::{StorePart, register as register_stores, register_standing};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use sync_engine::Stores;
use sync_engine::apply::Applier;
use sync_engine::apply::retry::Retrier;
use sync_engine::operate::erase::{Eraser, tell_deleted};
use sync_engine::operate::retention::Retention;
use tokio::signal::unix::{SignalKind, signal};

/// The file of the database in the directory of the data.
const DATABASE: &str = "interaction.db";

/// Sent to a process whose file would exceed its limit; unless caught, it kills. The same number on Linux and macOS.
const SIGXFSZ: i32 = 25;

/// Serves until the soft token: then gRPC finishes what it has, the relay applies what was accepted, and the rest ends.
pub(crate) async fn serve(context: Context, mut settings: Settings, plan: Plan) -> anyhow::Result<()> {
    // A file that may not grow is an error of the write, not the end of the process.
    let _caught = signal(SignalKind::from_raw(SIGXFSZ)).context("listening for signals")?;
    if plan.demo.is_some() && (context.gate.has_tls() || context.gate.access.needs_token()) {
        let reason = "plays only where nobody needs a token and there is no TLS (service.access, service.tls)";
        return Err(ConfigError::key("--demo", reason).into());
    }
    // The directory first: who starts a second process by mistake should learn that, and not that a port is taken.
    settings.event_driven_sync.shards = settings.shards_where(shards_in(&settings, &plan.data_dir).await);
    let cache = Arc::new(open_cache(&settings, &plan.data_dir)?);
    let sockets = Sockets::bind(&context.gate, &settings.service).await?;
    let (grpc, http) = sockets.addresses()?;

    let sync = &settings.event_driven_sync;
    let database = open_database(&settings.database, &plan.data_dir).await?;
    let database = database.with_idempotency_ttl(settings.event_driven_sync.idempotency_ttl);
    let mut stores = Stores::new(cache.clone(), database, sync.shards, sync.circuit);
    stores.traces = settings.traces(&context);
    stores.prepare().await?;
    // The cache has marks of deleted resources in its memory only.
    tell_deleted(&stores).await?;
    let applier = Applier::new(stores.clone(), sync.retry.into());
    let replayed = replay::replay(&stores, &applier, sync.shards, sync.batch_size, &context.soft).await?;

    let retrier =
        Retrier::new(stores.clone(), applier, None, sync.retry.into()).with_claim_lease(sync.retry.claim_lease);
    let eraser = Eraser::new(stores.clone(), context.instance.to_string(), sync);
    let retention = Retention::new(stores.clone(), context.instance.to_string(), sync);
    context.tracker.spawn(retrier.run(context.soft.clone()));
    context.tracker.spawn(retention.run(context.soft.clone()));
    context.tracker.spawn(eraser.run(context.soft.clone()));
    if let Some(rate) = plan.demo {
        context.tracker.spawn(demo::play(grpc, rate, context.soft.clone()));
    }

    hello::print(&hello::Facts {
        grpc,
        http,
        data_dir: &plan.data_dir,
        durability: settings.embedded_cache.durability,
        replayed,
        demo: plan.demo,
        tls: context.gate.has_ops_tls(),
        tokens: context.gate.access.needs_token(),
    });
    register_health(&context.health, &stores);
    let startup = context.health.startup();
    let assembly = Assembly::new(&context, &settings, &stores, None);
    context.serve_ops(sockets.http, assembly.routes());
    // The only process there is: it checks itself, as a consistency-checker would.
    context.tracker.spawn(assembly.checker().run(context.soft.clone()));
    let running = assembly.start();
    startup.ok();
    running.serve(sockets.grpc).await
}

fn register_health(health: &HealthRegistry, stores: &Stores) {
    let part = |name, circuit, meanwhile| StorePart { name, criticality: Criticality::Optional, circuit, meanwhile };
    register_stores(
        health,
        [
            part("journal", &stores.cache_circuit, "likes are written to the database directly"),
            part("database", &stores.database_circuit, "likes are accepted and wait in the journal"),
        ],
    );
    register_likes(health, stores);
    register_standing(health, stores);
}

/// The number of shards of the data there, if there is any.
async fn shards_in(settings: &Settings, data_dir: &Path) -> Option<ShardCount> {
    if let Some(shards) = EmbeddedConfig::shards_in(&data_dir.join("journal")) {
        return Some(shards);
    }
    if !data_dir.join(DATABASE).exists() {
        return None;
    }
    let database = open_database(&settings.database, data_dir).await.ok()?;
    let shards = database.shards().await.ok().flatten();
    database.close().await;
    shards
}

fn open_cache(settings: &Settings, data_dir: &Path) -> anyhow::Result<EmbeddedCache> {
    let cache = settings.embedded_cache.open(&data_dir.join("journal"), settings.cache_rules())?;
    let recovered = cache.recovered();
    if recovered.torn_bytes > 0 {
        tracing::info!(
            bytes = recovered.torn_bytes,
            "the last process ended while writing; nothing of that was answered"
        );
    }
    Ok(cache)
}

async fn open_database(config: &DatabaseConfig, data_dir: &Path) -> anyhow::Result<EventStore> {
    let path = data_dir.join(DATABASE);
    let path = path.to_str().with_context(|| format!("{}: not a name in UTF-8", path.display()))?;
    let config = DatabaseConfig { url: sqlite_url(path).into(), ..config.clone() };
    EventStore::connect(&config).await.context("database")
}

/// The url of a file, whatever its name contains.
fn sqlite_url(path: &str) -> String {
    let mut url = String::from("sqlite:");
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::sqlite_url;

    #[test]
    fn names_of_files_need_no_care() {
        assert_eq!(sqlite_url("a/b-1.db"), "sqlite:a/b-1.db");
        assert_eq!(sqlite_url("/my data/100%?x.db"), "sqlite:/my%20data/100%25%3Fx.db");
    }
}
