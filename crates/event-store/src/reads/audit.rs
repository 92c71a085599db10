//! What the checker reads: counters against live rows, the history and the ledger step by step.

use crate::LedgerEntry;
use crate::sql::error::StoreError;
use crate::sql::pool::Results;
use crate::sql::script::{CHUNK, Script, first_id_of};
use crate::sql::store::{EventStore, get, rows};
use crate::tables::ledger::{entry_of, select_entries};
use crate::tables::likes::{LikeTable, by_kind, table_of};
use chrono::{DateTime, Utc};
use domain::{Action, Pair, PairState, Resource, ResourceType, StoredCount, Version};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// A counter and the live rows that it stands for, as of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountAudit {
    /// Which one.
    pub resource: Resource,
    /// The counter, if there is a row.
    pub stored: Option<StoredCount>,
    /// Live rows.
    pub live: i64,
}

/// One step through all counters of a kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CountPage {
    /// Resources of this step that have a counter or a live row, in order of id.
    pub resources: Vec<Resource>,
    /// Those of them whose counter did not seem to be the number of live rows. Not read at one moment: look again.
    pub suspects: Vec<Resource>,
    /// Where the next step begins; none at the end.
    pub next: Option<i64>,
}

/// Versions of one table that are later than a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatedAhead {
    /// How many.
    pub versions: i64,
    /// The latest one.
    pub highest: Version,
}

/// One entry of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behavior {
    /// The event that caused it.
    pub event_id: Uuid,
    /// Who and what.
    pub pair: Pair,
    /// What was done.
    pub action: Action,
    /// Its version.
    pub version: Version,
}

/// A completed event, and whether the history has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerAudit {
    /// The event.
    pub entry: LedgerEntry,
    /// Whether `user_behaviors` has it.
    pub in_history: bool,
}

impl EventStore {
    /// Counters with their live rows, each as of one moment, in the order asked for.
    pub async fn audit_counts(&self, resources: &[Resource]) -> Result<Vec<CountAudit>, StoreError> {
        let mut script = self.script();
        let mut read = Vec::new();
        for (kind, ids) in by_kind(resources.iter().map(|resource| (resource.kind, resource.id.get()))) {
            let LikeTable { name, id } = table_of(kind);
            for chunk in ids.chunks(CHUNK) {
                read.push((script.statements(), kind, true));
                // One statement is one snapshot: counter and rows change in one transaction, so they must agree here.
                script.begin("SELECT c.resource_id, (SELECT COUNT(*) FROM ").words(name).words(" l WHERE l.").words(id);
                script.words(" = c.resource_id AND l.deleted_at IS NULL), c.like_count, c.revision, c.last_version");
                script.words(" FROM like_counts c WHERE c.resource_type = ").name(kind.name());
                int_list(script.words(" AND c.resource_id IN "), chunk);
                read.push((script.statements(), kind, false));
                script.begin("SELECT l.").words(id).words(", COUNT(*) FROM ").words(name);
                int_list(script.words(" l WHERE l.").words(id).words(" IN "), chunk);
                script.words(" AND l.deleted_at IS NULL AND NOT EXISTS (SELECT 1 FROM like_counts c");
                script.words(" WHERE c.resource_type = ").name(kind.name());
                script.words(" AND c.resource_id = l.").words(id).words(") GROUP BY l.").words(id);
            }
        }
        let results = self.read(&script).await?;
        let believed = self.horizon.for_reads();
        let mut found = BTreeMap::new();
        for (statement, kind, counted) in read {
            for row in rows(&results, statement) {
                let resource = resource_of(kind, get(row, 0, "like_counts")?)?;
                let live = get(row, 1, "like_counts")?;
                let stored = if counted {
                    let (count, revision) = (get(row, 2, "like_counts")?, get(row, 3, "like_counts")?);
                    let last_version = believed.version(Version(get(row, 4, "like_counts")?));
                    Some(StoredCount { count, revision, last_version })
                } else {
                    None
                };
                found.insert(resource, CountAudit { resource, stored, live });
            }
        }
        let of = |resource| {
            found.get(resource).copied().unwrap_or(CountAudit { resource: *resource, stored: None, live: 0 })
        };
        Ok(resources.iter().map(of).collect())
    }

    /// Rows that are dated later than `now`, by table; tables without such rows are left out. Reads whole tables.
    pub async fn dated_after(&self, now: Version) -> Result<Vec<(&'static str, DatedAhead)>, StoreError> {
        let tables = || ResourceType::ALL.map(ResourceType::likes_table).into_iter().chain(["archived_tombstones"]);
        let mut script = self.script();
        for table in tables() {
            script.begin("SELECT COUNT(*), COALESCE(MAX(version), 0) FROM ").words(table);
            script.words(" WHERE version > ").int(now.0);
        }
        let results = self.read(&script).await?;
        let mut found = Vec::new();
        for (statement, table) in tables().enumerate() {
            for row in rows(&results, statement) {
                let ahead = DatedAhead { versions: get(row, 0, table)?, highest: Version(get(row, 1, table)?) };
                found.extend((ahead.versions > 0).then_some((table, ahead)));
            }
        }
        Ok(found)
    }

    /// Rows that are dated too far ahead of every clock to be believed, at most `limit`: somebody else wrote them, and the
    /// next word of their pair replaces them. Looked for where the counter says so, among resources of a kind from `after` on
    /// up to `upto`. None before the database's clock is known.
    pub async fn not_believed(
        &self,
        kind: ResourceType,
        after: i64,
        upto: i64,
        limit: u32,
    ) -> Result<Vec<(Pair, PairState)>, StoreError> {
        let last = self.horizon.for_writes().last().0;
        let LikeTable { name, id } = table_of(kind);
        let mut script = self.script();
        script.begin("SELECT l.user_id, c.resource_id, l.deleted_at IS NULL, l.version FROM like_counts c JOIN ");
        script.words(name).words(" l ON l.").words(id).words(" = c.resource_id WHERE c.resource_type = ");
        script.name(kind.name()).words(" AND c.resource_id > ").int(after).words(" AND c.resource_id <= ").int(upto);
        script.words(" AND c.last_version > ").int(last).words(" AND l.version > ").int(last);
        script.words(" LIMIT ").int(i64::from(limit));
        let results = self.read_lately(&script).await?;
        let row = |row| {
            let pair = Pair::new(get(row, 0, name)?, kind, get(row, 1, name)?);
            let pair = pair.map_err(|error| StoreError::corrupt(name, error))?;
            let liked = get::<i64>(row, 2, name)? != 0;
            Ok((pair, PairState { liked, version: Version(get(row, 3, name)?) }))
        };
        rows(&results, 0).iter().map(row).collect()
    }

    /// The next step through all resources of a kind, in order of id: at most `limit` counters and as many resources
    /// with live rows. Two index ranges are read, nothing is locked.
    pub async fn audit_page(&self, kind: ResourceType, after: i64, limit: u32) -> Result<CountPage, StoreError> {
        let LikeTable { name, id } = table_of(kind);
        let limit = limit.max(1);
        let mut script = self.script();
        script.begin("SELECT resource_id, like_count FROM like_counts WHERE resource_type = ").name(kind.name());
        script.words(" AND resource_id > ").int(after).words(" ORDER BY resource_id LIMIT ").int(i64::from(limit));
        let index = script.dialect().by_resource(kind);
        script.begin("SELECT ").words(id).words(", COUNT(*) FROM ").words(name).words(index);
        script.words(" WHERE ").words(id).words(" > ").int(after).words(" AND deleted_at IS NULL GROUP BY ").words(id);
        script.words(" ORDER BY ").words(id).words(" LIMIT ").int(i64::from(limit));
        let results = self.read_lately(&script).await?;
        let column = |statement| {
            rows(&results, statement)
                .iter()
                .map(|row| Ok((get(row, 0, name)?, get(row, 1, name)?)))
                .collect::<Result<BTreeMap<i64, i64>, StoreError>>()
        };
        let (counted, live) = (column(0)?, column(1)?);
        // Where one list ends because it is full, the other may go on: both are believed up to there only.
        let full_at = |list: &BTreeMap<i64, i64>| {
            list.last_key_value().map(|(id, _)| *id).filter(|_| list.len() as u64 >= u64::from(limit))
        };
        let next = [full_at(&counted), full_at(&live)].into_iter().flatten().min();
        let upto = next.unwrap_or(i64::MAX);
        let ids: BTreeSet<i64> = counted.keys().chain(live.keys()).copied().filter(|id| *id <= upto).collect();
        let suspect = |id: &&i64| match counted.get(id) {
            Some(count) => *count != live.get(id).copied().unwrap_or(0),
            None => true,
        };
        let suspects = ids.iter().filter(suspect).map(|id| resource_of(kind, *id)).collect::<Result<_, _>>()?;
        let resources = ids.iter().map(|id| resource_of(kind, *id)).collect::<Result<_, _>>()?;
        Ok(CountPage { resources, suspects, next })
    }

    /// History after an event id, but not made before `since`, oldest first, and where the next step begins (none at the end).
    /// Behaviours of other kinds are left out.
    pub async fn behaviors_after(
        &self,
        after: Option<Uuid>,
        since: DateTime<Utc>,
        limit: u32,
    ) -> Result<(Vec<Behavior>, Option<Uuid>), StoreError> {
        const TABLE: &str = "user_behaviors";
        let mut script = self.script();
        script
            .begin("SELECT event_id, user_id, video_id, behavior_type, version FROM user_behaviors WHERE event_id > ");
        script.uuid(begin(after, since));
        script.words(" ORDER BY event_id LIMIT ").int(i64::from(limit));
        let results = self.read_lately(&script).await?;
        let mut behaviors = Vec::new();
        let mut last = None;
        for row in rows(&results, 0) {
            let id: Vec<u8> = get(row, 0, TABLE)?;
            let event_id = Uuid::from_slice(&id).map_err(|error| StoreError::corrupt(TABLE, error))?;
            last = Some(event_id);
            // Other services may write other behaviours here.
            let Some((kind, action)) = ResourceType::from_behavior(&get::<String>(row, 3, TABLE)?) else { continue };
            let pair = Pair::new(get(row, 1, TABLE)?, kind, get(row, 2, TABLE)?)
                .map_err(|error| StoreError::corrupt(TABLE, error))?;
            behaviors.push(Behavior { event_id, pair, action, version: Version(get(row, 4, TABLE)?) });
        }
        let full = rows(&results, 0).len() as u64 >= u64::from(limit);
        Ok((behaviors, last.filter(|_| full)))
    }

    /// Completed events after an id, but not made before `since`, oldest first, each with whether the history has it, as of one moment.
    pub async fn ledger_after(
        &self,
        after: Option<Uuid>,
        since: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<LedgerAudit>, StoreError> {
        let mut script = self.script();
        select_entries(&mut script).words(" WHERE id > ").uuid(begin(after, since));
        script.words(" AND status = 'completed' ORDER BY id LIMIT ").int(i64::from(limit));
        let results = self.read_lately(&script).await?;
        let entries = rows(&results, 0).iter().map(entry_of).collect::<Result<Vec<_>, _>>()?;
        // Afterwards: who is completed has its history already. A second replica may be behind the first one, so what it lacks
        // is asked for again where nothing is late.
        let known = rows_of(&self.read_lately(&self.in_history(&entries)).await?)?;
        let has = |known: &BTreeSet<Vec<u8>>, entry: &LedgerEntry| {
            known.contains(entry.event.intent.id.as_bytes().as_slice())
        };
        let lacking: Vec<LedgerEntry> = entries.iter().filter(|entry| !has(&known, entry)).cloned().collect();
        let again = if self.age().is_zero() {
            BTreeSet::new()
        } else {
            rows_of(&self.read(&self.in_history(&lacking)).await?)?
        };
        let audit = |entry| LedgerAudit { in_history: has(&known, &entry) || has(&again, &entry), entry };
        Ok(entries.into_iter().map(audit).collect())
    }

    /// Which of these the history has.
    fn in_history(&self, entries: &[LedgerEntry]) -> Script {
        let mut script = self.script();
        for chunk in entries.chunks(CHUNK) {
            script.begin("SELECT event_id FROM user_behaviors WHERE event_id IN (");
            script.list(chunk, |script, entry| {
                script.uuid(entry.event.intent.id);
            });
            script.words(")");
        }
        script
    }

    /// The newest `events` of the ledger, as pairs, newest first: what is hot right now.
    pub async fn latest_pairs(&self, events: u32) -> Result<Vec<Pair>, StoreError> {
        let mut script = self.script();
        script.begin("SELECT resource_type, resource_id, user_id FROM sync_events ORDER BY id DESC LIMIT ");
        script.int(i64::from(events));
        let results = self.read_lately(&script).await?;
        let bad = |error| StoreError::corrupt("sync_events", error);
        rows(&results, 0)
            .iter()
            .map(|row| {
                let kind = get::<String>(row, 0, "sync_events")?.parse().map_err(bad)?;
                Pair::new(get(row, 2, "sync_events")?, kind, get(row, 1, "sync_events")?).map_err(bad)
            })
            .collect()
    }
}

/// What is older is not there any more, maybe: a walk that rested for long goes on behind it.
fn begin(after: Option<Uuid>, since: DateTime<Utc>) -> Uuid {
    after.unwrap_or_default().max(first_id_of(since))
}

fn rows_of(results: &Results) -> Result<BTreeSet<Vec<u8>>, StoreError> {
    results.iter().flatten().map(|row| get(row, 0, "user_behaviors")).collect()
}

fn int_list(script: &mut Script, ids: &[i64]) {
    script.words("(");
    script.list(ids, |script, id| {
        script.int(*id);
    });
    script.words(")");
}

fn resource_of(kind: ResourceType, id: i64) -> Result<Resource, StoreError> {
    Resource::new(kind, id).map_err(|error| StoreError::corrupt("like_counts", error))
}
