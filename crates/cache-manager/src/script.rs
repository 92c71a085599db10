//! Lua scripts by hash: sent as `EVALSHA`, loaded when Redis does not know them (after a restart or `SCRIPT FLUSH`).

use crate::connection::Connections;
use deadpool_redis::redis::{self, Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, cmd};

/// One script of `src/scripts`.
pub(crate) struct Script {
    code: &'static str,
    hash: String,
}

impl Script {
    pub(crate) fn new(code: &'static str) -> Self {
        Self { code, hash: redis::Script::new(code).get_hash().to_owned() }
    }

    /// Starts a call; the caller appends `keys` keys and then the arguments.
    pub(crate) fn call(&self, keys: usize) -> Cmd {
        let mut command = cmd("EVALSHA");
        command.arg(&self.hash).arg(keys);
        command
    }

    /// Runs a call on the shared connection.
    pub(crate) async fn run<T: FromRedisValue>(&self, connections: &Connections, call: &Cmd) -> Result<T, RedisError> {
        match connections.shared.query(call).await {
            Err(error) if unknown_script(&error) => {
                // An unknown script ran nothing, so running it now is the first time.
                connections.shared.query::<()>(cmd("SCRIPT").arg("LOAD").arg(self.code)).await?;
                connections.shared.query(call).await
            }
            other => other,
        }
    }
}

fn unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}
