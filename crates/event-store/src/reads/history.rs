//! All that is stored about one pair's events.
//!
//! Neither ledger nor history has an index on pairs: every like would pay for it. Their ids carry the time they were made,
//! and a version is a time too, so the events of known versions are found around it; besides these the newest part of the
//! ledger is searched, and everything in it that is not completed.

use crate::sql::error::StoreError;
use crate::sql::script::{CHUNK, Script, first_id_of, time_of, utc};
use crate::sql::store::{EventStore, get, rows};
use crate::tables::event_status::EventStatus;
use crate::tables::ledger::{EventFilter, LedgerEntry, entry_of, select_entries, uuid_of};
use crate::tables::likes::table_of;
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use domain::{Action, Pair, PairState, ResourceType, Version};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// How far a server's clock, which makes ids, is usually from the one that makes versions, and how long an accept takes.
const AROUND: TimeDelta = TimeDelta::seconds(2);

/// Most versions whose surroundings are searched.
const MAX_KNOWN: usize = 64;

/// Pages of the ledger's newest part that are searched, see [`EventStore::list_events`].
const PAGES: usize = 5;

/// One row of a table of likes, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct StoredRow {
    /// Whether the like holds.
    pub liked: bool,
    /// Version of the last change.
    pub version: Version,
    /// When the pair was first liked.
    pub created_at: DateTime<Utc>,
    /// When the last change was accepted.
    pub updated_at: DateTime<Utc>,
    /// When the like was taken back, if it was.
    pub deleted_at: Option<DateTime<Utc>>,
}

/// An entry of `user_behaviors`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The event that caused it.
    pub event_id: Uuid,
    /// What was done.
    pub action: Action,
    /// Its version.
    pub version: Version,
}

/// What the database has about a pair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PairHistory {
    /// Its row.
    pub row: Option<StoredRow>,
    /// Its events that were found, newest version first.
    pub events: Vec<LedgerEntry>,
    /// Its history that was found, newest version first.
    pub history: Vec<HistoryEntry>,
    /// Completed events that were made before this time are known only where the row or the cache led to them; none if the
    /// whole ledger was searched.
    pub searched_since: Option<DateTime<Utc>>,
}

impl EventStore {
    /// What is stored about a pair: at most `limit` events and as many entries of its history. `known` are versions that
    /// others (the cache, the journal) have of it.
    pub async fn pair_history(&self, pair: Pair, known: &[Version], limit: u32) -> Result<PairHistory, StoreError> {
        let row = self.stored_row(pair).await?;
        let mut story = PairHistory::default();
        let mut events: BTreeMap<Uuid, LedgerEntry> = BTreeMap::new();
        let filter = EventFilter { resource: Some(pair.resource), user: Some(pair.user), ..EventFilter::default() };

        let unfinished = EventStatus::ALL.into_iter().filter(|status| *status != EventStatus::Completed);
        for status in unfinished {
            let page = self.list_events(&EventFilter { status: Some(status), ..filter.clone() }, limit, None).await?;
            events.extend(page.events.into_iter().map(|entry| (entry.event.intent.id, entry)));
        }
        let mut after = None;
        for page in 1.. {
            let found = self.list_events(&filter, limit, after).await?;
            events.extend(found.events.into_iter().map(|entry| (entry.event.intent.id, entry)));
            after = found.next;
            let Some(next) = after else { break };
            if page >= PAGES || events.len() >= limit as usize {
                story.searched_since = made_at(next);
                break;
            }
        }

        let mut versions: Vec<Version> = known.to_vec();
        if let Some(row) = row {
            versions.push(row.version);
            versions.push(Version(row.created_at.timestamp_micros()));
        }
        versions.extend(events.values().map(|entry| entry.event.version));
        versions.sort_unstable();
        versions.dedup();
        versions.reverse();
        versions.truncate(MAX_KNOWN);
        let mut script = self.script();
        for version in &versions {
            around(select_entries(&mut script), "id", *version);
            script.words(" AND resource_type = ").name(pair.resource.kind.name());
            script.words(" AND resource_id = ").int(pair.resource.id.get());
            script.words(" AND user_id = ").int(pair.user.get()).words(" LIMIT ").int(i64::from(limit));
            script.begin("SELECT event_id, behavior_type, version FROM user_behaviors");
            around(&mut script, "event_id", *version);
            script.words(" AND user_id = ").int(pair.user.get()).words(" AND video_id = ").int(pair.resource.id.get());
            script.words(" LIMIT ").int(i64::from(limit));
        }
        let results = self.read(&script).await?;
        let mut history: BTreeMap<Uuid, HistoryEntry> = BTreeMap::new();
        for statement in 0..versions.len() {
            for row in rows(&results, statement * 2) {
                let entry = entry_of(row)?;
                events.insert(entry.event.intent.id, entry);
            }
            for row in rows(&results, statement * 2 + 1) {
                history.extend(history_of(row, pair.resource.kind)?.map(|entry| (entry.event_id, entry)));
            }
        }
        // After its events: what is completed by then is in the row, or a newer change is.
        story.row = self.stored_row(pair).await?;
        story.events = events.into_values().collect();
        story.events.sort_by_key(|entry| std::cmp::Reverse(entry.event.order()));
        story.events.truncate(limit as usize);
        story.history = history.into_values().collect();
        story.history.sort_by_key(|entry| std::cmp::Reverse((entry.version, entry.action)));
        story.history.truncate(limit as usize);
        Ok(story)
    }

    /// Whether the ledger has an event of a pair with that version which it has not completed: one that waits, is dead, or was
    /// discarded. In the order of the question.
    pub async fn in_ledger_unfinished(&self, states: &[(Pair, PairState)]) -> Result<Vec<bool>, StoreError> {
        let mut script = self.script();
        for chunk in states.chunks(CHUNK) {
            let unfinished = EventStatus::ALL.into_iter().filter(|status| *status != EventStatus::Completed);
            select_entries(&mut script).words(" WHERE status IN (").list(unfinished, |script, status| {
                script.name(status.name());
            });
            script.words(") AND version IN (").list(chunk, |script, (_, state)| {
                script.int(state.version.0);
            });
            script.words(")");
        }
        let mut held = BTreeSet::new();
        for row in self.read(&script).await?.iter().flatten() {
            let entry = entry_of(row)?;
            held.insert((entry.event.pair(), entry.event.version));
        }
        Ok(states.iter().map(|(pair, state)| held.contains(&(*pair, state.version))).collect())
    }

    async fn stored_row(&self, pair: Pair) -> Result<Option<StoredRow>, StoreError> {
        let table = table_of(pair.resource.kind);
        let mut script = self.script();
        script.begin("SELECT version, created_at, updated_at, deleted_at FROM ").words(table.name);
        script.words(" WHERE user_id = ").int(pair.user.get());
        script.words(" AND ").words(table.id).words(" = ").int(pair.resource.id.get());
        let results = self.read(&script).await?;
        let Some(row) = rows(&results, 0).first() else { return Ok(None) };
        let time = |column| Ok::<_, StoreError>(utc(get::<NaiveDateTime>(row, column, table.name)?));
        let deleted_at = get::<Option<NaiveDateTime>>(row, 3, table.name)?.map(utc);
        Ok(Some(StoredRow {
            liked: deleted_at.is_none(),
            version: Version(get(row, 0, table.name)?),
            created_at: time(1)?,
            updated_at: time(2)?,
            deleted_at,
        }))
    }
}

/// Ids that were made about when this version was.
fn around(script: &mut Script, id: &'static str, version: Version) {
    let at = time_of(version);
    script.words(" WHERE ").words(id).words(" >= ").uuid(first_id_of(at - AROUND));
    script.words(" AND ").words(id).words(" < ").uuid(first_id_of(at + AROUND));
}

/// Other services may write other behaviours into the same table.
fn history_of(row: &sea_orm::QueryResult, kind: ResourceType) -> Result<Option<HistoryEntry>, StoreError> {
    const TABLE: &str = "user_behaviors";
    let known = ResourceType::from_behavior(&get::<String>(row, 1, TABLE)?).filter(|(of, _)| *of == kind);
    let Some((_, action)) = known else { return Ok(None) };
    let event_id = uuid_of(&get::<Vec<u8>>(row, 0, TABLE)?)?;
    Ok(Some(HistoryEntry { event_id, action, version: Version(get(row, 2, TABLE)?) }))
}

/// When an id was made, to the millisecond.
fn made_at(id: Uuid) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(i64::try_from(id.as_u128() >> 80).ok()?)
}
