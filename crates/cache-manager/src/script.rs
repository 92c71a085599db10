//! Lua scripts by hash: sent as `EVALSHA`, loaded when Redis does not know them (after a restart or `SCRIPT FLUSH`).

use crate::connection::{Connections, Multiplexed, Server};
use crate::planted;
use deadpool_redis::redis::{self, Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, cmd};
use std::borrow::Cow;
use std::sync::Arc;

/// What every script may use: see the file.
pub(crate) const READS: &str = include_str!("scripts/reads.lua");

/// How often a script is loaded for one call: somebody may flush it again before it runs.
pub(crate) const LOADS: usize = 3;

/// One script of `src/scripts`.
pub(crate) struct Script {
    code: Cow<'static, str>,
    hash: String,
}

impl Script {
    pub(crate) fn new(code: impl Into<Cow<'static, str>>) -> Self {
        let code = planted::script(format!("{READS}{}", code.into()).into());
        Self { hash: redis::Script::new(&code).get_hash().to_owned(), code }
    }

    /// Starts a call; the caller appends `keys` keys and then the arguments.
    pub(crate) fn call(&self, keys: usize) -> Cmd {
        let mut command = cmd("EVALSHA");
        command.arg(&self.hash).arg(keys);
        command
    }

    /// Runs a call on the connection of likes.
    pub(crate) async fn run<T: FromRedisValue>(&self, connections: &Connections, call: &Cmd) -> Result<T, RedisError> {
        self.run_on(connections.shared.way(), call).await
    }

    /// Runs a call on this connection.
    pub(crate) async fn run_on<T: FromRedisValue>(&self, way: &Multiplexed, call: &Cmd) -> Result<T, RedisError> {
        let server = way.server().await?;
        for _ in 0..LOADS {
            match self.once(way, &server, call).await? {
                Some(answer) => return Ok(answer),
                None => self.load(way, &server).await?,
            }
        }
        way.ask(&server, call).await
    }

    /// Runs a call once on the connection that it was made for; nothing if Redis does not know the script, and so ran nothing.
    pub(crate) async fn once<T: FromRedisValue>(
        &self,
        way: &Multiplexed,
        server: &Arc<Server>,
        call: &Cmd,
    ) -> Result<Option<T>, RedisError> {
        if_known(way.ask(server, call).await)
    }

    pub(crate) async fn load(&self, way: &Multiplexed, server: &Arc<Server>) -> Result<(), RedisError> {
        way.ask::<()>(server, cmd("SCRIPT").arg("LOAD").arg(self.code.as_ref())).await
    }
}

/// The answer of a script; nothing if Redis does not know it, and so ran nothing.
pub(crate) fn if_known<T>(answer: Result<T, RedisError>) -> Result<Option<T>, RedisError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => Ok(None),
        Err(error) => Err(error),
    }
}
