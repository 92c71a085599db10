//! A private rabbitmq.

use crate::launch::{Launch, WorkDir, find_program};
use crate::server::{Greeting, Plan, Server};
use crate::{lease_port, unique_name};
use anyhow::{Context, Result};
use std::fs;
use std::ops::Deref;
use std::path::PathBuf;

/// Debian's wrapper in PATH insists on the system's directories and user; the script behind it does not.
const DEBIAN_SCRIPT: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

const CONFIG: &str = "\
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = 1GB
raft.wal_max_size_bytes = 64000000
collect_statistics_interval = 30000
log.console.level = info
";

/// A rabbitmq broker with user `guest`, virtual host `/`; see [`Server`]. Starting takes 5-10 s on two cores.
#[derive(Debug)]
pub struct RabbitMq(Server);

impl RabbitMq {
    /// Starts a private one, whatever the environment says: own node name, cookie, epmd and ports.
    pub async fn start() -> Result<Self> {
        let dir = WorkDir::create("rabbitmq")?;
        let (lease, dist, epmd) = (lease_port()?, lease_port()?, lease_port()?);
        let port = lease.port();
        let config = dir.path().join("rabbitmq.conf");
        fs::write(&config, CONFIG).context("write rabbitmq.conf")?;
        let plugins = dir.path().join("enabled_plugins");
        fs::write(&plugins, "[].\n").context("write enabled_plugins")?;
        let no_settings = dir.path().join("rabbitmq-env.conf");
        fs::write(&no_settings, "").context("write rabbitmq-env.conf")?;

        let launch = Launch::new(script()?, dir.path())
            .env("HOME", dir.path())
            .env("RABBITMQ_CONF_ENV_FILE", no_settings)
            .env("RABBITMQ_CONFIG_FILE", config)
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins)
            .env("RABBITMQ_NODENAME", format!("{}@localhost", unique_name("rabbit")))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", port.to_string())
            .env("RABBITMQ_DIST_PORT", dist.port().to_string())
            .env("RABBITMQ_MNESIA_BASE", dir.path().join("data"))
            .env("RABBITMQ_LOG_BASE", dir.path())
            .env("RABBITMQ_LOGS", "-")
            .env("ERL_EPMD_PORT", epmd.port().to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_CRASH_DUMP_SECONDS", "0")
            // "Input allowed" makes the script exec the virtual machine, so that signals reach it and not a shell.
            .env("RABBITMQ_ALLOW_INPUT", "true")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-noinput +B i +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}",
            );
        // The answer to a protocol header is a method frame (type 1).
        let greeting = Greeting { send: b"AMQP\x00\x00\x09\x01", accept: |answer| answer.first() == Some(&1) };
        let url = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
        let server = Server::start(Plan { url, launch, dir, lease, greeting, prepare: |_| Ok(()) }).await?;
        Ok(Self(server))
    }

    /// Uses somebody else's server.
    pub fn external(url: impl Into<String>) -> Self {
        Self(Server::external(url.into()))
    }
}

impl Deref for RabbitMq {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

fn script() -> Result<PathBuf> {
    let debian = PathBuf::from(DEBIAN_SCRIPT);
    if debian.is_file() { Ok(debian) } else { find_program(&["rabbitmq-server"]) }
}
