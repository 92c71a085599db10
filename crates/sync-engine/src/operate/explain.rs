//! One pair's story for whoever asks what became of a like: only what is stored, or can be read now.
//!
//! Deliberately absent: which instance accepted a like, and when it was published. Nobody writes that down, so it is
//! answered as unknown. A journal entry that is gone was settled; when, is not written down either.

use crate::clock::wall_clock;
use crate::operate::conclusion::{Conclusion, conclude};
use crate::stores::{Stores, time_of};
use chrono::{DateTime, Utc};
use domain::cache::{CacheResult, CachedCount, JournalPages};
use domain::{Action, LikeEvent, Origin, Pair, PairState, StoredCount, Version};
use event_store::{EventStatus, HistoryEntry, LedgerEntry, OperatorAction, PairHistory, StoreError, StoredRow};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Most events that are explained, the latest ones.
pub const MAX_EXPLAINED: u32 = 50;

const JOURNAL_PAGE: usize = 1_000;
const JOURNAL_PAGES: usize = 5;

/// One step of the story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Of which event.
    pub event_id: Uuid,
    /// `accepted`, `journal`, `published`, `failed`, `replay`, `discard`, `applied`, `discarded` or `settled`.
    pub step: &'static str,
    /// When; none if that is not written down, or did not happen yet.
    pub at: Option<DateTime<Utc>>,
    /// In words.
    pub detail: String,
}

/// An event of the pair, from whichever store has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedEvent {
    /// Its id.
    pub id: Uuid,
    /// What was wanted.
    pub action: Action,
    /// Its version, microseconds.
    pub version: Version,
    /// `journal`, `direct` or `import`; none if the ledger has it no more.
    pub origin: Option<&'static str>,
    /// In the ledger.
    pub status: Option<EventStatus>,
    /// Retries that failed.
    pub retry_count: u32,
    /// Last error.
    pub error: Option<String>,
    /// When an operator had it tried again, if it did not fail since; whatever it counts, it counts from then on.
    pub replayed_at: Option<DateTime<Utc>>,
    /// Whether `user_behaviors` has it.
    pub in_history: bool,
    /// Whether the journal has it; none if the cache could not be asked.
    pub in_journal: Option<bool>,
}

/// What the cache says now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CachedNow {
    /// The pair; none if it is not cached.
    pub pair: Option<PairState>,
    /// The counter; none if it is not cached.
    pub count: Option<CachedCount>,
}

/// All that is known about one pair.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// Whose like of what.
    pub pair: Pair,
    /// When this was read.
    pub at: DateTime<Utc>,
    /// What happened, oldest event first, each event's steps together.
    pub timeline: Vec<Step>,
    /// The events, oldest first, at most [`MAX_EXPLAINED`].
    pub events: Vec<ExplainedEvent>,
    /// The row in `video_likes` or `comment_likes`.
    pub row: Option<StoredRow>,
    /// The resource's row in `like_counts`; revision 0: there is none.
    pub stored_count: StoredCount,
    /// None while the cache is unreachable.
    pub cache: Option<CachedNow>,
    /// Completed events that were made before this may be missing; none: nothing is.
    pub searched_since: Option<DateTime<Utc>>,
    /// What it comes to, and what to do.
    pub conclusion: Conclusion,
}

/// What the cache has of a pair.
struct Held {
    now: CachedNow,
    journal: Vec<LikeEvent>,
    /// Whether `journal` is all that the journal has of it.
    all: bool,
}

/// Explains one pair. The cache may be unreachable; the database must not.
///
/// Read one after the other and from two stores: what happens meanwhile may be seen half.
pub fn explain(stores: &Stores, pair: Pair) -> BoxFuture<'_, Result<Explanation, StoreError>> {
    explain_inner(stores, pair).boxed()
}

async fn explain_inner(stores: &Stores, pair: Pair) -> Result<Explanation, StoreError> {
    let held = if stores.cache_circuit.is_open() { None } else { held(stores, pair).await.ok() };
    let known: Vec<Version> = held.iter().flat_map(Held::versions).collect();
    let story = stores.database.pair_history(pair, &known, MAX_EXPLAINED).await?;
    let count = stores.database.load_counts(&[pair.resource]).await?.first().copied().unwrap_or_default();
    let ids: Vec<Uuid> = story.events.iter().map(|entry| entry.event.intent.id).collect();
    let actions = stores.database.actions_on(&ids).await?;

    let mut known = all_known(pair, &story, held.as_ref());
    known.truncate(MAX_EXPLAINED as usize);
    let (mut timeline, mut events) = (Vec::new(), Vec::new());
    for known in known.iter().rev() {
        let journal = in_journal(stores, held.as_ref(), known).await;
        events.push(known.explained(journal, &actions));
        known.steps(&mut timeline, &story, journal, &actions);
    }
    let conclusion = conclude(stores, pair, &events, story.row, held.as_ref().map(|held| held.now));
    Ok(Explanation {
        pair,
        at: wall_clock(),
        timeline,
        events,
        row: story.row,
        stored_count: count,
        cache: held.map(|held| held.now),
        searched_since: story.searched_since,
        conclusion,
    })
}

async fn held(stores: &Stores, pair: Pair) -> CacheResult<Held> {
    let count = stores.cache.counts(&[pair.resource]).await?.into_iter().next().flatten();
    let state = stores.cache.states(&[pair]).await?.into_iter().next().flatten();
    let shard = stores.shards().of(pair.resource);
    let mut journal = Vec::new();
    let mut pages = JournalPages::new(stores.cache.as_ref(), shard, JOURNAL_PAGE, JOURNAL_PAGES);
    while let Some(page) = pages.next().await? {
        journal.extend(page.iter().filter_map(|entry| entry.decode().ok()).filter(|event| event.pair() == pair));
    }
    Ok(Held { now: CachedNow { pair: state, count }, journal, all: pages.reached_end() })
}

/// None if the cache did not answer.
async fn in_journal(stores: &Stores, held: Option<&Held>, known: &Known) -> Option<bool> {
    let held = held?;
    if held.journal.iter().any(|event| event.version == known.version) {
        return Some(true);
    }
    if held.all {
        return Some(false);
    }
    let shard = stores.shards().of(known.pair.resource);
    let page = stores.cache.journal_page(shard, Version(known.version.0 - 1), 1).await.ok()?;
    Some(page.iter().any(|entry| entry.version == known.version))
}

impl Held {
    fn versions(&self) -> impl Iterator<Item = Version> {
        self.now.pair.map(|pair| pair.version).into_iter().chain(self.journal.iter().map(|event| event.version))
    }
}

/// An event, and where it was found.
struct Known {
    id: Uuid,
    pair: Pair,
    action: Action,
    version: Version,
    origin: Option<Origin>,
    ledger: Option<LedgerEntry>,
    in_history: bool,
}

/// All events that any store has, newest first.
fn all_known(pair: Pair, story: &PairHistory, held: Option<&Held>) -> Vec<Known> {
    let history: BTreeSet<Uuid> = story.history.iter().map(|entry| entry.event_id).collect();
    let mut known: BTreeMap<Uuid, Known> = BTreeMap::new();
    for entry in &story.events {
        let in_history = history.contains(&entry.event.intent.id);
        known.insert(entry.event.intent.id, Known::of(&entry.event, Some(entry.clone()), in_history));
    }
    for event in held.iter().flat_map(|held| &held.journal) {
        let in_history = history.contains(&event.intent.id);
        known.entry(event.intent.id).or_insert_with(|| Known::of(event, None, in_history));
    }
    for HistoryEntry { event_id, action, version } in &story.history {
        // The ledger has forgotten it for its age; its row here is all that is left.
        known.entry(*event_id).or_insert_with(|| Known {
            id: *event_id,
            pair,
            action: *action,
            version: *version,
            origin: None,
            ledger: None,
            in_history: true,
        });
    }
    let mut known: Vec<Known> = known.into_values().collect();
    known.sort_by_key(|one| std::cmp::Reverse((one.version, one.action)));
    known
}

impl Known {
    fn of(event: &LikeEvent, ledger: Option<LedgerEntry>, in_history: bool) -> Self {
        Self {
            id: event.intent.id,
            pair: event.pair(),
            action: event.intent.action,
            version: event.version,
            origin: Some(event.origin),
            ledger,
            in_history,
        }
    }

    /// The latest replay of it.
    fn replayed_at(&self, actions: &[(Uuid, OperatorAction)]) -> Option<DateTime<Utc>> {
        let replays = actions.iter().filter(|(id, action)| *id == self.id && action.action == "replay");
        replays.map(|(_, action)| action.at).max()
    }

    fn explained(&self, in_journal: Option<bool>, actions: &[(Uuid, OperatorAction)]) -> ExplainedEvent {
        let ledger = self.ledger.as_ref();
        let untried = ledger.is_some_and(|entry| entry.retry_count == 0);
        ExplainedEvent {
            id: self.id,
            action: self.action,
            version: self.version,
            origin: self.origin.map(Origin::name),
            status: ledger.map(|entry| entry.status),
            retry_count: ledger.map_or(0, |entry| entry.retry_count),
            error: ledger.and_then(|entry| entry.error.clone()),
            replayed_at: self.replayed_at(actions).filter(|_| untried),
            in_history: self.in_history,
            in_journal,
        }
    }

    fn steps(
        &self,
        timeline: &mut Vec<Step>,
        story: &PairHistory,
        in_journal: Option<bool>,
        actions: &[(Uuid, OperatorAction)],
    ) {
        let mut add = |step, at, detail: String| timeline.push(Step { event_id: self.id, step, at, detail });
        let by = match self.origin {
            Some(Origin::Journal) => "by the cache, into its journal",
            Some(Origin::Direct) => "by the database itself",
            Some(Origin::Import) => "brought in by an import or a repair",
            None => "its ledger entry is gone for its age",
        };
        let accepted = format!("{} at version {}: {by}; instance unknown", self.action.name(), self.version);
        add("accepted", Some(time_of(self.version)), accepted);
        let journaled = self.origin == Some(Origin::Journal);
        if journaled && in_journal == Some(true) {
            add("journal", None, "the entry is there: not settled yet".to_owned());
        }
        if journaled && self.ledger.is_none() {
            add("published", None, "unknown: publishing is not written down; the ledger has not seen it".to_owned());
        }
        let replayed = self.replayed_at(actions);
        let failures = self.ledger.as_ref().and_then(|entry| failures(entry, replayed.is_some()));
        let of_before = "retries until then are not counted any more";
        match (&failures, replayed) {
            (Some(failure), None) => add("failed", failure.at, failure.detail.clone()),
            // What the ledger counts began with the replay; its error is that of before until there is another one.
            (Some(_), Some(_)) => add("failed", None, format!("before the replay; {of_before}")),
            (None, Some(_)) => {
                let error = self.ledger.as_ref().and_then(|entry| entry.error.as_deref()).unwrap_or("no error");
                add("failed", None, format!("before the replay; {of_before}; last error: {error}"));
            }
            (None, None) => {}
        }
        for (_, action) in actions.iter().filter(|(id, _)| *id == self.id) {
            let step = if action.action == "replay" { "replay" } else { "discard" };
            let reason = action.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
            add(step, Some(action.at), format!("by {}{reason}", action.actor));
        }
        if let (Some(Failures { at, detail }), Some(_)) = (failures, replayed) {
            add("failed", at, detail);
        }
        if let Some(entry) = &self.ledger {
            match entry.status {
                EventStatus::Completed => {
                    let row = match story.row {
                        None => "there is no row any more",
                        Some(row) if row.version == self.version => "the row is as it left it",
                        Some(row) if row.version > self.version => "a newer change decides the row",
                        Some(_) => "the row is older: this is wrong",
                    };
                    let history = if self.in_history { "" } else { "; the history lacks it: this is wrong" };
                    add("applied", entry.processed_at, format!("{row}{history}"));
                }
                EventStatus::Discarded => {
                    add("discarded", entry.processed_at, "for good: it is not applied any more".to_owned());
                }
                EventStatus::Processing => {
                    add("applied", None, "not yet: a worker is trying it now".to_owned());
                }
                EventStatus::Pending | EventStatus::Failed | EventStatus::Dead => {
                    let due = entry.next_retry_at.map_or_else(String::new, |at| format!(": next try {at}"));
                    add("applied", None, format!("not yet{due}"));
                }
            }
        } else if self.in_history {
            add("applied", None, "the history has it".to_owned());
        }
        if journaled && in_journal == Some(false) {
            let held = match self.ledger.as_ref().map(|entry| entry.status) {
                Some(EventStatus::Completed) | None => "",
                Some(_) => ": the ledger has it instead",
            };
            add("settled", None, format!("the journal has no entry of it any more{held}"));
        }
        if journaled && in_journal.is_none() {
            add("settled", None, "unknown: the cache did not answer".to_owned());
        }
    }
}

/// How often an event failed, and why.
struct Failures {
    at: Option<DateTime<Utc>>,
    detail: String,
}

/// What the ledger says of it; none if it did not fail, or not since its replay.
fn failures(entry: &LedgerEntry, replayed: bool) -> Option<Failures> {
    if entry.max_retries == 0 || replayed && entry.retry_count == 0 {
        return None;
    }
    let since = if replayed { " since" } else { "" };
    let tried = format!("{} of {} retries failed{since}", entry.retry_count, entry.max_retries);
    let error = entry.error.as_deref().unwrap_or("no error");
    Some(match entry.status {
        EventStatus::Failed => Failures { at: Some(entry.updated_at), detail: format!("{tried}; {error}") },
        EventStatus::Dead => Failures { at: Some(entry.updated_at), detail: format!("dead: {tried}; {error}") },
        EventStatus::Pending | EventStatus::Processing | EventStatus::Completed | EventStatus::Discarded => {
            Failures { at: None, detail: format!("at first; {tried}; last error: {error}") }
        }
    })
}
