//! The standalone consumer: queue to database, settle, acknowledge; retries; retention; a rescuer, so that events
//! never wait for a dead server; and recovery of a database that went back in time.
//!
//! Any number of these may run: the database puts writers of one resource in a line, and versions make it not matter
//! who came first.

use anyhow::Context as _;
use event_bus::{BusConfig, Publisher};
use service_runtime::{Context, Criticality, HealthRegistry, small_page};
use settings::Settings;
use settings::health::{
    StorePart, register as register_stores, register_changes, register_flow, register_redo_log, register_standing,
    register_surroundings,
};
use settings::presence;
use sync_engine::Stores;
use sync_engine::apply::Applier;
use sync_engine::apply::retry::Retrier;
use sync_engine::deliver::consumer::ConsumerLoop;
use sync_engine::deliver::dead_letters::DeadLetters;
use sync_engine::deliver::redo_log::RedoLog;
use sync_engine::deliver::unpublished::UnpublishedChanges;
use sync_engine::operate::erase::Eraser;
use sync_engine::operate::most_liked::MostLiked;
use sync_engine::operate::retention::Retention;
use sync_engine::operate::standings;
use sync_engine::recover::automatic::Recovery;
use sync_engine::recover::probe;
use sync_engine::recover::redeliver::Rescuer;

/// Consumes until the soft token; what is in hand then is finished and acknowledged, the rest goes back to the queue.
pub async fn serve(context: Context, settings: Settings) -> anyhow::Result<()> {
    let http = context.gate.listen("service.consumer_http_addr", settings.service.consumer_http_addr).await?;
    tracing::info!(http = %http.local_addr()?, "listening");

    let sync = &settings.event_driven_sync;
    let mut stores = settings.followed_stores(&context).await?;
    settings.follow_broker(&context);
    stores.traces = settings.traces(&context);
    register_health(&context.health, &stores, &settings.rabbitmq);
    let startup = context.health.startup();
    context.serve_ops(http, small_page::routes());
    stores.prepare().await?;

    // Before anything is applied.
    let redo_log = RedoLog::new(stores.clone(), settings.rabbitmq.clone(), context.instance.to_string());
    let changes = UnpublishedChanges::new(stores.clone(), settings.rabbitmq.clone(), context.instance.to_string());
    let most_liked = MostLiked::new(stores.clone());
    let publisher = || Publisher::new(settings.rabbitmq.clone());
    let applier = Applier::new(stores.clone(), sync.retry.into());
    let retrier = Retrier::new(stores.clone(), applier.clone(), Some(publisher()), sync.retry.into())
        .with_claim_lease(sync.retry.claim_lease)
        .in_turns(context.instance.to_string());
    let owner = context.instance.to_string();
    let rescuer = Rescuer::new(stores.clone(), applier.clone(), Some(publisher()), owner.clone(), sync);
    let eraser = Eraser::new(stores.clone(), owner.clone(), sync);
    let retention = Retention::new(stores.clone(), owner.clone(), sync);
    let bus = settings.rabbitmq.clone();
    let recovery = Recovery::new(stores.clone(), applier.clone(), bus, owner, sync.recovery, sync.batch_size);
    let dead_letters = DeadLetters::new(stores.clone(), applier.clone(), settings.rabbitmq.clone());
    let consumer = ConsumerLoop::new(stores.clone(), applier, settings.rabbitmq.clone(), sync.batch_size);

    let until_resharded = stores.clone();
    let helpers = context.hard.child_token();
    let interval = sync.circuit.probe_interval;
    context.tracker.spawn(probe::watch_cache(stores.clone(), interval, helpers.clone()));
    context.tracker.spawn(probe::watch_database(stores.clone(), interval, helpers.clone()));
    context.tracker.spawn(probe::watch_broker(stores.clone(), publisher(), interval, helpers.clone()));
    context.tracker.spawn(standings::watch(stores.clone(), sync.journal_limit, helpers.clone()));
    context.tracker.spawn(most_liked.run(helpers.clone()));
    context.tracker.spawn(presence::announce(&context, &stores, context.soft.clone()));
    context.tracker.spawn(retrier.run(context.soft.clone()));
    context.tracker.spawn(rescuer.run(context.soft.clone()));
    context.tracker.spawn(retention.run(context.soft.clone()));
    context.tracker.spawn(eraser.run(context.soft.clone()));
    context.tracker.spawn(dead_letters.run(context.soft.clone()));
    context.tracker.spawn(redo_log.run(context.soft.clone()));
    context.tracker.spawn(changes.run(context.soft.clone()));
    context.tracker.spawn(recovery.run(context.soft.clone()));
    startup.ok();
    let mut consuming = context.tracker.spawn(consumer.run(context.soft.clone()));
    tokio::select! {
        ended = &mut consuming => ended.context("consuming")?,
        // What is not acknowledged is delivered again.
        () = context.hard.cancelled() => anyhow::bail!("the batch in hand did not end in time"),
        // Started again it knows.
        resharded = until_resharded.until_resharded() => {
            context.soft.cancel();
            consuming.await.context("consuming")?;
            helpers.cancel();
            return Err(resharded.into());
        }
    }
    helpers.cancel();
    Ok(())
}

/// The consumer works only with what it can consume, and with the database; without the cache it applies and lets others
/// settle, and where it cannot publish it applies what is stuck.
fn register_health(health: &HealthRegistry, stores: &Stores, bus: &BusConfig) {
    let part = |name, criticality, circuit| StorePart { name, criticality, circuit, meanwhile: "" };
    register_stores(
        health,
        [
            part("redis", Criticality::Optional, &stores.cache_circuit),
            part("rabbitmq", Criticality::Optional, &stores.broker_circuit),
            part("consuming", Criticality::Critical, &stores.consuming),
            part("mysql", Criticality::Critical, &stores.database_circuit),
        ],
    );
    register_surroundings(health, stores);
    register_flow(health, stores);
    register_standing(health, stores);
    register_redo_log(health, bus);
    register_changes(health, stores, bus);
}
