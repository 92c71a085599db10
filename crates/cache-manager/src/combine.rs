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
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Most items of one call: Redis does nothing else meanwhile, some milliseconds at this size.
const BATCH: usize = 64;

/// Most likes waiting for one shard.
const WAITING: usize = 16_384;

/// Whether the caller of the request at this position still waits.
pub(crate) type Waits<'a> = &'a (dyn Fn(usize) -> bool + Sync);

/// Before a second question: the sockets of callers are read within this time.
const CANCELLED_WITHIN: Duration = Duration::from_millis(5);

/// Who is asked about likes of one shard.
pub(crate) trait AskShard: Send + Sync + 'static {
    /// One call about those whose callers wait when it is sent; the first of them has waited since `began`. What the others
    /// are told nobody hears.
    fn ask(
        &self,
        shard: ShardId,
        requests: &[&AcceptRequest],
        began: Instant,
        waits: Waits<'_>,
    ) -> impl Future<Output = Vec<CacheResult<Reply>>> + Send;

    /// Compares clocks with who is asked.
    fn measure_clock(&self, shard: ShardId) -> impl Future<Output = CacheResult<()>> + Send;
}

/// What one item of a call came to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reply {
    Outcome(AcceptOutcome),
    /// The call's patience was over, not the item's own time.
    TooLate,
}

/// Asks, and once more about what came too late.
pub(crate) async fn ask_shard(
    shard: &impl AskShard,
    id: ShardId,
    requests: &[&AcceptRequest],
    began: Instant,
    waits: Waits<'_>,
) -> Vec<CacheResult<AcceptOutcome>> {
    let replies = shard.ask(id, requests, began, waits).await;
    let too_late: Vec<usize> = (0..replies.len()).filter(|i| matches!(replies[*i], Ok(Reply::TooLate))).collect();
    let mut outcomes: Vec<CacheResult<AcceptOutcome>> = replies.into_iter().map(conclude).collect();
    if too_late.is_empty() {
        return outcomes;
    }
    // Redis answers, so it is alive: either the call was stuck on its way, or our idea of its clock is old. Nothing was
    // written. Measure the clock anew and ask once more, as far as the callers' own deadlines allow it and for those that
    // have not gone: who has may have said something else meanwhile, somewhere else.
    metrics::counter!("interaction_cache_calls_repeated_total").increment(too_late.len() as u64);
    let again: Vec<&AcceptRequest> = too_late.iter().map(|i| requests[*i]).collect();
    let answers = match shard.measure_clock(id).await {
        Ok(()) => {
            // What was stuck here, in a process that did not run, has its cancellation in a socket that nobody has read yet.
            tokio::time::sleep(CANCELLED_WITHIN).await;
            let still = |i: usize| is_planted("gone_callers_asked_again") || waits(too_late[i]);
            shard.ask(id, &again, Instant::now(), &still).await
        }
        Err(error) => vec![Err(error); again.len()],
    };
    for (i, answer) in too_late.into_iter().zip(answers) {
        outcomes[i] = conclude(answer);
    }
    outcomes
}

fn conclude(reply: CacheResult<Reply>) -> CacheResult<AcceptOutcome> {
    match reply? {
        Reply::Outcome(outcome) => Ok(outcome),
        Reply::TooLate => Err(unavailable("the call reached redis too late")),
    }
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
    // The runtime runs this right after the call that began it. What came in the same moment is read first, and goes along.
    tokio::task::yield_now().await;
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
        let waits = |i: usize| is_planted("gone_callers_run") || !batch[i].answer.is_closed();
        let outcomes = ask_shard(&*accept, served.shard, &requests, since, &waits).await;
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
    unavailable("the call was interrupted")
}

fn unavailable(why: &'static str) -> CacheError {
    CacheError::Unavailable(Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(why)))
}
