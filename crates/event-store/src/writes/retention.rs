//! Bounded deletes of what nobody needs any more. Failed and dead events are never deleted here, discarded ones are.

use crate::sql::error::StoreError;
use crate::sql::script::{CHUNK, Script, first_id_of};
use crate::sql::store::{EventStore, get, row, rows};
use crate::tables::ledger::id_in;
use crate::tables::likes::{LikeTable, table_of};
use crate::tables::meta::unless_imported_since;
use chrono::{DateTime, Utc};
use domain::{ResourceType, Version};
use sea_orm::QueryResult;
use uuid::Uuid;

/// Place in a table of pairs, in order of its primary key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PairCursor {
    /// User.
    pub user: i64,
    /// Video or comment.
    pub id: i64,
}

/// One step of [`EventStore::purge_tombstones`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurgedTombstones {
    /// Tombstones that this step chose.
    pub purged: u64,
    /// Where the next step begins; none at the end of the table.
    pub next: Option<PairCursor>,
}

impl EventStore {
    /// Deletes up to `limit` completed ledger rows whose events were made before `before`; gives how many.
    pub async fn purge_completed(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, StoreError> {
        let mut script = self.script();
        script.begin("SELECT id FROM sync_events WHERE status = 'completed' AND next_retry_at IS NULL AND id < ");
        script.uuid(first_id_of(before)).words(" ORDER BY id LIMIT ").int(i64::from(limit));
        self.purge_events("purge_completed", &script, "completed").await
    }

    /// Deletes up to `limit` events that were discarded before `before`, with what operators did with them; gives how many.
    pub async fn purge_discarded(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, StoreError> {
        let mut script = self.script();
        script.begin("SELECT id FROM sync_events WHERE status = 'discarded' AND processed_at < ").time(before);
        script.words(" ORDER BY id LIMIT ").int(i64::from(limit));
        self.purge_events("purge_discarded", &script, "discarded").await
    }

    /// Deletes the events that `chosen` selects, as far as they still have that status.
    async fn purge_events(&self, name: &'static str, chosen: &Script, status: &'static str) -> Result<u64, StoreError> {
        let results = self.read(chosen).await?;
        let ids = ids_of(rows(&results, 0), "sync_events")?;
        for chunk in ids.chunks(CHUNK) {
            let mut script = self.script();
            script.begin("DELETE FROM sync_events WHERE status = ").name(status).words(" AND ");
            id_in(&mut script, chunk);
            self.write(name, &script).await?;
        }
        Ok(ids.len() as u64)
    }

    /// Deletes up to `limit` of what operators did before `before`; gives how many calls of theirs.
    pub async fn purge_operator_actions(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, StoreError> {
        let mut script = self.script();
        script.begin("SELECT id FROM operator_actions WHERE id < ").uuid(first_id_of(before));
        script.words(" ORDER BY id LIMIT ").int(i64::from(limit));
        let results = self.read(&script).await?;
        let ids = ids_of(rows(&results, 0), "operator_actions")?;
        for chunk in ids.chunks(CHUNK) {
            let mut script = self.script();
            for (table, column) in [("operator_events", "action_id"), ("operator_actions", "id")] {
                script.begin("DELETE FROM ").words(table).words(" WHERE ").words(column).words(" IN (");
                script.list(chunk, |script, id| {
                    script.uuid(*id);
                });
                script.words(")");
            }
            self.write("purge_operator_actions", &script).await?;
        }
        Ok(ids.len() as u64)
    }

    /// Version of the oldest event that is neither completed nor discarded: a replay may still bring it.
    pub async fn oldest_unfinished(&self) -> Result<Option<Version>, StoreError> {
        let mut script = self.script();
        script
            .begin("SELECT MIN(version) FROM sync_events WHERE status IN ('pending', 'processing', 'failed', 'dead')");
        let results = self.read(&script).await?;
        let oldest: Option<i64> = get(row(&results, 0, "sync_events")?, 0, "sync_events")?;
        Ok(oldest.map(Version))
    }

    /// Looks at the next `scan` rows of a kind's pairs and deletes the tombstones older than `before` among them.
    ///
    /// There is no index on tombstones, because every like would pay for it: walk the table step by step instead.
    /// A replay of an event older than a deleted tombstone would like again, so `before` must lie beyond any replay. An
    /// import brings such events, so while one is younger than `before` nothing is deleted.
    pub async fn purge_tombstones(
        &self,
        kind: ResourceType,
        before: DateTime<Utc>,
        after: Option<PairCursor>,
        scan: u32,
    ) -> Result<PurgedTombstones, StoreError> {
        let LikeTable { name, id } = table_of(kind);
        let from = after.unwrap_or_default();
        let mut script = self.script();
        let index = script.dialect().by_primary_key();
        script.begin("SELECT user_id, ").words(id).words(", COALESCE(deleted_at < ").time(before);
        unless_imported_since(&mut script, before);
        script.words(", 0) FROM ").words(name).words(index).words(" WHERE user_id >= ").int(from.user);
        script.words(" AND (user_id > ").int(from.user).words(" OR ").words(id).words(" > ").int(from.id);
        script.words(") ORDER BY user_id, ").words(id).words(" LIMIT ").int(i64::from(scan));
        let results = self.read(&script).await?;

        let mut old = Vec::new();
        let mut last = None;
        for row in rows(&results, 0) {
            let cursor = PairCursor { user: get(row, 0, name)?, id: get(row, 1, name)? };
            if get::<i64>(row, 2, name)? != 0 {
                old.push(cursor);
            }
            last = Some(cursor);
        }
        for chunk in old.chunks(CHUNK) {
            let mut script = self.script();
            let row_list = script.dialect().row_list();
            script.begin("DELETE FROM ").words(name).words(" WHERE deleted_at < ").time(before);
            script.words(" AND (user_id, ").words(id).words(") IN (").words(row_list);
            script.list(chunk, |script, cursor| {
                script.words("(").int(cursor.user).words(",").int(cursor.id).words(")");
            });
            script.words(")");
            unless_imported_since(&mut script, before);
            self.write("purge_tombstones", &script).await?;
        }
        let full = rows(&results, 0).len() as u64 >= u64::from(scan.max(1));
        Ok(PurgedTombstones { purged: old.len() as u64, next: last.filter(|_| full) })
    }
}

fn ids_of(rows: &[QueryResult], table: &'static str) -> Result<Vec<Uuid>, StoreError> {
    rows.iter()
        .map(|row| {
            let bytes: Vec<u8> = get(row, 0, table)?;
            Uuid::from_slice(&bytes).map_err(|error| StoreError::corrupt(table, error))
        })
        .collect()
}
