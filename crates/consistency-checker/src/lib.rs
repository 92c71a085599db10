//! The checker's process: any number of these may run, one of them repairs.

use anyhow::Context as _;
use consistency::Checker;
use service_runtime::{Context, Criticality, HealthRegistry, small_page};
use settings::Settings;
use settings::health::{StorePart, register as register_stores, register_standing, register_surroundings};
use settings::presence;
use sync_engine::Stores;
use sync_engine::operate::standings;
use sync_engine::recover::probe;

/// Sweeps until the soft token; where a sweep stopped, the next checker goes on.
pub async fn serve(context: Context, settings: Settings) -> anyhow::Result<()> {
    let http = context.gate.listen("service.checker_http_addr", settings.service.checker_http_addr).await?;
    tracing::info!(http = %http.local_addr()?, "listening");

    let stores = settings.followed_stores(&context).await?;
    register_health(&context.health, &stores);
    let startup = context.health.startup();
    let checker = Checker::new(stores.clone(), settings.data_consistency.clone(), context.instance.to_string());
    context.serve_ops(http, consistency::routes(checker.clone()).merge(small_page::routes()));
    stores.prepare().await?;
    startup.ok();

    let until_resharded = stores.clone();
    let helpers = context.hard.child_token();
    let interval = settings.event_driven_sync.circuit.probe_interval;
    context.tracker.spawn(probe::watch_cache(stores.clone(), interval, helpers.clone()));
    let limit = settings.event_driven_sync.journal_limit;
    context.tracker.spawn(standings::watch(stores.clone(), limit, helpers.clone()));
    context.tracker.spawn(presence::announce(&context, &stores, context.soft.clone()));
    context.tracker.spawn(probe::watch_database(stores, interval, helpers.clone()));
    let mut checking = context.tracker.spawn(checker.run(context.soft.clone()));
    tokio::select! {
        ended = &mut checking => ended.context("checking")?,
        () = context.hard.cancelled() => anyhow::bail!("the step in hand did not end in time"),
        // Started again it knows.
        resharded = until_resharded.until_resharded() => {
            context.soft.cancel();
            checking.await.context("checking")?;
            helpers.cancel();
            return Err(resharded.into());
        }
    }
    helpers.cancel();
    Ok(())
}

/// Both stores are compared here, so nothing works without either.
fn register_health(health: &HealthRegistry, stores: &Stores) {
    let part = |name, circuit| StorePart { name, criticality: Criticality::Critical, circuit, meanwhile: "" };
    register_stores(health, [part("redis", &stores.cache_circuit), part("mysql", &stores.database_circuit)]);
    register_surroundings(health, stores);
    register_standing(health, stores);
}
