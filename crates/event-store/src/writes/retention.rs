//! Bounded deletes of what nobody needs any more, and the move of old tombstones to their archive.
//!
//! Whatever decides about an event that may still come stays for good: failed, dead and discarded events, and tombstones.
//! Ages are measured by the database's clock ([`EventStore::now`]), which all processes share.

use crate::sql::error::StoreError;
use crate::sql::script::{CHUNK, Script, first_id_of};
use crate::sql::store::{EventStore, get, rows};
use crate::tables::archive::{Tombstone, archive};
use crate::tables::ledger::id_in;
use crate::tables::likes::{LikeTable, table_of};
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

/// One step of [`EventStore::archive_tombstones`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchivedTombstones {
    /// Tombstones that this step moved.
    pub archived: u64,
    /// Where the next step begins; none at the end of the table.
    pub next: Option<PairCursor>,
}

impl EventStore {
    /// Deletes up to `limit` completed ledger rows whose events were made before `before`, or, if they wait for the redo log,
    /// completed before it; gives how many.
    ///
    /// When an event was made its server's clock says, in the id. One that is behind makes rows that go early, and may: an
    /// event that comes again is old by its version, which the row of its pair decides.
    pub async fn purge_completed(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, StoreError> {
        self.purge_completed_rows(before, before, limit).await
    }

    /// The same of events that were made before `made`: what is later goes with its [partition](Self::retire_partitions).
    pub async fn purge_completed_rows(
        &self,
        made: DateTime<Utc>,
        before: DateTime<Utc>,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let mut script = self.script();
        script.begin("SELECT id FROM sync_events WHERE status = 'completed' AND next_retry_at IS NULL AND id < ");
        script.uuid(first_id_of(made)).words(" ORDER BY id LIMIT ").int(i64::from(limit));
        script.begin("SELECT id FROM sync_events WHERE status = 'completed' AND next_retry_at < ").time(before);
        script.words(" ORDER BY next_retry_at LIMIT ").int(i64::from(limit));
        let results = self.read(&script).await?;
        let mut ids = ids_of(rows(&results, 0), "sync_events")?;
        ids.extend(ids_of(rows(&results, 1), "sync_events")?);
        ids.truncate(limit as usize);
        for chunk in ids.chunks(CHUNK) {
            let mut script = self.script();
            script.begin("DELETE FROM sync_events WHERE status = 'completed' AND ");
            id_in(&mut script, chunk);
            self.write("purge_completed", &script).await?;
        }
        Ok(ids.len() as u64)
    }

    /// Deletes up to `limit` rows of the history, of whatever behaviour, whose ids were made before `before`; gives how many. Rows of
    /// likes stay as they are: what is known of them is the row.
    pub async fn purge_behaviors(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, StoreError> {
        const TABLE: &str = "user_behaviors";
        let mut script = self.script();
        script.begin("SELECT event_id FROM user_behaviors WHERE event_id < ").uuid(first_id_of(before));
        script.words(" ORDER BY event_id LIMIT ").int(i64::from(limit));
        let ids = ids_of(rows(&self.read(&script).await?, 0), TABLE)?;
        for chunk in ids.chunks(CHUNK) {
            let mut script = self.script();
            // `event_id`, as the history calls it.
            script.begin("DELETE FROM user_behaviors WHERE event_");
            id_in(&mut script, chunk);
            self.write("purge_behaviors", &script).await?;
        }
        Ok(ids.len() as u64)
    }

    /// Deletes up to `limit` of what operators did before `before`; gives how many calls of theirs. The time is that of the
    /// process they used, as it is shown to them.
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

    /// Looks at the next `scan` rows of a kind's pairs and moves the tombstones older than `before` among them to the archive,
    /// where events of any age still find them. The age is that of the word's version, which is what decides between words;
    /// a tombstone that goes early is found all the same.
    ///
    /// There is no index on tombstones, because every like would pay for it: walk the table step by step instead.
    pub async fn archive_tombstones(
        &self,
        kind: ResourceType,
        before: DateTime<Utc>,
        after: Option<PairCursor>,
        scan: u32,
    ) -> Result<ArchivedTombstones, StoreError> {
        let LikeTable { name, id } = table_of(kind);
        let from = after.unwrap_or_default();
        let mut script = self.script();
        let index = script.dialect().by_primary_key();
        script.begin("SELECT user_id, ").words(id).words(", COALESCE(deleted_at < ").time(before);
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
        let mut archived = 0;
        for chunk in old.chunks(CHUNK) {
            archived += self.transaction("archive_tombstones", || self.archive_once(kind, before, chunk)).await?;
        }
        let full = rows(&results, 0).len() as u64 >= u64::from(scan.max(1));
        Ok(ArchivedTombstones { archived, next: last.filter(|_| full) })
    }

    /// Moves those of some pairs that are old tombstones still; gives how many.
    async fn archive_once(
        &self,
        kind: ResourceType,
        before: DateTime<Utc>,
        pairs: &[PairCursor],
    ) -> Result<u64, StoreError> {
        let LikeTable { name, id } = table_of(kind);
        let mut tx = self.begin().await?;
        let mut script = self.script();
        let (index, lock) = (script.dialect().by_primary_key(), script.dialect().for_update());
        script.begin("SELECT user_id, ").words(id).words(", version FROM ").words(name).words(index);
        script.words(" WHERE deleted_at < ").time(before).words(" AND ");
        pair_in(&mut script, id, pairs.iter().map(|pair| (pair.user, pair.id)));
        script.words(lock);
        let results = tx.run(&script).await?;
        let tombstones = rows(&results, 0)
            .iter()
            .map(|row| Ok((get(row, 0, name)?, get(row, 1, name)?, Version(get(row, 2, name)?))))
            .collect::<Result<Vec<Tombstone>, StoreError>>()?;
        if tombstones.is_empty() {
            return Ok(0);
        }
        let mut script = self.script();
        archive(&mut script, kind, &tombstones, before);
        script.begin("DELETE FROM ").words(name).words(" WHERE ");
        pair_in(&mut script, id, tombstones.iter().map(|(user, id, _)| (*user, *id)));
        tx.run(&script).await?;
        tx.commit().await?;
        Ok(tombstones.len() as u64)
    }
}

pub(crate) fn pair_in(script: &mut Script, id: &'static str, pairs: impl Iterator<Item = (i64, i64)>) {
    let row_list = script.dialect().row_list();
    script.words("(user_id, ").words(id).words(") IN (").words(row_list);
    script.list(pairs, |script, (user, id)| {
        script.words("(").int(user).words(",").int(id).words(")");
    });
    script.words(")");
}

fn ids_of(rows: &[QueryResult], table: &'static str) -> Result<Vec<Uuid>, StoreError> {
    rows.iter()
        .map(|row| {
            let bytes: Vec<u8> = get(row, 0, table)?;
            Uuid::from_slice(&bytes).map_err(|error| StoreError::corrupt(table, error))
        })
        .collect()
}
