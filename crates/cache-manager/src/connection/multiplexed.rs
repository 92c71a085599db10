//! One connection that many callers share: their commands are pipelined without anybody waiting for a pool.
//!
//! It is replaced after an I/O error or a timeout; commands already sent then have an unknown outcome.

use super::of_no_use;
use crate::meaning::{Meaning, meaning};
use crate::primary::Primary;
use arc_swap::ArcSwapOption;
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{Cmd, FromRedisValue, Pipeline, RedisError, cmd, pipe};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// After a failed attempt to connect, callers fail at once for this long instead of queueing behind each other.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// See the head of the module.
pub(crate) struct Multiplexed {
    primary: Arc<Primary>,
    current: ArcSwapOption<Server>,
    connecting: Mutex<Option<(Instant, RedisError)>>,
}

/// A connection, and to whom.
pub(crate) struct Server {
    connection: MultiplexedConnection,
    generation: u64,
    /// The server's run; empty where we may not ask. Another primary, or another start of this one, has another.
    pub(crate) run: String,
}

impl Multiplexed {
    pub(super) fn new(primary: Arc<Primary>) -> Self {
        Self { primary, current: ArcSwapOption::empty(), connecting: Mutex::new(None) }
    }

    /// The connection, opened if there is none of this generation.
    pub(crate) async fn server(&self) -> Result<Arc<Server>, RedisError> {
        if let Some(server) = self.current() {
            return Ok(server);
        }
        let mut last_failure = self.connecting.lock().await;
        if let Some(server) = self.current() {
            return Ok(server);
        }
        if let Some((at, error)) = &*last_failure
            && at.elapsed() < RECONNECT_PAUSE
        {
            return Err(error.clone());
        }
        match self.connect().await {
            Ok(server) => {
                let server = Arc::new(server);
                self.current.store(Some(Arc::clone(&server)));
                *last_failure = None;
                Ok(server)
            }
            Err(error) => {
                *last_failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn connect(&self) -> Result<Server, RedisError> {
        let (mut connection, generation) = self.primary.connect().await?;
        let info: Result<String, _> = cmd("INFO").arg("server").query_async(&mut connection).await;
        let run = match info {
            Ok(info) => {
                info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap_or_default().trim().to_owned()
            }
            Err(error) if meaning(&error) == Meaning::Misconfigured => String::new(),
            Err(error) => return Err(error),
        };
        Ok(Server { connection, generation, run })
    }

    fn current(&self) -> Option<Arc<Server>> {
        self.current.load_full().filter(|server| server.generation == self.primary.generation())
    }

    /// Asks whether the connection still leads to the node that writes.
    pub(crate) async fn confirm(&self) -> Result<(), RedisError> {
        let server = self.server().await?;
        let result = self.primary.confirm(&mut server.connection.clone()).await;
        self.look_at(&server, result)
    }

    /// Asks who else knows whether the connection still leads to the node that writes, and not that node.
    pub(crate) async fn confirm_elsewhere(&self) -> Result<(), RedisError> {
        let server = self.server().await?;
        let result = self.primary.confirm_elsewhere().await;
        self.look_at(&server, result)
    }

    /// Asks over the current connection; who was sent here for this once says so.
    pub(crate) async fn query<T: FromRedisValue>(&self, command: &Cmd, asking: bool) -> Result<T, RedisError> {
        self.ask_as(&self.server().await?, command, asking).await
    }

    /// Asks over this connection, whatever the current one is.
    pub(crate) async fn ask<T: FromRedisValue>(&self, server: &Arc<Server>, command: &Cmd) -> Result<T, RedisError> {
        self.ask_as(server, command, false).await
    }

    /// The same; who was sent here for this once says so.
    pub(crate) async fn ask_as<T: FromRedisValue>(
        &self,
        server: &Arc<Server>,
        command: &Cmd,
        asking: bool,
    ) -> Result<T, RedisError> {
        let result = query(&mut server.connection.clone(), command, asking).await;
        self.look_at(server, result)
    }

    /// Several commands in one round trip.
    pub(crate) async fn query_all<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, RedisError> {
        self.ask_all(&self.server().await?, commands).await
    }

    /// Several commands over this connection.
    pub(crate) async fn ask_all<T: FromRedisValue>(
        &self,
        server: &Arc<Server>,
        commands: &Pipeline,
    ) -> Result<T, RedisError> {
        let result = commands.query_async(&mut server.connection.clone()).await;
        self.look_at(server, result)
    }

    /// Draws the consequences of an answer.
    pub(crate) fn look_at<T>(&self, server: &Arc<Server>, result: Result<T, RedisError>) -> Result<T, RedisError> {
        if let Err(error) = &result {
            if of_no_use(error) {
                // Only the connection that failed is dropped: somebody may have replaced it already.
                let _ = self.current.compare_and_swap(server, None);
            }
            self.primary.note(error, server.generation);
        }
        result
    }

    /// What one command of several met, whose answer was no error of the whole.
    pub(crate) fn of_one_command(&self, error: RedisError) -> RedisError {
        if let Some(server) = self.current.load_full() {
            if of_no_use(&error) {
                let _ = self.current.compare_and_swap(&server, None);
            }
            self.primary.note(&error, server.generation);
        }
        error
    }
}

/// One command; before it, if we were sent here for it, what lets the node answer for a slot that it is being given.
pub(super) async fn query<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    command: &Cmd,
    asking: bool,
) -> Result<T, RedisError> {
    if !asking {
        return command.query_async(connection).await;
    }
    let mut both = pipe();
    both.cmd("ASKING").ignore().add_command(command.clone());
    let (answer,) = both.query_async(connection).await?;
    Ok(answer)
}
