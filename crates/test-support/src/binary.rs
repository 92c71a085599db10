//! The workspace's own programs as processes.

use crate::launch::{Launch, WorkDir};
use crate::process::Process;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// Settings of the services start with this; inherited ones are hidden from the process.
const SETTINGS_PREFIX: &str = "INTERACTION__";

/// A running (or ended) program of the workspace; killed when dropped.
#[derive(Debug)]
pub struct Binary {
    // Order matters: the process is killed before its directory goes.
    process: Process,
    dir: WorkDir,
}

/// Says how to run a program.
#[derive(Debug)]
pub struct BinaryBuilder {
    name: String,
    directory: Option<PathBuf>,
    args: Vec<OsString>,
    env: Vec<(String, OsString)>,
}

impl Binary {
    /// The program of this name, found by `CARGO_BIN_EXE_<name>` or beside the directory of the test program.
    pub fn build(name: impl Into<String>) -> BinaryBuilder {
        BinaryBuilder { name: name.into(), directory: None, args: vec![], env: vec![] }
    }

    /// SIGTERM; wait with [`wait_exit`](Self::wait_exit).
    pub fn terminate(&self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)
    }

    /// SIGKILL. Returns when the process is gone.
    pub fn kill9(&self) -> Result<()> {
        self.process.kill9()
    }

    /// SIGSTOP.
    pub fn pause(&self) -> Result<()> {
        self.process.pause()
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.process.signal(Signal::SIGCONT)
    }

    /// Waits until it has ended; the error shows the end of its log.
    pub async fn wait_exit(&self, limit: Duration) -> Result<ExitStatus> {
        self.process.wait_exit(limit).await.with_context(|| format!("log:\n{}", self.process.log_tail()))
    }

    /// How it ended; none while it runs.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.process.exit_status()
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Starts it again with the same settings; an error while it runs. The log goes on.
    pub fn restart(&self) -> Result<()> {
        self.process.exit_status();
        self.process.spawn()
    }

    /// Process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// Bytes of memory that it holds now.
    pub fn resident(&self) -> Result<u64> {
        let pid = self.pid().context("it has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no resident memory")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
    }

    /// Everything written to standard output and error so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until the log contains `text`; ends early with an error when the process does.
    pub async fn wait_log(&self, text: &str, limit: Duration) -> Result<()> {
        crate::try_eventually(limit, format!("{text:?} in the log"), async || {
            let ended = !self.is_running();
            let found = self.log().contains(text);
            if found || ended { Ok(found) } else { Err(format!("log:\n{}", self.process.log_tail())) }
        })
        .await
        .and_then(|found| {
            ensure!(found, "ended without {text:?} in the log:\n{}", self.process.log_tail());
            Ok(())
        })
    }

    /// Its working directory, for files that the test gives it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl BinaryBuilder {
    /// Takes the program from this directory instead of looking for it.
    pub fn found_in(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<T: Into<OsString>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Starts it; does not wait for anything.
    pub fn start(self) -> Result<Binary> {
        let dir = WorkDir::create(&self.name)?;
        let program = match self.directory {
            Some(directory) => directory.join(&self.name),
            None => find_binary(&self.name)?,
        };
        let mut launch = Launch::new(program, dir.path());
        launch.args = self.args;
        launch.env = self.env;
        launch.hidden_env_prefix = Some(SETTINGS_PREFIX);
        let process = Process::new(launch);
        process.spawn()?;
        Ok(Binary { process, dir })
    }
}

fn find_binary(name: &str) -> Result<PathBuf> {
    if let Some(path) = env::var_os(format!("CARGO_BIN_EXE_{name}")) {
        return Ok(path.into());
    }
    let test = env::current_exe().context("path of the test program")?;
    // target/<profile>/deps/<test>, or target/<profile>/<program>.
    let candidates = test.ancestors().skip(1).take(2).map(|dir| dir.join(name));
    let path = candidates.into_iter().find(|path| path.is_file());
    path.with_context(|| format!("{name} is not built: cargo build -p {name} (looked beside {})", test.display()))
}
