//! Completed events that the redo log lacks: those that were written around the broker, until somebody has told the log.
//!
//! Each is marked in its own row of the ledger, in the transaction that completes it, so whoever dies loses none. The mark is
//! a time at `next_retry_at`, which completed rows else have none of, and the index of what is due serves it. What waits for
//! longer than completed events are kept is deleted with them.

use crate::sql::error::StoreError;
use crate::sql::script::CHUNK;
use crate::sql::store::{EventStore, get, row, rows};
use crate::tables::ledger::{entry_of, id_in, select_entries, uuid_of};
use domain::LikeEvent;
use std::collections::HashSet;
use uuid::Uuid;

const TABLE: &str = "sync_events";

const MARKED: &str = " WHERE status = 'completed' AND next_retry_at IS NOT NULL";

impl EventStore {
    /// Up to `limit` events that the log lacks, those that wait for longest first.
    pub async fn unlogged(&self, limit: u32) -> Result<Vec<LikeEvent>, StoreError> {
        let mut script = self.script();
        select_entries(&mut script).words(MARKED);
        script.words(" ORDER BY next_retry_at LIMIT ").int(i64::from(limit));
        let results = self.read(&script).await?;
        rows(&results, 0).iter().map(|row| entry_of(row).map(|entry| entry.event)).collect()
    }

    /// How many the log lacks, counted up to `limit`.
    pub async fn unlogged_backlog(&self, limit: u32) -> Result<u64, StoreError> {
        let mut script = self.script();
        script.begin("SELECT COUNT(*) FROM (SELECT 1 FROM sync_events").words(MARKED);
        script.words(" LIMIT ").int(i64::from(limit)).words(") AS counted");
        let results = self.read(&script).await?;
        Ok(u64::try_from(get::<i64>(row(&results, 0, TABLE)?, 0, TABLE)?).unwrap_or(0))
    }

    /// The log has these.
    pub async fn logged(&self, ids: &[Uuid]) -> Result<(), StoreError> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        for chunk in ids.chunks(CHUNK) {
            let mut script = self.script();
            script.begin("UPDATE sync_events SET next_retry_at = NULL WHERE status = 'completed' AND ");
            id_in(&mut script, chunk);
            self.write("logged", &script).await?;
        }
        Ok(())
    }

    /// Which of these events the database knows: the ledger, in whatever state, or the history, which outlives it.
    pub async fn known_events(&self, ids: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
        let mut script = self.script();
        for chunk in ids.chunks(CHUNK) {
            script.begin("SELECT id FROM sync_events WHERE ");
            id_in(&mut script, chunk);
            // `event_id`, as the history calls it.
            script.begin("SELECT event_id FROM user_behaviors WHERE event_");
            id_in(&mut script, chunk);
        }
        let results = self.read(&script).await?;
        results.iter().flatten().map(|row| uuid_of(&get::<Vec<u8>>(row, 0, TABLE)?)).collect()
    }
}
