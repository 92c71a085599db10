//! What every process that accepts likes consists of, whatever its stores; the programs put it together, start it with what
//! only they have, and so say in which order things begin and end.

use crate::admin::{self, Admin};
use crate::dashboard;
use crate::grpc;
use crate::openapi;
use crate::service::Interactions;
use crate::service::hot::HotList;
use crate::service::http::{self, Opening};
use crate::service::limits::Limits;
use crate::service::watch::Watch;
use crate::service::web;
use anyhow::Context as _;
use consistency::Checker;
use event_bus::{BusConfig, Publisher};
use futures::future::BoxFuture;
use service_runtime::{Context, Criticality, HealthRegistry, OpsRoutes, PartState, Status};
use settings::{Settings, presence};
use std::sync::Arc;
use sync_engine::Stores;
use sync_engine::accept::Acceptor;
use sync_engine::apply::Applier;
use sync_engine::deliver::kept::{Keeper, Kept};
use sync_engine::deliver::redo_log::RedoLog;
use sync_engine::deliver::relay::{Relay, RelayHandle};
use sync_engine::operate::most_liked::MostLiked;
use sync_engine::operate::standings;
use sync_engine::read::Reader;
use sync_engine::read::live::LiveCounts;
use sync_engine::read::warm_up::Warmer;
use sync_engine::recover::probe;
use sync_engine::recover::recheck::{Recheck, RecheckTask};
use sync_engine::recover::redeliver::Rescuer;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Whether likes can be accepted: one store is enough.
pub fn register_likes(health: &HealthRegistry, stores: &Stores) {
    let (cache, database) = (Arc::clone(&stores.cache_circuit), Arc::clone(&stores.database_circuit));
    health.probe("likes", Criticality::Critical, move || {
        let down = cache.is_open() && database.is_open();
        async move {
            if down {
                PartState::new(Status::Down, "cache and database are unreachable")
            } else {
                PartState::new(Status::Ok, "")
            }
        }
    });
}

/// One kind of task, so that the runtime's own code for it is compiled once.
fn spawn(context: &Context, task: BoxFuture<'static, ()>) -> JoinHandle<()> {
    context.tracker.spawn(task)
}

/// The parts, before any of them runs.
pub struct Assembly {
    context: Context,
    settings: Settings,
    stores: Stores,
    broker: Option<BusConfig>,
    reader: Reader,
    warmer: Warmer,
    checker: Checker,
    admin: Admin,
    live: LiveCounts,
    likes: Opening,
    recheck: Recheck,
    recheck_task: RecheckTask,
}

impl Assembly {
    /// Over these stores. Without a broker the relay applies every event directly.
    pub fn new(context: &Context, settings: &Settings, stores: &Stores, broker: Option<BusConfig>) -> Self {
        // What is in this process already needs no memory beside it.
        let remote = broker.is_some();
        let near = settings.cache_management.near_cache;
        let stores = if remote { stores.clone().with_near_cache(&near) } else { stores.clone() };
        let (recheck, recheck_task) = Recheck::new(stores.clone());
        let reader = Reader::new(stores.clone(), recheck.clone());
        let warmer = Warmer::new(stores.clone(), recheck.clone(), settings.cache_management.warmup);
        let owner = context.instance.to_string();
        let checker = Checker::new(stores.clone(), settings.data_consistency.clone(), owner);
        let queue = broker.clone().map(Publisher::new);
        let admin = Admin::new(stores.clone(), reader.clone(), warmer.clone(), checker.clone(), queue);
        // What is polled for watchers is no read of a caller: it is not counted as one, and looks for what others changed.
        let polling = Reader::new(stores.clone().without_near_cache(), recheck.clone());
        let live = LiveCounts::new(polling, settings.cache_management.live_counts);
        let (context, settings) = (context.clone(), settings.clone());
        let likes = Opening::default();
        Self { context, settings, stores, broker, reader, warmer, checker, admin, live, likes, recheck, recheck_task }
    }

    /// The process's own checker; somebody has to run it, here or in another process.
    pub fn checker(&self) -> Checker {
        self.checker.clone()
    }

    /// The dashboard, operators' calls and likes by HTTP, for [`Context::serve_ops`]; likes once [`start`](Self::start)ed.
    pub fn routes(&self) -> OpsRoutes {
        let described = admin::routes(self.admin.clone()).merge(http::routes(self.likes.clone()));
        let described = openapi::described(described).merge(web::routes(self.likes.clone()));
        OpsRoutes { router: dashboard::routes().merge(described), paths: http::PATHS }
    }

    /// Starts what accepts likes and brings them on. The stores must be prepared.
    pub fn start(self) -> Running {
        let Self {
            context,
            settings,
            stores,
            broker,
            reader,
            warmer,
            checker,
            admin,
            live,
            likes,
            recheck,
            recheck_task,
        } = self;
        let sync = &settings.event_driven_sync;
        let publisher = || broker.clone().map(Publisher::new);
        let applier = Applier::new(stores.clone(), sync.retry.into());
        // Before anything is applied.
        let redo_log = broker.clone().map(|broker| RedoLog::new(stores.clone(), broker, context.instance.to_string()));
        let most_liked = MostLiked::new(stores.clone());
        // A cache in this process cannot become what it once was.
        let kept = broker.is_some().then(|| Kept::new(stores.shards(), sync.kept_bytes));
        let (relay_handle, relay): (RelayHandle, Relay) = Relay::new(
            stores.clone(),
            applier.clone(),
            publisher(),
            kept.clone(),
            sync.relay_capacity,
            sync.batch_size,
        );
        let rescuer = Rescuer::new(stores.clone(), applier, publisher(), context.instance.to_string(), sync);

        // These serve the others until the last like is relayed.
        let helpers = context.hard.child_token();
        let interval = sync.circuit.probe_interval;
        let relaying = spawn(&context, Box::pin(relay.run(context.hard.clone())));
        spawn(&context, Box::pin(recheck_task.run(helpers.clone())));
        spawn(&context, most_liked.run(helpers.clone()));
        if let Some(kept) = kept {
            let keeper = Keeper::new(stores.clone(), kept, relay_handle.clone());
            spawn(&context, Box::pin(keeper.run(context.soft.clone())));
        }
        spawn(&context, Box::pin(rescuer.run(context.soft.clone())));
        if let Some(redo_log) = redo_log {
            spawn(&context, Box::pin(redo_log.run(context.soft.clone())));
        }
        spawn(&context, Box::pin(probe::watch_cache(stores.clone(), interval, helpers.clone())));
        spawn(&context, standings::watch(stores.clone(), sync.journal_limit, helpers.clone()));
        spawn(&context, Box::pin(probe::watch_database(stores.clone(), interval, helpers.clone())));
        if let Some(publisher) = publisher() {
            spawn(&context, Box::pin(probe::watch_broker(stores.clone(), publisher, interval, helpers.clone())));
        }
        spawn(&context, Box::pin(context.pulse.clone().run(helpers.clone())));
        spawn(&context, presence::announce(&context, &stores, context.soft.clone()));
        spawn(&context, admin.clone().sample(context.soft.clone()));
        spawn(&context, Box::pin(live.clone().run(context.soft.clone())));
        spawn(&context, Box::pin(warmer.run_at_start(context.soft.clone())));

        let acceptor = Acceptor::new(stores.clone(), relay_handle, recheck, sync.direct_writes, sync.write_path());
        let interactions = Interactions::new(
            acceptor,
            reader.clone(),
            stores.database.clone(),
            Limits::new(&settings.rate_limiting, &settings.cache_management),
            HotList::new(checker, reader, stores.database),
            Watch::new(live.clone(), context.gate.access.clone(), context.soft.clone()),
            context.pulse.clone(),
        );
        likes.open(interactions.clone());
        Running { context, interactions, admin, live, likes, relaying, helpers }
    }
}

/// An assembly whose tasks run.
pub struct Running {
    context: Context,
    interactions: Interactions,
    admin: Admin,
    live: LiveCounts,
    likes: Opening,
    relaying: JoinHandle<()>,
    helpers: CancellationToken,
}

impl Running {
    /// Serves gRPC until the soft token: then calls finish, the relay publishes what was accepted, and the rest ends. Whatever
    /// the hard token interrupts is in the journal.
    ///
    /// Boxed, so that it is compiled here and not with every program.
    pub fn serve(self, listener: TcpListener) -> BoxFuture<'static, anyhow::Result<()>> {
        Box::pin(self.run(listener))
    }

    async fn run(self, listener: TcpListener) -> anyhow::Result<()> {
        let Self { context, interactions, admin, live, likes, relaying, helpers } = self;
        let served = Box::pin(grpc::serve(context, listener, interactions, admin, live)).await;
        likes.close();
        served?;
        // The last acceptor is gone with the server, so the relay ends when it has relayed everything.
        relaying.await.context("relay")?;
        helpers.cancel();
        Ok(())
    }
}
