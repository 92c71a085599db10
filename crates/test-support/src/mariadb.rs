//! A private mariadb.

use crate::launch::{Launch, WorkDir, find_program};
use crate::server::{Greeting, Plan, Server};
use crate::{Authority, lease_port};
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Of the template and of every server copied from it: another size would mean a rebuild at start.
const LOG_SIZE: &str = "--innodb-log-file-size=32M";

/// Settings of a private mariadb.
#[derive(Debug, Clone, Copy)]
pub struct MariaDbOptions {
    /// Flush the redo log at every commit, as in production. On by default; off is faster and still survives a kill of
    /// the process.
    pub durable: bool,
    /// Its disk can be slow and its clock wrong: [`Server::preload`]. Off by default.
    pub preload: bool,
}

impl Default for MariaDbOptions {
    fn default() -> Self {
        Self { durable: true, preload: false }
    }
}

/// A mariadb server with an empty database `test`, user `root` without password; see [`Server`].
#[derive(Debug)]
pub struct MariaDb(Server);

impl MariaDb {
    /// Starts a private one, whatever the environment says.
    pub async fn start() -> Result<Self> {
        Self::start_with(MariaDbOptions::default()).await
    }

    /// The same with options.
    pub async fn start_with(options: MariaDbOptions) -> Result<Self> {
        Self::launch(options, None, &[]).await
    }

    /// The same with more arguments than ours, such as `--log-bin`.
    pub async fn start_with_arguments(options: MariaDbOptions, arguments: &[&str]) -> Result<Self> {
        Self::launch(options, None, arguments).await
    }

    /// A private one with TLS; its url says nothing of it.
    pub async fn start_tls(authority: &Authority) -> Result<Self> {
        Self::launch(MariaDbOptions::default(), Some(authority), &[]).await
    }

    async fn launch(options: MariaDbOptions, authority: Option<&Authority>, arguments: &[&str]) -> Result<Self> {
        let dir = WorkDir::create("mariadb")?;
        let lease = lease_port()?;
        let port = lease.port();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let mut launch = Launch::new(find_program(&["mariadbd", "mysqld"])?, dir.path())
            .args(["--no-defaults", LOG_SIZE, "--bind-address=127.0.0.1", "--skip-name-resolve"])
            .arg(format!("--port={port}"))
            .arg(format!("--datadir={}", path("data")))
            // When it starts it deletes all temporary tables there, those of other servers too.
            .arg(format!("--tmpdir={}", dir.path().display()))
            .arg(format!("--socket={}", path("s.sock")))
            .arg(format!("--pid-file={}", path("pid")))
            .arg(format!("--innodb-flush-log-at-trx-commit={}", if options.durable { 1 } else { 2 }))
            .args(["--character-set-server=utf8mb4", "--max-connections=300", "--skip-log-bin"])
            .args(["--innodb-buffer-pool-size=64M", "--key-buffer-size=1M", "--aria-pagecache-buffer-size=8M"])
            .args(["--performance-schema=OFF", "--innodb-use-native-aio=0", "--innodb-fast-shutdown=1"])
            .args(user_argument()?)
            .args(arguments);
        if let Some(authority) = authority {
            let server = authority.issue("mariadb")?;
            let option = |name: &str, file: PathBuf| format!("--ssl-{name}={}", file.display());
            launch =
                launch.args([option("ca", authority.ca()), option("cert", server.cert), option("key", server.key)]);
        }
        // The server speaks first; protocol version 10 is the fifth byte.
        let greeting = Greeting { send: b"", accept: |answer| answer.get(4) == Some(&10) };
        let url = format!("mysql://root@127.0.0.1:{port}/test");
        let preload = options.preload;
        Ok(Self(Server::start(Plan { url, launch, dir, lease, greeting, prepare: copy_template, preload }).await?))
    }

    /// Uses somebody else's server.
    pub fn external(url: impl Into<String>) -> Self {
        Self(Server::external(url.into()))
    }
}

impl Deref for MariaDb {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

/// The server refuses to run as root unless told to.
fn user_argument() -> Result<Option<&'static str>> {
    let uid = fs::metadata("/proc/self").context("read /proc/self")?.uid();
    Ok((uid == 0).then_some("--user=root"))
}

fn copy_template(data: &Path) -> Result<()> {
    let template = template()?;
    let status = Command::new("cp")
        .args(["-R", "--reflink=auto"])
        .arg(template.join("."))
        .arg(data)
        .status()
        .context("copy the database template")?;
    ensure!(status.success(), "copying {} ended with {status}", template.display());
    Ok(())
}

/// A freshly initialised data directory, made once per machine (it takes seconds) and copied for every server.
fn template() -> Result<PathBuf> {
    let uid = fs::metadata("/proc/self").context("read /proc/self")?.uid();
    let version = server_version()?;
    let cache = std::env::temp_dir().join(format!("test-support-mariadb-{uid}"));
    fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
    let template = cache.join(&version);
    let lock = File::create(cache.join("lock")).context("create the template's lock file")?;
    lock.lock().context("lock the template")?;
    if template.is_dir() {
        return Ok(template);
    }
    let unfinished = cache.join("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).context("remove an unfinished template")?;
    }
    let install = find_program(&["mariadb-install-db", "mysql_install_db"])?;
    let output = Command::new(install)
        .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-name-resolve", "--force", LOG_SIZE])
        .arg(format!("--datadir={}", unfinished.display()))
        .args(user_argument()?)
        .env("TMPDIR", &cache)
        .stdin(Stdio::null())
        .output()
        .context("run mariadb-install-db")?;
    ensure!(
        output.status.success(),
        "mariadb-install-db ended with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    fs::rename(&unfinished, &template).context("finish the template")?;
    Ok(template)
}

/// The version as one path component.
fn server_version() -> Result<String> {
    let output = Command::new(find_program(&["mariadbd", "mysqld"])?)
        .args(["--no-defaults", "--version"])
        .output()
        .context("ask mariadbd for its version")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split("Ver ").nth(1).and_then(|rest| rest.split_whitespace().next());
    version.map(|version| version.replace('/', "-")).with_context(|| format!("no version in {text:?}"))
}
