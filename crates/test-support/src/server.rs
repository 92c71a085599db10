//! What every kind of server can do.

use crate::launch::{Launch, WorkDir};
use crate::names::UrlParts;
use crate::ports::PortLease;
use crate::preload::Preload;
use crate::process::Process;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use std::fs;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

const START_LIMIT: Duration = Duration::from_secs(90);
const STOP_LIMIT: Duration = Duration::from_secs(40);
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// How a fresh connection shows that a server answers: send this, then read an answer that starts with that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Greeting {
    pub(crate) send: &'static [u8],
    /// Tells from the first bytes of the answer.
    pub(crate) accept: fn(&[u8]) -> bool,
}

/// Fills an empty data directory; runs where blocking is allowed.
pub(crate) type Prepare = fn(&Path) -> Result<()>;

/// A server of any kind: its own process, or one that somebody else runs (external).
#[derive(Debug)]
pub struct Server {
    url: String,
    local: Option<Local>,
}

#[derive(Debug)]
struct Local {
    // Order matters: the process is killed before its directory goes, the port is given back last.
    process: Process,
    dir: WorkDir,
    lease: PortLease,
    greeting: Greeting,
    prepare: Prepare,
    preload: Option<Preload>,
}

/// What a kind of server needs to be started.
pub(crate) struct Plan {
    pub(crate) url: String,
    pub(crate) launch: Launch,
    pub(crate) dir: WorkDir,
    pub(crate) lease: PortLease,
    pub(crate) greeting: Greeting,
    pub(crate) prepare: Prepare,
    /// Whether its disk can be slow and its clock wrong.
    pub(crate) preload: bool,
}

impl Server {
    pub(crate) fn external(url: String) -> Self {
        Self { url, local: None }
    }

    pub(crate) async fn start(plan: Plan) -> Result<Self> {
        let Plan { url, mut launch, dir, lease, greeting, prepare, preload } = plan;
        let preload = if preload { Some(Preload::new(dir.path())?) } else { None };
        if let Some(preload) = &preload {
            launch = preload.env().into_iter().fold(launch, |launch, (name, value)| launch.env(name, value));
        }
        let local = Local { process: Process::new(launch), dir, lease, greeting, prepare, preload };
        local.prepare_data().await?;
        local.start().await?;
        Ok(Self { url, local: Some(local) })
    }

    /// Address with scheme and login, as clients take it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `host:port`.
    pub fn addr(&self) -> Result<String> {
        let parts = UrlParts::parse(&self.url).with_context(|| format!("not an address: {}", self.url))?;
        let port = parts.port.with_context(|| format!("no port in {}", self.url))?;
        Ok(format!("{}:{port}", parts.host))
    }

    /// Somebody else's server: it can be used, but not killed, paused or restarted.
    pub fn is_external(&self) -> bool {
        self.local.is_none()
    }

    /// Its disk and clock, if it was started so that they can fail.
    pub fn preload(&self) -> Result<&Preload> {
        self.local()?.preload.as_ref().with_context(|| format!("{} was started without", self.url))
    }

    /// Process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.local.as_ref().and_then(|local| local.process.pid())
    }

    /// SIGKILL: no chance to write anything. Returns when the process is gone.
    pub fn kill9(&self) -> Result<()> {
        self.local()?.process.kill9()
    }

    /// SIGTERM, and waits for the end (killed after 40 s). Nothing to do when it does not run.
    pub async fn stop(&self) -> Result<()> {
        let process = &self.local()?.process;
        if process.is_running() && process.terminate(STOP_LIMIT).await.is_err() {
            process.kill9()?;
        }
        Ok(())
    }

    /// Stops it if it runs, starts it on the same port and data, and waits until it answers.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.local()?.start().await
    }

    /// SIGSTOP: connections stay open, nothing answers.
    pub fn pause(&self) -> Result<()> {
        self.local()?.process.pause()
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.local()?.process.signal(Signal::SIGCONT)
    }

    /// Kills it, removes its data, and starts it empty on the same port.
    pub async fn wipe_and_restart(&self) -> Result<()> {
        let local = self.local()?;
        local.process.kill9()?;
        local.prepare_data().await?;
        local.start().await
    }

    /// Of a server that does not run: its data is without this file or directory.
    pub fn remove_data(&self, name: &str) -> Result<()> {
        let local = self.local()?;
        anyhow::ensure!(!local.process.is_running(), "{} runs", self.url);
        let path = local.dir.path().join("data").join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("remove {}", path.display()))
    }

    /// What the process has written to its log so far.
    pub fn log(&self) -> String {
        self.local.as_ref().map(|local| local.process.log()).unwrap_or_default()
    }

    fn local(&self) -> Result<&Local> {
        self.local.as_ref().with_context(|| format!("{} is external: start a private server instead", self.url))
    }
}

impl Local {
    async fn prepare_data(&self) -> Result<()> {
        let data = self.dir.path().join("data");
        let prepare = self.prepare;
        tokio::task::spawn_blocking(move || {
            if data.exists() {
                fs::remove_dir_all(&data).with_context(|| format!("remove {}", data.display()))?;
            }
            fs::create_dir_all(&data).with_context(|| format!("create {}", data.display()))?;
            prepare(&data)
        })
        .await
        .context("prepare data")?
    }

    async fn start(&self) -> Result<()> {
        self.process.spawn()?;
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let seen = match timeout(PROBE_LIMIT, self.probe()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => format!("{error:#}"),
                Err(_) => "no answer".to_owned(),
            };
            if !self.process.is_running() {
                bail!("the server ended while starting:\n{}", self.process.log_tail());
            }
            if Instant::now() >= deadline {
                let tail = self.process.log_tail();
                self.process.kill9()?;
                bail!("the server does not answer after {START_LIMIT:?} ({seen}):\n{tail}");
            }
            sleep(Duration::from_millis(30)).await;
        }
    }

    async fn probe(&self) -> Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.lease.port())).await?;
        stream.write_all(self.greeting.send).await?;
        let mut answer = [0; 64];
        let length = stream.read(&mut answer).await?;
        ensure!((self.greeting.accept)(&answer[..length]), "answered {:?}", &answer[..length]);
        Ok(())
    }
}
