//! The ways to one primary: one shared connection for likes, two for reads, a pool for background work.
//!
//! Redis answers a connection's commands in their order, so whoever reads hundreds of keys would be in front of the likes
//! that come after it. Reads of a few keys have a connection of their own, and those of many another one, on which only a
//! few calls of bounded length are under way at a time ([`BULK_KEYS`], [`CHUNK`]): between two of them Redis serves likes.

mod multiplexed;

use multiplexed::query;
pub(crate) use multiplexed::{Multiplexed, Server};

use crate::clock::ServerClock;
use crate::config::RedisConfig;
use crate::confirm::Confirm;
use crate::keys::Keys;
use crate::meaning::{Meaning, cache_error, meaning};
use crate::pool::{Pool, Pooled};
use crate::primary::Primary;
use crate::word::LastWord;
use deadpool::managed::{Object, PoolError};
use deadpool_redis::Runtime;
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, cmd};
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

/// Keys of bulk reads that are under way at a time, those of two such calls, or of more that are smaller; the others wait for their turn.
const BULK_KEYS: usize = 2 * CHUNK;

/// A read of at most so many keys is no bulk read.
pub(crate) const FEW: usize = 20;

/// How far ahead of the other clocks Redis's may date a like: further ahead is a clock that was set wrongly.
const MAX_AHEAD_US: i64 = 60_000_000;

/// No clock is so far behind ours.
const UNKNOWN: i64 = i64::MIN;

/// What is known whichever primary answers.
pub(crate) struct Common {
    /// Highest version that each shard ever answered: its clock can be ahead of Redis's.
    answered: Box<[AtomicI64]>,
    /// Another clock, as far as it is ahead of our steady one; [`UNKNOWN`] before it was learnt.
    other: AtomicI64,
    started: Instant,
}

impl Common {
    pub(crate) fn new(shards: ShardCount) -> Self {
        Self {
            answered: shards.all().map(|_| AtomicI64::new(0)).collect(),
            other: AtomicI64::new(UNKNOWN),
            started: Instant::now(),
        }
    }

    /// Another clock shows this now.
    pub(crate) fn learn_clock(&self, time: Version) {
        self.other.store(time.0.saturating_sub(self.steady_us()), Ordering::Relaxed);
    }

    fn steady_us(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX / 4)
    }

    /// This shard answered this version.
    pub(crate) fn answered(&self, shard: ShardId, version: Version) {
        self.answered[usize::from(shard.0)].fetch_max(version.0, Ordering::Relaxed);
    }

    /// The highest version that any of these shards answered.
    pub(crate) fn highest(&self, shards: impl Iterator<Item = ShardId>) -> Version {
        let answered = shards.map(|shard| self.answered[usize::from(shard.0)].load(Ordering::Relaxed));
        Version(answered.max().unwrap_or(0))
    }

    /// No version is dated later than this: the later one of our own wall clock and the other one that we know, and what two
    /// clocks may differ by.
    pub(crate) fn ceiling(&self) -> Version {
        if planted_bugs::is_planted("any_clock_believed") {
            return Version(i64::MAX / 4);
        }
        let other = match self.other.load(Ordering::Relaxed) {
            UNKNOWN => 0,
            ahead => ahead.saturating_add(self.steady_us()),
        };
        Version(wall_clock().0.max(other).saturating_add(MAX_AHEAD_US))
    }
}

/// Our own wall clock.
#[expect(clippy::disallowed_methods, reason = "a second clock is what tells that the cache's was set wrongly")]
pub(crate) fn wall_clock() -> Version {
    let ours = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Version(i64::try_from(ours.as_micros()).unwrap_or(i64::MAX / 4))
}

/// The connection of likes, and what it knows of its server's clock.
pub(crate) struct SharedConnection {
    connection: Multiplexed,
    clock: ServerClock,
    patience_us: i64,
}

impl SharedConnection {
    fn new(connection: Multiplexed, config: &RedisConfig) -> Self {
        let patience_us = i64::try_from(config.response_timeout.as_micros()).unwrap_or(i64::MAX / 4) / 5 * 4;
        Self { connection, clock: ServerClock::new(), patience_us }
    }

    /// The server's clock now, between two bounds.
    pub(crate) fn own_clock(&self) -> Option<(Version, Version)> {
        self.clock.at_least().zip(self.clock.at_most())
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

    /// No clock of this server, nor of one before it at this address, says more than this.
    pub(crate) fn highest_ever(&self) -> Version {
        self.clock.highest_ever()
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

/// All ways to one primary.
pub(crate) struct Connections {
    /// Where it is, in a cluster; elsewhere it moves.
    pub(crate) address: String,
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
    /// What was found there last, by whom ever.
    pub(crate) word: LastWord,
    /// Where likes wait for replicas.
    pub(crate) confirm: Option<Arc<Confirm>>,
}

impl Connections {
    /// To the primary, wherever it is.
    pub(crate) fn new(config: &RedisConfig, keys: &Keys) -> CacheResult<Self> {
        let primary = Primary::new(config).map_err(cache_error)?;
        Self::to(primary, String::new(), config, keys)
    }

    /// To the node of a cluster at this address.
    pub(crate) fn at(address: String, config: &RedisConfig, keys: &Keys) -> CacheResult<Self> {
        let primary = Primary::member(config, &address).map_err(cache_error)?;
        Self::to(primary, address, config, keys)
    }

    fn to(primary: Primary, address: String, config: &RedisConfig, keys: &Keys) -> CacheResult<Self> {
        let primary = Arc::new(primary);
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
            address,
            shared: SharedConnection::new(connection(), config),
            confirm: Confirm::new(config, keys, connection),
            reads: connection(),
            bulk: connection(),
            word: LastWord::default(),
            turns: Semaphore::new(BULK_KEYS),
            pool,
            pooled_generation: AtomicU64::new(0),
            primary,
        })
    }

    /// Whether no other node could be the primary.
    pub(crate) fn is_alone(&self) -> bool {
        self.primary.is_alone()
    }

    /// As whom connections are opened now.
    pub(crate) fn user(&self) -> Result<String, RedisError> {
        self.primary.user()
    }

    /// Opens connections anew, with the login that is valid now; what is under way ends on those of before.
    pub(crate) fn renew(&self) {
        self.primary.renew();
        self.drop_former();
    }

    /// The way of a piece of a read of so many keys. Who reads many holds its turn until it has its answer; turns come in the order in
    /// which they were asked for, so nobody's read waits for the whole of another one.
    pub(crate) async fn way_of_read(&self, keys: usize, piece: usize) -> (&Multiplexed, Option<SemaphorePermit<'_>>) {
        if keys <= FEW {
            return (&self.reads, None);
        }
        (&self.bulk, self.turn_of(piece).await)
    }

    /// The way of a read of one key of so many.
    pub(crate) const fn way_of_key(&self, keys: usize) -> &Multiplexed {
        if keys <= FEW { &self.reads } else { &self.bulk }
    }

    /// A turn on [`bulk`](Self::bulk), of the largest call.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turn_of(CHUNK).await
    }

    async fn turn_of(&self, keys: usize) -> Option<SemaphorePermit<'_>> {
        // Nobody closes it.
        self.turns.acquire_many(keys.min(CHUNK) as u32).await.ok()
    }

    /// Runs a command of background work.
    pub(crate) async fn run<T: FromRedisValue>(&self, command: &Cmd) -> CacheResult<T> {
        self.run_as(command, false).await.map_err(cache_error)
    }

    /// The same; who was sent here for this once says so.
    pub(crate) async fn run_as<T: FromRedisValue>(&self, command: &Cmd, asking: bool) -> Result<T, RedisError> {
        self.with_pooled(async |connection| query(connection, command, asking).await).await
    }

    /// Runs commands of background work in one round trip.
    pub(crate) async fn run_all<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, RedisError> {
        self.with_pooled(async |connection| commands.query_async(connection).await).await
    }

    async fn with_pooled<T>(
        &self,
        call: impl AsyncFnOnce(&mut MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, RedisError> {
        self.drop_former();
        let mut pooled = self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            other => RedisError::from((ErrorKind::Io, "no connection of the pool", other.to_string())),
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
        result
    }

    /// Lets go of connections that rest since before all were given up.
    pub(crate) fn drop_former(&self) {
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
        let connections = Connections::new(&RedisConfig::default(), &Keys::new("", ShardCount::default())).unwrap();
        let read = |keys: usize| connections.way_of_read(keys, keys.min(CHUNK)).now_or_never();
        for (keys, at_once) in [(500, 2), (CHUNK, 2), (50, 4), (FEW + 1, 9)] {
            let mut under_way: Vec<_> = (0..at_once).map(|_| read(keys)).collect();
            assert!(under_way.iter().all(Option::is_some), "{keys}");
            assert!(under_way.iter().flatten().all(|(_, turn)| turn.is_some()), "{keys}");
            assert!(read(keys).is_none(), "one more of {keys} at once");
            assert!(read(FEW).is_some(), "who reads a few keys waits");
            under_way.pop();
            assert!(read(keys).is_some(), "a turn is lost");
        }
    }
}
