//! Lua scripts by hash: sent as `EVALSHA`, loaded when Redis does not know them (after a restart or `SCRIPT FLUSH`).

use crate::connection::{Multiplexed, Server};
use crate::planted;
use crate::routes::{Routes, Way};
use crate::slots::Slot;
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

    /// Runs a call about this slot on the connection of likes.
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        routes: &Arc<Routes>,
        slot: Slot,
        call: &Cmd,
    ) -> Result<T, RedisError> {
        routes.follow(slot, |to| async move { self.run_on(to.connections.shared.way(), call, to.asking).await }).await
    }

    /// Runs a call about this slot on the connection of bulk reads.
    pub(crate) async fn run_in_bulk<T: FromRedisValue>(
        &self,
        routes: &Arc<Routes>,
        slot: Slot,
        call: &Cmd,
    ) -> Result<T, RedisError> {
        routes.follow(slot, |to| async move { self.run_on(&to.connections.bulk, call, to.asking).await }).await
    }

    /// The same, for one of many: see [`Connections::turn`](crate::connection::Connections::turn).
    pub(crate) async fn run_in_turn<T: FromRedisValue>(
        &self,
        routes: &Arc<Routes>,
        slot: Slot,
        call: &Cmd,
    ) -> Result<T, RedisError> {
        let run = |to: Way| async move {
            let _turn = to.connections.turn().await;
            self.run_on(&to.connections.bulk, call, to.asking).await
        };
        routes.follow(slot, run).await
    }

    /// Runs a call on this connection.
    pub(crate) async fn run_on<T: FromRedisValue>(
        &self,
        way: &Multiplexed,
        call: &Cmd,
        asking: bool,
    ) -> Result<T, RedisError> {
        let server = way.server().await?;
        for _ in 0..LOADS {
            match if_known(way.ask_as(&server, call, asking).await)? {
                Some(answer) => return Ok(answer),
                None => self.load(way, &server).await?,
            }
        }
        way.ask_as(&server, call, asking).await
    }

    pub(crate) async fn load(&self, way: &Multiplexed, server: &Arc<Server>) -> Result<(), RedisError> {
        way.ask::<()>(server, cmd("SCRIPT").arg("LOAD").arg(self.code.as_ref())).await
    }
}

/// The answer of a script; nothing if Redis does not know it, and so ran nothing.
pub(crate) fn if_known<T>(answer: Result<T, RedisError>) -> Result<Option<T>, RedisError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if is_unknown(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Also of a command before which we said that we were sent there.
fn is_unknown(error: &RedisError) -> bool {
    if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) {
        return true;
    }
    let failed = error.clone().into_server_errors();
    failed.as_deref().and_then(<[_]>::first).is_some_and(|(_, first)| first.kind() == Some(ServerErrorKind::NoScript))
}
