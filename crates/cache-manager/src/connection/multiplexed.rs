//! One connection that many callers share: their commands are pipelined without anybody waiting for a pool.
//!
//! It is replaced after an I/O error or a timeout; commands already sent then have an unknown outcome.

use super::of_no_use;
use crate::meaning::{Meaning, cache_error, meaning};
use arc_swap::ArcSwapOption;
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, Pipeline, RedisError};
use domain::cache::CacheError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// After a failed attempt to connect, callers fail at once for this long instead of queueing behind each other.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// See the head of the module.
pub(crate) struct Multiplexed {
    client: Client,
    config: AsyncConnectionConfig,
    current: ArcSwapOption<MultiplexedConnection>,
    connecting: Mutex<Option<(Instant, RedisError)>>,
    /// How often all connections of the process were given up.
    pub(super) generation: Arc<AtomicU64>,
}

impl Multiplexed {
    pub(super) fn new(client: Client, config: AsyncConnectionConfig, generation: Arc<AtomicU64>) -> Self {
        Self { client, config, current: ArcSwapOption::empty(), connecting: Mutex::new(None), generation }
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
        self.look_at(&connection, result)
    }

    /// Several commands in one round trip.
    pub(crate) async fn query_all<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, RedisError> {
        let connection = self.get().await?;
        let mut handle = MultiplexedConnection::clone(&connection);
        let result = commands.query_async(&mut handle).await;
        self.look_at(&connection, result)
    }

    fn look_at<T>(
        &self,
        connection: &Arc<MultiplexedConnection>,
        result: Result<T, RedisError>,
    ) -> Result<T, RedisError> {
        if let Err(error) = &result {
            if of_no_use(error) {
                // Only the connection that failed is dropped: somebody may have replaced it already.
                let _ = self.current.compare_and_swap(connection, None);
            }
            self.note(error);
        }
        result
    }

    /// What one command of several met, whose answer was no error of the whole.
    pub(crate) fn of_one_command(&self, error: RedisError) -> CacheError {
        if of_no_use(&error) {
            self.give_up();
        }
        self.note(&error);
        cache_error(error)
    }

    /// Connections to a server that is not the one that writes, or that was told other rights, are not used again.
    pub(super) fn note(&self, error: &RedisError) {
        if matches!(meaning(error), Meaning::Elsewhere | Meaning::Misconfigured) {
            self.generation.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The next call connects anew.
    pub(super) fn give_up(&self) {
        self.current.store(None);
    }
}
