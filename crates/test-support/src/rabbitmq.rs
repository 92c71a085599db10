//! A private rabbitmq.

use crate::launch::{Launch, WorkDir, find_program};
use crate::rabbitmq_group::Member;
use crate::server::{Greeting, Plan, Server};
use crate::{Authority, lease_port};
use anyhow::{Context, Result};
use std::fs;
use std::ops::Deref;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Debian's wrapper in PATH insists on the system's directories and user; the script behind it does not.
const DEBIAN_SCRIPT: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

const DEBIAN_CTL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";

/// Where packages put `rabbitmq_server-<version>`.
const INSTALLATIONS: &str = "/usr/lib/rabbitmq/lib";

const CONFIG: &str = "\
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = 1GB
raft.wal_max_size_bytes = 64000000
collect_statistics_interval = 30000
log.console.level = info
";

/// A rabbitmq broker with user `guest`, virtual host `/`; see [`Server`]. Starting takes about 5 s on two cores.
#[derive(Debug)]
pub struct RabbitMq {
    server: Server,
    /// None for somebody else's.
    ctl: Option<Ctl>,
}

/// How to reach the node with `rabbitmqctl`.
#[derive(Debug)]
struct Ctl {
    program: PathBuf,
    environment: Vec<(&'static str, String)>,
}

impl RabbitMq {
    /// Starts a private one, whatever the environment says: own node name, cookie, epmd and ports.
    pub async fn start() -> Result<Self> {
        Self::start_with(None, false, None).await
    }

    /// A node of a cluster.
    pub(crate) async fn start_member(member: &Member) -> Result<Self> {
        Self::start_with(None, false, Some(member)).await
    }

    /// The same with a disk that can be slow: [`Server::preload`].
    pub async fn start_preloaded() -> Result<Self> {
        Self::start_with(None, true, None).await
    }

    /// The same with TLS; its url is `amqps://`.
    pub async fn start_tls(authority: &Authority) -> Result<Self> {
        Self::start_with(Some(authority), false, None).await
    }

    async fn start_with(authority: Option<&Authority>, preload: bool, member: Option<&Member>) -> Result<Self> {
        let dir = WorkDir::create("rabbitmq")?;
        let (lease, dist, epmd) = (lease_port()?, lease_port()?, lease_port()?);
        let port = lease.port();
        let config = dir.path().join("rabbitmq.conf");
        let mut url = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
        let mut settings = CONFIG.to_owned();
        // The plain port stays, for the greeting.
        let tls_lease = lease_port()?;
        if let Some(authority) = authority {
            let server = authority.issue("rabbitmq")?;
            settings += &format!(
                "listeners.ssl.default = 127.0.0.1:{}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\n\
                 ssl_options.keyfile = {}\nssl_options.verify = verify_none\n",
                tls_lease.port(),
                authority.ca().display(),
                server.cert.display(),
                server.key.display()
            );
            url = format!("amqps://guest:guest@127.0.0.1:{}/%2f", tls_lease.port());
        }
        if let Some(member) = member {
            settings += &member.settings();
            member.write_cookie(dir.path())?;
        }
        fs::write(&config, settings).context("write rabbitmq.conf")?;
        let plugins = dir.path().join("enabled_plugins");
        fs::write(&plugins, "[].\n").context("write enabled_plugins")?;
        let no_settings = dir.path().join("rabbitmq-env.conf");
        fs::write(&no_settings, "").context("write rabbitmq-env.conf")?;

        let node = member.map_or_else(|| Member::name(0), |member| member.node.clone());
        let epmd_port = member.map_or_else(|| epmd.port(), |member| member.epmd_port).to_string();
        let ctl = Ctl {
            program: find_ctl()?,
            environment: vec![
                ("HOME", dir.path().display().to_string()),
                ("RABBITMQ_CONF_ENV_FILE", no_settings.display().to_string()),
                ("RABBITMQ_NODENAME", node.clone()),
                ("ERL_EPMD_PORT", epmd_port.clone()),
            ],
        };
        let launch = launch(dir.path())?
            .env("HOME", dir.path())
            .env("RABBITMQ_CONF_ENV_FILE", no_settings)
            .env("RABBITMQ_CONFIG_FILE", config)
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins)
            .env("RABBITMQ_NODENAME", node)
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", port.to_string())
            .env("RABBITMQ_DIST_PORT", dist.port().to_string())
            .env("RABBITMQ_MNESIA_BASE", dir.path().join("data"))
            .env("RABBITMQ_LOG_BASE", dir.path())
            .env("RABBITMQ_LOGS", "-")
            .env("ERL_EPMD_PORT", epmd_port.clone())
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
        let server = Server::start(Plan { url, launch, dir, lease, greeting, prepare: |_| Ok(()), preload }).await?;
        Ok(Self { server, ctl: Some(ctl) })
    }

    /// What an administrator does, with `rabbitmqctl`.
    pub async fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let Ctl { program, environment } = self.ctl.as_ref().context("somebody else's broker")?;
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value))).kill_on_drop(true);
        let output = command.output().await.context("run rabbitmqctl")?;
        anyhow::ensure!(
            output.status.success(),
            "rabbitmqctl {arguments:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Uses somebody else's server.
    pub fn external(url: impl Into<String>) -> Self {
        Self { server: Server::external(url.into()), ctl: None }
    }
}

impl Deref for RabbitMq {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// As the server's script, not the wrapper in PATH.
fn find_ctl() -> Result<PathBuf> {
    let debian = PathBuf::from(DEBIAN_CTL);
    if debian.is_file() { Ok(debian) } else { find_program(&["rabbitmqctl"]) }
}

fn launch(dir: &Path) -> Result<Launch> {
    if let Some(home) = slim_home(dir)? {
        let scripts = home.join("sbin");
        return Ok(Launch::new(scripts.join("rabbitmq-server"), dir).env("RABBITMQ_SCRIPTS_DIR", scripts));
    }
    let debian = PathBuf::from(DEBIAN_SCRIPT);
    let script = if debian.is_file() { debian } else { find_program(&["rabbitmq-server"])? };
    Ok(Launch::new(script, dir))
}

/// An installation made of links that leaves out the plugins: the virtual machine looks for each of its 800 modules in
/// every plugin's directory, which is half of the time that a start takes. None if the installation looks unfamiliar.
fn slim_home(dir: &Path) -> Result<Option<PathBuf>> {
    let Some(original) = installation() else { return Ok(None) };
    let plugins = original.join("plugins");
    let Ok(entries) = fs::read_dir(&plugins) else { return Ok(None) };
    let entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    let broker = entries.iter().find(|path| application(path) == "rabbit");
    let Some(needed) = broker.and_then(|path| fs::read_to_string(path.join("ebin/rabbit.app")).ok()) else {
        return Ok(None);
    };

    let home = dir.join("home");
    fs::create_dir_all(home.join("plugins")).context("create the broker's home")?;
    for part in ["sbin", "escript"] {
        symlink(original.join(part), home.join(part)).context("link the broker's scripts")?;
    }
    for path in entries.iter().filter(|path| !is_plugin(application(path)) || needed.contains(application(path))) {
        let name = path.file_name().context("an application without a name")?;
        symlink(path, home.join("plugins").join(name)).context("link an application")?;
    }
    Ok(Some(home))
}

/// `rabbit` for `.../plugins/rabbit-3.10.8`.
fn application(path: &Path) -> &str {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.split('-').next().unwrap_or_default()
}

/// Plugins, and the web server that only they use; everything else may be a dependency of the broker.
fn is_plugin(application: &str) -> bool {
    application.starts_with("rabbitmq_") || application.starts_with("cow")
}

fn installation() -> Option<PathBuf> {
    let mut found = fs::read_dir(INSTALLATIONS).ok()?.flatten().map(|entry| entry.path());
    found.find(|path| path.join("sbin/rabbitmq-server").is_file() && path.join("escript").is_dir())
}
