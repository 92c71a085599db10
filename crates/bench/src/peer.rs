//! Peers: other like counters on the same stores, given the same work and judged by the same oracle.

use crate::rig::Rig;
use crate::sizes::Sizes;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use test_support::Binary;
use tokio::process::Command;
use tokio::time::timeout;

const START_LIMIT: Duration = Duration::from_secs(60);

const PRODUCER_LIMIT: Duration = Duration::from_secs(600);

/// Likes in one call, where calls carry many.
pub(crate) const BULK: u32 = 100;

const POLL: Duration = Duration::from_millis(25);

/// What all of them keep, and the outbox of who has one.
const TABLES: &str = "CREATE TABLE peer_likes (user_id BIGINT NOT NULL, video_id BIGINT NOT NULL, \
                      created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), PRIMARY KEY (user_id, video_id)); \
                      CREATE TABLE peer_counts (video_id BIGINT NOT NULL PRIMARY KEY, like_count BIGINT NOT NULL); \
                      CREATE TABLE peer_outbox (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, video_id BIGINT NOT NULL)";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// One job per call of the queue, or [`BULK`] of them.
    BullMq { bulk: bool },
    /// With early or late acknowledgement.
    Celery { late: bool },
    /// Written by hand: committed with the row, counters follow.
    Outbox,
}

/// What came of a peer's run, at rest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    /// Likes in the database per second, from the first call to the last row.
    pub(crate) per_second: f64,
    /// Accepted and not in the database.
    pub(crate) lost: i64,
    /// Stored counts less rows: what was counted twice, or, below 0, not at all.
    pub(crate) stored_off: i64,
    /// Cached counts less rows.
    pub(crate) cached_off: i64,
}

impl Peer {
    pub(crate) const ALL: [Self; 5] = [
        Self::BullMq { bulk: false },
        Self::BullMq { bulk: true },
        Self::Celery { late: false },
        Self::Celery { late: true },
        Self::Outbox,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BullMq { bulk: false } => "bullmq",
            Self::BullMq { bulk: true } => "bullmq, in bulk",
            Self::Celery { late: false } => "celery, early ack",
            Self::Celery { late: true } => "celery, late ack",
            Self::Outbox => "outbox",
        }
    }

    /// Likes in one call.
    pub(crate) fn per_call(self) -> u32 {
        if self == (Self::BullMq { bulk: true }) { BULK } else { 1 }
    }

    /// Whether somebody has installed it below `peers`.
    pub(crate) fn is_installed(self, peers: &Path) -> bool {
        match self {
            Self::BullMq { .. } => peers.join("bullmq/node_modules/bullmq").is_dir(),
            Self::Celery { .. } => peers.join("celery/venv/bin/celery").is_file(),
            Self::Outbox => peers.join("outbox/node_modules/mysql2").is_dir(),
        }
    }

    /// Gives it likes on empty stores; with `kill`, its worker is killed in the middle and started again.
    pub(crate) async fn run(self, rig: &mut Rig, peers: &Path, sizes: &Sizes, kill: bool) -> Result<Outcome> {
        rig.empty().await?;
        let mut sql = rig.sql().await?;
        sql.run(TABLES).await?;
        let environment = self.environment(rig, sizes);
        let (likes, videos) = (sizes.peer_likes, sizes.resources);
        let mut worker = self.start_worker(peers, &environment).await?;

        let started = Instant::now();
        let producer = tokio::spawn(self.producer(peers, &environment, likes, videos).output());
        let mut to_kill = kill;
        let (mut counted, mut moved) = (0, Instant::now());
        let quiet = Duration::from_secs_f64(sizes.peer_quiet_s);
        let limit = i64::try_from(likes)?;
        while counted < limit {
            tokio::time::sleep(POLL).await;
            // Over the counters, because that is cheap; one that is off is found below.
            let now = sql.number("SELECT CAST(SUM(like_count) AS SIGNED) FROM peer_counts").await?;
            if now != counted {
                (counted, moved) = (now, Instant::now());
            } else if producer.is_finished() && moved.elapsed() > quiet {
                break;
            }
            if to_kill && counted >= limit / 10 {
                to_kill = false;
                kill_group(&worker)?;
                drop(worker);
                worker = self.start_worker(peers, &environment).await?;
                moved = Instant::now();
            }
        }
        let seconds = moved.duration_since(started).as_secs_f64();
        if to_kill {
            bail!("{}: ended before its worker could be killed:\n{}", self.name(), worker.log());
        }
        let accepted = accepted(timeout(PRODUCER_LIMIT, producer).await.context("the producer hangs")???)
            .with_context(|| format!("{}: producer", self.name()))?;
        let cached = self.cached(rig, limit).await?;
        let rows = sql.number("SELECT COUNT(*) FROM peer_likes").await?;
        let stored = sql.number("SELECT CAST(SUM(like_count) AS SIGNED) FROM peer_counts").await?;
        // Otherwise there is no rate: it had not even begun when the patience was over, or gave up by itself.
        if counted == 0 || (!kill && rows != accepted) {
            bail!("{}: {rows} of {accepted} likes were counted:\n{}", self.name(), worker.log());
        }
        kill_group(&worker)?;
        Ok(Outcome {
            per_second: rows as f64 / seconds,
            lost: accepted - rows,
            stored_off: stored - rows,
            cached_off: cached - rows,
        })
    }

    /// Sum of the cached counts, once it rests: they follow the rows.
    async fn cached(self, rig: &mut Rig, expected: i64) -> Result<i64> {
        let (mut seen, mut moved) = (rig.redis.sum("count:").await?, Instant::now());
        while seen != expected && moved.elapsed() < Duration::from_secs(2) {
            tokio::time::sleep(POLL).await;
            let now = rig.redis.sum("count:").await?;
            if now != seen {
                (seen, moved) = (now, Instant::now());
            }
        }
        Ok(seen)
    }

    fn environment(self, rig: &Rig, sizes: &Sizes) -> Vec<(&'static str, String)> {
        let mut environment = vec![
            ("REDIS_URL", rig.redis_url.clone()),
            ("DATABASE_URL", rig.database_url().to_owned()),
            ("AMQP_URL", rig.amqp_url.clone()),
            // The broker is not emptied between runs.
            ("PEER_QUEUE", test_support::unique_name("celery")),
        ];
        match self {
            Self::BullMq { .. } => environment.extend(sizes.peer_lock_ms.map(|ms| ("PEER_LOCK_MS", ms.to_string()))),
            Self::Celery { late } => environment.push(("PEER_ACKS_LATE", u8::from(late).to_string())),
            Self::Outbox => {}
        }
        environment
    }

    async fn start_worker(self, peers: &Path, environment: &[(&'static str, String)]) -> Result<Binary> {
        // env(1) becomes the program, so the process id stays.
        let mut builder = Binary::build("env").found_in("/usr/bin");
        builder = match self {
            Self::BullMq { .. } => builder.arg("node").arg(peers.join("bullmq/worker.mjs")),
            Self::Outbox => builder.arg("node").arg(peers.join("outbox/worker.mjs")),
            Self::Celery { .. } => {
                let queue = environment.iter().find(|(name, _)| *name == "PEER_QUEUE").map_or("", |(_, queue)| queue);
                builder
                    .arg(peers.join("celery/venv/bin/celery"))
                    .arg("--workdir")
                    .arg(peers.join("celery"))
                    .args(["-A", "tasks", "worker", "--concurrency", "8", "--loglevel", "WARNING", "-Q", queue])
                    // Neither needed nor free.
                    .args(["--without-gossip", "--without-mingle", "--without-heartbeat"])
            }
        };
        for (name, value) in environment {
            builder = builder.env(*name, value);
        }
        let worker = builder.start()?;
        worker.wait_log("worker is ready", START_LIMIT).await.with_context(|| format!("{}: worker", self.name()))?;
        Ok(worker)
    }

    fn producer(self, peers: &Path, environment: &[(&'static str, String)], likes: u64, videos: u64) -> Command {
        let (program, script): (PathBuf, PathBuf) = match self {
            Self::BullMq { .. } => ("node".into(), peers.join("bullmq/producer.mjs")),
            Self::Celery { .. } => (peers.join("celery/venv/bin/python"), peers.join("celery/producer.py")),
            Self::Outbox => ("node".into(), peers.join("outbox/producer.mjs")),
        };
        let mut command = Command::new(program);
        command.arg(script).args([likes.to_string(), videos.to_string(), "64".to_owned()]);
        if let Self::BullMq { .. } = self {
            command.arg(self.per_call().to_string());
        }
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }
}

/// The worker and all processes of its own, at once, as when its container is killed.
fn kill_group(worker: &Binary) -> Result<()> {
    let pid = worker.pid().with_context(|| format!("the worker has ended:\n{}", worker.log()))?;
    killpg(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL).context("kill the worker")
}

/// What a producer printed last.
fn accepted(output: std::process::Output) -> Result<i64> {
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("{}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    text.lines().last().and_then(|line| line.trim().parse().ok()).with_context(|| format!("printed {text:?}"))
}
