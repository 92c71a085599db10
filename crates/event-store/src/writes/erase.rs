//! The erasure of a user, or the deletion of a resource: step by step, everything that is behind the fence.
//!
//! That was written before, by itself ([`fence`](super::fence)): from its commit on nothing from before it is written any more. So
//! what a step has deleted stays deleted, and every step may stop anywhere, happen twice, or in two processes at once.
//!
//! Rows of likes are found by their user or resource, archived tombstones and keys by their user. The rest has no index by either,
//! for which every like would pay: it is [gone through](super::walk) once, page by page, for all whose erasure waits.
//!
//! Deliberately kept: the counter of a resource (a number), and the fence itself, with its number: a copy of the database from
//! before brings rows back, and whoever deletes them again must know whose.

use crate::sql::error::StoreError;
use crate::sql::pool::Results;
use crate::sql::script::{CHUNK, Script};
use crate::sql::store::{EventStore, get, row, rows};
use crate::tables::deleted;
use crate::tables::fences::{Erasure, TABLE};
use crate::tables::likes::{LikeTable, Reading, Touched, create_missing, table_of, write_counts};
use crate::tables::refreshes::remember;
use crate::tables::unpublished::note_count;
use chrono::{DateTime, Utc};
use domain::{Erased, Fence, Pair, PairState, Resource, ResourceType, StoredCount};
use std::collections::BTreeMap;

/// Most keys of one deletion.
const STEP: i64 = CHUNK as i64;

/// What is found of a user or a resource by indexes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct IndexedRows {
    /// Likes that count.
    pub likes: u64,
    /// Likes that were taken back; of a resource, without those in the archive.
    pub tombstones: u64,
    /// Idempotency keys; of a resource, none are found.
    pub keys: u64,
}

impl IndexedRows {
    /// All rows.
    pub const fn total(self) -> u64 {
        self.likes + self.tombstones + self.keys
    }
}

impl EventStore {
    /// Deletes up to 500 likes of a user or a resource that are behind the fence, and corrects their counters; gives how many rows.
    /// Their pairs are put on the list of what the cache must be told.
    pub async fn erase_likes(&self, fence: Fence, kind: ResourceType, now: DateTime<Utc>) -> Result<u64, StoreError> {
        let LikeTable { name, id } = table_of(kind);
        let mut script = self.script();
        script.begin("SELECT user_id, ").words(id).words(" FROM ").words(name);
        if !self.behind(&mut script, fence, kind) {
            return Ok(0);
        }
        script.words(" LIMIT ").int(STEP);
        let results = self.read(&script).await?;
        let mut pairs = Vec::new();
        for row in rows(&results, 0) {
            let bad = |error| StoreError::corrupt(name, error);
            pairs.push(Pair::new(get(row, 0, name)?, kind, get(row, 1, name)?).map_err(bad)?);
        }
        if pairs.is_empty() {
            return Ok(0);
        }
        pairs.sort_unstable();
        self.transaction("erase_likes", || self.erase_likes_once(fence, &pairs, now)).await
    }

    async fn erase_likes_once(&self, fence: Fence, pairs: &[Pair], now: DateTime<Utc>) -> Result<u64, StoreError> {
        let touched = Touched::of_pairs(pairs);
        let mut tx = self.begin().await?;
        let mut script = self.script();
        let reading = Reading::lock_and_read(&mut script, &touched.resources, &touched.pairs);
        let mut snapshot = reading.snapshot(&tx.run(&script).await?, self.horizon.for_writes())?;
        create_missing(&mut tx, self.script(), &touched, &mut snapshot, now).await?;
        // It may have been liked again since it was asked for.
        let behind: Vec<(Pair, PairState)> = pairs
            .iter()
            .filter_map(|pair| Some((*pair, snapshot.known_state(*pair)?)))
            .filter(|(_, state)| state.version <= fence.up_to)
            .collect();
        let Some((Pair { resource, .. }, _)) = behind.first() else { return Ok(0) };
        let LikeTable { name, id } = table_of(resource.kind);
        let mut counts: BTreeMap<Resource, StoredCount> = BTreeMap::new();
        for (pair, state) in behind.iter().filter(|(_, state)| state.liked) {
            let count = counts.entry(pair.resource).or_insert_with(|| snapshot.count(pair.resource));
            count.count = (count.count - i64::from(state.liked)).max(0);
        }
        for count in counts.values_mut() {
            count.revision = self.horizon.revision().max(count.revision + 1);
        }
        let mut script = self.script();
        script.begin("DELETE FROM ").words(name).words(" WHERE ");
        // One of the two is the same in all of them: lists of pairs cost MariaDB fifteen times as much, under the locks of their counters.
        let (alone, others) = match fence.of {
            Erased::User(user) => {
                script.words("user_id = ").int(user.get());
                (id, behind.iter().map(|(pair, _)| pair.resource.id.get()).collect::<Vec<_>>())
            }
            Erased::Resource(resource) => {
                script.words(id).words(" = ").int(resource.id.get());
                ("user_id", behind.iter().map(|(pair, _)| pair.user.get()).collect())
            }
        };
        script.words(" AND ");
        numbers_in(&mut script, alone, &others);
        let changed: Vec<Resource> = counts.keys().copied().collect();
        write_counts(&mut script, &counts.into_iter().collect::<Vec<_>>(), now);
        // With the version of the row that is gone: the cache gives up what it holds of that.
        remember(&mut script, &behind, now);
        if self.notes_changes {
            // Listeners hear the counters; that a pair has no row any more is nothing that can be told of it.
            for resource in changed {
                note_count(&mut script, resource, now);
            }
        }
        let turn = self.numbered(&mut tx, script).await?;
        tx.commit().await?;
        turn.committed(self.latest_clock());
        // What is liked most is so without them; what a deleted resource gained goes as a whole.
        if matches!(fence.of, Erased::User(_)) {
            let likes = behind.iter().filter(|(_, state)| state.liked);
            self.gains.add(likes.map(|(pair, state)| (pair.resource, state.version, -1)), self.horizon.latest());
        }
        Ok(behind.len() as u64)
    }

    /// After the name of the table: rows that are behind the fence, or were dated so that nobody believes them. False if the table
    /// has none of these.
    fn behind(&self, script: &mut Script, fence: Fence, kind: ResourceType) -> bool {
        match fence.of {
            Erased::User(user) => script.words(" WHERE user_id = ").int(user.get()),
            Erased::Resource(resource) if resource.kind == kind => {
                let index = script.dialect().by_resource(kind);
                script.words(index).words(" WHERE ").words(table_of(kind).id).words(" = ").int(resource.id.get())
            }
            Erased::Resource(_) => return false,
        };
        script.words(" AND (version <= ").int(fence.up_to.0);
        script.words(" OR version > ").int(self.horizon.for_writes().last().0).words(")");
        true
    }

    /// Deletes up to 500 of a user's archived tombstones and as many idempotency keys; gives how many rows. Those of a resource are
    /// [gone through](Self::walk_step).
    pub async fn erase_keys(&self, fence: Fence) -> Result<u64, StoreError> {
        let Erased::User(user) = fence.of else { return Ok(0) };
        let mut script = self.script();
        for kind in ResourceType::ALL {
            script.begin("SELECT resource_id FROM archived_tombstones WHERE resource_type = ").name(kind.name());
            script.words(" AND user_id = ").int(user.get()).words(" AND version <= ").int(fence.up_to.0);
            script.words(" LIMIT ").int(STEP);
        }
        script.begin("SELECT id FROM idempotency_keys WHERE user_id = ").int(user.get());
        script.words(" AND version <= ").int(fence.up_to.0).words(" LIMIT ").int(STEP);
        let results = self.read(&script).await?;
        let ids = |statement| -> Result<Vec<i64>, StoreError> {
            rows(&results, statement).iter().map(|row| get(row, 0, TABLE)).collect()
        };
        let mut script = self.script();
        for (statement, kind) in ResourceType::ALL.into_iter().enumerate() {
            let resources = ids(statement)?;
            if resources.is_empty() {
                continue;
            }
            script.begin("DELETE FROM archived_tombstones WHERE resource_type = ").name(kind.name());
            script.words(" AND user_id = ").int(user.get()).words(" AND version <= ").int(fence.up_to.0).words(" AND ");
            numbers_in(&mut script, "resource_id", &resources);
        }
        let keys = ids(ResourceType::ALL.len())?;
        if !keys.is_empty() {
            script.begin("DELETE FROM idempotency_keys WHERE user_id = ").int(user.get()).words(" AND ");
            numbers_in(&mut script, "id", &keys);
        }
        if script.is_empty() {
            return Ok(0);
        }
        let statements = script.statements();
        let done = self.write("erase_keys", &script).await?;
        Ok((0..statements).map(|statement| done.changed(statement)).sum())
    }

    /// What indexes find of a user or a resource up to a version; reads all of its rows.
    pub async fn indexed_rows(&self, fence: Fence) -> Result<IndexedRows, StoreError> {
        let mut script = self.script();
        let mut likes = 0;
        for kind in ResourceType::ALL {
            let mut of_kind = self.script();
            of_kind.words("SELECT COUNT(*), COUNT(deleted_at) FROM ").words(table_of(kind).name);
            if self.behind(&mut of_kind, fence, kind) {
                script.begin(of_kind.as_str());
                likes += 1;
            }
        }
        if let Erased::User(user) = fence.of {
            for kind in ResourceType::ALL {
                script.begin("SELECT COUNT(*) FROM archived_tombstones WHERE resource_type = ").name(kind.name());
                script.words(" AND user_id = ").int(user.get()).words(" AND version <= ").int(fence.up_to.0);
            }
            script.begin("SELECT COUNT(*) FROM idempotency_keys WHERE user_id = ").int(user.get());
            script.words(" AND version <= ").int(fence.up_to.0);
        }
        let results = self.read(&script).await?;
        let number = |statement, column| -> Result<u64, StoreError> {
            Ok(get::<i64>(row(&results, statement, TABLE)?, column, TABLE)?.unsigned_abs())
        };
        let mut found = IndexedRows::default();
        for statement in 0..likes {
            let (all, deleted) = (number(statement, 0)?, number(statement, 1)?);
            found.likes += all - deleted;
            found.tombstones += deleted;
        }
        if matches!(fence.of, Erased::User(_)) {
            let kinds = ResourceType::ALL.len();
            for statement in likes..likes + kinds {
                found.tombstones += number(statement, 0)?;
            }
            found.keys = number(likes + kinds, 0)?;
        }
        Ok(found)
    }

    /// So many rows more are gone.
    pub async fn erasure_progressed(&self, of: Erased, removed: u64) -> Result<(), StoreError> {
        let mut script = self.script();
        begin_update(&mut script, of).words("removed = removed + ").int(i64::try_from(removed).unwrap_or(i64::MAX));
        where_it_is(&mut script, of);
        self.write("erasure_progressed", &script).await.map(drop)
    }

    /// Everything is gone, unless it was fenced again meanwhile; gives whether it is over.
    pub async fn erasure_ended(&self, erasure: &Erasure, now: DateTime<Utc>) -> Result<bool, StoreError> {
        let mut script = self.script();
        begin_update(&mut script, erasure.fence.of).words("cleaned_at = ").time(now);
        where_it_is(&mut script, erasure.fence.of).words(" AND fenced_at = ").time(erasure.fenced_at);
        script.words(" AND up_to = ").int(erasure.fence.up_to.0);
        let results: Results = self.write("erasure_ended", &script).await?;
        Ok(results.changed(0) > 0)
    }
}

fn begin_update(script: &mut Script, of: Erased) -> &mut Script {
    let table = match of {
        Erased::User(_) => TABLE,
        Erased::Resource(_) => deleted::TABLE,
    };
    script.begin("UPDATE ").words(table).words(" SET ")
}

fn where_it_is(script: &mut Script, of: Erased) -> &mut Script {
    match of {
        Erased::User(user) => script.words(" WHERE user_id = ").int(user.get()),
        Erased::Resource(resource) => deleted::its_row(script, resource),
    }
}

pub(crate) fn numbers_in(script: &mut Script, column: &'static str, numbers: &[i64]) {
    script.words(column).words(" IN (");
    script.list(numbers, |script, number| {
        script.int(*number);
    });
    script.words(")");
}
