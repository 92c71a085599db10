//! What every step of the protocol works on.

pub mod changes;
pub mod circuit_breaker;
pub mod clocks;
pub mod database_history;
pub mod disk;
pub mod faults;
pub mod flow;
pub mod lag;
pub(crate) mod lease;
pub mod like_database;
pub mod near_cache;
pub(crate) mod refused;
pub mod shard_circuits;
pub mod standing;
mod untold;
pub mod write_switch;

use crate::clock::wall_clock;
use crate::config::{CircuitConfig, RecoveryConfig};
use crate::trace::Traces;
use changes::ChangesStanding;
use chrono::{DateTime, Utc};
use circuit_breaker::Circuit;
use clocks::{Clocks, our_clock};
use database_history::DatabaseHistory;
use disk::CacheDisk;
use domain::cache::{CacheError, LikeCache};
use domain::{Resharded, ShardCount, Version};
use event_store::{EventStore, StoreError, Turn};
use flow::Flow;
use futures::FutureExt;
use futures::future::BoxFuture;
use like_database::LikeDatabase;
use near_cache::{NearCache, NearCacheConfig};
use planted_bugs::planted;
use refused::RefusedKind;
use shard_circuits::ShardCircuits;
use standing::Standings;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::RwLock;
use untold::UntoldWrites;
use write_switch::WriteSwitch;

/// Nobody is in a hurry to end.
const RESHARDED_POLL: Duration = Duration::from_millis(200);

/// The cache, the database, and whether each part is unreachable. Cheap to clone.
#[derive(Clone)]
pub struct Stores {
    /// Where likes are accepted.
    pub cache: Arc<dyn LikeCache>,
    /// Where they end up.
    pub database: EventStore,
    /// The same, as callers of likes and counts see it.
    pub(crate) likes: Arc<dyn LikeDatabase>,
    /// Open while the cache is unreachable: likes are written directly.
    pub cache_circuit: Arc<Circuit>,
    /// Of single shards, where the cache is several servers.
    pub shard_circuits: Arc<ShardCircuits>,
    /// Open while the broker is unreachable: the relay applies directly.
    pub broker_circuit: Arc<Circuit>,
    /// Open while this process cannot consume from the broker, whatever else it can do there.
    pub consuming: Arc<Circuit>,
    /// How likes get on.
    pub flow: Arc<Flow>,
    /// Open while the database is unreachable: nothing waits for it.
    pub database_circuit: Arc<Circuit>,
    /// Of what kind rows are that the database refused, all of them.
    pub(crate) refused: Arc<RefusedKind>,
    /// The latch gives way when so many entries are unsettled.
    latched_entries: u64,
    shards: ShardCount,
    resharded: Arc<OnceLock<Resharded>>,
    schema_ready: Arc<AtomicBool>,
    /// Held shared by direct writes, exclusively while the cache circuit closes: the last direct write is refreshed
    /// before the first like is judged by the cache again.
    pub(crate) direct_gate: Arc<RwLock<()>>,
    /// Writes of this process around the cache that it may not have been told of.
    pub(crate) untold: Arc<UntoldWrites>,
    /// How far the clocks of this process and of its stores are apart.
    pub clocks: Arc<Clocks>,
    /// Whether the database still has what it had confirmed.
    pub history: Arc<DatabaseHistory>,
    /// What the cache says of its disk.
    pub cache_disk: Arc<CacheDisk>,
    /// What is wrong with accepted likes, as all processes see it.
    pub standings: Arc<Standings>,
    /// Whether others hear of what is committed.
    pub changes: Arc<ChangesStanding>,
    /// Which way likes go.
    pub write_path: Arc<WriteSwitch>,
    /// Which likes are traced.
    pub traces: Traces,
    /// Writes of this process around the cache that were decided, whether the cache was told of them or not.
    pub(crate) written_around: Arc<AtomicU64>,
    /// Counts that this process remembers for a moment, if it does.
    pub(crate) near_cache: Option<Arc<NearCache>>,
}

impl Stores {
    /// All circuits closed.
    pub fn new(cache: Arc<dyn LikeCache>, database: EventStore, shards: ShardCount, config: CircuitConfig) -> Self {
        crate::metrics::register();
        let circuit = |part| Arc::new(Circuit::new(part, config.failures));
        let shard_circuits = Arc::new(ShardCircuits::new(&*cache, shards, config.failures));
        let history = Arc::new(DatabaseHistory::new(database.clone()));
        Self {
            cache,
            shard_circuits,
            likes: Arc::new(database.clone()),
            standings: Arc::new(Standings::with(Arc::clone(&history))),
            history,
            database,
            cache_circuit: circuit("cache"),
            broker_circuit: circuit("broker"),
            consuming: circuit("consuming"),
            flow: Arc::default(),
            database_circuit: circuit("database"),
            refused: Arc::default(),
            latched_entries: u64::MAX,
            shards,
            resharded: Arc::default(),
            schema_ready: Arc::new(AtomicBool::new(false)),
            direct_gate: Arc::new(RwLock::new(())),
            untold: Arc::default(),
            clocks: Arc::default(),
            cache_disk: Arc::default(),
            changes: Arc::default(),
            write_path: Arc::new(WriteSwitch::default()),
            traces: Traces::default(),
            written_around: Arc::default(),
            near_cache: None,
        }
    }

    /// Counts are remembered for a moment: by all that works on these stores, or on clones of them.
    #[must_use]
    pub fn with_near_cache(self, config: &NearCacheConfig) -> Self {
        Self { near_cache: NearCache::new(config).map(Arc::new), ..self }
    }

    /// For those who look for news all the time.
    #[must_use]
    pub fn without_near_cache(self) -> Self {
        Self { near_cache: None, ..self }
    }

    /// What a database has lost comes back by itself, if that is configured. It is settled again meanwhile when the journals are
    /// half full: likes that are turned away are worse than counts that are too low for a while.
    #[must_use]
    pub fn with_recovery(self, config: &RecoveryConfig, journal_limit: u64) -> Self {
        self.history.expect_recovery(config.automatic);
        Self { latched_entries: journal_limit / 2, ..self }
    }

    /// Whether the cache must not hear what the database says: see [`database_history`].
    pub fn is_latched(&self) -> bool {
        planted!("unlatched_settle" => false);
        self.history.is_latched() && self.flow.pending() <= self.latched_entries
    }

    /// Likes and counts come from there instead of the database: for simulations.
    #[must_use]
    pub fn with_likes(self, likes: Arc<dyn LikeDatabase>) -> Self {
        Self { likes, ..self }
    }

    /// Brings the schema up to date, or looks whether it is, and checks that the data has our number of shards (both once per process), and reads
    /// which write path was ordered.
    pub fn prepare_database(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.prepare_database_inner(false).boxed()
    }

    /// The same for who looks again and again: while all is well, what another process has found a moment ago is enough, and the rest
    /// is one question.
    pub fn watch_database(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.watch_database_inner().boxed()
    }

    async fn watch_database_inner(&self) -> Result<(), StoreError> {
        if !self.schema_ready.load(Ordering::Acquire) || self.refused.is_known() {
            return self.prepare_database_inner(false).await;
        }
        let asked = our_clock();
        let Some(glance) = self.database.glance().await? else { return self.prepare_database_inner(false).await };
        self.compare_database_with(Version(glance.now.timestamp_micros()), asked);
        if let Some(stored) = glance.shards {
            self.saw_shards(stored);
        }
        if !glance.is_calm || !self.history.is_calm_at(&glance.server) {
            return self.prepare_database_inner(false).await;
        }
        let looked = match self.database.take_turn(&glance).await {
            Ok(Turn::Others) => return self.write_path.told(glance.write_path),
            Ok(Turn::Ours { asks }) => self.prepare_database_inner(!asks).await,
            Ok(Turn::Everybodys) => return self.prepare_database_inner(false).await,
            Err(error) if error.is_unavailable() => return Err(error),
            // The probe says what likes lack, if it is more than a turn.
            Err(_) => return self.prepare_database_inner(false).await,
        };
        if looked.is_err() {
            self.database.warn_others(&glance).await;
        }
        looked
    }

    /// `asked`: another process has asked the cache lately what was settled.
    async fn prepare_database_inner(&self, asked: bool) -> Result<(), StoreError> {
        self.database.ping().await?;
        self.compare_database_clock().await?;
        if !self.schema_ready.load(Ordering::Acquire) {
            self.database.have_schema().await?;
            self.saw_shards(self.database.bind_shards(self.shards).await?);
            self.schema_ready.store(true, Ordering::Release);
        } else if let Some(stored) = self.database.shards().await? {
            self.saw_shards(stored);
        }
        self.database.probe().await?;
        self.refused.ask_again(&self.database).await?;
        self.history.look(&*self.cache, self.database_circuit.is_open(), asked).await?;
        self.write_path.follow(&self.database).await
    }

    /// Whoever works with another number than the data has leaves the cache alone from now on. Its shards were closed before, so
    /// this is only why they are: it holds also where Redis has lost that.
    fn saw_shards(&self, now: ShardCount) {
        if now.epoch() > self.shards.epoch() {
            let resharded = Resharded { now, ours: self.shards };
            if self.resharded.set(resharded).is_ok() {
                tracing::error!("{resharded}; until then likes are written to the database");
            }
            self.cache_circuit.trip_for_good(&resharded);
        }
    }

    /// That the data was resharded since this process started: it needs another start.
    pub fn resharded(&self) -> Option<Resharded> {
        self.resharded.get().copied()
    }

    /// Waits until the data was resharded: for processes that do nothing but for the cache, and are started again when they end.
    pub async fn until_resharded(&self) -> Resharded {
        loop {
            if let Some(resharded) = self.resharded() {
                return resharded;
            }
            tokio::time::sleep(RESHARDED_POLL).await;
        }
    }

    async fn compare_database_clock(&self) -> Result<(), StoreError> {
        let asked = our_clock();
        let told = Version(self.database.now().await?.timestamp_micros());
        self.compare_database_with(told, asked);
        Ok(())
    }

    fn compare_database_with(&self, told: Version, asked: Version) {
        self.clocks.compare_database(told, asked, our_clock());
        self.cache.learn_clock(told);
    }

    /// Compares the database's clock, and the cache's as it was measured last.
    pub async fn compare_clocks(&self) -> Result<(), StoreError> {
        self.clocks.compare_cache(&*self.cache);
        self.compare_database_clock().await
    }

    /// Looks at both stores at start. One that is unreachable or only reads opens its circuit, and its prober goes on trying; one
    /// that holds other data than ours, or could lose the journal, is a reason not to start at all.
    pub fn prepare(&self) -> BoxFuture<'_, Result<(), PrepareError>> {
        self.prepare_inner().boxed()
    }

    async fn prepare_inner(&self) -> Result<(), PrepareError> {
        match self.cache.prepare().await {
            Ok(()) => {}
            Err(error) if error.is_unavailable() => {
                tracing::warn!(%error, "the cache is unreachable, starting without it");
                self.cache_circuit.trip(&error);
            }
            Err(error) => return Err(error.into()),
        }
        match self.prepare_database().await {
            Ok(()) => Ok(()),
            // No waiting makes it ours.
            Err(error @ (StoreError::ShardMismatch { .. } | StoreError::Corrupt { .. } | StoreError::Config(_))) => {
                Err(error.into())
            }
            // Who locks a table, or has it refuse what is written, keeps nobody from starting.
            Err(error) => {
                tracing::warn!(%error, "the database is unreachable, starting without it");
                self.database_circuit.trip(&error);
                Ok(())
            }
        }
    }

    /// Number of shards of the data.
    pub const fn shards(&self) -> ShardCount {
        self.shards
    }

    /// Time in the unit of versions: not below the cache's clock, which orders likes, or by this machine's if the cache was
    /// never reached.
    pub fn now(&self) -> Version {
        self.cache.clock().unwrap_or_else(|| Version(wall_clock().timestamp_micros()))
    }
}

/// A store holds what this process must not touch.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A version as the time it stands for.
pub(crate) fn time_of(version: Version) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(version.0).unwrap_or_default()
}
