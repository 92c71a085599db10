//! The ledger `sync_events` and the history `user_behaviors`.

use crate::sql::error::StoreError;
use crate::sql::parts::Parts;
use crate::sql::pool::Results;
use crate::sql::script::{CHUNK, Script, first_id_of, time_of, utc};
use crate::sql::store::{EventStore, get, rows};
use crate::tables::errors::{group_of, of_group};
use crate::tables::event_status::EventStatus;
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use domain::{Invalid, LikeEvent, LikeIntent, Origin, Pair, Resource, UserId, Version};
use sea_orm::QueryResult;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use uuid::Uuid;

const TABLE: &str = "sync_events";

/// Most rows that one page of [`EventStore::list_events`] looks at.
pub(crate) const PAGE_SCAN: i64 = 20_000;

/// How far a server's clock, which makes ids, may be from the clock that makes versions.
const CLOCK_SLACK: TimeDelta = TimeDelta::hours(1);

/// A row of the ledger. The event has no trace: that is not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// The event.
    pub event: LikeEvent,
    /// Where it stands.
    pub status: EventStatus,
    /// Retries that failed.
    pub retry_count: u32,
    /// Retries it gets; 0 for an event that never failed.
    pub max_retries: u32,
    /// When it is due; for a claimed one, the end of the lease.
    pub next_retry_at: Option<DateTime<Utc>>,
    /// Last error, kept after completion.
    pub error: Option<String>,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When it was completed or discarded.
    pub processed_at: Option<DateTime<Utc>>,
    /// Last change of this row.
    pub updated_at: DateTime<Utc>,
}

/// Which events to list; `None` means any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only these.
    pub status: Option<EventStatus>,
    /// Only of this resource.
    pub resource: Option<Resource>,
    /// Only of this user.
    pub user: Option<UserId>,
    /// Accepted at or after.
    pub since: Option<DateTime<Utc>>,
    /// Accepted before.
    pub until: Option<DateTime<Utc>>,
    /// Only this one.
    pub id: Option<Uuid>,
    /// Its error has this text, in any case of its letters.
    pub error: Option<String>,
    /// Its error is of this group: [`ErrorGroup::of`](crate::ErrorGroup::of).
    pub error_group: Option<String>,
}

/// A page of events, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventPage {
    /// May be fewer than asked for, even none, while `next` is set.
    pub events: Vec<LedgerEntry>,
    /// Where the next page begins; none at the end.
    pub next: Option<Uuid>,
}

/// How many events have a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct StatusCount {
    /// Which.
    pub status: EventStatus,
    /// How many, at most the limit of the call.
    pub count: u64,
    /// Whether counting ended at the limit: there are at least that many.
    pub capped: bool,
}

impl EventStore {
    /// One event.
    pub async fn event(&self, id: Uuid) -> Result<Option<LedgerEntry>, StoreError> {
        let mut script = self.script();
        select_entries(&mut script).words(" WHERE id = ").uuid(id);
        let results = self.read(&script).await?;
        rows(&results, 0).first().map(entry_of).transpose()
    }

    /// These events, by id; unknown ones are left out.
    pub async fn events(&self, ids: &[Uuid]) -> Result<Vec<LedgerEntry>, StoreError> {
        let mut script = self.script();
        for chunk in ids.chunks(CHUNK) {
            id_in(select_entries(&mut script).words(" WHERE "), chunk).words(" ORDER BY id");
        }
        self.read(&script).await?.iter().flatten().map(entry_of).collect()
    }

    /// Whether the ledger has these events, in any status; in their order.
    pub async fn in_ledger(&self, ids: &[Uuid]) -> Result<Vec<bool>, StoreError> {
        let (mut parts, mut known) = (Parts::of(ids.len()), Vec::with_capacity(ids.len()));
        while let Some(part) = parts.next() {
            known.extend(parts.done(&part, self.in_ledger_at_once(&ids[part.clone()]).await)?);
        }
        Ok(known)
    }

    async fn in_ledger_at_once(&self, ids: &[Uuid]) -> Result<Vec<bool>, StoreError> {
        let mut script = self.script();
        for chunk in ids.chunks(CHUNK) {
            id_in(script.begin("SELECT id FROM sync_events WHERE "), chunk);
        }
        let known = read_existing(&self.read(&script).await?, 0..script.statements())?;
        Ok(ids.iter().map(|id| known.contains(id)).collect())
    }

    /// Lists events, newest id first (ids carry the time they were made). `after` is the last page's `next`.
    ///
    /// A page looks at a bounded number of rows, so with a rare resource or user it may be short or empty and still
    /// have a next one.
    pub async fn list_events(
        &self,
        filter: &EventFilter,
        limit: u32,
        after: Option<Uuid>,
    ) -> Result<EventPage, StoreError> {
        let mut script = self.script();
        scanned_ids(&mut script, filter, after);
        let results = self.read(&script).await?;
        let Some(window) = rows(&results, 0).first() else { return Ok(EventPage::default()) };
        let scanned: i64 = get(window, 0, TABLE)?;
        let Some(last) = get::<Option<Vec<u8>>>(window, 1, TABLE)? else { return Ok(EventPage::default()) };
        let last = uuid_of(&last)?;

        let mut script = self.script();
        select_entries(&mut script);
        scan_conditions(&mut script, filter, after);
        script.words(" AND id >= ").uuid(last);
        row_conditions(&mut script, filter);
        script.words(" ORDER BY id DESC LIMIT ").int(i64::from(limit));
        let results = self.read(&script).await?;
        let mut events = rows(&results, 0).iter().map(entry_of).collect::<Result<Vec<_>, _>>()?;
        let next = if events.len() as u64 >= u64::from(limit) {
            events.last().map(|entry| entry.event.intent.id)
        } else {
            (scanned >= PAGE_SCAN).then_some(last)
        };
        if let Some(group) = &filter.error_group {
            events.retain(|entry| entry.error.as_deref().is_some_and(|error| group_of(error) == *group));
        }
        Ok(EventPage { events, next })
    }

    /// Counts events by status, each status up to `limit`: reads at most that many index entries per status.
    pub async fn count_by_status(&self, limit: u32) -> Result<Vec<StatusCount>, StoreError> {
        let mut script = self.script();
        for status in EventStatus::ALL {
            script.begin("SELECT COUNT(*) FROM (SELECT 1 FROM sync_events WHERE status = ").name(status.name());
            script.words(" LIMIT ").int(i64::from(limit)).words(") AS counted");
        }
        let results = self.read(&script).await?;
        let mut counts = Vec::with_capacity(EventStatus::ALL.len());
        for (statement, status) in EventStatus::ALL.into_iter().enumerate() {
            let row = crate::sql::store::row(&results, statement, TABLE)?;
            let count = u64::try_from(get::<i64>(row, 0, TABLE)?).unwrap_or(0);
            counts.push(StatusCount { status, count, capped: count >= u64::from(limit) });
        }
        Ok(counts)
    }
}

/// What a row of the ledger must not leave: only these are final.
pub(crate) const FINAL: &str = "status IN ('completed', 'discarded')";

/// Ledger rows of applied events, sorted by id. A row of a failed event becomes completed, a completed or discarded one
/// stays.
///
/// An `unlogged` one lacks in the redo log: it gets a time at `next_retry_at`, where completed rows have none, and so has its
/// place in an index that every row pays for already. A mark that is there stays, and a completed row gets one.
pub(crate) fn record_completed(script: &mut Script, events: &[&LikeEvent], unlogged: bool, now: DateTime<Utc>) {
    let mut upsert =
        script.dialect().overwrite("id", &["next_retry_at", "processed_at", "updated_at", "status"], Some(FINAL));
    if unlogged {
        upsert = script.dialect().mark_completed(&upsert);
    }
    for chunk in events.chunks(CHUNK) {
        // Few have a key: what nobody has is not sent.
        let keys = chunk.iter().any(|event| event.intent.idempotency_key.is_some());
        script.begin("INSERT INTO sync_events (").words(EVENT_COLUMNS);
        script.words(if keys { ", idempotency_key" } else { "" });
        script.words(if unlogged { ", next_retry_at" } else { "" });
        script.words(", status, processed_at, updated_at) VALUES ");
        script.list(chunk, |script, event| {
            event_values(script.words("("), event);
            if keys {
                script.words(",").text_or_null(event.intent.idempotency_key.as_deref());
            }
            if unlogged {
                script.words(",").row_time(now);
            }
            script.words(",'completed',").row_time(now).words(",").row_time_as("processed_at", now).words(")");
        });
        script.words(&upsert);
    }
}

/// When events were processed, of those that say `written`: nobody else has completed them.
pub(crate) fn set_processed(script: &mut Script, ids: &[Uuid], written: DateTime<Utc>, ended: DateTime<Utc>) {
    for chunk in ids.chunks(CHUNK) {
        script.begin("UPDATE sync_events SET processed_at = ").time(ended).words(" WHERE processed_at = ");
        script.time(written).words(" AND status = 'completed' AND ");
        id_in(script, chunk);
    }
}

/// History of events, sorted by id; each event once.
pub(crate) fn record_behaviors(script: &mut Script, events: &[&LikeEvent]) {
    let upsert = script.dialect().keep_existing("event_id");
    for chunk in events.chunks(CHUNK) {
        script.begin(
            "INSERT INTO user_behaviors (event_id, user_id, video_id, behavior_type, behavior_time, version) VALUES ",
        );
        script.list(chunk, |script, event| {
            let Pair { resource, user } = event.pair();
            script.words("(").uuid(event.intent.id).words(",").int(user.get()).words(",").int(resource.id.get());
            script.words(",").name(resource.kind.behavior(event.intent.action));
            script.words(",").row_time(time_of(event.version)).words(",").int(event.version.0).words(")");
        });
        script.words(&upsert);
    }
}

/// Columns that [`event_values`] writes: all of an event but its key.
pub(crate) const EVENT_COLUMNS: &str =
    "id, event_type, resource_type, resource_id, user_id, action_type, version, origin, created_at";

pub(crate) fn event_values(script: &mut Script, event: &LikeEvent) {
    let Pair { resource, user } = event.pair();
    script.uuid(event.intent.id).words(",").name(resource.kind.event_type()).words(",");
    script.name(resource.kind.name()).words(",").int(resource.id.get()).words(",").int(user.get()).words(",");
    script.name(event.intent.action.name()).words(",").int(event.version.0).words(",");
    script.name(event.origin.name()).words(",").row_time(time_of(event.version));
}

/// Reads which of some ids the ledger has as completed; gives the statements for [`read_existing`].
pub(crate) fn existing_ids(script: &mut Script, ids: impl Iterator<Item = Uuid>) -> Range<usize> {
    ids_with_status(script, EventStatus::Completed, ids)
}

/// Ids that the ledger has, with the versions of their events.
pub(crate) fn read_versions(results: &Results, statements: Range<usize>) -> Result<HashMap<Uuid, Version>, StoreError> {
    statements
        .flat_map(|statement| rows(results, statement))
        .map(|row| Ok((uuid_of(&get::<Vec<u8>>(row, 0, TABLE)?)?, Version(get(row, 1, TABLE)?))))
        .collect()
}

fn ids_with_status(script: &mut Script, status: EventStatus, ids: impl Iterator<Item = Uuid>) -> Range<usize> {
    let first = script.statements();
    let ids: Vec<Uuid> = ids.collect();
    for chunk in ids.chunks(CHUNK) {
        script.begin("SELECT id, version FROM sync_events WHERE status = ").name(status.name()).words(" AND ");
        id_in(script, chunk);
    }
    first..script.statements()
}

pub(crate) fn read_existing(results: &Results, statements: Range<usize>) -> Result<HashSet<Uuid>, StoreError> {
    statements
        .flat_map(|statement| rows(results, statement))
        .map(|row| uuid_of(&get::<Vec<u8>>(row, 0, TABLE)?))
        .collect()
}

/// Whether any event is discarded whose id is among those of a batch, sorted: the one question about it that every batch
/// asks. Discarded events stay for good, but a batch of new ids is beyond all of them. Gives its statement.
pub(crate) fn any_discarded(script: &mut Script, ids: &[Uuid]) -> usize {
    let statement = script.statements();
    let (first, last) = (ids.first().copied().unwrap_or_default(), ids.last().copied().unwrap_or_default());
    script.begin("SELECT id FROM sync_events WHERE status = 'discarded' AND next_retry_at IS NULL AND id >= ");
    script.uuid(first).words(" AND id <= ").uuid(last).words(" LIMIT 1");
    statement
}

/// Reads which of some ids are discarded; the result is for [`read_existing`].
pub(crate) fn discarded_ids(script: &mut Script, ids: impl Iterator<Item = Uuid>) -> Range<usize> {
    ids_with_status(script, EventStatus::Discarded, ids)
}

pub(crate) fn id_in<'s>(script: &'s mut Script, ids: &[Uuid]) -> &'s mut Script {
    script.words("id IN (");
    script.list(ids, |script, id| {
        script.uuid(*id);
    });
    script.words(")")
}

pub(crate) fn select_entries(script: &mut Script) -> &mut Script {
    script.begin(
        "SELECT id, resource_type, resource_id, user_id, action_type, version, origin, idempotency_key, status, \
         retry_count, max_retries, next_retry_at, error_message, created_at, processed_at, updated_at FROM sync_events",
    )
}

pub(crate) fn entry_of(row: &QueryResult) -> Result<LedgerEntry, StoreError> {
    let bad = |error: Invalid| StoreError::corrupt(TABLE, error);
    let word = |column| get::<String>(row, column, TABLE);
    let time = |column| Ok::<_, StoreError>(get::<Option<NaiveDateTime>>(row, column, TABLE)?.map(utc));
    let count = |column| {
        u32::try_from(get::<i32>(row, column, TABLE)?).map_err(|_| StoreError::corrupt(TABLE, "a count is negative"))
    };
    let pair = Pair::new(get(row, 3, TABLE)?, word(1)?.parse().map_err(bad)?, get(row, 2, TABLE)?).map_err(bad)?;
    Ok(LedgerEntry {
        event: LikeEvent {
            intent: LikeIntent {
                id: uuid_of(&get::<Vec<u8>>(row, 0, TABLE)?)?,
                pair,
                action: word(4)?.parse().map_err(bad)?,
                idempotency_key: get(row, 7, TABLE)?,
                trace: None,
            },
            version: Version(get(row, 5, TABLE)?),
            origin: word(6)?.parse::<Origin>().map_err(bad)?,
        },
        status: word(8)?.parse().map_err(bad)?,
        retry_count: count(9)?,
        max_retries: count(10)?,
        // Of a completed one it is a mark.
        next_retry_at: time(11)?.filter(|_| !matches!(word(8).as_deref(), Ok("completed"))),
        error: get(row, 12, TABLE)?,
        created_at: utc(get(row, 13, TABLE)?),
        processed_at: time(14)?,
        updated_at: utc(get(row, 15, TABLE)?),
    })
}

pub(crate) fn uuid_of(bytes: &[u8]) -> Result<Uuid, StoreError> {
    Uuid::from_slice(bytes).map_err(|error| StoreError::corrupt(TABLE, error))
}

/// Number of rows that a page may look at, and the last of them.
pub(crate) fn scanned_ids(script: &mut Script, filter: &EventFilter, after: Option<Uuid>) {
    script.begin("SELECT COUNT(*), MIN(id) FROM (SELECT id FROM sync_events");
    scan_conditions(script, filter, after);
    script.words(" ORDER BY id DESC LIMIT ").int(PAGE_SCAN).words(") AS scanned");
}

/// Conditions that an index serves: status and, through the id, time.
pub(crate) fn scan_conditions(script: &mut Script, filter: &EventFilter, after: Option<Uuid>) {
    script.words(" WHERE id > ").uuid(filter.since.map_or(Uuid::nil(), |since| first_id_of(since - CLOCK_SLACK)));
    if let Some(until) = filter.until {
        script.words(" AND id < ").uuid(first_id_of(until + CLOCK_SLACK));
    }
    if let Some(after) = after {
        script.words(" AND id < ").uuid(after);
    }
    if let Some(status) = filter.status {
        script.words(" AND status = ").name(status.name());
    }
    if let Some(id) = filter.id {
        script.words(" AND id = ").uuid(id);
    }
}

/// The other conditions.
pub(crate) fn row_conditions(script: &mut Script, filter: &EventFilter) {
    if let Some(resource) = filter.resource {
        script.words(" AND resource_type = ").name(resource.kind.name());
        script.words(" AND resource_id = ").int(resource.id.get());
    }
    if let Some(user) = filter.user {
        script.words(" AND user_id = ").int(user.get());
    }
    if let Some(since) = filter.since {
        script.words(" AND created_at >= ").time(since);
    }
    if let Some(until) = filter.until {
        script.words(" AND created_at < ").time(until);
    }
    if let Some(text) = &filter.error {
        script.words(" AND INSTR(LOWER(error_message), ").text(&text.to_lowercase()).words(") > 0");
    }
    if let Some(group) = &filter.error_group {
        of_group(script, group);
    }
}
