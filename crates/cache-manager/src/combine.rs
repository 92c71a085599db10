//! Combining: likes of one shard that arrive while a call of that shard is under way leave together in the next one.
//!
//! A call of the script costs as much before its first item as an item does, so under load this is most of Redis's
//! work saved; without load every like still leaves at once and alone. The batch belongs to a task of its own: a caller
//! that is cancelled takes nobody else's answer with it.

#[cfg(test)]
mod simulated;

use crate::accept::Accept;
use domain::ShardId;
use domain::cache::{AcceptOutcome, AcceptRequest, CacheError, CacheResult};
use planted_bugs::is_planted;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Most items of one call: Redis does nothing else meanwhile, some milliseconds at this size.
const BATCH: usize = 64;

/// Most likes waiting for one shard.
const WAITING: usize = 16_384;

/// Who is asked about likes of one shard.
pub(crate) trait AskShard: Send + Sync + 'static {
    /// One call; the first of its callers has waited since `began`.
    fn ask_shard(
        &self,
        shard: ShardId,
        requests: &[&AcceptRequest],
        began: Instant,
    ) -> impl Future<Output = Vec<CacheResult<AcceptOutcome>>> + Send;
}

struct Waiting {
    request: AcceptRequest,
    since: Instant,
    answer: oneshot::Sender<CacheResult<AcceptOutcome>>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Whether a task empties it.
    served: bool,
}

/// Queues of single likes, one per shard.
pub(crate) struct Combiner<A = Accept> {
    accept: Arc<A>,
    queues: Arc<[Mutex<Queue>]>,
}

impl<A: AskShard> Combiner<A> {
    pub(crate) fn new(accept: Arc<A>, shards: u16) -> Self {
        Self { accept, queues: (0..shards).map(|_| Mutex::default()).collect() }
    }

    /// Accepts one like, together with others of its shard if there are any.
    pub(crate) async fn accept(&self, shard: ShardId, request: AcceptRequest) -> CacheResult<AcceptOutcome> {
        let (answer, answered) = oneshot::channel();
        let begin = {
            let mut queue = lock(&self.queues, shard);
            if queue.waiting.len() >= WAITING {
                return Ok(AcceptOutcome::Overloaded);
            }
            queue.waiting.push(Waiting { request, since: Instant::now(), answer });
            !std::mem::replace(&mut queue.served, true)
        };
        if begin {
            tokio::spawn(serve(Arc::clone(&self.accept), Served { queues: Arc::clone(&self.queues), shard }));
        }
        // The task ends without an answer only together with the process, or in a panic.
        answered.await.unwrap_or_else(|_| Err(interrupted()))
    }
}

async fn serve(accept: Arc<impl AskShard>, served: Served) {
    loop {
        let batch = {
            let mut queue = lock(&served.queues, served.shard);
            let count = queue.waiting.len().min(BATCH);
            if count == 0 {
                // Under the same lock as the look: who comes next begins anew.
                queue.served = false;
                return;
            }
            queue.waiting.drain(..count).collect::<Vec<_>>()
        };
        let batch = still_wanted(batch);
        // A call must begin in time for the one that has waited longest.
        let Some(since) = batch.first().map(|oldest| oldest.since) else { continue };
        let requests: Vec<&AcceptRequest> = batch.iter().map(|waiting| &waiting.request).collect();
        let outcomes = accept.ask_shard(served.shard, &requests, since).await;
        for (waiting, outcome) in batch.into_iter().zip(outcomes) {
            // A caller that has gone away needs no answer.
            let _ = waiting.answer.send(outcome);
        }
    }
}

/// What waited here for longer than its caller does is not sent at all: the caller may have gone on elsewhere.
fn still_wanted(mut batch: Vec<Waiting>) -> Vec<Waiting> {
    if is_planted("gone_callers_run") {
        return batch;
    }
    let now = Instant::now();
    batch.retain_mut(|waiting| !waiting.answer.is_closed());
    let (batch, late): (Vec<_>, Vec<_>) = batch.into_iter().partition(|waiting| now < waiting.request.until.into());
    for waiting in late {
        let _ = waiting.answer.send(Ok(AcceptOutcome::Expired));
    }
    batch
}

/// Lets the next caller begin again, also after a panic.
struct Served {
    queues: Arc<[Mutex<Queue>]>,
    shard: ShardId,
}

impl Drop for Served {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut queue = lock(&self.queues, self.shard);
            queue.served = false;
            queue.waiting.clear();
        }
    }
}

fn lock(queues: &[Mutex<Queue>], shard: ShardId) -> MutexGuard<'_, Queue> {
    queues[usize::from(shard.0)].lock().unwrap_or_else(PoisonError::into_inner)
}

fn interrupted() -> CacheError {
    CacheError::Unavailable(Arc::from(Box::<dyn std::error::Error + Send + Sync>::from("the call was interrupted")))
}
