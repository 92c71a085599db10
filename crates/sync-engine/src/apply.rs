//! Apply: a batch of events becomes rows, then the cache is told. Used by the consumer, the direct sink, the rescuer
//! and the retries alike.
//!
//! Order: commit, settle, and only then may the caller acknowledge. Stopping after the commit repeats it (harmless by
//! version); settling before it could remove the only copy of an event that then fails to commit.

use crate::metrics;
use crate::planted::planted;
use crate::stores::{Stores, wall_clock};
use crate::trace::Stage;
use domain::cache::{SettledResource, Settlement};
use domain::retry::RetryPolicy;
use domain::{LikeEvent, Origin, Resource, Version};
use event_store::{Applied, FailedEvent, StoreError};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The database is away; the events are where they came from and must be applied again.
#[derive(Debug, thiserror::Error)]
#[error("database is away: {0}")]
pub struct DatabaseAway(#[source] pub StoreError);

/// What became of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ApplySummary {
    /// Events that are committed.
    pub applied: usize,
    /// Events that failed alone and wait in the ledger.
    pub parked: usize,
}

/// Applies batches.
#[derive(Clone)]
pub struct Applier {
    stores: Stores,
    retry: RetryPolicy,
}

impl Applier {
    /// Failed events are retried by `retry`.
    pub fn new(stores: Stores, retry: RetryPolicy) -> Self {
        Self { stores, retry }
    }

    /// Commits and settles. A batch that fails for a reason of its own is halved until the event that fails alone is
    /// found and parked; all others are committed. After an error any part may be committed: apply it all again.
    pub async fn apply(&self, events: &[LikeEvent]) -> Result<ApplySummary, DatabaseAway> {
        let mut summary = ApplySummary::default();
        let mut rest: Vec<&[LikeEvent]> = vec![events];
        while let Some(batch) = rest.pop() {
            if batch.is_empty() {
                continue;
            }
            if planted("settle_before_commit") {
                self.settle(batch, None).await;
            }
            match self.commit(batch).await {
                Ok(applied) => {
                    fail::fail_point!("apply.committed");
                    self.settle(batch, Some(&applied)).await;
                    summary.applied += batch.len();
                }
                Err(error) if error.is_unavailable() => {
                    self.stores.database_circuit.failure(&error);
                    return Err(DatabaseAway(error));
                }
                Err(error) if batch.len() == 1 => {
                    self.park(batch, &error).await?;
                    summary.parked += 1;
                }
                Err(_) => {
                    let (left, right) = batch.split_at(batch.len() / 2);
                    rest.extend([right, left]);
                }
            }
        }
        Ok(summary)
    }

    /// One parked event again: commits and settles, or says why not.
    pub(crate) async fn apply_again(&self, event: &LikeEvent) -> Result<(), StoreError> {
        let alone = std::slice::from_ref(event);
        let applied = self.commit(alone).await?;
        self.settle(alone, Some(&applied)).await;
        Ok(())
    }

    async fn commit(&self, batch: &[LikeEvent]) -> Result<Applied, StoreError> {
        let started = Instant::now();
        let applied = self.stores.database.apply(batch, wall_clock()).await;
        let error = applied.as_ref().err().map(ToString::to_string);
        self.stores.traces.stage(Stage::Apply, started, batch.iter(), error.as_deref());
        let applied = applied?;
        self.stores.database_circuit.success();
        metrics::applied(batch.len(), started.elapsed());
        let now = self.stores.now();
        metrics::commit_lag(batch.iter().map(|event| now.since(event.version)));
        Ok(applied)
    }

    /// The ledger holds the event now, so its journal entry is settled too.
    async fn park(&self, alone: &[LikeEvent], error: &StoreError) -> Result<(), DatabaseAway> {
        let reason = error.to_string();
        let first_delay = self.retry.delay(0, jitter()).unwrap_or(Duration::ZERO);
        let now = wall_clock();
        let failed =
            FailedEvent { event: alone[0].clone(), error: reason.clone(), next_retry_at: Some(now + first_delay) };
        if !planted("park_forgets") {
            self.stores.database.park(&[failed], self.retry.max_retries, now).await.map_err(|error| {
                self.stores.database_circuit.failure(&error);
                DatabaseAway(error)
            })?;
        }
        metrics::parked(1);
        tracing::warn!(event = %alone[0].intent.id, pair = %alone[0].pair(), %reason, "event failed alone, parked");
        self.settle(alone, None).await;
        Ok(())
    }

    /// Tells the cache. If it is away the entries stay in the journal and the rescuer brings them round again.
    pub(crate) async fn settle(&self, batch: &[LikeEvent], applied: Option<&Applied>) {
        if self.stores.cache_circuit.is_open() {
            return metrics::settle_failed();
        }
        let started = Instant::now();
        let settled = self.stores.cache.settle(&settlement(batch, applied)).await;
        let error = settled.as_ref().err().map(ToString::to_string);
        self.stores.traces.stage(Stage::Settle, started, batch.iter(), error.as_deref());
        match settled {
            Ok(report) => {
                fail::fail_point!("apply.settled");
                self.stores.cache_circuit.success();
                metrics::settled(report);
            }
            Err(error) => {
                if error.is_unavailable() {
                    self.stores.cache_circuit.failure(&error);
                } else {
                    tracing::error!(%error, "settling failed");
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
    Settlement { resources, pairs }
}

/// A number in `0.0..1.0` that differs between events that fail together.
pub(crate) fn jitter() -> f64 {
    let bits = uuid::Uuid::now_v7().as_u128() as u32;
    f64::from(bits) / f64::from(u32::MAX)
}
