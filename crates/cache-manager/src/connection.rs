//! The ways to Redis: one shared connection for likes, two for reads, a pool for background work.
//!
//! Redis answers a connection's commands in their order, so whoever reads hundreds of keys would be in front of the likes
//! that come after it. Reads of a few keys have a connection of their own, and those of many another one, on which only a
//! few calls of bounded length are under way at a time ([`BULK_CALLS`], [`CHUNK`]): between two of them Redis serves likes.

mod multiplexed;

pub(crate) use multiplexed::{Multiplexed, Server};

use crate::clock::ServerClock;
use crate::config::RedisConfig;
use crate::meaning::{Meaning, cache_error, meaning};
use crate::pool::{Pool, Pooled};
use crate::primary::Primary;
use deadpool::managed::{Object, PoolError};
use deadpool_redis::Runtime;
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{Cmd, FromRedisValue, Pipeline, RedisError, cmd};
use domain::cache::{CacheError, CacheResult};
use domain::{ShardCount, ShardId, Version};
use planted_bugs::planted;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// Most keys of one call of a bulk read: Redis does nothing else meanwhile, some tenths of a millisecond at this size.
pub(crate) const CHUNK: usize = 100;

/// Calls of bulk reads that are under way at a time; the others wait for their turn.
const BULK_CALLS: usize = 2;

/// A read of at most so many keys is no bulk read.
const FEW: usize = 20;

/// How far ahead of the other clocks Redis's may date a like: further ahead is a clock that was set wrongly.
const MAX_AHEAD_US: i64 = 60_000_000;

/// No clock is so far behind ours.
const UNKNOWN: i64 = i64::MIN;

/// The connection of likes, and what it knows of Redis's clock.
pub(crate) struct SharedConnection {
    connection: Multiplexed,
    clock: ServerClock,
    /// Highest version that each shard ever answered: its clock can be ahead of Redis's.
    answered: Box<[AtomicI64]>,
    patience_us: i64,
    /// Another clock, as far as it is ahead of our steady one; [`UNKNOWN`] before it was learnt.
    other: AtomicI64,
    started: Instant,
}

impl SharedConnection {
    fn new(connection: Multiplexed, config: &RedisConfig, shards: ShardCount) -> Self {
        Self {
            connection,
            clock: ServerClock::new(),
            answered: shards.all().map(|_| AtomicI64::new(0)).collect(),
            patience_us: i64::try_from(config.response_timeout.as_micros()).unwrap_or(i64::MAX / 4) / 5 * 4,
            other: AtomicI64::new(UNKNOWN),
            started: Instant::now(),
        }
    }

    /// Not below Redis's clock, unless that was set ahead of all others, and above every version it answered.
    pub(crate) fn clock(&self) -> Option<Version> {
        self.clock_above(self.answered.iter())
    }

    /// The same as far as these shards are concerned, and how far that may be ahead of Redis's clock.
    pub(crate) fn clock_for(&self, shards: impl Iterator<Item = ShardId>) -> Option<(Version, Duration)> {
        let most = self.clock_above(shards.map(|shard| &self.answered[usize::from(shard.0)]))?;
        Some((most, most.since(self.clock.at_least()?)))
    }

    fn clock_above<'a>(&self, answered: impl Iterator<Item = &'a AtomicI64>) -> Option<Version> {
        let highest = answered.map(|version| version.load(Ordering::Relaxed)).max().unwrap_or(0);
        self.clock.at_most().map(|now| now.min(self.ceiling()).max(Version(highest + 1)))
    }

    /// Redis's clock now, between two bounds.
    pub(crate) fn own_clock(&self) -> Option<(Version, Version)> {
        self.clock.at_least().zip(self.clock.at_most())
    }

    /// Another clock shows this now.
    pub(crate) fn learn_clock(&self, time: Version) {
        self.other.store(time.0.saturating_sub(self.steady_us()), Ordering::Relaxed);
    }

    fn steady_us(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX / 4)
    }

    /// How far [`clock`](Self::clock) may be ahead of Redis's.
    pub(crate) fn clock_uncertainty(&self) -> Duration {
        match (self.clock.at_least(), self.clock()) {
            (Some(least), Some(most)) => most.since(least),
            _ => Duration::ZERO,
        }
    }

    /// This shard answered this version.
    pub(crate) fn answered(&self, shard: ShardId, version: Version) {
        self.answered[usize::from(shard.0)].fetch_max(version.0, Ordering::Relaxed);
    }

    /// By Redis's clock, when a call whose caller waits since `since` must have begun: well before the caller stops
    /// waiting, so that after a timeout the call has either run or never will.
    pub(crate) async fn deadline(&self, since: Instant) -> Result<Version, RedisError> {
        let now = match self.clock.at_least() {
            Some(now) => now,
            None => {
                self.measure_clock().await?;
                self.clock.at_least().unwrap_or_default()
            }
        };
        let waited = i64::try_from(since.elapsed().as_micros()).unwrap_or(i64::MAX / 4);
        Ok(Version(now.0 + self.patience_us - waited))
    }

    /// A moment of our steady clock as Redis's clock will show it, or a little earlier; of no use before the clock was
    /// measured ([`deadline`](Self::deadline) does).
    pub(crate) fn redis_time(&self, moment: Instant) -> Version {
        let now = self.clock.at_least().unwrap_or_default();
        let left = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4);
        let reading = Instant::now();
        Version(
            now.0 + left(moment.saturating_duration_since(reading)) - left(reading.saturating_duration_since(moment)),
        )
    }

    /// No version is dated later than this: the later one of our own wall clock and the other one that we know, and what two
    /// clocks may differ by.
    #[expect(clippy::disallowed_methods, reason = "a second clock is what tells that the cache's was set wrongly")]
    pub(crate) fn ceiling(&self) -> Version {
        if planted_bugs::is_planted("any_clock_believed") {
            return Version(i64::MAX / 4);
        }
        let ours = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let other = match self.other.load(Ordering::Relaxed) {
            UNKNOWN => 0,
            ahead => ahead.saturating_add(self.steady_us()),
        };
        let latest = i64::try_from(ours.as_micros()).unwrap_or(i64::MAX / 4).max(other);
        Version(latest.saturating_add(MAX_AHEAD_US))
    }

    /// No version of a server before this one was above this: what a shard goes on from that has another server than before.
    pub(crate) fn carried(&self) -> Version {
        self.clock.highest_ever().min(self.ceiling())
    }

    /// Asks Redis for its time.
    pub(crate) async fn measure_clock(&self) -> Result<(), RedisError> {
        let server = self.server().await?;
        let asked = Instant::now();
        let (seconds, micros): (i64, i64) = self.connection.ask(&server, &cmd("TIME")).await?;
        self.clock.told(asked, seconds * 1_000_000 + micros);
        Ok(())
    }

    /// The connection as it is now, to somebody whose clock we know whose it is.
    pub(crate) async fn server(&self) -> Result<Arc<Server>, RedisError> {
        let server = self.connection.server().await?;
        self.met(&server);
        Ok(server)
    }

    /// Who answers likes, whatever connection leads there.
    pub(crate) fn met(&self, server: &Server) {
        self.clock.meets(&server.run);
    }

    /// The connection itself.
    pub(crate) const fn way(&self) -> &Multiplexed {
        &self.connection
    }
}

/// All ways.
pub(crate) struct Connections {
    pub(crate) shared: SharedConnection,
    /// For reads of a few keys.
    reads: Multiplexed,
    /// For those of many, and for what follows from reads.
    pub(crate) bulk: Multiplexed,
    turns: Semaphore,
    primary: Arc<Primary>,
    pool: Pool,
    /// What rests in the pool was opened in this generation.
    pooled_generation: AtomicU64,
}

impl Connections {
    pub(crate) fn new(config: &RedisConfig, shards: ShardCount) -> CacheResult<Self> {
        let primary = Arc::new(Primary::new(config).map_err(cache_error)?);
        let pool = Pool::builder(Pooled(Arc::clone(&primary)))
            .max_size(config.pool_size.max(1))
            .wait_timeout(Some(config.response_timeout))
            .create_timeout(Some(config.connect_timeout))
            .recycle_timeout(Some(config.connect_timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| CacheError::Unavailable(Arc::new(error)))?;
        let connection = || Multiplexed::new(Arc::clone(&primary));
        Ok(Self {
            shared: SharedConnection::new(connection(), config, shards),
            reads: connection(),
            bulk: connection(),
            turns: Semaphore::new(BULK_CALLS),
            pool,
            pooled_generation: AtomicU64::new(0),
            primary,
        })
    }

    /// One more way.
    pub(crate) fn another(&self) -> Multiplexed {
        Multiplexed::new(Arc::clone(&self.primary))
    }

    /// Whether no other node could be the primary.
    pub(crate) fn is_alone(&self) -> bool {
        self.primary.is_alone()
    }

    /// The way of a read of so many keys. Who reads many holds its turn until it has its answer; turns come in the order in
    /// which they were asked for, so nobody's read waits for the whole of another one.
    pub(crate) async fn way_of_read(&self, keys: usize) -> (&Multiplexed, Option<SemaphorePermit<'_>>) {
        if keys <= FEW {
            return (&self.reads, None);
        }
        (&self.bulk, self.turn().await)
    }

    /// A turn on [`bulk`](Self::bulk).
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody closes it.
        self.turns.acquire().await.ok()
    }

    /// Runs a command of background work.
    pub(crate) async fn run<T: FromRedisValue>(&self, command: &Cmd) -> CacheResult<T> {
        self.with_pooled(async |connection| command.query_async(connection).await).await
    }

    /// Runs commands of background work in one round trip.
    pub(crate) async fn run_all<T: FromRedisValue>(&self, commands: &Pipeline) -> CacheResult<T> {
        self.with_pooled(async |connection| commands.query_async(connection).await).await
    }

    async fn with_pooled<T>(
        &self,
        call: impl AsyncFnOnce(&mut MultiplexedConnection) -> Result<T, RedisError>,
    ) -> CacheResult<T> {
        self.drop_former();
        let mut pooled = self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => cache_error(error),
            other => CacheError::Unavailable(Arc::new(other)),
        })?;
        let (connection, generation) = &mut *pooled;
        let generation = *generation;
        let result = call(connection).await;
        if let Err(error) = &result {
            self.primary.note(error, generation);
        }
        if result.as_ref().is_err_and(of_no_use) || self.primary.generation() != generation {
            drop(Object::take(pooled));
        }
        result.map_err(cache_error)
    }

    /// Lets go of connections that rest since before all were given up.
    fn drop_former(&self) {
        let now = self.primary.generation();
        if self.pooled_generation.swap(now, Ordering::Relaxed) != now {
            self.pool.retain(|(_, generation), _| *generation == now);
        }
    }
}

/// Whether nothing more can be asked over the connection that met this.
fn of_no_use(error: &RedisError) -> bool {
    planted!("keeps_demoted_connection" => error.is_io_error() || error.is_unrecoverable_error());
    matches!(meaning(error), Meaning::Away | Meaning::Elsewhere | Meaning::Misconfigured)
        || error.is_io_error()
        || error.is_unrecoverable_error()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn of_bulk_reads_a_few_are_under_way_at_a_time() {
        let connections = Connections::new(&RedisConfig::default(), ShardCount::default()).unwrap();
        let mut under_way: Vec<_> = (0..BULK_CALLS).map(|_| connections.way_of_read(FEW + 1).now_or_never()).collect();
        assert!(under_way.iter().flatten().all(|(_, turn)| turn.is_some()) && under_way.iter().all(Option::is_some));
        assert!(connections.way_of_read(FEW + 1).now_or_never().is_none(), "one more at once");
        assert!(connections.way_of_read(FEW).now_or_never().is_some(), "who reads a few keys waits");
        under_way.pop();
        assert!(connections.way_of_read(FEW + 1).now_or_never().is_some(), "a turn is lost");
    }
}
