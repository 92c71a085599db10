//! Two ways to Redis: one shared connection for likes, a pool for background work.

use crate::clock::ServerClock;
use crate::config::RedisConfig;
use crate::meaning::{Meaning, cache_error, meaning};
use arc_swap::ArcSwapOption;
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, Pipeline, RedisError, cmd};
use deadpool_redis::{Pool, PoolError, Runtime};
use domain::Version;
use domain::cache::{CacheError, CacheResult};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// After a failed attempt to connect, callers fail at once for this long instead of queueing behind each other.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// How far ahead of the other clocks Redis's may date a like: further ahead is a clock that was set wrongly.
const MAX_AHEAD_US: i64 = 60_000_000;

/// No clock is so far behind ours.
const UNKNOWN: i64 = i64::MIN;

/// One connection that all callers share: their commands are pipelined without anybody waiting for a pool.
///
/// It is replaced after an I/O error or a timeout; commands already sent then have an unknown outcome.
pub(crate) struct SharedConnection {
    client: Client,
    config: AsyncConnectionConfig,
    current: ArcSwapOption<MultiplexedConnection>,
    connecting: Mutex<Option<(Instant, RedisError)>>,
    clock: ServerClock,
    /// How often all connections were given up.
    generation: AtomicU64,
    /// Highest version that an accept ever answered: a shard's clock can be ahead of Redis's.
    answered: AtomicI64,
    patience_us: i64,
    /// Another clock, as far as it is ahead of our steady one; [`UNKNOWN`] before it was learnt.
    other: AtomicI64,
    started: Instant,
}

impl SharedConnection {
    fn new(client: Client, config: &RedisConfig) -> Self {
        let timeouts = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(Some(config.response_timeout));
        Self {
            client,
            config: timeouts,
            current: ArcSwapOption::empty(),
            connecting: Mutex::new(None),
            clock: ServerClock::new(),
            generation: AtomicU64::new(0),
            answered: AtomicI64::new(0),
            patience_us: i64::try_from(config.response_timeout.as_micros()).unwrap_or(i64::MAX / 4) / 5 * 4,
            other: AtomicI64::new(UNKNOWN),
            started: Instant::now(),
        }
    }

    /// Not below Redis's clock, unless that was set ahead of all others, and above every version it answered.
    pub(crate) fn clock(&self) -> Option<Version> {
        let answered = Version(self.answered.load(Ordering::Relaxed) + 1);
        self.clock.at_most().map(|now| now.min(self.ceiling()).max(answered))
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

    /// An accept answered this version.
    pub(crate) fn answered(&self, version: Version) {
        self.answered.fetch_max(version.0, Ordering::Relaxed);
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

    /// Asks Redis for its time.
    pub(crate) async fn measure_clock(&self) -> Result<(), RedisError> {
        let asked = Instant::now();
        let (seconds, micros): (i64, i64) = self.query(&cmd("TIME")).await?;
        self.clock.told(asked, seconds * 1_000_000 + micros);
        Ok(())
    }

    async fn get(&self) -> Result<Arc<MultiplexedConnection>, RedisError> {
        if let Some(connection) = self.current.load_full() {
            return Ok(connection);
        }
        let mut last_failure = self.connecting.lock().await;
        if let Some(connection) = self.current.load_full() {
            return Ok(connection);
        }
        if let Some((at, error)) = &*last_failure
            && at.elapsed() < RECONNECT_PAUSE
        {
            return Err(error.clone());
        }
        match self.client.get_multiplexed_async_connection_with_config(&self.config).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                self.current.store(Some(Arc::clone(&connection)));
                *last_failure = None;
                Ok(connection)
            }
            Err(error) => {
                *last_failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    pub(crate) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let connection = self.get().await?;
        let mut handle = MultiplexedConnection::clone(&connection);
        let result = command.query_async(&mut handle).await;
        if let Err(error) = &result {
            if of_no_use(error) {
                // Only the connection that failed is dropped: somebody may have replaced it already.
                let _ = self.current.compare_and_swap(&connection, None);
            }
            self.note(error);
        }
        result
    }

    /// Connections to a server that is not the one that writes, or that was told other rights, are not used again.
    fn note(&self, error: &RedisError) {
        if matches!(meaning(error), Meaning::Elsewhere | Meaning::Misconfigured) {
            self.generation.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Both ways.
pub(crate) struct Connections {
    pub(crate) shared: SharedConnection,
    pool: Pool,
    /// What rests in the pool was opened in this generation.
    pooled_generation: AtomicU64,
}

impl Connections {
    pub(crate) fn new(config: &RedisConfig) -> CacheResult<Self> {
        let client = config.client().map_err(cache_error)?;
        let manager = deadpool_redis::Manager::new(client.get_connection_info().clone()).map_err(cache_error)?;
        let pool = Pool::builder(manager)
            .max_size(config.pool_size.max(1))
            .wait_timeout(Some(config.response_timeout))
            .create_timeout(Some(config.connect_timeout))
            .recycle_timeout(Some(config.connect_timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| CacheError::Unavailable(Arc::new(error)))?;
        Ok(Self { shared: SharedConnection::new(client, config), pool, pooled_generation: AtomicU64::new(0) })
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
        call: impl AsyncFnOnce(&mut deadpool_redis::Connection) -> Result<T, RedisError>,
    ) -> CacheResult<T> {
        self.drop_former();
        let mut connection = self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => self.failed(error),
            other => CacheError::Unavailable(Arc::new(other)),
        })?;
        let generation = self.shared.generation.load(Ordering::Relaxed);
        let result = call(&mut connection).await;
        let result = result.map_err(|error| {
            let kept = !of_no_use(&error);
            (self.failed(error), kept)
        });
        let kept = result.as_ref().err().is_none_or(|(_, kept)| *kept);
        if !kept || self.shared.generation.load(Ordering::Relaxed) != generation {
            drop(deadpool_redis::Connection::take(connection));
        }
        result.map_err(|(error, _)| error)
    }

    fn failed(&self, error: RedisError) -> CacheError {
        self.shared.note(&error);
        cache_error(error)
    }

    /// Lets go of connections that rest since before all were given up.
    fn drop_former(&self) {
        let now = self.shared.generation.load(Ordering::Relaxed);
        if self.pooled_generation.swap(now, Ordering::Relaxed) != now {
            self.shared.current.store(None);
            self.pool.retain(|_, _| false);
        }
    }
}

/// Whether nothing more can be asked over the connection that met this.
fn of_no_use(error: &RedisError) -> bool {
    matches!(meaning(error), Meaning::Away | Meaning::Elsewhere | Meaning::Misconfigured)
        || error.is_io_error()
        || error.is_unrecoverable_error()
}
