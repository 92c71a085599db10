//! Accept: the hot path. One round trip to the cache; no database unless the cache does not know a counter, or
//! "unchanged" is to be confirmed.
//!
//! The rare ways (fill, direct write) are boxed: the common future stays small.
//!
//! Answered means kept: a successful answer is given only after a journal entry (cache) or a committed row (direct
//! write) exists. A failed answer leaves open which, so repeating a like is always safe.
//!
//! The last word wins. Three rules keep an older word from coming after a newer one of the same user:
//! - **One deadline per call**, [`Call::until`], from its arrival. Every question, repetition and queue carries it, and it
//!   is checked where the call takes effect: in the cache's script, and under the locks of a transaction. After it the
//!   caller may have gone on elsewhere.
//! - **One word of a pair at a time.** Operations of one pair in one call go in rounds: a later one is asked
//!   about only when the earlier one is decided, whatever had to be asked again for it.
//! - **Only what is confirmed or written is remembered** for an idempotency key, and a key belongs to its action.

mod call;
mod confirm_unchanged;
mod database_first;
mod degraded;
mod missing_count;
mod rounds;
mod shown;
mod unchanged;
mod under_way;
mod write_turns;

use crate::deliver::relay::RelayHandle;
use crate::metrics;
use crate::recover::recheck::Recheck;
use crate::stores::{Stores, faults};
use call::{let_cancel, no_answer};
use confirm_unchanged::Confirm;
use domain::cache::{AcceptOutcome, AcceptRequest, Answer, CacheError, CacheResult, MissingCount};
use domain::codec::{EncodedEvent, encode_payload};
use domain::{LikeIntent, Origin, Pair, Resource, StoredCount, Version, WritePath};
use event_store::FreeState;
use futures::FutureExt;
use futures::future::BoxFuture;
use moka::future::Cache;
use planted_bugs::planted;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;
use write_turns::WriteTurns;

pub use call::{CALL_LIMIT, Call, LikeAnswer, LikeError, LikeResult};

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A like does not wait longer for a count: it is accepted without one.
const FILL_TIMEOUT: Duration = Duration::from_millis(500);

/// Accepts likes.
#[derive(Clone)]
pub struct Acceptor {
    stores: Stores,
    relay: RelayHandle,
    recheck: Recheck,
    loads: Cache<Resource, StoredCount>,
    confirm: Confirm<Pair, FreeState>,
    in_ledger: Confirm<Uuid, bool>,
    direct_writes: Arc<WriteTurns>,
    synchronous_writes: Arc<WriteTurns>,
}

impl Acceptor {
    /// Hands accepted events to `relay`; checks fills again through `recheck`. At most `direct_writes` likes are written to
    /// the database at the same time for want of a cache, and as many on the synchronous path; `write_path` holds where no
    /// operator ordered another.
    pub fn new(
        stores: Stores,
        relay: RelayHandle,
        recheck: Recheck,
        direct_writes: usize,
        write_path: WritePath,
    ) -> Self {
        let loads = missing_count::single_flight();
        stores.write_path.configure(write_path);
        let likes = Arc::clone(&stores.likes);
        let confirm = Confirm::new(move |pairs: Vec<Pair>| {
            let likes = Arc::clone(&likes);
            async move { likes.load_free_states(&pairs).await }.boxed()
        });
        let likes = Arc::clone(&stores.likes);
        let in_ledger = Confirm::new(move |events: Vec<Uuid>| {
            let likes = Arc::clone(&likes);
            async move { likes.in_ledger(&events).await }.boxed()
        });
        let synchronous_writes = Arc::new(WriteTurns::new(direct_writes));
        let direct_writes = Arc::new(WriteTurns::new(direct_writes));
        Self { stores, relay, recheck, loads, confirm, in_ledger, direct_writes, synchronous_writes }
    }

    /// Accepts one like that arrives now, within [`CALL_LIMIT`].
    pub async fn accept_one(&self, intent: LikeIntent) -> LikeResult {
        let mut results = self.accept(vec![intent], Call::arriving_now()).await;
        results.pop().unwrap_or_else(no_answer)
    }

    /// Accepts likes; each one succeeds or fails on its own. Answers are in the order of the intents, and those of one pair
    /// take effect in that order.
    pub fn accept(&self, intents: Vec<LikeIntent>, call: Call) -> BoxFuture<'_, Vec<LikeResult>> {
        self.accept_call(intents, call).boxed()
    }

    async fn accept_call(&self, intents: Vec<LikeIntent>, call: Call) -> Vec<LikeResult> {
        let started = Instant::now();
        let (traced, batch) = (self.stores.traces.called(&intents), intents.len());
        let results = if rounds::is_one(&intents) {
            self.accept_round(intents, call).await
        } else {
            self.accept_in_rounds(intents, call).boxed().await
        };
        let took = started.elapsed();
        results.iter().for_each(|result| count_outcome(result, took));
        if results.iter().any(|result| matches!(result, Err(LikeError::Overloaded { .. }))) {
            self.stores.flow.turned_away();
        }
        for (position, event, pair) in traced {
            let result = results[position].as_ref().map(|answer| answer.version).map_err(ToString::to_string);
            self.stores.traces.answered((event, pair), took, batch, result);
        }
        results
    }

    async fn accept_in_rounds(&self, intents: Vec<LikeIntent>, call: Call) -> Vec<LikeResult> {
        let mut results: Vec<LikeResult> = intents.iter().map(|_| no_answer()).collect();
        for round in rounds::of(&intents) {
            let some = round.iter().map(|i| intents[*i].clone()).collect();
            for (i, result) in round.into_iter().zip(self.accept_round(some, call).await) {
                results[i] = result;
            }
        }
        results
    }

    /// At most one intent of each pair.
    async fn accept_round(&self, intents: Vec<LikeIntent>, call: Call) -> Vec<LikeResult> {
        match self.stores.write_path.path() {
            WritePath::EventDriven => self.accept_event_driven(intents, call).await,
            WritePath::Synchronous => self.write_synchronously(&intents, call).boxed().await,
            path @ WritePath::Percentage(_) => self.accept_by_user(path, intents, call).boxed().await,
        }
    }

    async fn accept_event_driven(&self, intents: Vec<LikeIntent>, call: Call) -> Vec<LikeResult> {
        if self.stores.cache_circuit.is_open() {
            self.write_directly(&intents, call).boxed().await
        } else if self.stores.shard_circuits.any() {
            self.accept_around_shards(intents, call).boxed().await
        } else {
            self.accept_in_cache(intents, call).await
        }
    }

    /// Likes of shards that are away are written directly.
    async fn accept_around_shards(&self, intents: Vec<LikeIntent>, call: Call) -> Vec<LikeResult> {
        let ways: Vec<bool> = intents.iter().map(|intent| self.stores.is_away(intent.pair.resource)).collect();
        let (away, here) = divide(intents, &ways);
        let one = async { if away.is_empty() { Vec::new() } else { self.write_directly(&away, call).await } };
        let other = async { if here.is_empty() { Vec::new() } else { self.accept_in_cache(here, call).await } };
        let (one, other) = tokio::join!(one, other);
        unite(one, other, &ways)
    }

    /// Each user's likes go one way.
    async fn accept_by_user(&self, path: WritePath, intents: Vec<LikeIntent>, call: Call) -> Vec<LikeResult> {
        let ways: Vec<bool> = intents.iter().map(|intent| path.is_event_driven(intent.pair.user)).collect();
        let (event_driven, synchronous) = divide(intents, &ways);
        let one = async {
            if event_driven.is_empty() { Vec::new() } else { self.accept_event_driven(event_driven, call).await }
        };
        let other = async {
            if synchronous.is_empty() { Vec::new() } else { self.write_synchronously(&synchronous, call).await }
        };
        let (one, other) = tokio::join!(one, other);
        unite(one, other, &ways)
    }

    async fn accept_in_cache(&self, intents: Vec<LikeIntent>, call: Call) -> Vec<LikeResult> {
        let mut requests: Vec<AcceptRequest> = intents
            .into_iter()
            .map(|intent| AcceptRequest {
                payload: encode_payload(&intent),
                intent,
                missing: MissingCount::Report,
                limited: true,
                rewrite: false,
                reserve: None,
                until: call.until,
            })
            .collect();
        let began = Instant::now();
        let mut outcomes = self.ask_cache(&requests).await;
        let mut degraded = !self.ask_with_counts(&mut requests, &mut outcomes, began).await;
        fail::fail_point!("accept.accepted");

        let unchanged = positions(&outcomes, |outcome| matches!(outcome, Ok(AcceptOutcome::Unchanged(_))));
        if !unchanged.is_empty() {
            degraded |= !self.confirm(&mut requests, &mut outcomes, &unchanged).boxed().await;
        }

        if outcomes.iter().any(|outcome| matches!(outcome, Ok(AcceptOutcome::Repeated { .. }))) {
            self.keep_repeated(&requests, &mut outcomes).boxed().await;
        }

        // What the cache did not do is written directly, if the cache is why.
        let unreachable = positions(&outcomes, |outcome| outcome.as_ref().is_err_and(CacheError::is_unavailable));
        requests.iter().zip(&outcomes).for_each(|(request, outcome)| self.show(request, outcome, began));
        let mut results: Vec<LikeResult> =
            requests.iter().zip(outcomes).map(|(request, outcome)| self.conclude(request, outcome, degraded)).collect();
        if !unreachable.is_empty() {
            let_cancel(began).await;
            let intents: Vec<LikeIntent> = unreachable.iter().map(|i| requests[*i].intent.clone()).collect();
            for (i, result) in unreachable.into_iter().zip(self.write_directly(&intents, call).boxed().await) {
                results[i] = result.map_err(in_doubt);
            }
        }
        results
    }

    async fn ask_cache(&self, requests: &[AcceptRequest]) -> Vec<CacheResult<AcceptOutcome>> {
        let outcomes = self.stores.cache.accept(requests).await;
        let failed = |outcome: &CacheResult<AcceptOutcome>| outcome.as_ref().is_err_and(CacheError::is_unavailable);
        let resources = |have_failed| {
            let some = requests.iter().zip(&outcomes).filter(move |(_, outcome)| failed(outcome) == have_failed);
            some.map(|(request, _)| request.intent.pair.resource)
        };
        match outcomes.iter().find_map(|outcome| outcome.as_ref().err().filter(|error| error.is_unavailable())) {
            Some(error) => self.stores.cache_failed(resources(true), error),
            None => self.stores.cache_answered(resources(false)),
        }
        outcomes
    }

    /// From here on the journal holds it; the relay is only the fast way.
    fn offer(&self, request: &AcceptRequest, version: Version) {
        self.relay.offer(EncodedEvent { version, origin: Origin::Journal, payload: request.payload.clone() });
    }

    fn conclude(&self, request: &AcceptRequest, outcome: CacheResult<AcceptOutcome>, degraded: bool) -> LikeResult {
        let tell = |answer: Answer, changed| {
            Ok(LikeAnswer {
                liked: request.intent.action.liked(),
                count: answer.count,
                version: answer.version,
                changed,
                degraded: degraded && answer.count.is_none(),
            })
        };
        match outcome {
            Ok(AcceptOutcome::Accepted(answer)) => {
                self.offer(request, answer.version);
                tell(answer, true)
            }
            Ok(AcceptOutcome::Unconfirmed { written }) => {
                // An unanswered word, whose version is of this call: it may take effect, or go with the cache. If it is written,
                // it is delivered like any other, so that it does the one or the other soon. Its key is written with it: a
                // repetition waits for the replicas again, and is a new call where both are lost.
                if let Some(version) = written {
                    self.offer(request, version);
                }
                let reason = "the replicas of the cache have not confirmed it: it may take effect, repeat the call";
                Err(LikeError::Unavailable { reason: reason.to_owned(), retry_after: RETRY_AFTER })
            }
            Ok(AcceptOutcome::Unchanged(answer)) => tell(answer, false),
            Ok(AcceptOutcome::Repeated { answer, changed }) => tell(answer, changed),
            Ok(AcceptOutcome::Reserved { .. }) => Err(LikeError::Refused("nothing was accepted".to_owned())),
            Ok(AcceptOutcome::CountMissing) => Err(LikeError::Unavailable {
                reason: "the counter was evicted while it was filled".to_owned(),
                retry_after: RETRY_AFTER,
            }),
            Ok(AcceptOutcome::Overloaded) => {
                Err(LikeError::Overloaded { what: "the journal", retry_after: RETRY_AFTER })
            }
            Ok(AcceptOutcome::RateLimited { retry_after }) => Err(LikeError::RateLimited { retry_after }),
            Ok(AcceptOutcome::KeyReused) => Err(LikeError::KeyReused),
            Ok(AcceptOutcome::Deleted) => Err(LikeError::Deleted),
            Ok(AcceptOutcome::Expired) => Err(LikeError::Expired),
            Err(error @ CacheError::Unavailable(_)) => Err(LikeError::Unavailable {
                reason: faults::for_caller("the cache", &error),
                retry_after: RETRY_AFTER,
            }),
            Err(error) => Err(LikeError::Refused(faults::for_caller("the cache", &error))),
        }
    }
}

/// Those that go one way, and those that go the other.
fn divide(intents: Vec<LikeIntent>, ways: &[bool]) -> (Vec<LikeIntent>, Vec<LikeIntent>) {
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for (intent, way) in intents.into_iter().zip(ways) {
        if *way { &mut one } else { &mut other }.push(intent);
    }
    (one, other)
}

/// Results in the order of what was divided.
fn unite(one: Vec<LikeResult>, other: Vec<LikeResult>, ways: &[bool]) -> Vec<LikeResult> {
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    ways.iter().map(|way| if *way { one.next() } else { other.next() }.unwrap_or_else(no_answer)).collect()
}

/// The cache was asked and did not answer: it may have accepted what the database then refused.
fn in_doubt(error: LikeError) -> LikeError {
    planted!("doubt_denied" => error);
    match error {
        LikeError::Unavailable { .. } => error,
        error => LikeError::Unavailable {
            reason: format!("the cache did not answer, and the database says: {error}"),
            retry_after: RETRY_AFTER,
        },
    }
}

fn positions(
    outcomes: &[CacheResult<AcceptOutcome>],
    wanted: impl Fn(&CacheResult<AcceptOutcome>) -> bool,
) -> Vec<usize> {
    (0..outcomes.len()).filter(|i| wanted(&outcomes[*i])).collect()
}

fn count_outcome(result: &LikeResult, took: Duration) {
    let outcome = match result {
        Ok(LikeAnswer { degraded: true, .. }) => "degraded",
        Ok(LikeAnswer { changed: true, .. }) => "accepted",
        Ok(_) => "unchanged",
        Err(LikeError::RateLimited { .. }) => "rate_limited",
        Err(LikeError::Overloaded { .. }) => "overloaded",
        Err(LikeError::Unavailable { .. }) => "unavailable",
        Err(LikeError::Expired) => "expired",
        Err(LikeError::KeyReused) => "key_reused",
        Err(LikeError::Deleted) => "deleted",
        Err(LikeError::Refused(_)) => "refused",
    };
    metrics::like(outcome, took);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_question_without_an_answer_no_refusal_is_certain() {
        let refusals = [
            LikeError::Expired,
            LikeError::KeyReused,
            LikeError::Deleted,
            LikeError::Overloaded { what: "direct writing", retry_after: RETRY_AFTER },
            LikeError::RateLimited { retry_after: RETRY_AFTER },
            LikeError::Refused("it says so".to_owned()),
        ];
        for refusal in refusals {
            assert!(matches!(in_doubt(refusal), LikeError::Unavailable { .. }));
        }
    }
}
