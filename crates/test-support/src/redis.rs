//! A private redis.

use crate::launch::{Launch, WorkDir, find_program};
use crate::lease_port;
use crate::server::{Greeting, Plan, Server};
use anyhow::Result;
use std::ops::Deref;

/// Settings of a private redis.
#[derive(Debug, Clone, Copy)]
pub struct RedisOptions {
    /// Append-only file: acknowledged writes survive a kill of the process. On by default.
    pub appendonly: bool,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self { appendonly: true }
    }
}

/// A redis server; see [`Server`] for what can be done to it. Never evicts.
#[derive(Debug)]
pub struct Redis(Server);

impl Redis {
    /// Starts a private one, whatever the environment says.
    pub async fn start(options: RedisOptions) -> Result<Self> {
        let dir = WorkDir::create("redis")?;
        let lease = lease_port()?;
        let port = lease.port();
        let launch = Launch::new(find_program(&["redis-server"])?, dir.path())
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(dir.path().join("data"))
            .args(["--appendonly", if options.appendonly { "yes" } else { "no" }, "--appendfsync", "everysec"])
            .args(["--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no"])
            // A changed title would overwrite the environment that carries the guardian's mark.
            .args(["--set-proc-title", "no"]);
        let greeting = Greeting { send: b"PING\r\n", accept: |answer| answer.starts_with(b"+PONG") };
        let url = format!("redis://127.0.0.1:{port}/");
        Ok(Self(Server::start(Plan { url, launch, dir, lease, greeting, prepare: |_| Ok(()) }).await?))
    }

    /// Uses somebody else's server.
    pub fn external(url: impl Into<String>) -> Self {
        Self(Server::external(url.into()))
    }
}

impl Deref for Redis {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}
