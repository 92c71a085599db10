//! Likes from `syncctl load`: always new pairs, uniform over the resources.

use crate::rig::{Rig, Settings};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::time::timeout;

const VERIFY_LIMIT: Duration = Duration::from_secs(300);

/// What to send.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) concurrency: u32,
    /// Likes per call.
    pub(crate) batch: u32,
    /// Likes per second; none: as fast as answers come.
    pub(crate) rate: Option<f64>,
    pub(crate) amount: Amount,
    pub(crate) resources: u64,
    /// Where every acknowledged operation is written down.
    pub(crate) oplog: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Amount {
    Likes(u64),
    Seconds(f64),
}

/// What came of it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Sent {
    pub(crate) acknowledged: u64,
    pub(crate) elapsed_s: f64,
    pub(crate) likes_per_s: f64,
    latency_us: Latency,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Latency {
    p50: f64,
    p99: f64,
    p999: f64,
}

impl Sent {
    /// p50, p99 and p99.9 of a call in milliseconds.
    pub(crate) fn latencies_ms(&self) -> [f64; 3] {
        [self.latency_us.p50 / 1e3, self.latency_us.p99 / 1e3, self.latency_us.p999 / 1e3]
    }
}

/// A load and the settling of all of it.
#[derive(Debug, Clone)]
pub(crate) struct Settled {
    pub(crate) sent: Sent,
    /// Unsettled when the last answer had come.
    pub(crate) backlog: u64,
    /// From the first call until nothing was unsettled.
    pub(crate) seconds: f64,
}

impl Settled {
    /// Likes per second that were accepted and settled.
    pub(crate) fn per_second(&self) -> f64 {
        self.sent.acknowledged as f64 / self.seconds
    }
}

impl Load {
    /// Unary calls, as fast as answers come.
    pub(crate) fn unary(concurrency: u32, amount: Amount, resources: u64) -> Self {
        Self { concurrency, batch: 1, rate: None, amount, resources, oplog: None }
    }

    /// Batches, as fast as answers come.
    pub(crate) fn batches(concurrency: u32, batch: u32, amount: Amount, resources: u64) -> Self {
        Self { concurrency, batch, rate: None, amount, resources, oplog: None }
    }

    /// Unary calls that start when they are due.
    pub(crate) fn paced(rate: f64, seconds: f64, resources: u64) -> Self {
        Self { rate: Some(rate), ..Self::unary(256, Amount::Seconds(seconds), resources) }
    }

    /// The same with `batch` likes per call.
    pub(crate) fn paced_batches(rate: f64, batch: u32, seconds: f64, resources: u64) -> Self {
        Self { rate: Some(rate), ..Self::batches(16, batch, Amount::Seconds(seconds), resources) }
    }

    /// Sends it and waits for the last answer.
    pub(crate) async fn send(&self, rig: &mut Rig) -> Result<Sent> {
        finish(self.spawn(rig)?).await
    }

    /// Sends it and waits until everything is settled.
    pub(crate) async fn send_and_settle(&self, rig: &mut Rig) -> Result<Settled> {
        let sent = self.send(rig).await?;
        let after = Instant::now();
        let backlog = rig.unsettled().await?;
        rig.all_settled().await?;
        // The load knows best when its first call started.
        let seconds = sent.elapsed_s + after.elapsed().as_secs_f64();
        Ok(Settled { sent, backlog, seconds })
    }

    /// Starts it.
    pub(crate) fn spawn(&self, rig: &mut Rig) -> Result<Child> {
        let program = rig.bin_dir.join("syncctl");
        let mut command = Command::new(&program);
        command.args(["load", "--generate", "--fresh-users", "--json", "--zipf", "0"]);
        for (name, value) in [
            ("--addr", rig.grpc_addr()?),
            ("--first-user", rig.fresh_users().to_string()),
            ("--resources", self.resources.to_string()),
            ("--concurrency", self.concurrency.to_string()),
            ("--batch", self.batch.to_string()),
        ] {
            command.args([name, &value]);
        }
        if let Some(rate) = self.rate {
            command.args(["--rate", &rate.to_string()]);
        }
        match self.amount {
            Amount::Likes(likes) => command.args(["--likes", &likes.to_string()]),
            Amount::Seconds(seconds) => command.args(["--duration", &seconds.to_string()]),
        };
        if let Some(oplog) = &self.oplog {
            command.arg("--oplog").arg(oplog);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().with_context(|| format!("start {}", program.display()))
    }
}

/// Waits for a started load; an error unless every like was answered.
pub(crate) async fn finish(child: Child) -> Result<Sent> {
    let output = child.wait_with_output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("syncctl load: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_str(text.trim()).with_context(|| format!("syncctl load: {text}"))
}

/// Starts one consumer, and warms everything up.
pub(crate) async fn start_warm(rig: &mut Rig, likes: u64, resources: u64) -> Result<()> {
    start_warm_with(rig, &[], likes, resources).await
}

/// The same with settings of its own.
pub(crate) async fn start_warm_with(rig: &mut Rig, settings: Settings, likes: u64, resources: u64) -> Result<()> {
    rig.start(settings, 1).await?;
    warm_up(rig, likes, resources).await?;
    rig.all_settled().await
}

/// Gives every resource a count, and every part its caches.
pub(crate) async fn warm_up(rig: &mut Rig, likes: u64, resources: u64) -> Result<()> {
    Load::batches(4, 100, Amount::Likes(likes), resources).send(rig).await?;
    Load::unary(64, Amount::Likes(likes.div_ceil(10)), resources).send(rig).await?;
    Ok(())
}

/// What `syncctl verify` found; of everything it counts, what is of interest here.
#[derive(Debug, Deserialize)]
pub(crate) struct Verified {
    lost_pairs: Vec<serde_json::Value>,
    problems: BTreeMap<String, Finding>,
}

#[derive(Debug, Deserialize)]
struct Finding {
    count: u64,
}

impl Verified {
    /// Acknowledged likes that are not in the database.
    pub(crate) fn lost(&self) -> f64 {
        self.lost_pairs.len() as f64
    }

    /// Differences of any kind, of any two stores.
    pub(crate) fn differences(&self) -> f64 {
        self.problems.values().map(|finding| finding.count).sum::<u64>() as f64
    }
}

/// Waits for quiet and compares all stores with what was acknowledged.
pub(crate) async fn verify(rig: &Rig, oplog: &Path) -> Result<Verified> {
    let mut command = Command::new(rig.bin_dir.join("syncctl"));
    command.args(["verify", "--json", "--redis-url", &rig.redis_url]).arg("--oplog").arg(oplog);
    command.env("DATABASE_URL", rig.database_url()).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(VERIFY_LIMIT, command.output()).await.context("syncctl verify hangs")??;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.trim())
        .with_context(|| format!("syncctl verify: {text}{}", String::from_utf8_lossy(&output.stderr)))
}
