//! A private redis.

use crate::Authority;
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
    /// Its disk can be slow and its clock wrong: [`Server::preload`]. Off by default.
    pub preload: bool,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self { appendonly: true, preload: false }
    }
}

/// A redis server; see [`Server`] for what can be done to it. Never evicts.
#[derive(Debug)]
pub struct Redis(Server);

impl Redis {
    /// Starts a private one, whatever the environment says.
    pub async fn start(options: RedisOptions) -> Result<Self> {
        Self::launch(options, None, &[]).await
    }

    /// A private one with more arguments than ours, such as `--rename-command`.
    pub async fn start_with_arguments(options: RedisOptions, arguments: &[&str]) -> Result<Self> {
        Self::launch(options, None, arguments).await
    }

    /// A private one with TLS; its url is `rediss://`.
    pub async fn start_tls(authority: &Authority) -> Result<Self> {
        Self::launch(RedisOptions::default(), Some(authority), &[]).await
    }

    async fn launch(options: RedisOptions, authority: Option<&Authority>, arguments: &[&str]) -> Result<Self> {
        let dir = WorkDir::create("redis")?;
        let lease = lease_port()?;
        let port = lease.port();
        let mut launch = Launch::new(find_program(&["redis-server"])?, dir.path())
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(dir.path().join("data"))
            .args(["--appendonly", if options.appendonly { "yes" } else { "no" }, "--appendfsync", "everysec"])
            .args(["--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no"])
            // A changed title would overwrite the environment that carries the guardian's mark.
            .args(["--set-proc-title", "no"])
            .args(arguments);
        let mut url = format!("redis://127.0.0.1:{port}/");
        // The plain port stays, for the greeting.
        let tls_lease = lease_port()?;
        if let Some(authority) = authority {
            let server = authority.issue("redis")?;
            launch = launch
                .args(["--tls-port", &tls_lease.port().to_string(), "--tls-auth-clients", "no", "--tls-ca-cert-file"])
                .arg(authority.ca())
                .arg("--tls-cert-file")
                .arg(server.cert)
                .arg("--tls-key-file")
                .arg(server.key);
            url = format!("rediss://127.0.0.1:{}/", tls_lease.port());
        }
        let greeting = Greeting { send: b"PING\r\n", accept: |answer| answer.starts_with(b"+PONG") };
        let preload = options.preload;
        Ok(Self(Server::start(Plan { url, launch, dir, lease, greeting, prepare: |_| Ok(()), preload }).await?))
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
