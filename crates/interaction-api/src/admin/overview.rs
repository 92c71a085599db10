//! `GET /overview`: what the dashboard shows and no other route has. Whatever cannot be asked is null.

use super::{Admin, cache_stats};
use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use consistency::LagReport;
use consistency::openapi::AnyObject;
use event_bus::Publisher;
use event_store::{OperatorAction, ProcessRow, StatusCount, StoreError};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sync_engine::stores::lag;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// However many pages are open, the stores are asked this often.
const FRESH: Duration = Duration::from_millis(900);

/// Slower parts are left out.
const PATIENCE: Duration = Duration::from_secs(2);

/// The queue answers within this time or counts as unreachable. Long enough for a connection: one that is given up half way begins
/// anew the next time.
const QUEUE_PATIENCE: Duration = Duration::from_secs(5);

/// Events of one status are counted up to here.
const COUNTED: u32 = 100_000;

const HOT: usize = 10;
const ACTIONS: u32 = 8;

/// Asks at most once in [`FRESH`], for everybody who waits.
#[derive(Clone)]
pub(super) struct OverviewCache {
    seen: Arc<Mutex<Option<(Instant, Overview)>>>,
    /// None without a broker.
    queue: Option<Arc<Mutex<Publisher>>>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Overview {
    /// None of the figures is older.
    pub(super) at: DateTime<Utc>,
    circuits: Circuits,
    /// Whether there is a queue at all.
    broker: bool,
    pub(super) queue: Option<Queue>,
    pub(super) journal: Option<Journal>,
    pub(super) ledger: Option<Vec<StatusCount>>,
    lag: Option<LagReport>,
    hot: Option<Vec<Hot>>,
    actions: Option<Vec<OperatorAction>>,
    /// Who runs, and who died within the last day.
    processes: Option<Vec<ProcessRow>>,
}

/// True while a part counts as unreachable.
#[derive(Debug, Clone, Copy, Serialize)]
struct Circuits {
    cache: bool,
    broker: bool,
    database: bool,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Queue {
    pub(super) ready: u32,
    consumers: u32,
}

/// The accounting of all shards together.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Journal {
    pub(super) accepted: u64,
    pub(super) pending: u64,
    oldest_age_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Hot {
    resource_type: &'static str,
    resource_id: i64,
    /// Among the newest events of the ledger.
    events: i64,
    /// Stored count.
    count: i64,
}

impl OverviewCache {
    pub(super) fn new(queue: Option<Publisher>) -> Self {
        Self { seen: Arc::default(), queue: queue.map(|publisher| Arc::new(Mutex::new(publisher))) }
    }

    async fn queue(&self) -> Option<Queue> {
        let mut publisher = self.queue.as_ref()?.lock().await;
        let depth = timeout(QUEUE_PATIENCE, publisher.queue_depth()).await.ok()?.ok()?;
        Some(Queue { ready: depth.ready, consumers: depth.consumers })
    }
}

/// Figures of the dashboard; null where a store is unreachable.
#[utoipa::path(get, path = "/overview", operation_id = "overview",
    responses((status = 200, description = "Figures.", body = AnyObject)))]
pub(super) async fn http(State(admin): State<Admin>) -> Json<Overview> {
    Json(latest(&admin).await)
}

/// The figures of now, or of a moment ago.
pub(super) async fn latest(admin: &Admin) -> Overview {
    let mut seen = admin.overview_cache.seen.lock().await;
    if let Some((at, overview)) = &*seen
        && at.elapsed() < FRESH
    {
        return overview.clone();
    }
    let overview = Box::pin(look(admin)).await;
    seen.insert((Instant::now(), overview)).1.clone()
}

async fn look(admin: &Admin) -> Overview {
    let (stores, at) = (&admin.stores, sync_engine::clock::wall_clock());
    let circuits = Circuits {
        cache: stores.cache_circuit.is_open(),
        broker: stores.broker_circuit.is_open(),
        database: stores.database_circuit.is_open(),
    };
    let queue = async { if circuits.broker { None } else { admin.overview_cache.queue().await } };
    let database = async { if circuits.database { None } else { timeout(PATIENCE, stored(admin)).await.ok()?.ok() } };
    let (queue, journal, stored) = tokio::join!(queue, timeout(PATIENCE, journal(admin)), database);
    let Stored { ledger, lag, actions, processes } = stored.unwrap_or_default();
    Overview {
        at,
        circuits,
        broker: admin.overview_cache.queue.is_some(),
        queue,
        journal: journal.ok().flatten(),
        ledger,
        lag,
        hot: if circuits.database { None } else { timeout(PATIENCE, hot(admin)).await.ok().flatten() },
        actions,
        processes,
    }
}

async fn journal(admin: &Admin) -> Option<Journal> {
    let stats = cache_stats::call(admin).await.ok().filter(|stats| stats.available)?;
    let accepted = stats.shards.iter().map(|shard| shard.accepted).sum();
    Some(Journal { accepted, pending: stats.pending, oldest_age_ms: stats.oldest_age_ms })
}

/// What the database says; none of anything if it cannot be asked.
#[derive(Default)]
struct Stored {
    ledger: Option<Vec<StatusCount>>,
    lag: Option<LagReport>,
    actions: Option<Vec<OperatorAction>>,
    processes: Option<Vec<ProcessRow>>,
}

async fn stored(admin: &Admin) -> Result<Stored, StoreError> {
    let database = &admin.stores.database;
    Ok(Stored {
        ledger: Some(database.count_by_status(COUNTED).await?),
        lag: Some(LagReport::of(lag::recent(&admin.stores).await?)),
        actions: Some(database.operator_actions(ACTIONS).await?),
        processes: Some(database.processes().await?),
    })
}

async fn hot(admin: &Admin) -> Option<Vec<Hot>> {
    let mut ranked = admin.checker.hottest().await.ok()?;
    ranked.truncate(HOT);
    let resources: Vec<_> = ranked.iter().map(|(resource, _)| *resource).collect();
    let counts = admin.stores.database.load_counts(&resources).await.ok()?;
    let one = |((resource, events), stored): ((domain::Resource, i64), domain::StoredCount)| Hot {
        resource_type: resource.kind.name(),
        resource_id: resource.id.get(),
        events,
        count: stored.count,
    };
    Some(ranked.into_iter().zip(counts).map(one).collect())
}
