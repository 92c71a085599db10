//! Apply: a batch of events becomes rows, then the cache is told. Used by the consumer, the direct sink, the rescuer
//! and the retries alike.
//!
//! Order: commit, settle, and only then may the caller acknowledge. Stopping after the commit repeats it (harmless by
//! version); settling before it could remove the only copy of an event that then fails to commit.

pub mod retry;

use crate::clock::wall_clock;
use crate::metrics;
use crate::planted;
use crate::stores::{Stores, faults};
use crate::trace::Stage;
use domain::cache::{SettledResource, Settlement};
use domain::codec::MAX_BATCH;
use domain::retry::RetryPolicy;
use domain::{LikeEvent, Origin, Resource, Version};
use event_store::{Applied, FailedEvent, Marks, StoreError};
use futures::FutureExt;
use futures::future::BoxFuture;
use planted_bugs::planted;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Events that are rehearsed together at first: few enough that with a tenth of them bad many parts are fine.
const PART: usize = 8;

/// The database is unreachable; the events are where they came from and must be applied again.
#[derive(Debug, thiserror::Error)]
#[error("database is unreachable: {0}")]
pub struct DatabaseUnreachable(#[source] pub StoreError);

/// What became of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ApplySummary {
    /// Events that are committed.
    pub applied: usize,
    /// Events that failed alone and wait in the ledger.
    pub parked: usize,
}

/// An event that the database refuses.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) event: LikeEvent,
    pub(crate) error: StoreError,
}

/// Applies batches.
#[derive(Clone)]
pub struct Applier {
    stores: Stores,
    retry: RetryPolicy,
    /// The redo log has what is applied; else the ledger marks it as lacking there.
    logged: bool,
    /// What is applied had failed before: how long it took says nothing of how likes get on.
    retrying: bool,
}

impl Applier {
    /// Failed events are retried by `retry`.
    pub fn new(stores: Stores, retry: RetryPolicy) -> Self {
        Self { stores, retry, logged: false, retrying: false }
    }

    /// One for events that the redo log has.
    #[must_use]
    pub fn of_logged(&self) -> Self {
        Self { logged: true, ..self.clone() }
    }

    /// One for events that had failed before.
    #[must_use]
    pub(crate) fn of_retries(&self) -> Self {
        Self { retrying: true, ..self.clone() }
    }

    /// Commits and settles all that the database takes; what it refuses is parked. After an error any part may be
    /// committed: apply it all again.
    pub fn apply<'a>(&'a self, events: &'a [LikeEvent]) -> BoxFuture<'a, Result<ApplySummary, DatabaseUnreachable>> {
        self.apply_inner(events).boxed()
    }

    async fn apply_inner(&self, events: &[LikeEvent]) -> Result<ApplySummary, DatabaseUnreachable> {
        let refused = Box::pin(self.apply_good(events)).await?;
        self.blame(&refused).await?;
        self.park(&refused).await?;
        Ok(ApplySummary { applied: events.len() - refused.len(), parked: refused.len() })
    }

    /// As [`apply`](Self::apply), but what is committed as a whole is left to the caller to [`settle`](Self::settle), so
    /// that the next batch need not wait for the cache, and to tell listeners of. None: it is settled, or parked, and noted for
    /// them.
    pub(crate) async fn apply_unsettled(&self, events: &[LikeEvent]) -> Result<Option<Applied>, DatabaseUnreachable> {
        if events.is_empty() {
            return Ok(None);
        }
        if events.len() > MAX_BATCH {
            self.apply(events).await?;
            return Ok(None);
        }
        match self.commit(events, false).await {
            Ok(applied) => {
                fail::fail_point!("apply.committed");
                Ok(Some(applied))
            }
            Err(error) => {
                let refused = Box::pin(self.apply_after(Some(error), events)).await?;
                self.blame(&refused).await?;
                self.park(&refused).await?;
                Ok(None)
            }
        }
    }

    /// Commits and settles all that the database takes, and returns the rest. After an error any part may be committed.
    pub(crate) async fn apply_good(&self, events: &[LikeEvent]) -> Result<Vec<Refused>, DatabaseUnreachable> {
        self.apply_after(None, events).await
    }

    /// The same, where the whole has failed with this error just now.
    async fn apply_after(
        &self,
        mut failed: Option<StoreError>,
        events: &[LikeEvent],
    ) -> Result<Vec<Refused>, DatabaseUnreachable> {
        let mut refused = Vec::new();
        // Gathered messages can hold more than one transaction may.
        let mut rest: Vec<_> = events.chunks(MAX_BATCH).rev().map(|batch| (Cow::Borrowed(batch), true)).collect();
        while let Some((batch, may_sift)) = rest.pop() {
            if batch.is_empty() {
                continue;
            }
            let committed = match failed.take() {
                Some(error) => Err(error),
                None => self.commit(&batch, true).await,
            };
            match committed {
                Ok(applied) => {
                    fail::fail_point!("apply.committed");
                    self.settle(&batch, Some(&applied)).await;
                }
                // Each is fine by itself, and the server takes less at once.
                Err(error) if error.is_too_large() && batch.len() > 1 => {
                    let (left, right) = batch.split_at(batch.len() / 2);
                    rest.extend([right, left].map(|half| (half.to_vec().into(), may_sift)));
                }
                Err(error) if error.is_unavailable() => return Err(self.unreachable(error)),
                // Others are in the way, which is no event's fault: fewer at once, and in the end later.
                Err(error) if error.is_conflict() && batch.len() == 1 => return Err(self.unreachable(error)),
                Err(error) if batch.len() == 1 => refused.push(Refused { event: batch[0].clone(), error }),
                Err(error) if may_sift && !error.is_conflict() => {
                    rest.push((Box::pin(self.partition(&batch, &mut refused)).await?.into(), false));
                }
                // Or each was fine, and together they are not, or not any more.
                Err(_) => {
                    let (left, right) = batch.split_at(batch.len() / 2);
                    rest.extend([right, left].map(|half| (half.to_vec().into(), may_sift)));
                }
            }
        }
        Ok(refused)
    }

    /// Returns those that can be written; the others are refused. Found by rehearsing parts and halving those that fail: a
    /// flood of bad events then costs no commits, which are what takes time.
    async fn partition(
        &self,
        batch: &[LikeEvent],
        refused: &mut Vec<Refused>,
    ) -> Result<Vec<LikeEvent>, DatabaseUnreachable> {
        let mut batch = batch.to_vec();
        // Trouble is often with a resource: its events side by side spoil the fewest parts.
        batch.sort_by_key(LikeEvent::pair);
        let mut good = Vec::with_capacity(batch.len());
        let mut rest: Vec<&[LikeEvent]> = batch.chunks(PART).collect();
        while let Some(part) = rest.pop() {
            let started = Instant::now();
            match self.stores.database.dry_run(part, wall_clock()).await {
                Ok(()) => good.extend_from_slice(part),
                Err(error) if error.is_too_large() && part.len() > 1 => {
                    let (left, right) = part.split_at(part.len() / 2);
                    rest.extend([right, left]);
                }
                Err(error) if error.is_unavailable() => return Err(self.unreachable(error)),
                // Unknown: the commit will tell.
                Err(error) if error.is_conflict() && part.len() == 1 => good.extend_from_slice(part),
                Err(error) if part.len() == 1 => {
                    self.stores.traces.stage(Stage::Apply, started, part.iter(), Some(&error.to_string()));
                    refused.push(Refused { event: part[0].clone(), error });
                }
                Err(_) => {
                    let (left, right) = part.split_at(part.len() / 2);
                    rest.extend([right, left]);
                }
            }
        }
        Ok(good)
    }

    /// Are these events to blame? If every other row of their kind is refused as well, the database is, and stays so until
    /// it takes one: none of them is parked, and no attempt is counted.
    pub(crate) async fn blame(&self, refused: &[Refused]) -> Result<(), DatabaseUnreachable> {
        planted!("anybody_blamed" => Ok(()));
        let mut asked = BTreeSet::new();
        for Refused { event, .. } in refused {
            let kind = (event.pair().resource.kind, event.intent.action, event.intent.idempotency_key.is_some());
            if !asked.insert(kind) {
                continue;
            }
            if let Err(error) = self.stores.database.takes_others(event, wall_clock()).await {
                if !error.is_unavailable() {
                    return Err(self.unreachable(error));
                }
                self.stores.refused.refuses_all_like(event);
                self.stores.database_circuit.trip(&error);
                return Err(DatabaseUnreachable(error));
            }
        }
        Ok(())
    }

    pub(crate) fn unreachable(&self, error: StoreError) -> DatabaseUnreachable {
        self.stores.database_circuit.failure(&error);
        DatabaseUnreachable(error)
    }

    /// `unpublished`: listeners are told of it by its note.
    async fn commit(&self, batch: &[LikeEvent], unpublished: bool) -> Result<Applied, StoreError> {
        planted::settle_before_commit(self, batch).await;
        let started = Instant::now();
        let marks = Marks { unlogged: !self.logged, unpublished };
        let applied = self.stores.database.apply_marked(batch, marks, wall_clock()).await;
        let error = applied.as_ref().err().map(ToString::to_string);
        self.stores.traces.stage(Stage::Apply, started, batch.iter(), error.as_deref());
        let applied = applied?;
        self.stores.database_circuit.success();
        metrics::applied(batch.len(), started.elapsed());
        if !self.retrying {
            let now = self.stores.now();
            metrics::commit_lag(batch.iter().map(|event| now.since(event.version)));
        }
        Ok(applied)
    }

    /// The ledger holds the events now, so their journal entries are settled too.
    async fn park(&self, refused: &[Refused]) -> Result<(), DatabaseUnreachable> {
        let mut rest: Vec<&[Refused]> = refused.chunks(MAX_BATCH).collect();
        while let Some(some) = rest.pop() {
            match self.park_some(some).await {
                Err(error) if error.is_too_large() && some.len() > 1 => {
                    let (left, right) = some.split_at(some.len() / 2);
                    rest.extend([right, left]);
                }
                parked => parked.map_err(|error| self.unreachable(error))?,
            }
        }
        Ok(())
    }

    async fn park_some(&self, refused: &[Refused]) -> Result<(), StoreError> {
        let Some(Refused { event, error }) = refused.first() else { return Ok(()) };
        let now = wall_clock();
        let failed: Vec<FailedEvent> = refused
            .iter()
            .map(|Refused { event, error }| {
                let first_delay = self.retry.delay(0, jitter()).unwrap_or(Duration::ZERO);
                FailedEvent { event: event.clone(), error: error.to_string(), next_retry_at: Some(now + first_delay) }
            })
            .collect();
        let commit = self.stores.database.park(&failed, self.retry.max_retries, now).await?;
        metrics::parked(refused.len());
        // The ledger has each one with its error.
        if let Some(times) = faults::again("refused, parked") {
            let (events, first) = (refused.len(), event.intent.id);
            tracing::warn!(events, times, %first, pair = %event.pair(), %error, "refused, parked");
        }
        let events: Vec<LikeEvent> = failed.into_iter().map(|failed| failed.event).collect();
        self.settle(&events, Some(&Applied { commit, ..Applied::default() })).await;
        Ok(())
    }

    /// Tells the cache. If it is unreachable the entries stay in the journal and the rescuer brings them round again.
    pub(crate) async fn settle(&self, batch: &[LikeEvent], applied: Option<&Applied>) {
        // They are committed, stay in the journal, and are settled when the database is whole.
        if self.stores.is_latched() {
            return metrics::settle_latched();
        }
        // A full one takes no likes, and what is settled makes room.
        if self.stores.cache_circuit.is_open() && !self.stores.cache.is_full() {
            return metrics::settle_failed();
        }
        let started = Instant::now();
        let mut settlement = settlement(batch, applied);
        if self.stores.shard_circuits.any() {
            // What is away is settled by the rescuer, and nobody waits for it here.
            settlement.resources.retain(|settled| !self.stores.is_away(settled.resource));
            settlement.pairs.retain(|(pair, _)| !self.stores.is_away(pair.resource));
        }
        let settled = self.stores.cache.settle(&settlement).await;
        let error = settled.as_ref().err().map(ToString::to_string);
        self.stores.traces.stage(Stage::Settle, started, batch.iter(), error.as_deref());
        match settled {
            Ok(report) => {
                fail::fail_point!("apply.settled");
                self.stores.cache_answered(batch.iter().map(|event| event.pair().resource));
                metrics::settled(report);
            }
            Err(error) => {
                if error.is_unavailable() {
                    self.stores.cache_failed(batch.iter().map(|event| event.pair().resource), &error);
                } else {
                    faults::tell("settling", &error);
                }
                metrics::settle_failed();
            }
        }
    }
}

/// What a committed (or, without `applied`, parked) batch means for the cache.
fn settlement(batch: &[LikeEvent], applied: Option<&Applied>) -> Settlement {
    let mut entries: BTreeMap<Resource, Vec<Version>> = BTreeMap::new();
    for event in batch {
        let of_resource = entries.entry(event.pair().resource).or_default();
        if event.origin == Origin::Journal {
            of_resource.push(event.version);
        }
    }
    let mut resources: Vec<SettledResource> =
        entries.into_iter().map(|(resource, entries)| SettledResource { resource, entries, stored: None }).collect();
    let mut pairs = Vec::new();
    if let Some(applied) = applied {
        let stored: BTreeMap<_, _> = applied.counts.iter().copied().collect();
        for settled in &mut resources {
            settled.stored = stored.get(&settled.resource).copied();
        }
        pairs.clone_from(&applied.pairs);
    }
    Settlement { resources, pairs, commit: applied.and_then(|applied| applied.commit) }
}

/// A number in `0.0..1.0` that differs between events that fail together.
pub(crate) fn jitter() -> f64 {
    let bits = uuid::Uuid::now_v7().as_u128() as u32;
    f64::from(bits) / f64::from(u32::MAX)
}
