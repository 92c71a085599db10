//! Applying a batch of accepted events: the one way by which journal entries become rows.

use crate::error::StoreError;
use crate::ledger::{record_behaviors, record_completed};
use crate::likes::{
    PairEvent, Reading, Snapshot, Touched, create_missing, fold_events, once_by_id, pair_events, write_outcome,
};
use crate::pool::Tx;
use crate::repair::Fenced;
use crate::sql::Script;
use crate::store::EventStore;
use chrono::{DateTime, Utc};
use domain::codec::MAX_BATCH;
use domain::{LikeEvent, Pair, PairState, Resource, StoredCount};

/// What the database holds after a batch, as of its commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Every touched resource, sorted.
    pub counts: Vec<(Resource, StoredCount)>,
    /// Every touched pair, sorted.
    pub pairs: Vec<(Pair, PairState)>,
    /// Rows of pairs that changed; the others had seen these events, or newer ones.
    pub changed_pairs: usize,
}

/// A batch, prepared once and used by every attempt.
struct Batch {
    /// First round trip: ledger, behaviours, locks, reads.
    record_and_lock: Script,
    reading: Reading,
    touched: Touched,
    events: Vec<PairEvent>,
    now: DateTime<Utc>,
}

impl EventStore {
    /// Applies a batch in one transaction: ledger, behaviours, pairs, counters.
    ///
    /// Duplicates, old events and any order are fine, within the batch and across batches. `now` is the time of
    /// processing; all other times come from the versions. At most [`MAX_BATCH`] events.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] concerns one of the events; nothing was written.
    pub async fn apply(&self, events: &[LikeEvent], now: DateTime<Utc>) -> Result<Applied, StoreError> {
        match self.apply_fenced(events, None, now).await? {
            Fenced::Done(applied) => Ok(applied),
            Fenced::Refused => Ok(Applied::default()),
        }
    }

    /// The same; with a token only while nobody has a larger one.
    pub(crate) async fn apply_fenced(
        &self,
        events: &[LikeEvent],
        token: Option<u64>,
        now: DateTime<Utc>,
    ) -> Result<Fenced<Applied>, StoreError> {
        if events.is_empty() {
            return Ok(Fenced::Done(Applied::default()));
        }
        check_size(events.len())?;
        let batch = self.prepare(events, now);
        self.transaction("apply", || self.apply_once(&batch, token)).await
    }

    async fn apply_once(&self, batch: &Batch, token: Option<u64>) -> Result<Fenced<Applied>, StoreError> {
        let mut tx = self.begin().await?;
        if let Some(token) = token
            && self.lock_token(&mut tx).await? > token
        {
            return Ok(Fenced::Refused);
        }
        let snapshot = self.record_and_lock(&mut tx, batch).await?;
        // Ledger, behaviours, locks and reads are one round trip: all of them are done here, nothing is folded yet.
        fail::fail_point!("store.ledger_inserted");
        let outcome = fold_events(&snapshot, &batch.events);
        let mut script = self.script();
        write_outcome(&mut script, &outcome, batch.now);
        tx.run(&script).await?;
        fail::fail_point!("store.before_commit", |_| Err(StoreError::Unavailable("failpoint".into())));
        tx.commit().await?;
        let changed_pairs = outcome.changed_pairs.len();
        Ok(Fenced::Done(Applied { counts: outcome.counts, pairs: outcome.pairs, changed_pairs }))
    }

    fn prepare(&self, events: &[LikeEvent], now: DateTime<Utc>) -> Batch {
        let by_id = once_by_id(events);
        let pair_events = pair_events(events);
        let touched = Touched::by(&pair_events);

        let mut script = self.script();
        record_completed(&mut script, &by_id, now);
        record_behaviors(&mut script, &by_id);
        let reading = Reading::lock_and_read(&mut script, &touched.resources, &touched.pairs);
        Batch { record_and_lock: script, reading, touched, events: pair_events, now }
    }

    async fn record_and_lock(&self, tx: &mut Tx, batch: &Batch) -> Result<Snapshot, StoreError> {
        let results = tx.run(&batch.record_and_lock).await?;
        let mut snapshot = batch.reading.snapshot(&results)?;
        create_missing(tx, self.script(), &batch.touched, &mut snapshot, batch.now).await?;
        Ok(snapshot)
    }
}

/// A batch is one transaction and few statements, so it has a bound.
pub(crate) fn check_size(events: usize) -> Result<(), StoreError> {
    if events <= MAX_BATCH {
        Ok(())
    } else {
        Err(StoreError::Rejected(format!("{events} events in a batch, at most {MAX_BATCH} are allowed").into()))
    }
}
