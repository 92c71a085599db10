//! A private redis.

use crate::Authority;
use crate::launch::{Launch, WorkDir, find_program};
use crate::lease_port;
use crate::server::{Greeting, Plan, Server};
use anyhow::{Context, Result, ensure};
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

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

/// How it shows that it answers.
const GREETING: Greeting = Greeting { send: b"PING\r\n", accept: |answer| answer.starts_with(b"+PONG") };

const CLIENT_LIMIT: Duration = Duration::from_secs(30);

impl Redis {
    /// What Sentinels call the primary that they watch.
    pub const WATCHED: &str = "likes";

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
        let (preload, greeting) = (options.preload, GREETING);
        Ok(Self(Server::start(Plan { url, launch, dir, lease, greeting, prepare: |_| Ok(()), preload }).await?))
    }

    /// One that watches the primary at this `host:port` under the name [`Redis::WATCHED`], and has another one elected when
    /// this many of its like miss it.
    pub(crate) async fn start_sentinel(primary: &str, quorum: usize) -> Result<Self> {
        let dir = WorkDir::create("sentinel")?;
        let lease = lease_port()?;
        let port = lease.port();
        let (host, primary_port) = primary.rsplit_once(':').with_context(|| format!("no port in {primary}"))?;
        let name = Self::WATCHED;
        // A sentinel writes what it learns into this file.
        let file = dir.path().join("sentinel.conf");
        let settings = format!(
            "port {port}\nbind 127.0.0.1\ndaemonize no\nset-proc-title no\n\
             sentinel monitor {name} {host} {primary_port} {quorum}\n\
             sentinel down-after-milliseconds {name} 500\n\
             sentinel failover-timeout {name} 3000\n"
        );
        std::fs::write(&file, settings).with_context(|| format!("write {}", file.display()))?;
        let launch = Launch::new(find_program(&["redis-server"])?, dir.path()).arg(file).arg("--sentinel");
        let url = format!("redis://127.0.0.1:{port}/");
        let prepare = |_: &Path| Ok(());
        Ok(Self(Server::start(Plan { url, launch, dir, lease, greeting: GREETING, prepare, preload: false }).await?))
    }

    /// Runs a command with `redis-cli`, and gives what it prints.
    pub async fn cli(&self, words: &[&str]) -> Result<String> {
        let client = find_program(&["redis-cli"])?;
        let mut command = Command::new(client);
        command.args(["-u", self.url()]).args(words).kill_on_drop(true);
        let output = timeout(CLIENT_LIMIT, command.output()).await.context("redis-cli hangs")??;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        ensure!(output.status.success(), "{words:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        Ok(said)
    }

    /// The first word of `ROLE`: `master`, `slave` or `sentinel`.
    pub async fn role(&self) -> Result<String> {
        let said = self.cli(&["ROLE"]).await?;
        Ok(said.lines().next().unwrap_or_default().to_owned())
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
