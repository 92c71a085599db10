//! Sends likes and writes down what was answered.
//!
//! Closed loop (no rate): each worker calls again as soon as it has its answer. Open loop: calls start when they are
//! due, and their latency counts from then, so a stalled server cannot hide the calls that it kept from starting.

mod bulk;
mod pacer;
mod queue;
mod recorder;
mod watch;
mod worker;

pub use bulk::{BulkOptions, BulkReport};
pub use pacer::Pacer;
pub use queue::{PairQueue, Source};
pub use recorder::{Latency, Recorder, Totals};
pub use watch::{Fall, WatchReport};
pub(crate) use worker::is_refusal;

use crate::client::{self, Client};
use crate::credentials::Credentials;
use crate::generate::Random;
use crate::oplog::OplogWriter;
use anyhow::Context;
use bulk::BulkReads;
use domain::Resource;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use worker::{Shared, Worker};

/// Time between two writes of the log and of the progress bar.
const TICK: Duration = Duration::from_millis(200);

/// How to send.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Servers, `host:port` or `http://host:port`, at least one.
    pub addrs: Vec<String>,
    /// What they are shown.
    pub credentials: Credentials,
    /// HTTP/2 connections per server, at least 1.
    pub connections: usize,
    /// Calls in flight, at least 1.
    pub concurrency: usize,
    /// Operations per second; none for a closed loop.
    pub rate: Option<f64>,
    /// Operations per call; 1 for `Like` and `Unlike`, more for `ApplyLikes`.
    pub batch: usize,
    /// Time that one call may take.
    pub timeout: Duration,
    /// Time for which an operation is tried again.
    pub retry_for: Duration,
    /// End of the run.
    pub duration: Option<Duration>,
    /// Closed loop: correct latencies as if each worker had meant to call at this interval.
    pub expected_interval: Option<Duration>,
    /// Prefix of idempotency keys; none: operations have no keys.
    pub key_prefix: Option<String>,
    /// Resources whose counts must never fall during the run, the hottest first, and the pause between two reads.
    pub watch: Option<(Vec<Resource>, Duration)>,
    /// Reads of many counts at the first server, beside the likes.
    pub bulk: Option<BulkOptions>,
}

/// What came out.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LoadReport {
    /// Numbers of operations.
    #[serde(flatten)]
    pub totals: Totals,
    /// Length of the run in seconds.
    pub elapsed_s: f64,
    /// Acknowledged operations per second.
    pub likes_per_s: f64,
    /// Latencies of calls in microseconds.
    pub latency_us: Latency,
    /// What the latencies count from: `intended_start`, `expected_interval` or `actual_start`.
    pub latency_from: &'static str,
    /// Longest time without an acknowledged operation, in milliseconds.
    pub longest_gap_ms: u64,
    /// Whether the run was interrupted.
    pub interrupted: bool,
    /// What became of the watched counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch: Option<WatchReport>,
    /// What became of the reads beside the likes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bulk_reads: Option<BulkReport>,
}

impl LoadReport {
    /// Whether every operation was acknowledged and no count went down.
    pub fn is_fine(&self) -> bool {
        self.totals.unknown == 0
            && self.totals.failed.is_empty()
            && self.watch.as_ref().is_none_or(|watch| watch.flicker == 0)
    }
}

/// Sends at most `limit` operations of `source`. `progress` is called a few times a second. `interrupt` ends the run
/// early: operations in flight are finished, retries are not made.
pub async fn run(
    options: &LoadOptions,
    source: Source,
    limit: u64,
    oplog: Option<OplogWriter>,
    mut progress: impl FnMut(&Totals, Duration),
    interrupt: CancellationToken,
) -> anyhow::Result<LoadReport> {
    let clients = connect_all(options).await?;
    let watcher = match &options.watch {
        Some((resources, interval)) => {
            let stop = CancellationToken::new();
            let client = client::connect(&options.addrs[0], &options.credentials).await?;
            let task = watch::watch(client, resources.clone(), *interval, stop.clone());
            Some((stop, tokio::spawn(task)))
        }
        None => None,
    };
    let bulk = options.bulk.clone();
    let bulk = bulk.map(|bulk| BulkReads::start(bulk, options.addrs[0].clone(), options.credentials.clone()));
    let bulk = bulk.transpose()?;
    let batch = options.batch.max(1);
    let pacer = options.rate.map(|rate| Pacer::start(rate / batch as f64)).transpose()?;
    let shared = Arc::new(Shared {
        queue: PairQueue::new(source, limit),
        recorder: Mutex::new(Recorder::new(oplog, options.expected_interval)?),
        pacer,
        stop: CancellationToken::new(),
        batch,
        timeout: options.timeout,
        retry_for: options.retry_for,
        key_prefix: options.key_prefix.clone(),
    });
    let started = Instant::now();
    let mut workers = spawn_workers(&shared, &clients, options.concurrency);

    let mut tick = tokio::time::interval(TICK);
    let mut interrupted = false;
    let deadline = async {
        match options.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(deadline);
    let mut ended = false;
    loop {
        tokio::select! {
            _ = tick.tick() => {
                let mut recorder = shared.recorder();
                recorder.flush().context("could not write the oplog")?;
                progress(&recorder.totals, started.elapsed());
            }
            done = workers.join_next() => match done {
                Some(done) => done?.context("could not write the oplog")?,
                None => break,
            },
            () = &mut deadline, if !ended => {
                ended = true;
                stop_taking(&shared);
            }
            () = interrupt.cancelled(), if !interrupted => {
                (ended, interrupted) = (true, true);
                stop_taking(&shared);
                shared.stop.cancel();
            }
        }
    }
    stop_taking(&shared);
    let watch = match watcher {
        Some((stop, task)) => {
            stop.cancel();
            Some(task.await?)
        }
        None => None,
    };
    let bulk_reads = match bulk {
        Some(bulk) => Some(bulk.finish().await?),
        None => None,
    };
    let mut recorder = shared.recorder();
    let (elapsed, latency_us, longest_gap) = recorder.finish().context("could not write the oplog")?;
    progress(&recorder.totals, elapsed);
    Ok(LoadReport {
        totals: recorder.totals.clone(),
        elapsed_s: (elapsed.as_secs_f64() * 1e3).round() / 1e3,
        likes_per_s: (recorder.totals.acknowledged as f64 / elapsed.as_secs_f64().max(1e-9)).round(),
        latency_us,
        latency_from: match (options.rate, options.expected_interval) {
            (Some(_), _) => "intended_start",
            (None, Some(_)) => "expected_interval",
            (None, None) => "actual_start",
        },
        longest_gap_ms: u64::try_from(longest_gap.as_millis()).unwrap_or(u64::MAX),
        interrupted,
        watch,
        bulk_reads,
    })
}

/// Connects to every server; the first must be there, the others may come later.
async fn connect_all(options: &LoadOptions) -> anyhow::Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..options.connections.max(1) {
        for (number, addr) in options.addrs.iter().enumerate() {
            let credentials = &options.credentials;
            clients.push(if number == 0 {
                client::connect(addr, credentials).await?
            } else {
                client::connect_later(addr, credentials)?
            });
        }
    }
    Ok(clients)
}

fn spawn_workers(shared: &Arc<Shared>, clients: &[Client], concurrency: usize) -> JoinSet<std::io::Result<()>> {
    let mut workers = JoinSet::new();
    for number in 0..concurrency.max(1) {
        let mut clients = clients.to_vec();
        let own = number % clients.len().max(1);
        clients.rotate_left(own);
        let worker = Worker { shared: Arc::clone(shared), clients, random: Random::new(number as u64), number };
        workers.spawn(worker.run());
    }
    workers
}

fn stop_taking(shared: &Shared) {
    shared.queue.stop();
    if let Some(pacer) = &shared.pacer {
        pacer.stop();
    }
}
