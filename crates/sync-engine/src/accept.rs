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

mod confirm_unchanged;
mod database_first;
mod rounds;

use crate::deliver::relay::RelayHandle;
use crate::metrics;
use crate::recover::recheck::Recheck;
use crate::stores::{Stores, time_of};
use confirm_unchanged::Confirm;
use domain::cache::{
    AcceptOutcome, AcceptRequest, Answer, CacheError, CacheResult, FirstAnswer, MissingCount, Settlement,
};
use domain::codec::{EncodedEvent, encode_payload};
use domain::{LikeIntent, Origin, Pair, Resource, StoredCount, Version, WritePath};
use event_store::{DirectResult, FreeState, StoreError};
use futures::FutureExt;
use futures::future::BoxFuture;
use moka::future::Cache;
use planted_bugs::planted;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// When a call arrived, in effect: until when it may take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// On the steady clock of this process.
    pub until: Instant,
}

impl Call {
    /// Arrived now, with all its time.
    pub fn arriving_now() -> Self {
        Self::arrived(Instant::now(), None)
    }

    /// Arrived at that moment; its caller waits for `patience`, if it said so.
    pub fn arrived(at: Instant, patience: Option<Duration>) -> Self {
        Self { until: at + patience.map_or(CALL_LIMIT, |patience| patience.min(CALL_LIMIT)) }
    }
}

/// What the caller of a like is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LikeAnswer {
    /// State after the call.
    pub liked: bool,
    /// Served count, if anybody could say.
    pub count: Option<i64>,
    /// Version of the state.
    pub version: Version,
    /// Whether this call (or the first one of its idempotency key) changed the state.
    pub changed: bool,
    /// Whether a part was unreachable.
    pub degraded: bool,
}

/// Why a like was not accepted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LikeError {
    /// The user is over the limit.
    #[error("too many likes by this user")]
    RateLimited {
        /// When the next one will be allowed.
        retry_after: Duration,
    },
    /// A bound is reached: too much is waiting to be written.
    #[error("overloaded: {what} is at its limit")]
    Overloaded {
        /// Which bound.
        what: &'static str,
        /// When a retry makes sense.
        retry_after: Duration,
    },
    /// Neither cache nor database can keep the promise now.
    #[error("unavailable: {reason}")]
    Unavailable {
        /// What is unreachable.
        reason: String,
        /// When a retry makes sense.
        retry_after: Duration,
    },
    /// The idempotency key was used for the other action on this pair: a key belongs to one call.
    #[error("idempotency_key: was used for the other action on this resource; a key belongs to one call")]
    KeyReused,
    /// The call's time was over before it could take effect; it has not, and will not.
    #[error("expired: the call was held up for too long")]
    Expired,
    /// A store refused the like for a reason of its own.
    #[error("refused: {0}")]
    Refused(String),
}

/// Result of one like.
pub type LikeResult = Result<LikeAnswer, LikeError>;

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long a loaded count serves those who asked for it at the same time. It may be old by then: every fill is
/// checked again afterwards.
const SINGLE_FLIGHT_TTL: Duration = Duration::from_millis(100);

/// A like does not wait longer for a count: it is accepted without one.
const FILL_TIMEOUT: Duration = Duration::from_millis(500);

/// A call takes effect within this time of its arrival or not at all; a caller's own shorter deadline counts instead.
/// Whoever waited longer, because this process was paused or a store slow, may have asked elsewhere and moved on.
pub const CALL_LIMIT: Duration = Duration::from_secs(3);

/// A cached like without a row is on its way for no longer than this; then somebody deleted the row.
const ON_ITS_WAY: Duration = Duration::from_secs(60);

const SINGLE_FLIGHT_ENTRIES: u64 = 100_000;

/// Accepts likes.
#[derive(Clone)]
pub struct Acceptor {
    stores: Stores,
    relay: RelayHandle,
    recheck: Recheck,
    loads: Cache<Resource, StoredCount>,
    confirm: Confirm,
    direct_writes: Arc<Semaphore>,
    synchronous_writes: Arc<Semaphore>,
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
        let loads = Cache::builder().max_capacity(SINGLE_FLIGHT_ENTRIES).time_to_live(SINGLE_FLIGHT_TTL).build();
        stores.write_path.configure(write_path);
        let confirm = Confirm::new(stores.database.clone());
        let synchronous_writes = Arc::new(Semaphore::new(direct_writes));
        let direct_writes = Arc::new(Semaphore::new(direct_writes));
        Self { stores, relay, recheck, loads, confirm, direct_writes, synchronous_writes }
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
        } else {
            self.accept_in_cache(intents, call).await
        }
    }

    /// Each user's likes go one way.
    async fn accept_by_user(&self, path: WritePath, intents: Vec<LikeIntent>, call: Call) -> Vec<LikeResult> {
        let ways: Vec<bool> = intents.iter().map(|intent| path.is_event_driven(intent.pair.user)).collect();
        let (mut event_driven, mut synchronous) = (Vec::new(), Vec::new());
        for (intent, way) in intents.into_iter().zip(&ways) {
            if *way { &mut event_driven } else { &mut synchronous }.push(intent);
        }
        let one = async {
            if event_driven.is_empty() { Vec::new() } else { self.accept_event_driven(event_driven, call).await }
        };
        let other = async {
            if synchronous.is_empty() { Vec::new() } else { self.write_synchronously(&synchronous, call).await }
        };
        let (one, other) = tokio::join!(one, other);
        let (mut one, mut other) = (one.into_iter(), other.into_iter());
        ways.into_iter().map(|way| if way { one.next() } else { other.next() }.unwrap_or_else(no_answer)).collect()
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
        let mut outcomes = self.ask_cache(&requests).await;
        let mut degraded = false;

        let missing = positions(&outcomes, |outcome| matches!(outcome, Ok(AcceptOutcome::CountMissing)));
        if !missing.is_empty() {
            degraded = !self.say_counts(&mut requests, &missing).boxed().await;
            let again: Vec<AcceptRequest> = missing.iter().map(|i| requests[*i].clone()).collect();
            for (i, outcome) in missing.iter().zip(self.ask_cache(&again).await) {
                outcomes[*i] = outcome;
            }
            if !degraded {
                self.recheck.resources(again.iter().map(|request| request.intent.pair.resource).collect()).await;
            }
        }
        fail::fail_point!("accept.accepted");

        let unchanged = positions(&outcomes, |outcome| matches!(outcome, Ok(AcceptOutcome::Unchanged(_))));
        if !unchanged.is_empty() {
            degraded |= !self.confirm(&mut requests, &mut outcomes, &unchanged).boxed().await;
        }

        // What the cache did not do is written directly, if the cache is why.
        let unreachable = positions(&outcomes, |outcome| outcome.as_ref().is_err_and(CacheError::is_unavailable));
        let mut results: Vec<LikeResult> =
            requests.iter().zip(outcomes).map(|(request, outcome)| self.conclude(request, outcome, degraded)).collect();
        if !unreachable.is_empty() {
            let intents: Vec<LikeIntent> = unreachable.iter().map(|i| requests[*i].intent.clone()).collect();
            for (i, result) in unreachable.into_iter().zip(self.write_directly(&intents, call).boxed().await) {
                results[i] = result;
            }
        }
        results
    }

    async fn ask_cache(&self, requests: &[AcceptRequest]) -> Vec<CacheResult<AcceptOutcome>> {
        let outcomes = self.stores.cache.accept(requests).await;
        match outcomes.iter().find_map(|outcome| outcome.as_ref().err().filter(|error| error.is_unavailable())) {
            Some(error) => self.stores.cache_circuit.failure(error),
            None => self.stores.cache_circuit.success(),
        }
        outcomes
    }

    /// Writes again what the cache took for unchanged although the row has moved on, or might have; false if nobody can
    /// say.
    async fn confirm(
        &self,
        requests: &mut [AcceptRequest],
        outcomes: &mut [CacheResult<AcceptOutcome>],
        unchanged: &[usize],
    ) -> bool {
        planted!("unchanged_unconfirmed" => true);
        let pairs: Vec<Pair> = unchanged.iter().map(|i| requests[*i].intent.pair).collect();
        let rows = self.rows(pairs.clone()).await;
        let mut moved_on = Vec::new();
        let mut newer = Vec::new();
        for (position, index) in unchanged.iter().enumerate() {
            let Ok(AcceptOutcome::Unchanged(answer)) = outcomes[*index] else { continue };
            match rows.as_ref().map(|rows| rows[position]) {
                // Its event is on its way. One that has been for so long is gone, and its row with it.
                Some(FreeState::Missing) if self.stores.now().since(answer.version) < ON_ITS_WAY => continue,
                Some(FreeState::Row(row)) if row.version <= answer.version => continue,
                Some(FreeState::Row(row)) if row.liked == requests[*index].intent.action.liked() => {
                    // As wanted, by a newer word: whoever reads this answer has seen that one.
                    outcomes[*index] = Ok(AcceptOutcome::Unchanged(Answer { version: row.version, ..answer }));
                    continue;
                }
                Some(FreeState::Row(row)) => newer.push((pairs[position], row)),
                Some(FreeState::Missing | FreeState::Held) | None => {}
            }
            moved_on.push(*index);
        }
        let confirmed: Vec<usize> = unchanged.iter().copied().filter(|i| !moved_on.contains(i)).collect();
        self.remember_unchanged(requests, outcomes, &confirmed).await;
        if moved_on.is_empty() {
            return true;
        }
        if !newer.is_empty() {
            // Raises the clock above these rows, or the event would lose against them.
            let told = self.stores.cache.settle(&Settlement { resources: Vec::new(), pairs: newer }).await;
            if let Err(error) = told {
                // Nothing is decided: as if the call had not reached the cache.
                moved_on.into_iter().for_each(|i| outcomes[i] = Err(error.clone()));
                return true;
            }
        }
        // Its token is taken: this is still the same attempt.
        let again: Vec<AcceptRequest> = moved_on
            .iter()
            .map(|i| {
                let mut request = requests[*i].clone();
                (request.limited, request.rewrite) = (false, true);
                request
            })
            .collect();
        for (i, outcome) in moved_on.into_iter().zip(self.ask_cache(&again).await) {
            outcomes[i] = outcome;
        }
        rows.is_some()
    }

    /// From now on these keys answer "unchanged". What fails here is judged anew when it is repeated.
    async fn remember_unchanged(
        &self,
        requests: &[AcceptRequest],
        outcomes: &[CacheResult<AcceptOutcome>],
        confirmed: &[usize],
    ) {
        let answers: Vec<FirstAnswer> = confirmed
            .iter()
            .filter_map(|i| {
                let Ok(AcceptOutcome::Unchanged(answer)) = outcomes[*i] else { return None };
                let LikeIntent { pair, action, idempotency_key, .. } = &requests[*i].intent;
                let key = idempotency_key.clone()?;
                Some(FirstAnswer { pair: *pair, key, liked: action.liked(), answer, changed: false })
            })
            .collect();
        self.remember(answers).await;
    }

    async fn remember(&self, answers: Vec<FirstAnswer>) {
        if !answers.is_empty()
            && let Err(error) = self.stores.cache.remember(&answers).await
            && error.is_unavailable()
        {
            self.stores.cache_circuit.failure(&error);
        }
    }

    async fn rows(&self, pairs: Vec<Pair>) -> Option<Vec<FreeState>> {
        if self.stores.database_circuit.is_open() {
            return None;
        }
        match tokio::time::timeout(FILL_TIMEOUT, self.confirm.rows(pairs)).await {
            Ok(Ok(rows)) => {
                self.stores.database_circuit.success();
                Some(rows)
            }
            Ok(Err(error)) => {
                self.stores.database_circuit.failure(&error);
                None
            }
            Err(elapsed) => {
                self.stores.database_circuit.failure(&elapsed);
                None
            }
        }
    }

    /// Puts what the database says into requests whose counter is unknown; false if the database cannot say.
    async fn say_counts(&self, requests: &mut [AcceptRequest], missing: &[usize]) -> bool {
        let counts = if self.stores.database_circuit.is_open() {
            None
        } else {
            let resources: Vec<Resource> = missing.iter().map(|i| requests[*i].intent.pair.resource).collect();
            match tokio::time::timeout(FILL_TIMEOUT, self.load_counts(&resources).boxed()).await {
                Ok(counts) => counts,
                Err(elapsed) => {
                    self.stores.database_circuit.failure(&elapsed);
                    None
                }
            }
        };
        for (position, index) in missing.iter().enumerate() {
            requests[*index].missing =
                counts.as_ref().map_or(MissingCount::Without, |counts| MissingCount::Fill(counts[position]));
        }
        counts.is_some()
    }

    async fn load_counts(&self, resources: &[Resource]) -> Option<Vec<StoredCount>> {
        let loaded = if let [only] = resources {
            // A hot resource's first likes arrive together: one of them loads for all.
            let load = async { self.stores.database.load_counts(&[*only]).await.map(|counts| counts[0]) };
            self.loads.try_get_with(*only, load).boxed().await.map(|count| vec![count])
        } else {
            self.stores.database.load_counts(resources).await.map_err(Arc::new)
        };
        match loaded {
            Ok(counts) => {
                self.stores.database_circuit.success();
                Some(counts)
            }
            Err(error) => {
                self.stores.database_circuit.failure(&error);
                None
            }
        }
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
                // From here on the journal holds it; the relay is only the fast way.
                self.relay.offer(EncodedEvent {
                    version: answer.version,
                    origin: Origin::Journal,
                    payload: request.payload.clone(),
                });
                tell(answer, true)
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
            Ok(AcceptOutcome::Expired) => Err(LikeError::Expired),
            Err(error @ CacheError::Unavailable(_)) => {
                Err(LikeError::Unavailable { reason: error.to_string(), retry_after: RETRY_AFTER })
            }
            Err(error) => Err(LikeError::Refused(error.to_string())),
        }
    }

    /// The cache is unreachable: the database takes the likes itself, in one transaction, and remembers that the cache must
    /// be told.
    async fn write_directly(&self, intents: &[LikeIntent], call: Call) -> Vec<LikeResult> {
        match self.write_to_database(intents, call).await {
            Ok(outcomes) => outcomes.into_iter().map(|outcome| direct_result(outcome, true)).collect(),
            Err(error) => vec![Err(error); intents.len()],
        }
    }

    async fn write_to_database(&self, intents: &[LikeIntent], call: Call) -> Result<Vec<DirectResult>, LikeError> {
        let Ok(_permit) = self.direct_writes.try_acquire() else {
            return Err(LikeError::Overloaded { what: "direct writing", retry_after: RETRY_AFTER });
        };
        let _open = self.stores.direct_gate.read().await;
        if self.stores.database_circuit.is_open() {
            let reason = "cache and database are unreachable".to_owned();
            return Err(LikeError::Unavailable { reason, retry_after: RETRY_AFTER });
        }
        let now = time_of(self.stores.now());
        // The version may be ahead of the cache's clock by so much; until that has caught up another server's cache could give
        // this user's next word a smaller one.
        let ahead = self.stores.cache.clock_uncertainty();
        tokio::time::sleep_until((Instant::now() + ahead).min(call.until).into()).await;
        // Before the outcome is known: a failed call may have been committed.
        self.stores.pending_refreshes.fetch_add(1, Ordering::AcqRel);
        match self.stores.database.apply_direct(intents, now, call.until, true).await {
            Ok(outcomes) => {
                self.stores.database_circuit.success();
                outcomes.iter().for_each(|_| metrics::degraded_write());
                Ok(outcomes)
            }
            Err(error) => Err(self.database_failed(error)),
        }
    }

    fn database_failed(&self, error: StoreError) -> LikeError {
        if error.is_unavailable() {
            self.stores.database_circuit.failure(&error);
        }
        match error {
            StoreError::TooLate => LikeError::Expired,
            StoreError::Conflict { .. } => {
                LikeError::Unavailable { reason: error.to_string(), retry_after: RETRY_AFTER }
            }
            error if error.is_unavailable() => {
                LikeError::Unavailable { reason: error.to_string(), retry_after: RETRY_AFTER }
            }
            error => LikeError::Refused(error.to_string()),
        }
    }
}

fn direct_result(result: DirectResult, degraded: bool) -> LikeResult {
    match result {
        DirectResult::Decided(outcome) => Ok(LikeAnswer {
            liked: outcome.liked,
            count: Some(outcome.stored.count),
            version: outcome.version,
            changed: outcome.changed,
            degraded,
        }),
        DirectResult::KeyReused => Err(LikeError::KeyReused),
    }
}

fn no_answer() -> LikeResult {
    Err(LikeError::Refused("no answer".to_owned()))
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
        Err(LikeError::KeyReused | LikeError::Refused(_)) => "refused",
    };
    metrics::like(outcome, took);
}
