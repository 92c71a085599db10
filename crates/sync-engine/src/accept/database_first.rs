//! The old mechanism: database first, then the cache. Its versions come from the cache's clock all the same, so that
//! one user's likes may go either way from one moment to the next ([`crate::stores::write_switch`] says why that is safe).
//!
//! The row is read, then a version above it and above everything the shard accepted is taken, then exactly that version is
//! written. In this order: what the user was answered before this call is in that row or below that clock.

use super::call::let_cancel;
use super::degraded::direct_result;
use super::{Acceptor, Call, LikeAnswer, LikeError, LikeResult, RETRY_AFTER};
use crate::metrics;
use crate::recover::catch_up::tell_cache;
use crate::stores::{faults, time_of};
use domain::cache::{AcceptOutcome, AcceptRequest, Answer, CacheResult, FirstAnswer, MissingCount};
use domain::{LikeIntent, Pair, PairState, Resource, StoredCount, Version};
use event_store::{DirectResult, FreeState, Interrupted, Reserved};
use futures::FutureExt;
use planted_bugs::is_planted;
use tokio::time::Instant;

/// What is to be written, by position in the call.
#[derive(Default)]
struct Writes {
    positions: Vec<usize>,
    intents: Vec<LikeIntent>,
    reserved: Vec<Reserved>,
}

impl Writes {
    fn push(&mut self, position: usize, intent: &LikeIntent, reserved: impl Into<Reserved>) {
        self.positions.push(position);
        self.intents.push(intent.clone());
        self.reserved.push(reserved.into());
    }
}

fn fail(results: &mut [LikeResult], positions: &[usize], error: &LikeError) {
    for i in positions {
        results[*i] = Err(error.clone());
    }
}

impl Acceptor {
    pub(super) async fn write_synchronously(&self, intents: &[LikeIntent], call: Call) -> Vec<LikeResult> {
        // Nobody gives versions while the cache is unreachable but the database itself.
        if self.stores.cache_circuit.is_open() {
            return self.write_directly(intents, call).await;
        }
        let began = Instant::now();
        let Some(_turn) = self.synchronous_writes.take(call.until.into()).await else {
            let error = LikeError::Overloaded { what: "synchronous writing", retry_after: RETRY_AFTER };
            return vec![Err(error); intents.len()];
        };
        let_cancel(began).await;
        let written = self.write_in_turn(intents, call).await;
        self.show_no_longer(intents);
        let (mut results, unreachable) = match written {
            Ok(done) => done,
            Err(error) => return vec![Err(error); intents.len()],
        };
        if !unreachable.is_empty() {
            let direct: Vec<LikeIntent> = unreachable.iter().map(|i| intents[*i].clone()).collect();
            for (i, result) in unreachable.into_iter().zip(self.write_directly(&direct, call).boxed().await) {
                results[i] = result;
            }
        }
        results
    }

    /// Results, and the positions of those that the cache could not be asked about.
    async fn write_in_turn(
        &self,
        intents: &[LikeIntent],
        call: Call,
    ) -> Result<(Vec<LikeResult>, Vec<usize>), LikeError> {
        let began = Instant::now();
        let _open = self.stores.direct_gate.read().await;
        if self.stores.database_circuit.is_open() {
            let reason = "the database is unreachable".to_owned();
            return Err(LikeError::Unavailable { reason, retry_after: RETRY_AFTER });
        }
        let pairs: Vec<Pair> = intents.iter().map(|intent| intent.pair).collect();
        let rows = self.stores.likes.load_states(&pairs).await.map_err(|error| self.database_failed(error))?;
        let requests: Vec<AcceptRequest> = intents
            .iter()
            .zip(&rows)
            .map(|(intent, row)| AcceptRequest {
                intent: intent.clone(),
                payload: bytes::Bytes::new(),
                missing: MissingCount::Report,
                limited: true,
                rewrite: false,
                reserve: Some(row.version),
                until: call.until,
            })
            .collect();
        // Then a row may be older than a word that the user said elsewhere.
        let lost = self.stores.history.went_back().is_some();
        let unknown = || Err(LikeError::Refused("no answer".to_owned()));
        let mut results: Vec<LikeResult> = intents.iter().map(|_| unknown()).collect();
        let (mut writes, mut same, mut unreachable) = (Writes::default(), Vec::new(), Vec::new());
        let mut outcomes = self.ask_cache(&requests).await;
        if outcomes.iter().any(|outcome| matches!(outcome, Ok(AcceptOutcome::Repeated { .. }))) {
            self.keep_repeated(&requests, &mut outcomes).boxed().await;
        }
        for (i, (outcome, request)) in outcomes.into_iter().zip(&requests).enumerate() {
            match outcome {
                // Accepted here before, in the row since, and as wanted: nothing is on its way from the cache that says otherwise.
                Ok(AcceptOutcome::Reserved { version, held: Some(held) })
                    if !lost
                        && held.liked == request.intent.action.liked()
                        && held.version <= rows[i].version
                        && rows[i].liked == held.liked =>
                {
                    let keyed = request.intent.idempotency_key.is_some() && !is_planted("unchanged_key_forgotten");
                    if !keyed || is_planted("undecided_row_believed") {
                        same.push((i, version));
                    } else {
                        // Confirmed under the locks, where its key is written.
                        writes.push(i, &request.intent, Reserved { version, unless: Some(rows[i]) });
                    }
                }
                Ok(AcceptOutcome::Reserved { version, .. }) => writes.push(i, &request.intent, version),
                Err(error) if error.is_unavailable() => unreachable.push(i),
                other => results[i] = self.conclude(request, other, false),
            }
        }
        // Each has its own answer: what fails from here on is not the others' fate.
        let asked: Vec<usize> = same.iter().map(|(i, _)| *i).collect();
        match self.still_same(intents, &rows, same, &mut writes).await {
            Ok(same) if same.is_empty() => {}
            Ok(same) => match self.answer_unchanged(intents, &rows, &same, &mut results).await {
                Ok(()) => {}
                Err(error) => fail(&mut results, &same, &error),
            },
            Err(error) => fail(&mut results, &asked, &error),
        }
        if !writes.intents.is_empty() {
            let_cancel(began).await;
            self.write_reserved(&writes, call, &mut results).await;
        }
        Ok((results, unreachable))
    }

    /// Those whose rows nobody is about to change; the others are written. A write around the cache that is decided and not
    /// yet committed is in no row, and may be an earlier word of this user whose answer was lost.
    async fn still_same(
        &self,
        intents: &[LikeIntent],
        rows: &[PairState],
        same: Vec<(usize, Version)>,
        writes: &mut Writes,
    ) -> Result<Vec<usize>, LikeError> {
        if same.is_empty() {
            return Ok(Vec::new());
        }
        let pairs: Vec<Pair> = same.iter().map(|(i, _)| intents[*i].pair).collect();
        let free = self.stores.likes.load_free_states(&pairs).await.map_err(|error| self.database_failed(error))?;
        let mut still = Vec::with_capacity(same.len());
        for ((i, version), free) in same.into_iter().zip(free) {
            if free == FreeState::Row(rows[i]) || is_planted("undecided_row_believed") {
                still.push(i);
            } else {
                writes.push(i, &intents[i], version);
            }
        }
        Ok(still)
    }

    async fn answer_unchanged(
        &self,
        intents: &[LikeIntent],
        rows: &[PairState],
        same: &[usize],
        results: &mut [LikeResult],
    ) -> Result<(), LikeError> {
        let resources: Vec<Resource> = same.iter().map(|i| intents[*i].pair.resource).collect();
        let counts: Vec<StoredCount> =
            self.stores.likes.load_counts(&resources).await.map_err(|error| self.database_failed(error))?;
        for (i, stored) in same.iter().zip(counts) {
            let PairState { liked, version } = rows[*i];
            let answer = LikeAnswer { liked, count: Some(stored.count), version, changed: false, degraded: false };
            results[*i] = Ok(answer);
        }
        Ok(())
    }

    async fn write_reserved(&self, writes: &Writes, call: Call, results: &mut [LikeResult]) {
        let untold = self.stores.untold.begin();
        let now = time_of(self.stores.now());
        fail::fail_point!("accept.reserved");
        let written = self.stores.likes.apply_synchronous(&writes.intents, &writes.reserved, now, call.until).await;
        let outcomes = match written {
            Ok(outcomes) => {
                self.stores.database_circuit.success();
                outcomes
            }
            Err(Interrupted { decided, error }) => {
                let error = self.blame(writes.intents.get(decided.len()..).unwrap_or_default(), error).await;
                fail(results, writes.positions.get(decided.len()..).unwrap_or_default(), &error);
                decided
            }
        };
        if outcomes.is_empty() {
            return;
        }
        let intents = writes.intents.get(..outcomes.len()).unwrap_or_default();
        metrics::synchronous_writes(outcomes.len());
        fail::fail_point!("accept.synchronous_committed");
        let told = self.tell_with_keys(intents, &outcomes).await;
        match &told {
            // Whether the rest is written may be open.
            Ok(()) if intents.len() == writes.intents.len() => untold.told(),
            Ok(()) => {}
            // It is on the list of what the cache must be told, keys included.
            Err(error) if error.is_unavailable() => {
                self.stores.cache_failed(intents.iter().map(|intent| intent.pair.resource), error);
            }
            Err(error) => drop(faults::tell("telling the cache of a synchronous write", error)),
        }
        for (i, outcome) in writes.positions.iter().zip(outcomes) {
            results[*i] = direct_result(outcome, told.is_err());
        }
    }

    /// Tells the cache of what was committed. A repetition that goes the other way must get the first answer, too.
    pub(super) async fn tell_with_keys(&self, intents: &[LikeIntent], outcomes: &[DirectResult]) -> CacheResult<()> {
        tell_cache(&self.stores, intents, outcomes).await?;
        let answers = intents.iter().zip(outcomes).filter_map(|(intent, outcome)| {
            let DirectResult::Decided(outcome) = outcome else { return None };
            // A word that another one overtook has no version of its own.
            if outcome.liked != intent.action.liked() && !is_planted("overtaken_remembered") {
                return None;
            }
            Some(FirstAnswer {
                pair: intent.pair,
                key: intent.idempotency_key.clone()?,
                liked: intent.action.liked(),
                answer: Answer { count: Some(outcome.stored.count), version: outcome.version },
                changed: outcome.changed,
                age: outcome.key_age,
            })
        });
        self.remember(answers.collect()).await
    }
}
