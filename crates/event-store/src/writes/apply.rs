//! Applying a batch of accepted events: the one way by which journal entries become rows.

use crate::sql::error::StoreError;
use crate::sql::pool::Tx;
use crate::sql::script::Script;
use crate::sql::store::{EventStore, rows};
use crate::tables::fences::{self, Held};
use crate::tables::fold::{Outcome, PairChange, PairEvent, fold_events, pair_events};
use crate::tables::keys::{self, NewKey};
use crate::tables::ledger::{
    any_discarded, discarded_ids, read_existing, record_behaviors, record_completed, set_processed,
};
use crate::tables::likes::{Reading, Touched, create_missing, once_by_id, write_outcome};
use crate::tables::repair_token::Fenced;
use crate::tables::unpublished::note_pairs;
use chrono::{DateTime, Utc};
use domain::cache::CommitNumber;
use domain::codec::MAX_BATCH;
use domain::{LikeEvent, Pair, PairState, Resource, StoredCount, Version};
use std::collections::HashSet;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The ledger's time of processing is that of an attempt's beginning, unless the attempt stands still for longer than this.
const STOOD_STILL: Duration = Duration::from_millis(500);

/// What the database holds after a batch, as of its commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Every touched resource, sorted.
    pub counts: Vec<(Resource, StoredCount)>,
    /// Every touched pair, sorted.
    pub pairs: Vec<(Pair, PairState)>,
    /// Rows of pairs that changed; the others had seen these events, or newer ones.
    pub changed_pairs: usize,
    /// The number of the commit.
    pub commit: Option<CommitNumber>,
}

/// What is written with a batch for others who have to learn of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// The redo log may lack these events: they are found by [`EventStore::unlogged`] until it has them, if that is
    /// [wanted](EventStore::keep_unlogged).
    pub unlogged: bool,
    /// Nobody else tells listeners of what this touches: it is found by [`EventStore::unpublished`] until they were told, if
    /// that is [wanted](EventStore::with_change_notes).
    pub unpublished: bool,
}

/// A batch, prepared once and used by every attempt.
struct Batch {
    /// First round trip: fences, ledger, behaviours, locks, reads.
    record_and_lock: Script,
    /// The statement that holds the fences.
    held: usize,
    /// The statement that asks whether anything is discarded.
    any_discarded: usize,
    /// In the order of the ledger.
    ids: Vec<Uuid>,
    /// What each of them is about.
    said: Vec<(Pair, Version)>,
    reading: Reading,
    touched: Touched,
    events: Vec<PairEvent>,
    keys: Vec<NewKey>,
    notes_changes: bool,
    now: DateTime<Utc>,
}

impl EventStore {
    /// Applies a batch in one transaction: ledger, behaviours, pairs, counters.
    ///
    /// Duplicates, old events and any order are fine, within the batch and across batches. Discarded events are left out, and those
    /// of erased users and deleted resources from before the erasure, of which nothing is written.
    /// `now` is the time of processing; all other times come from the versions. At most [`MAX_BATCH`] events. Of an attempt that
    /// stood still, in a database that hung or behind locks, the ledger has the time of its end: before it is over here.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] concerns one of the events; nothing was written.
    pub async fn apply(&self, events: &[LikeEvent], now: DateTime<Utc>) -> Result<Applied, StoreError> {
        self.apply_marked(events, Marks::default(), now).await
    }

    /// As [`apply`](Self::apply), of events that others have to learn of.
    pub async fn apply_marked(
        &self,
        events: &[LikeEvent],
        marks: Marks,
        now: DateTime<Utc>,
    ) -> Result<Applied, StoreError> {
        match self.attempt(events, None, End::Commit, marks, now).await? {
            Fenced::Done(applied) => Ok(applied),
            Fenced::Refused => Ok(Applied::default()),
        }
    }

    /// Does all that [`apply`](Self::apply) does and takes it back: says whether the events can be written, for the price
    /// of no commit.
    ///
    /// # Errors
    /// As of [`apply`](Self::apply).
    pub async fn dry_run(&self, events: &[LikeEvent], now: DateTime<Utc>) -> Result<(), StoreError> {
        self.attempt(events, None, End::TakeBack, Marks::default(), now).await.map(drop)
    }

    /// The same of one event after the other, in one transaction.
    pub(crate) async fn rehearse(&self, events: &[LikeEvent], now: DateTime<Utc>) -> Result<(), StoreError> {
        let batches: Vec<Batch> =
            events.iter().map(|one| self.prepare(std::slice::from_ref(one), Marks::default(), now)).collect();
        self.transaction("apply", async || {
            let mut tx = self.begin().await?;
            for batch in &batches {
                if let Ok((script, _)) = self.fold_in(&mut tx, batch).await? {
                    tx.run(&script).await?;
                }
            }
            tx.roll_back().await
        })
        .await
    }

    /// As [`apply`](Self::apply), with a token only while nobody has a larger one; listeners are told of it.
    pub(crate) async fn apply_fenced(
        &self,
        events: &[LikeEvent],
        token: u64,
        now: DateTime<Utc>,
    ) -> Result<Fenced<Applied>, StoreError> {
        let marks = Marks { unpublished: true, ..Marks::default() };
        self.attempt(events, Some(token), End::Commit, marks, now).await
    }

    async fn attempt(
        &self,
        events: &[LikeEvent],
        token: Option<u64>,
        end: End,
        marks: Marks,
        now: DateTime<Utc>,
    ) -> Result<Fenced<Applied>, StoreError> {
        if events.is_empty() {
            return Ok(Fenced::Done(Applied::default()));
        }
        check_size(events.len())?;
        let started = Instant::now();
        let mut batch = self.prepare(events, marks, now);
        let mut kept: Vec<LikeEvent>;
        // Whoever is found discarded, or fenced, stays so, and is not asked about again: this ends.
        loop {
            match self.transaction("apply", || self.apply_once(&batch, token, end, started)).await? {
                Attempt::Done(done, written) => {
                    self.say_when_it_ended(&batch, written, now + started.elapsed()).await;
                    return Ok(done);
                }
                Attempt::LeftOut(ids) => {
                    kept = events
                        .iter()
                        .filter(|event| batch.has(event) && !ids.contains(&event.intent.id))
                        .cloned()
                        .collect();
                    if kept.is_empty() {
                        return Ok(Fenced::Done(Applied::default()));
                    }
                    batch = self.prepare(&kept, marks, now);
                }
            }
        }
    }

    /// Without it what stood still while it was committed would count as quick. It is committed, whatever becomes of this.
    async fn say_when_it_ended(&self, batch: &Batch, written: DateTime<Utc>, ended: DateTime<Utc>) {
        if (ended - written).to_std().is_ok_and(|stood| stood > STOOD_STILL) {
            let mut script = self.script();
            set_processed(&mut script, &batch.ids, written, ended);
            if let Err(error) = self.write("say when it ended", &script).await {
                tracing::debug!(%error, "how long these events took is not written down");
            }
        }
    }

    /// With the time that the ledger has as that of processing.
    async fn apply_once(
        &self,
        batch: &Batch,
        token: Option<u64>,
        end: End,
        started: Instant,
    ) -> Result<Attempt, StoreError> {
        let mut tx = self.begin().await?;
        if let Some(token) = token
            && self.lock_token(&mut tx).await? > token
        {
            return Ok(Attempt::Done(Fenced::Refused, batch.now + started.elapsed()));
        }
        let (mut script, outcome) = match self.fold_in(&mut tx, batch).await? {
            Ok(folded) => folded,
            Err(left_out) => return Ok(Attempt::LeftOut(left_out)),
        };
        let mut written = batch.now;
        let stood = started.elapsed();
        if stood > STOOD_STILL {
            written += stood;
            set_processed(&mut script, &batch.ids, batch.now, written);
        }
        let commit = match end {
            End::Commit => {
                let turn = self.numbered(&mut tx, script).await?;
                fail::fail_point!("store.before_commit", |_| Err(StoreError::Unavailable("failpoint".into())));
                tx.commit().await?;
                self.gains.add(outcome.changed_pairs.iter().map(PairChange::gain), self.horizon.latest());
                Some(turn.committed(self.latest_clock()))
            }
            End::TakeBack => {
                tx.run(&script).await?;
                tx.roll_back().await?;
                written = batch.now + started.elapsed();
                None
            }
        };
        let changed_pairs = outcome.changed_pairs.len();
        let applied = Applied { counts: outcome.counts, pairs: outcome.pairs, changed_pairs, commit };
        Ok(Attempt::Done(Fenced::Done(applied), written))
    }

    /// All statements of a batch but the last ones, which are given back with what they will have done; the inner error are
    /// events that are discarded or fenced.
    async fn fold_in(
        &self,
        tx: &mut Tx,
        batch: &Batch,
    ) -> Result<Result<(Script, Outcome), HashSet<Uuid>>, StoreError> {
        let results = tx.run(&batch.record_and_lock).await?;
        let held = Held::of(tx, self.script(), &results, batch.held).await?;
        let fences = held.fences(tx, self.script(), batch.said.iter().copied()).await?;
        if !fences.is_empty() {
            let said = batch.ids.iter().zip(&batch.said);
            let fenced: HashSet<Uuid> =
                said.filter(|(_, (pair, version))| fences.cover(*pair, *version)).map(|(id, _)| *id).collect();
            if !fenced.is_empty() {
                return Ok(Err(fenced));
            }
        }
        if !rows(&results, batch.any_discarded).is_empty() {
            let mut script = self.script();
            let statements = discarded_ids(&mut script, batch.ids.iter().copied());
            let discarded = read_existing(&tx.run(&script).await?, statements)?;
            if !discarded.is_empty() {
                return Ok(Err(discarded));
            }
        }
        let mut snapshot = batch.reading.snapshot(&results, self.horizon.for_writes())?;
        create_missing(tx, self.script(), &batch.touched, &mut snapshot, batch.now).await?;
        // Ledger, behaviours, locks and reads are one round trip: all of them are done here, nothing is folded yet.
        fail::fail_point!("store.ledger_inserted");
        let outcome = fold_events(&snapshot, &batch.events, self.horizon.revision());
        let mut script = self.script();
        write_outcome(&mut script, &outcome, batch.now);
        keys::record(&mut script, &batch.keys, self.idempotency_ttl);
        if batch.notes_changes {
            // What is only touched, too: it may have been changed by one who died before telling of it.
            note_pairs(&mut script, outcome.pairs.iter().map(|(pair, _)| *pair), batch.now);
        }
        Ok(Ok((script, outcome)))
    }

    fn prepare(&self, events: &[LikeEvent], marks: Marks, now: DateTime<Utc>) -> Batch {
        let by_id = once_by_id(events);
        let pair_events = pair_events(events);
        let touched = Touched::by(&pair_events);

        let ids: Vec<Uuid> = by_id.iter().map(|event| event.intent.id).collect();
        let said = by_id.iter().map(|event| (event.pair(), event.version)).collect();
        let mut script = self.script();
        let held = fences::hold(&mut script);
        // Recording locks the ledger's rows, those of discarded events too: who discards one of these now waits, and finds
        // it completed. So what this statement does not see is discarded by nobody before the commit.
        record_completed(&mut script, &by_id, marks.unlogged && self.marks_unlogged(), now);
        let any_discarded = any_discarded(&mut script, &ids);
        record_behaviors(&mut script, &by_id);
        let reading = Reading::lock_and_read(&mut script, &touched.resources, &touched.pairs);
        let keys = by_id.iter().filter_map(|event| NewKey::of(&event.intent, event.version, true)).collect();
        let notes_changes = marks.unpublished && self.notes_changes;
        let events = pair_events;
        let record_and_lock = script;
        Batch { record_and_lock, held, any_discarded, ids, said, reading, touched, events, keys, notes_changes, now }
    }
}

impl Batch {
    fn has(&self, event: &LikeEvent) -> bool {
        self.ids.binary_search(&event.intent.id).is_ok()
    }
}

/// How a transaction ends that could do all it was to do.
#[derive(Clone, Copy)]
enum End {
    Commit,
    TakeBack,
}

/// What became of one transaction.
enum Attempt {
    /// With the time of processing that it wrote down, or would have.
    Done(Fenced<Applied>, DateTime<Utc>),
    /// Rolled back: these must be left out.
    LeftOut(HashSet<Uuid>),
}

/// A batch is one transaction and few statements, so it has a bound.
pub(crate) fn check_size(events: usize) -> Result<(), StoreError> {
    if events <= MAX_BATCH {
        Ok(())
    } else {
        Err(StoreError::Rejected(format!("{events} events in a batch, at most {MAX_BATCH} are allowed").into()))
    }
}
