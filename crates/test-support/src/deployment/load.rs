//! Likes with a log or a history of what was answered, and the comparison of every store with it: `syncctl load` and
//! `syncctl verify`.

use super::Deployment;
use crate::{Binary, unique_name};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A load that runs (or has ended).
#[derive(Debug)]
pub struct Load {
    process: Binary,
    oplog: PathBuf,
}

impl Deref for Load {
    type Target = Binary;

    fn deref(&self) -> &Binary {
        &self.process
    }
}

impl Load {
    /// Every answer, as `syncctl` writes it: an oplog, or the history of people.
    pub fn oplog(&self) -> &Path {
        &self.oplog
    }

    /// Lines that are in the log so far.
    pub fn lines(&self) -> usize {
        std::fs::read(&self.oplog).map_or(0, |log| log.iter().filter(|byte| **byte == b'\n').count())
    }

    /// Waits for the end, which must be a good one; its report.
    pub async fn finished(&self, limit: Duration) -> Result<Value> {
        let status = self.wait_exit(limit).await?;
        ensure!(status.success(), "load: {}", self.log());
        self.report()
    }

    /// The report of a load that has ended, well or not.
    pub fn report(&self) -> Result<Value> {
        last_json(&self.log()).with_context(|| format!("load printed no result: {}", self.log()))
    }
}

/// What a comparison found.
#[derive(Debug)]
pub struct Verified {
    /// Nothing is wrong.
    pub good: bool,
    /// Everything it says.
    pub report: Value,
}

impl Deployment {
    /// Starts generated likes to a server (or several, with commas between); `args` say how many and of what shape.
    pub fn load(&self, grpc_addr: &str, args: &[&str]) -> Result<Load> {
        self.load_to(grpc_addr, args, self.dir().join(unique_name("oplog")))
    }

    /// The same with the log in this file.
    pub fn load_to(&self, grpc_addr: &str, args: &[&str], oplog: PathBuf) -> Result<Load> {
        let syncctl = self.binary("syncctl").args(["load", "--generate", "--json"]).args(args.iter().copied());
        let process = syncctl.args(["--addr", grpc_addr, "--oplog"]).arg(&oplog).start()?;
        Ok(Load { process, oplog })
    }

    /// Starts so many people, who call these servers (with commas between) until they are told to end; their history goes
    /// to this file.
    pub fn people(&self, grpc_addrs: &str, number: u32, args: &[&str], history: PathBuf) -> Result<Load> {
        let number = number.to_string();
        let syncctl = self.binary("syncctl").args(["load", "--json", "--people", &number]).args(args.iter().copied());
        let process = syncctl.args(["--addr", grpc_addrs, "--history"]).arg(&history).start()?;
        Ok(Load { process, oplog: history })
    }

    /// Judges every store by histories.
    pub async fn judge<'a>(
        &self,
        histories: impl IntoIterator<Item = &'a Path>,
        args: &[&str],
        limit: Duration,
    ) -> Result<Verified> {
        let verified = self.verified_by("--history", histories, args, limit).await?;
        let report = &verified.report;
        ensure!(report["coverage"]["words"].as_u64() > Some(0), "nothing was judged: {report}");
        Ok(verified)
    }

    /// Compares every store with logs. `args` name stores that are not those of this deployment.
    pub async fn verify<'a>(
        &self,
        oplogs: impl IntoIterator<Item = &'a Path>,
        args: &[&str],
        limit: Duration,
    ) -> Result<Verified> {
        let verified = self.verified_by("--oplog", oplogs, args, limit).await?;
        let report = &verified.report;
        ensure!(report["operations"].as_u64() > Some(0), "nothing was verified: {report}");
        Ok(verified)
    }

    async fn verified_by<'a>(
        &self,
        option: &str,
        files: impl IntoIterator<Item = &'a Path>,
        args: &[&str],
        limit: Duration,
    ) -> Result<Verified> {
        let mut syncctl = self.syncctl().args(["verify", "--json"]).args(args.iter().copied());
        for file in files {
            syncctl = syncctl.arg(option).arg(file);
        }
        let process = syncctl.start()?;
        let status = process.wait_exit(limit).await.context("verify does not end")?;
        let report = last_json(&process.log()).with_context(|| format!("verify printed: {}", process.log()))?;
        Ok(Verified { good: status.success(), report })
    }
}

/// The JSON that a command of `syncctl` printed as its last line.
pub fn last_json(log: &str) -> Option<Value> {
    log.lines().rev().find(|line| line.starts_with('{')).and_then(|line| serde_json::from_str(line).ok())
}
