//! The steps that every write of likes is made of: lock and read, [fold](super::fold), write. No statement is sent from here.

use crate::sql::dialect::Dialect;
use crate::sql::error::StoreError;
use crate::sql::horizon::Believed;
use crate::sql::pool::{Results, Tx};
use crate::sql::script::{CHUNK, Script, time_of};
use crate::sql::store::{get, rows};
use crate::tables::archive::{archived_before, read_archived_before, recall, recalled};
use crate::tables::fold::{Outcome, PairChange, PairEvent};
use chrono::{DateTime, Utc};
use domain::{LikeEvent, Pair, PairState, Resource, ResourceId, ResourceType, StoredCount, UserId, Version};
use planted_bugs::planted;
use std::collections::HashMap;

/// The table of a kind's pairs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LikeTable {
    pub(crate) name: &'static str,
    /// Column of the resource's id.
    pub(crate) id: &'static str,
}

pub(crate) const fn table_of(kind: ResourceType) -> LikeTable {
    LikeTable { name: kind.likes_table(), id: kind.id_column() }
}

/// In the order of ids, which is the order in which all writers insert them; each event once.
pub(crate) fn once_by_id(events: &[LikeEvent]) -> Vec<&LikeEvent> {
    let mut by_id: Vec<&LikeEvent> = events.iter().collect();
    by_id.sort_unstable_by_key(|event| event.intent.id);
    by_id.dedup_by_key(|event| event.intent.id);
    by_id
}

/// What the database said about some pairs and their resources.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) counts: HashMap<Resource, StoredCount>,
    pub(crate) states: HashMap<Pair, PairState>,
    /// Tombstones with lower versions may be in the archive instead of `states`.
    archived_before: Version,
    believed: Believed,
}

impl Snapshot {
    pub(crate) fn count(&self, resource: Resource) -> StoredCount {
        self.counts.get(&resource).copied().unwrap_or_default()
    }

    pub(crate) fn state(&self, pair: Pair) -> PairState {
        self.known_state(pair).unwrap_or(PairState::UNTOUCHED)
    }

    /// Of a row that was read.
    pub(crate) fn known_state(&self, pair: Pair) -> Option<PairState> {
        self.states.get(&pair).copied()
    }
}

/// Which statements of a script read what.
#[derive(Debug, Default, Clone)]
pub(crate) struct Reading {
    counts: Vec<(usize, ResourceType)>,
    states: Vec<(usize, ResourceType)>,
    archived_before: Option<usize>,
}

impl Reading {
    /// Locks the counters that exist and reads them with their pairs. Sorted resources: all transactions lock in one
    /// order, that of the primary key within each kind.
    pub(crate) fn lock_and_read(script: &mut Script, resources: &[Resource], pairs: &[Pair]) -> Self {
        debug_assert!(resources.is_sorted() && pairs.is_sorted());
        let mut reading = Self::default();
        let lock = script.dialect().for_update();
        reading.read_counts(script, resources, lock);
        reading.read_states(script, pairs);
        // After the pairs: see the archive's invariant.
        reading.archived_before = Some(read_archived_before(script));
        reading
    }

    pub(crate) fn read_counts(&mut self, script: &mut Script, resources: &[Resource], lock: &str) {
        let index = script.dialect().by_primary_key();
        for (kind, ids) in by_kind(resources.iter().map(|resource| (resource.kind, resource.id))) {
            for chunk in ids.chunks(CHUNK) {
                self.counts.push((script.statements(), kind));
                script.begin("SELECT resource_id, like_count, revision, last_version FROM like_counts").words(index);
                script.words(" WHERE resource_type = ").name(kind.name()).words(" AND resource_id IN (");
                script.list(chunk, |script, id| {
                    script.int(id.get());
                });
                script.words(")").words(lock);
            }
        }
    }

    pub(crate) fn read_states(&mut self, script: &mut Script, pairs: &[Pair]) {
        self.read_states_with(script, pairs, "");
    }

    /// The same with words of the dialect that lock.
    pub(crate) fn read_states_with(&mut self, script: &mut Script, pairs: &[Pair], lock: &str) {
        let (index, row_list) = (script.dialect().by_primary_key(), script.dialect().row_list());
        for (kind, keys) in by_kind(pairs.iter().map(|pair| (pair.resource.kind, (pair.user, pair.resource.id)))) {
            let LikeTable { name, id } = table_of(kind);
            for chunk in keys.chunks(CHUNK) {
                self.states.push((script.statements(), kind));
                script.begin("SELECT user_id, ").words(id).words(", deleted_at IS NULL, version FROM ");
                script.words(name).words(index).words(" WHERE (user_id, ").words(id).words(") IN (").words(row_list);
                script.list(chunk, |script, (user, id)| {
                    script.words("(").int(user.get()).words(",").int(id.get()).words(")");
                });
                script.words(")").words(lock);
            }
        }
    }

    /// Decodes what the statements read; versions that are not believed are the oldest of all.
    pub(crate) fn snapshot(&self, results: &Results, believed: Believed) -> Result<Snapshot, StoreError> {
        let mut snapshot = Snapshot { believed, ..Snapshot::default() };
        for &(statement, kind) in &self.counts {
            for row in rows(results, statement) {
                let bad = |error| StoreError::corrupt("like_counts", error);
                let resource = Resource::new(kind, get(row, 0, "like_counts")?).map_err(bad)?;
                let stored = StoredCount {
                    count: get(row, 1, "like_counts")?,
                    revision: get(row, 2, "like_counts")?,
                    last_version: believed.version(Version(get(row, 3, "like_counts")?)),
                };
                snapshot.counts.insert(resource, stored);
            }
        }
        for &(statement, kind) in &self.states {
            let table = table_of(kind).name;
            for row in rows(results, statement) {
                let user = UserId::new(get(row, 0, table)?).map_err(|error| StoreError::corrupt(table, error))?;
                let id = ResourceId::new(get(row, 1, table)?).map_err(|error| StoreError::corrupt(table, error))?;
                let liked = get::<i64>(row, 2, table)? != 0;
                let state = PairState { liked, version: believed.version(Version(get(row, 3, table)?)) };
                snapshot.states.insert(Pair { resource: Resource { kind, id }, user }, state);
            }
        }
        if let Some(statement) = self.archived_before {
            snapshot.archived_before = archived_before(results, statement)?;
        }
        Ok(snapshot)
    }
}

/// Resources and pairs of a batch, sorted.
#[derive(Debug)]
pub(crate) struct Touched {
    pub(crate) resources: Vec<Resource>,
    pub(crate) pairs: Vec<Pair>,
    /// Lowest version of each pair's events; zero where the version is not decided yet.
    oldest: Vec<Version>,
}

impl Touched {
    /// By events that are sorted by pair, then by version.
    pub(crate) fn by(events: &[PairEvent]) -> Self {
        let firsts = || events.chunk_by(|(a, ..), (b, ..)| a == b).filter_map(<[PairEvent]>::first);
        let pairs: Vec<Pair> = firsts().map(|(pair, ..)| *pair).collect();
        let oldest = firsts().map(|(_, version, _)| *version).collect();
        let mut resources: Vec<Resource> = pairs.iter().map(|pair| pair.resource).collect();
        resources.dedup();
        Self { resources, pairs, oldest }
    }

    /// By pairs, sorted, of which only rows matter: no tombstone is looked for in the archive.
    pub(crate) fn of_pairs(pairs: &[Pair]) -> Self {
        let mut resources: Vec<Resource> = pairs.iter().map(|pair| pair.resource).collect();
        resources.dedup();
        Self { resources, pairs: pairs.to_vec(), oldest: vec![Version::MAX; pairs.len()] }
    }

    /// Those whose resource has no counter, so no lock, in the snapshot.
    fn unlocked(&self, snapshot: &Snapshot) -> Self {
        let unlocked = |resource: &Resource| !snapshot.counts.contains_key(resource);
        Self {
            resources: self.resources.iter().copied().filter(unlocked).collect(),
            pairs: self.pairs.iter().copied().filter(|pair| unlocked(&pair.resource)).collect(),
            oldest: Vec::new(),
        }
    }

    /// Pairs without a row whose tombstone may be archived: an event of them is older than the newest archived tombstone.
    fn perhaps_archived(&self, snapshot: &Snapshot) -> Vec<Pair> {
        let old = |(pair, oldest): &(&Pair, &Version)| {
            **oldest < snapshot.archived_before && !snapshot.states.contains_key(pair)
        };
        self.pairs.iter().zip(&self.oldest).filter(old).map(|(pair, _)| *pair).collect()
    }
}

/// Completes what was locked and read: creates and locks the counters that `snapshot` found missing, and reads their pairs
/// again, because only now nobody else can write them. Then looks for the tombstones of old events in the archive.
///
/// Most counters exist, and a SELECT locks them at a third of the price of an INSERT that finds its row. A deadlock is
/// possible only where two transactions create the same counters, and is retried.
pub(crate) async fn create_missing(
    tx: &mut Tx,
    mut script: Script,
    touched: &Touched,
    snapshot: &mut Snapshot,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let mut archive = script.clone();
    let missing = touched.unlocked(snapshot);
    if !missing.resources.is_empty() {
        insert_counts(
            &mut script,
            missing.resources.iter().map(|resource| (*resource, StoredCount::default())),
            now,
            |dialect| dialect.keep_existing("resource_type, resource_id"),
        );
        let reading = Reading::lock_and_read(&mut script, &missing.resources, &missing.pairs);
        let locked = reading.snapshot(&tx.run(&script).await?, snapshot.believed)?;
        snapshot.counts.extend(locked.counts);
        snapshot.states.extend(locked.states);
        snapshot.archived_before = snapshot.archived_before.max(locked.archived_before);
    }
    planted!("tombstone_forgotten" => Ok(()));
    recall(&mut archive, &touched.perhaps_archived(snapshot));
    snapshot.states.extend(recalled(&tx.run(&archive).await?, snapshot.believed)?);
    Ok(())
}

/// Writes the rows that changed.
pub(crate) fn write_outcome(script: &mut Script, outcome: &Outcome, now: DateTime<Utc>) {
    write_pairs(script, &outcome.changed_pairs);
    write_counts(script, &outcome.changed_counts, now);
}

/// Writes pairs. An unlike keeps its row as a tombstone with its version.
fn write_pairs(script: &mut Script, changes: &[PairChange]) {
    for (kind, mut changes) in by_kind(changes.iter().map(|change| (change.pair.resource.kind, *change))) {
        // The order of the primary key.
        changes.sort_unstable_by_key(|change| (change.pair.user, change.pair.resource.id));
        let LikeTable { name, id } = table_of(kind);
        let upsert =
            script.dialect().overwrite(&format!("user_id, {id}"), &["updated_at", "deleted_at", "version"], None);
        for chunk in changes.chunks(CHUNK) {
            let deletes = chunk.iter().any(|change| !change.state.liked);
            script.begin("INSERT INTO ").words(name).words(" (user_id, ").words(id);
            script.words(", version, created_at, updated_at");
            script.words(if deletes { ", deleted_at) VALUES " } else { ") VALUES " });
            script.list(chunk, |script, change| {
                let PairState { liked, version } = change.state;
                let (first, last) = (time_of(change.first), time_of(version));
                script.words("(").int(change.pair.user.get()).words(",").int(change.pair.resource.id.get());
                script.words(",").int(version.0).words(",").row_time(first).words(",");
                if first == last {
                    script.row_time_as("created_at", last)
                } else {
                    script.row_time(last)
                };
                if deletes && liked {
                    script.words(",NULL");
                } else if deletes {
                    script.words(",").row_time_as("updated_at", last);
                }
                script.words(")");
            });
            script.words(&upsert);
        }
    }
}

/// Writes counters, whose rows are locked by this transaction.
pub(crate) fn write_counts(script: &mut Script, counts: &[(Resource, StoredCount)], now: DateTime<Utc>) {
    let columns = ["like_count", "revision", "last_version", "updated_at"];
    insert_counts(script, counts.iter().copied(), now, |dialect| {
        dialect.overwrite("resource_type, resource_id", &columns, None)
    });
}

fn insert_counts(
    script: &mut Script,
    counts: impl Iterator<Item = (Resource, StoredCount)>,
    now: DateTime<Utc>,
    conflict: impl Fn(Dialect) -> String,
) {
    let counts: Vec<_> = counts.collect();
    let conflict = conflict(script.dialect());
    for chunk in counts.chunks(CHUNK) {
        script.begin(
            "INSERT INTO like_counts (resource_type, resource_id, like_count, revision, last_version, updated_at) VALUES ",
        );
        script.list(chunk, |script, (resource, stored)| {
            script.words("(").name(resource.kind.name()).words(",").int(resource.id.get()).words(",");
            script.int(stored.count).words(",").int(stored.revision).words(",").int(stored.last_version.0);
            script.words(",").row_time(now).words(")");
        });
        script.words(&conflict);
    }
}

/// Splits by kind, keeping the order within each.
pub(crate) fn by_kind<T>(
    items: impl Iterator<Item = (ResourceType, T)>,
) -> impl Iterator<Item = (ResourceType, Vec<T>)> {
    let mut of_kinds = ResourceType::ALL.map(|kind| (kind, Vec::new()));
    for (kind, item) in items {
        for (of, list) in &mut of_kinds {
            if *of == kind {
                list.push(item);
                break;
            }
        }
    }
    of_kinds.into_iter().filter(|(_, items)| !items.is_empty())
}
