//! What a recovery brought back, and from where: as a run of kind `recovery` in the checker's reports.
//!
//! One finding says how far the database went back and how much came from where; the others name the events, up to a bound.

use crate::clock::wall_clock;
use chrono::{DateTime, Utc};
use domain::{LikeEvent, Resource};
use event_store::{EventStore, FindingRecord, RecoveryNote, RunRecord, RunStatus, StoreError, WentBack};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// As reports name it.
const KIND: &str = "recovery";

/// Most events that are named.
const NAMED: usize = 1_000;

/// Resources of which the cache is told afterwards; those of cached pairs are found without.
const TOUCHED: usize = 200_000;

/// Where an event was found that the database had lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    RedoLog,
    CachedPair,
    Journal,
}

impl Source {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::RedoLog => "redo_log",
            Self::CachedPair => "cached_pair",
            Self::Journal => "journal",
        }
    }
}

/// What came back, as far as this process saw. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Brought(Arc<Mutex<Found>>);

#[derive(Debug, Default)]
struct Found {
    named: Vec<(Source, LikeEvent)>,
    touched: BTreeSet<Resource>,
    from_log: u64,
    from_pairs: u64,
    from_journal: u64,
    in_ledger: u64,
}

impl Brought {
    /// Counts on from what the note says.
    pub(crate) fn after(note: &RecoveryNote) -> Self {
        let found = Found { from_log: note.from_log, from_pairs: note.from_pairs, ..Found::default() };
        Self(Arc::new(Mutex::new(found)))
    }

    pub(crate) fn add(&self, source: Source, events: &[LikeEvent]) {
        crate::metrics::recovered(source.name(), events.len());
        let mut found = self.found();
        let count = match source {
            Source::RedoLog => &mut found.from_log,
            Source::CachedPair => &mut found.from_pairs,
            Source::Journal => &mut found.from_journal,
        };
        *count += events.len() as u64;
        let room = NAMED.saturating_sub(found.named.len());
        found.named.extend(events.iter().take(room).map(|event| (source, event.clone())));
        for event in events {
            if found.touched.len() < TOUCHED {
                found.touched.insert(event.pair().resource);
            }
        }
    }

    /// The note, with what has come back until now.
    pub(crate) fn counted(&self, note: RecoveryNote) -> RecoveryNote {
        let found = self.found();
        RecoveryNote { from_log: found.from_log, from_pairs: found.from_pairs, ..note }
    }

    /// So many newer pairs wait in the ledger: the database has those, and retries them.
    pub(crate) fn left_to_the_ledger(&self, pairs: u64) {
        self.found().in_ledger = pairs;
    }

    pub(crate) fn touched(&self) -> BTreeSet<Resource> {
        self.found().touched.clone()
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the redo log could give.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LogReach {
    /// There is none, in the broker's words or ours.
    pub(crate) absent: Option<String>,
    /// Its oldest message, where that is younger than what was wanted.
    pub(crate) begins: Option<DateTime<Utc>>,
}

/// Writes the run down: `Running`, how much came back, before the latch goes; `Finished`, and what it was, afterwards.
pub(crate) async fn write(
    database: &EventStore,
    note: &RecoveryNote,
    (evidence, reach): (&WentBack, &LogReach),
    (read, brought): (u64, &Brought),
    status: RunStatus,
) -> Result<(), StoreError> {
    let now = wall_clock();
    let (summary, run, named) = {
        let found = brought.found();
        let came_back = found.from_log + found.from_pairs + found.from_journal;
        let came_back = i64::try_from(came_back).unwrap_or(i64::MAX);
        let run = RunRecord {
            id: note.run,
            kind: KIND.to_owned(),
            strategy: "automatic".to_owned(),
            status: status.name().to_owned(),
            started_at: note.began_at,
            finished_at: (status == RunStatus::Finished).then_some(now),
            checked: i64::try_from(read).unwrap_or(i64::MAX).max(came_back),
            inconsistent: came_back,
            repaired: came_back,
            coverage: None,
        };
        let summary = FindingRecord {
            run_id: note.run,
            resource_type: "database".to_owned(),
            resource_id: i64::from(note.round),
            user_id: None,
            kind: KIND.to_owned(),
            verdict: "went_back".to_owned(),
            cache_value: None,
            stored_value: Some(came_back),
            details: details(note, evidence, reach, &found),
            repaired_at: Some(now),
            created_at: note.began_at,
        };
        (summary, run, found.named.clone())
    };
    database.save_run(&run, KIND, "automatic", status).await?;
    if status != RunStatus::Finished {
        return Ok(());
    }
    // Each is over as it is written down.
    let named = named.iter().map(|(source, event)| named_record(note, *source, event, now));
    let all: Vec<FindingRecord> = std::iter::once(summary).chain(named).collect();
    database.record_repaired(&all).await
}

fn details(note: &RecoveryNote, evidence: &WentBack, reach: &LogReach, found: &Found) -> String {
    let Found { from_log, from_pairs, from_journal, in_ledger, .. } = found;
    let back_to = evidence.back_to().map(|at| at.to_rfc3339());
    let detail = format!(
        "went back from {} to {}, noticed at {}. What came back: {from_log} from the redo log, {from_pairs} from cached \
         pairs, {from_journal} from journals; {in_ledger} are in the ledger. Waiting in the queue: {}",
        evidence.lost_until.to_rfc3339(),
        back_to.as_deref().unwrap_or("an unknown time"),
        evidence.noticed_at.to_rfc3339(),
        note.queued,
    );
    serde_json::json!({
        "detail": detail,
        "evidence": evidence.to_string(),
        "from": evidence.lost_until.to_rfc3339(),
        "back_to": back_to,
        "noticed_at": evidence.noticed_at.to_rfc3339(),
        "rounds": note.round,
        "log_since": note.since.to_rfc3339(),
        "log_begins": reach.begins.map(|at| at.to_rfc3339()),
        "log_absent": reach.absent,
        "redo_log": from_log,
        "cached_pair": from_pairs,
        "journal": from_journal,
        "ledger": in_ledger,
        "queue": note.queued,
    })
    .to_string()
}

fn named_record(note: &RecoveryNote, source: Source, event: &LikeEvent, now: DateTime<Utc>) -> FindingRecord {
    let pair = event.pair();
    let details = serde_json::json!({
        "source": source.name(),
        "event": event.intent.id,
        "version": event.version.0,
        "liked": event.intent.action.liked(),
    });
    FindingRecord {
        run_id: note.run,
        resource_type: pair.resource.kind.name().to_owned(),
        resource_id: pair.resource.id.get(),
        user_id: Some(pair.user.get()),
        kind: KIND.to_owned(),
        verdict: "went_back".to_owned(),
        cache_value: None,
        stored_value: None,
        details: details.to_string(),
        repaired_at: Some(now),
        created_at: now,
    }
}
