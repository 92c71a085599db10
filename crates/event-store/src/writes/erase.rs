//! The erasure of a user: the fence, and then, step by step, everything that is behind it.
//!
//! A fence comes first, by itself ([`fences`](crate::tables::fences)): from its commit on nothing from before it is written any
//! more. So what a step has deleted stays deleted, and every step may stop anywhere, happen twice, or in two processes at once.
//!
//! Rows of likes, tombstones and keys are found by their user. The ledger, the history and the looks of checkers have no index by
//! user, for which every like would pay: they are gone through once, page by page, for all users whose erasure waits.
//!
//! Deliberately kept: the counter of a resource (a number), and the fence itself, with the user's number: a copy of the database
//! from before brings rows back, and whoever deletes them again must know whose.

use crate::sql::error::StoreError;
use crate::sql::pool::{Results, Tx};
use crate::sql::script::{CHUNK, Script};
use crate::sql::store::{EventStore, get, row, rows};
use crate::tables::fences::{Erasure, TABLE, fences_of, read_fences};
use crate::tables::likes::{LikeTable, Reading, Touched, create_missing, table_of, write_counts};
use crate::tables::refreshes::remember;
use crate::tables::unpublished::note_count;
use crate::writes::operate::{Operation, insert_action};
use crate::writes::retention::pair_in;
use chrono::{DateTime, Utc};
use domain::{Fence, Pair, PairState, Resource, ResourceType, StoredCount, UserId};
use migrations::{ERASURES, MINIMUM_COMPATIBLE};
use std::collections::BTreeMap;

/// Most keys of one deletion.
const STEP: i64 = CHUNK as i64;

/// What is found of a user by indexes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct IndexedRows {
    /// Likes that count.
    pub likes: u64,
    /// Likes that were taken back.
    pub tombstones: u64,
    /// Idempotency keys.
    pub keys: u64,
}

impl IndexedRows {
    /// All rows.
    pub const fn total(self) -> u64 {
        self.likes + self.tombstones + self.keys
    }
}

impl EventStore {
    /// Writes the fence of a user, or raises it, and begins the erasure anew; with `by`, written down as an operator's action that
    /// does not say whose it was. A fence is never lowered.
    pub async fn fence_user(
        &self,
        fence: Fence,
        by: Option<&Operation>,
        now: DateTime<Utc>,
    ) -> Result<Erasure, StoreError> {
        self.transaction("fence_user", || async {
            let mut tx = self.begin().await?;
            let erasure = self.fence_once(&mut tx, &[fence], by, now).await?;
            tx.commit().await?;
            erasure
                .into_iter()
                .next()
                .ok_or_else(|| StoreError::corrupt(TABLE, "a fence that was written is not there"))
        })
        .await
    }

    /// Brings back fences that a copy of the database from before does not have, and begins those erasures anew; gives how many.
    pub async fn restore_fences(&self, fences: &[Fence], now: DateTime<Utc>) -> Result<usize, StoreError> {
        let mut restored = 0;
        for chunk in fences.chunks(CHUNK) {
            let mut script = self.script();
            let statements = read_fences(&mut script, chunk.iter().map(|fence| fence.user));
            let held = fences_of(&self.read(&script).await?, statements)?;
            let lower = |fence: &&Fence| held.get(&fence.user).is_none_or(|up_to| *up_to < fence.up_to);
            let missing: Vec<Fence> = chunk.iter().filter(lower).copied().collect();
            if missing.is_empty() {
                continue;
            }
            self.transaction("restore_fences", || async {
                let mut tx = self.begin().await?;
                self.fence_once(&mut tx, &missing, None, now).await?;
                tx.commit().await
            })
            .await?;
            restored += missing.len();
        }
        Ok(restored)
    }

    async fn fence_once(
        &self,
        tx: &mut Tx,
        fences: &[Fence],
        by: Option<&Operation>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Erasure>, StoreError> {
        let mut script = self.script();
        let lock = script.dialect().for_update();
        let keep = script.dialect().keep_existing("user_id");
        // Whoever writes what users did holds this row to the end of its transaction: here all of them have ended.
        script.begin("INSERT INTO erased_users (user_id, up_to, fenced_at, cleaned_at) VALUES (0,0,");
        script.time(DateTime::UNIX_EPOCH).words(",").time(DateTime::UNIX_EPOCH).words(")").words(&keep);
        script.begin("SELECT up_to FROM erased_users WHERE user_id = 0").words(lock);
        script.begin("SELECT COALESCE(MAX(up_to), 0) FROM erased_users");
        let statements = read_fences(&mut script, fences.iter().map(|fence| fence.user));
        let results = tx.run(&script).await?;
        let mut highest: i64 = get(row(&results, 2, TABLE)?, 0, TABLE)?;
        let held = fences_of(&results, statements)?;

        let mut script = self.script();
        let action = by.map(|operation| insert_action(&mut script, "erase_user", operation, 0, now));
        let overwrite = script.dialect().overwrite("user_id", &["up_to", "fenced_at", "cleaned_at", "action_id"], None);
        let mut erasures = Vec::with_capacity(fences.len());
        for fence in fences {
            let up_to = held.get(&fence.user).copied().unwrap_or_default().max(fence.up_to);
            highest = highest.max(up_to.0);
            script.begin("INSERT INTO erased_users (user_id, up_to, fenced_at, cleaned_at, action_id) VALUES (");
            script.int(fence.user.get()).words(",").int(up_to.0).words(",").time(now).words(",NULL,");
            match action {
                Some(id) => script.uuid(id),
                None => script.words("NULL"),
            };
            script.words(")").words(&overwrite);
            let fence = Fence { user: fence.user, up_to };
            erasures.push(Erasure { fence, fenced_at: now, cleaned_at: None, removed: 0 });
        }
        script.begin("UPDATE erased_users SET up_to = ").int(highest).words(" WHERE user_id = 0");
        // A program of before fences would apply what is behind them.
        let newer = format!("value >= {}", script.dialect().new_value("value"));
        let raise = script.dialect().overwrite("name", &["value"], Some(&newer));
        script.begin("INSERT INTO sync_meta (name, value) VALUES (").text(MINIMUM_COMPATIBLE).words(",").text(ERASURES);
        script.words(")").words(&raise);
        tx.run(&script).await?;
        Ok(erasures)
    }

    /// Deletes up to 500 likes of a user that are behind the fence, and corrects their counters; gives how many rows. Their pairs are
    /// put on the list of what the cache must be told.
    pub async fn erase_likes(&self, fence: Fence, kind: ResourceType, now: DateTime<Utc>) -> Result<u64, StoreError> {
        let LikeTable { name, id } = table_of(kind);
        let mut script = self.script();
        script.begin("SELECT ").words(id).words(" FROM ").words(name);
        self.behind(&mut script, fence);
        script.words(" LIMIT ").int(STEP);
        let results = self.read(&script).await?;
        let mut pairs = Vec::new();
        for row in rows(&results, 0) {
            let bad = |error| StoreError::corrupt(name, error);
            pairs.push(Pair::new(fence.user.get(), kind, get(row, 0, name)?).map_err(bad)?);
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
        // The user may have come again since it was asked for.
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
        pair_in(&mut script, id, behind.iter().map(|(pair, _)| (pair.user.get(), pair.resource.id.get())));
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
        Ok(behind.len() as u64)
    }

    /// Rows of a user that are behind the fence, or were dated so that nobody believes them.
    fn behind(&self, script: &mut Script, fence: Fence) {
        script.words(" WHERE user_id = ").int(fence.user.get()).words(" AND (version <= ").int(fence.up_to.0);
        script.words(" OR version > ").int(self.horizon.for_writes().last().0).words(")");
    }

    /// Deletes up to 500 of a user's archived tombstones and as many idempotency keys; gives how many rows.
    pub async fn erase_keys(&self, fence: Fence) -> Result<u64, StoreError> {
        let mut script = self.script();
        for kind in ResourceType::ALL {
            script.begin("SELECT resource_id FROM archived_tombstones WHERE resource_type = ").name(kind.name());
            script.words(" AND user_id = ").int(fence.user.get()).words(" AND version <= ").int(fence.up_to.0);
            script.words(" LIMIT ").int(STEP);
        }
        script.begin("SELECT id FROM idempotency_keys WHERE user_id = ").int(fence.user.get());
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
            script
                .words(" AND user_id = ")
                .int(fence.user.get())
                .words(" AND version <= ")
                .int(fence.up_to.0)
                .words(" AND ");
            numbers_in(&mut script, "resource_id", &resources);
        }
        let keys = ids(ResourceType::ALL.len())?;
        if !keys.is_empty() {
            script.begin("DELETE FROM idempotency_keys WHERE user_id = ").int(fence.user.get()).words(" AND ");
            numbers_in(&mut script, "id", &keys);
        }
        if script.is_empty() {
            return Ok(0);
        }
        let statements = script.statements();
        let done = self.write("erase_keys", &script).await?;
        Ok((0..statements).map(|statement| done.changed(statement)).sum())
    }

    /// What indexes find of a user up to a version; reads all rows of that user.
    pub async fn indexed_rows(&self, fence: Fence) -> Result<IndexedRows, StoreError> {
        let mut script = self.script();
        for kind in ResourceType::ALL {
            script.begin("SELECT COUNT(*), COUNT(deleted_at) FROM ").words(table_of(kind).name);
            self.behind(&mut script, fence);
        }
        for kind in ResourceType::ALL {
            script.begin("SELECT COUNT(*) FROM archived_tombstones WHERE resource_type = ").name(kind.name());
            script.words(" AND user_id = ").int(fence.user.get()).words(" AND version <= ").int(fence.up_to.0);
        }
        script.begin("SELECT COUNT(*) FROM idempotency_keys WHERE user_id = ").int(fence.user.get());
        script.words(" AND version <= ").int(fence.up_to.0);
        let results = self.read(&script).await?;
        let number = |statement, column| -> Result<u64, StoreError> {
            Ok(get::<i64>(row(&results, statement, TABLE)?, column, TABLE)?.unsigned_abs())
        };
        let kinds = ResourceType::ALL.len();
        let mut found = IndexedRows { keys: number(2 * kinds, 0)?, ..IndexedRows::default() };
        for kind in 0..kinds {
            let (all, deleted) = (number(kind, 0)?, number(kind, 1)?);
            found.likes += all - deleted;
            found.tombstones += deleted + number(kinds + kind, 0)?;
        }
        Ok(found)
    }

    /// So many rows more are gone.
    pub async fn erasure_progressed(&self, user: UserId, removed: u64) -> Result<(), StoreError> {
        let mut script = self.script();
        script.begin("UPDATE erased_users SET removed = removed + ").int(i64::try_from(removed).unwrap_or(i64::MAX));
        script.words(" WHERE user_id = ").int(user.get());
        self.write("erasure_progressed", &script).await.map(drop)
    }

    /// Everything is gone, unless the user was fenced again meanwhile; gives whether it is over.
    pub async fn erasure_ended(&self, erasure: &Erasure, now: DateTime<Utc>) -> Result<bool, StoreError> {
        let mut script = self.script();
        script.begin("UPDATE erased_users SET cleaned_at = ").time(now).words(" WHERE user_id = ");
        script.int(erasure.fence.user.get()).words(" AND fenced_at = ").time(erasure.fenced_at);
        script.words(" AND up_to = ").int(erasure.fence.up_to.0);
        let results: Results = self.write("erasure_ended", &script).await?;
        Ok(results.changed(0) > 0)
    }
}

pub(crate) fn numbers_in(script: &mut Script, column: &'static str, numbers: &[i64]) {
    script.words(column).words(" IN (");
    script.list(numbers, |script, number| {
        script.int(*number);
    });
    script.words(")");
}
