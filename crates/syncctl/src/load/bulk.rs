//! Reads of many counts beside the likes, to see what they do to them.

use super::Latency;
use super::recorder::{histogram, percentiles};
use crate::client::{self, Client, to_proto};
use crate::credentials::Credentials;
use domain::Resource;
use hdrhistogram::Histogram;
use interaction_proto::v1;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Code;

/// Counts of one call: the most that a call may ask for.
const SIZE: usize = 500;

const CALLS_PER_CONNECTION: usize = 100;

/// After a refusal, unless the run ends.
const PAUSE: Duration = Duration::from_millis(100);

/// What became of them.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct BulkReport {
    /// Calls answered.
    pub answered: u64,
    /// Calls refused because too many wait.
    pub refused: u64,
    /// Calls without an answer.
    pub errors: u64,
    /// Of those that were answered.
    pub bulk_latency_us: Latency,
}

struct Seen {
    report: BulkReport,
    latency: Histogram<u64>,
}

/// How to read.
#[derive(Debug, Clone)]
pub struct BulkOptions {
    /// Calls at once.
    pub calls: usize,
    /// Each call reads the next ones of these.
    pub resources: Arc<[Resource]>,
}

/// Readers that call again as soon as they have their answer, on a thread of their own: the likes' latencies are not to
/// grow by what this program does with the answers.
pub(super) struct BulkReads {
    thread: std::thread::JoinHandle<anyhow::Result<()>>,
    seen: Arc<Mutex<Seen>>,
    stop: CancellationToken,
}

impl BulkReads {
    /// Begins, over connections of its own.
    pub(super) fn start(options: BulkOptions, addr: String, credentials: Credentials) -> anyhow::Result<Self> {
        let seen = Arc::new(Mutex::new(Seen { report: BulkReport::default(), latency: histogram()? }));
        let stop = CancellationToken::new();
        let (told, stopped) = (Arc::clone(&seen), stop.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || {
            runtime.block_on(async {
                let mut readers = JoinSet::new();
                let mut client = client::connect_later(&addr, &credentials)?;
                for number in 0..options.calls {
                    if number % CALLS_PER_CONNECTION == 0 {
                        client = client::connect_later(&addr, &credentials)?;
                    }
                    let resources = Arc::clone(&options.resources);
                    readers.spawn(read(client.clone(), number, resources, Arc::clone(&told), stopped.clone()));
                }
                while readers.join_next().await.is_some() {}
                Ok(())
            })
        };
        Ok(Self { thread: std::thread::Builder::new().name("bulk-reads".to_owned()).spawn(run)?, seen, stop })
    }

    /// Ends them.
    pub(super) async fn finish(self) -> anyhow::Result<BulkReport> {
        self.stop.cancel();
        let ended = tokio::task::spawn_blocking(move || self.thread.join()).await?;
        ended.map_err(|_| anyhow::anyhow!("the bulk reads panicked"))??;
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(BulkReport { bulk_latency_us: percentiles(&seen.latency), ..seen.report.clone() })
    }
}

async fn read(
    mut client: Client,
    number: usize,
    resources: Arc<[Resource]>,
    seen: Arc<Mutex<Seen>>,
    stop: CancellationToken,
) {
    let mut at = number * SIZE;
    while !stop.is_cancelled() && !resources.is_empty() {
        let some = (0..SIZE.min(resources.len())).map(|i| to_proto(resources[(at + i) % resources.len()]));
        let request = v1::GetLikeCountsRequest { resources: some.collect(), ..Default::default() };
        at += SIZE;
        let began = Instant::now();
        let answer = tokio::select! {
            answer = client.get_like_counts(request) => answer,
            () = stop.cancelled() => return,
        };
        let refused = {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                Ok(_) => {
                    seen.report.answered += 1;
                    seen.latency.saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
                    false
                }
                Err(status) if status.code() == Code::ResourceExhausted => {
                    seen.report.refused += 1;
                    true
                }
                Err(_) => {
                    seen.report.errors += 1;
                    true
                }
            }
        };
        if refused {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.cancelled() => {}
            }
        }
    }
}
