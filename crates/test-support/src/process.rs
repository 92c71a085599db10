//! One process that is started, signalled and started again.

use crate::launch::Launch;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const POLL: Duration = Duration::from_millis(10);

const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// A process and how to start it.
#[derive(Debug)]
pub(crate) struct Process {
    launch: Launch,
    child: Mutex<Option<Child>>,
    /// Of the last process that ended.
    last_exit: Mutex<Option<ExitStatus>>,
}

impl Process {
    pub(crate) fn new(launch: Launch) -> Self {
        Self { launch, child: Mutex::new(None), last_exit: Mutex::new(None) }
    }

    /// Starts it; an error while it still runs.
    pub(crate) fn spawn(&self) -> Result<()> {
        let mut child = self.child();
        if child.is_some() {
            bail!("{} already runs", self.launch.program.display());
        }
        *child = Some(self.launch.spawn()?);
        Ok(())
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// Whether it has been started and has not ended.
    pub(crate) fn is_running(&self) -> bool {
        self.exit_status().is_none() && self.child().is_some()
    }

    /// Sends a signal; an error when nothing runs.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child();
        let child = child.as_ref().with_context(|| format!("{} does not run", self.launch.program.display()))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).context("process id out of range")?);
        kill(pid, signal).with_context(|| format!("send {signal} to {pid}"))
    }

    /// SIGSTOP, and waits until none of its threads runs any more: on a busy machine they may go on for a while.
    pub(crate) fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        let pid = self.pid().context("it has ended")?;
        let deadline = std::time::Instant::now() + STOPS_WITHIN;
        while !all_stopped(pid)? {
            ensure!(std::time::Instant::now() < deadline, "{pid} did not stop within {STOPS_WITHIN:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// SIGKILL, and waits until the process is gone. Nothing to do when none runs.
    pub(crate) fn kill9(&self) -> Result<()> {
        let Some(mut child) = self.child().take() else { return Ok(()) };
        child.kill().context("kill")?;
        *self.last_exit() = Some(child.wait().context("wait for the killed process")?);
        Ok(())
    }

    /// SIGTERM (and SIGCONT, in case it is paused), then waits for the end.
    pub(crate) async fn terminate(&self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.signal(Signal::SIGCONT)?;
        self.wait_exit(limit).await
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn wait_exit(&self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exit_status() {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{} has not ended after {limit:?}", self.launch.program.display());
            }
            sleep(POLL).await;
        }
    }

    /// How the last one ended; none while it runs or before the first start.
    pub(crate) fn exit_status(&self) -> Option<ExitStatus> {
        let mut child = self.child();
        match child.as_mut() {
            Some(running) => {
                let status = running.try_wait().ok().flatten()?;
                *child = None;
                *self.last_exit() = Some(status);
                Some(status)
            }
            None => *self.last_exit(),
        }
    }

    /// Everything it has written to standard output and error.
    pub(crate) fn log(&self) -> String {
        std::fs::read(self.launch.log_path())
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .unwrap_or_default()
    }

    /// The last lines of the log, for error messages.
    pub(crate) fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_exit(&self) -> MutexGuard<'_, Option<ExitStatus>> {
        self.last_exit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody to tell; the directory's owner kills what carries its mark.
        let _killed = self.kill9();
    }
}

/// Whether every thread of the process is stopped; one that has just ended is.
fn all_stopped(pid: u32) -> Result<bool> {
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("threads of {pid}"))? {
        let Ok(stat) = std::fs::read_to_string(task?.path().join("stat")) else { continue };
        // After the name, which is in parentheses and may contain anything.
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        if !matches!(state, Some('T' | 't' | 'Z' | 'X')) {
            return Ok(false);
        }
    }
    Ok(true)
}
