//! Degraded writes: while the cache is unreachable the database takes likes itself.
//!
//! The cache may be serving again by then, or still: one call failed alone, or was stuck on its way from before. Then nobody
//! tells the cache what it missed before the next read of this user, so this call does.

use super::call::{Call, LikeAnswer, LikeError, LikeResult, let_cancel};
use super::{Acceptor, FILL_TIMEOUT, RETRY_AFTER};
use crate::clock::wall_clock;
use crate::metrics;
use crate::stores::{faults, time_of};
use chrono::{DateTime, Utc};
use domain::{LikeEvent, LikeIntent, Origin, Resource};
use event_store::{DirectResult, Interrupted, StoreError};
use futures::FutureExt;
use std::time::Duration;
use tokio::time::{Instant, timeout};

impl Acceptor {
    /// The cache is unreachable: the database takes the likes itself, in one transaction, and remembers that the cache must
    /// be told.
    pub(super) async fn write_directly(&self, intents: &[LikeIntent], call: Call) -> Vec<LikeResult> {
        let written = self.write_to_database(intents, call).await;
        self.show_no_longer(intents);
        match written {
            Ok(outcomes) => outcomes.into_iter().map(|outcome| direct_result(outcome?, true)).collect(),
            Err(error) => vec![Err(error); intents.len()],
        }
    }

    /// Whether all was told: of shards that are away nobody is.
    async fn tell_serving_shards(&self, intents: &[LikeIntent], outcomes: &[DirectResult]) -> bool {
        if !self.stores.shard_circuits.any() {
            return self.tell_serving_cache(intents, outcomes).await;
        }
        let serving = intents.iter().zip(outcomes).filter(|(intent, _)| !self.stores.is_away(intent.pair.resource));
        let (told, of): (Vec<LikeIntent>, Vec<DirectResult>) =
            serving.map(|(intent, outcome)| (intent.clone(), *outcome)).unzip();
        (told.is_empty() || self.tell_serving_cache(&told, &of).await) && told.len() == intents.len()
    }

    /// Whether it was told. If not, this process does not believe it until somebody has.
    async fn tell_serving_cache(&self, intents: &[LikeIntent], outcomes: &[DirectResult]) -> bool {
        let told = async {
            match self.tell_with_keys(intents, outcomes).await {
                // A connection that broke while nobody used it says nothing of the cache, and telling it twice is harmless.
                Err(error) if error.is_unavailable() => self.tell_with_keys(intents, outcomes).await,
                told => told,
            }
        };
        match timeout(FILL_TIMEOUT, told).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => self.stores.cache_untold(resources_of(intents), &error),
            Err(elapsed) => self.stores.cache_untold(resources_of(intents), &elapsed),
        }
        false
    }

    async fn write_to_database(
        &self,
        intents: &[LikeIntent],
        call: Call,
    ) -> Result<Vec<Result<DirectResult, LikeError>>, LikeError> {
        let began = Instant::now();
        let resources: Vec<Resource> = resources_of(intents).collect();
        // The version may be ahead of the cache's clock by so much; until that has caught up another server's cache could give
        // this user's next word a smaller one.
        let (now, ahead) = match self.stores.cache.clock_for(&resources) {
            Some((now, ahead)) => (time_of(now), ahead),
            None => (time_of(self.stores.now()), Duration::ZERO),
        };
        let passed = Instant::now() + ahead;
        if passed > call.until.into() {
            // That clock was set back. Until it has caught up nobody but the cache can order what a user says.
            let reason = "versions are ahead of the cache's clock, and the cache is unreachable".to_owned();
            return Err(LikeError::Unavailable { reason, retry_after: RETRY_AFTER });
        }
        tokio::time::sleep_until(passed).await;
        let Some(_turn) = self.direct_writes.take(call.until.into()).await else {
            return Err(LikeError::Overloaded { what: "direct writing", retry_after: RETRY_AFTER });
        };
        let _open = self.stores.direct_gate.read().await;
        if self.stores.database_circuit.is_open() {
            let reason = "cache and database are unreachable".to_owned();
            return Err(LikeError::Unavailable { reason, retry_after: RETRY_AFTER });
        }
        let_cancel(began).await;
        // Ends before the gate is free again.
        let untold = self.stores.untold.begin();
        let outcomes = self.write_parts(intents, now, call).await;
        let written = intents.iter().zip(&outcomes);
        let written = written.filter_map(|(intent, outcome)| Some((intent.clone(), *outcome.as_ref().ok()?)));
        let (kept, decided): (Vec<LikeIntent>, Vec<DirectResult>) = written.unzip();
        // Under the gate: a circuit that is open now closes only after somebody has told the cache of this.
        if !kept.is_empty()
            && !self.stores.cache_circuit.is_open()
            && self.tell_serving_shards(&kept, &decided).boxed().await
            && kept.len() == intents.len()
        {
            untold.told();
        }
        Ok(outcomes)
    }

    /// In one transaction; where the database refuses one of them, in more, so that the others succeed.
    async fn write_parts(
        &self,
        intents: &[LikeIntent],
        now: DateTime<Utc>,
        call: Call,
    ) -> Vec<Result<DirectResult, LikeError>> {
        let mut results = Vec::with_capacity(intents.len());
        // The next part last.
        let mut rest = vec![intents];
        let mut is_itself = false;
        while let Some(part) = rest.pop() {
            match self.stores.likes.apply_direct(part, now, call.until).await {
                Ok(outcomes) => {
                    self.stores.database_circuit.success();
                    results.extend(written(outcomes));
                }
                Err(Interrupted { decided, error }) => {
                    let part = part.get(decided.len()..).unwrap_or_default();
                    results.extend(written(decided));
                    let error = if is_itself { self.database_failed(error) } else { self.blame(part, error).await };
                    if part.len() > 1 && matches!(error, LikeError::Refused(_)) {
                        is_itself = true;
                        let (left, right) = part.split_at(part.len() / 2);
                        rest.extend([right, left]);
                    } else {
                        results.extend(part.iter().map(|_| Err(error.clone())));
                    }
                }
            }
        }
        results
    }

    /// What a write that failed means for its caller. Where the database refuses every row of that kind nobody's like is to blame:
    /// they wait until it takes one again.
    pub(super) async fn blame(&self, intents: &[LikeIntent], error: StoreError) -> LikeError {
        let (StoreError::Rejected(_), Some(first)) = (&error, intents.first()) else {
            return self.database_failed(error);
        };
        let suspect = LikeEvent { intent: first.clone(), version: self.stores.now(), origin: Origin::Direct };
        match self.stores.database.takes_others(&suspect, wall_clock()).await {
            Err(all) if all.is_unavailable() => {
                self.stores.refused.refuses_all_like(&suspect);
                self.stores.database_circuit.trip(&all);
                LikeError::Unavailable { reason: faults::for_caller("the database", &all), retry_after: RETRY_AFTER }
            }
            _ => self.database_failed(error),
        }
    }

    pub(super) fn database_failed(&self, error: StoreError) -> LikeError {
        if error.is_unavailable() {
            self.stores.database_circuit.failure(&error);
        }
        match error {
            StoreError::TooLate => LikeError::Expired,
            error if error.is_conflict() || error.is_unavailable() => {
                LikeError::Unavailable { reason: faults::for_caller("the database", &error), retry_after: RETRY_AFTER }
            }
            error => LikeError::Refused(faults::for_caller("the database", &error)),
        }
    }
}

fn written(outcomes: Vec<DirectResult>) -> impl Iterator<Item = Result<DirectResult, LikeError>> {
    outcomes.into_iter().inspect(|_| metrics::degraded_write()).map(Ok)
}

fn resources_of(intents: &[LikeIntent]) -> impl Iterator<Item = Resource> {
    intents.iter().map(|intent| intent.pair.resource)
}

pub(super) fn direct_result(result: DirectResult, degraded: bool) -> LikeResult {
    match result {
        DirectResult::Decided(outcome) => Ok(LikeAnswer {
            liked: outcome.liked,
            count: Some(outcome.stored.count),
            version: outcome.version,
            changed: outcome.changed,
            degraded,
        }),
        DirectResult::KeyReused => Err(LikeError::KeyReused),
        DirectResult::Deleted => Err(LikeError::Deleted),
    }
}
