//! What operators do with events that failed: replay them, or discard them. Both are written down in the same
//! transaction: who, why, which.
//!
//! Neither applies anything. A replay makes a failed event due, and the retries take it from there like any other: the
//! row of its pair decides by version, so it does not matter how often, how late or beside what an event is replayed. A
//! discarded event is final: [`EventStore::apply`] leaves it out whoever brings it, and the pair is put on the list of
//! what the cache must be told, because the cache still shows what was accepted.

use crate::sql::error::StoreError;
use crate::sql::pool::Tx;
use crate::sql::script::{CHUNK, Script, utc};
use crate::sql::store::{EventStore, get, rows};
use crate::tables::ledger::{LedgerEntry, entry_of, id_in, select_entries, uuid_of};
use crate::tables::refreshes::remember;
use crate::writes::apply::check_size;
use crate::writes::retry::cut;
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use domain::PairState;
use std::time::Duration;
use uuid::Uuid;

const TABLE: &str = "operator_actions";

/// Longest name of an operator in characters.
pub const MAX_ACTOR_LEN: usize = 128;

/// Events of one replay become due in steps of this length.
const STEP: Duration = Duration::from_millis(100);

/// Who does something with events, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operation {
    /// A name or an address; cut at [`MAX_ACTOR_LEN`] characters.
    pub actor: String,
    /// In the operator's words.
    pub reason: Option<String>,
    /// How the events were chosen.
    pub selection: Option<String>,
}

/// One call of an operator.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct OperatorAction {
    /// Its id.
    pub id: Uuid,
    /// `replay`, `discard`, `delete_resource`, `restore_resource` or `erase_user`; the last does not say whom.
    pub action: String,
    /// Who.
    pub actor: String,
    /// Why, if it was said.
    pub reason: Option<String>,
    /// How the events were chosen.
    pub selection: Option<String>,
    /// How many it changed.
    pub events: i64,
    /// When.
    pub at: DateTime<Utc>,
}

/// When replayed events become due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The first ones.
    pub from: DateTime<Utc>,
    /// So many in a second, at least 1.
    pub per_second: u32,
}

impl Pace {
    /// When the `n`th event of a replay becomes due.
    pub fn due(self, n: usize) -> DateTime<Utc> {
        let after = Duration::from_millis(n as u64 * 1000 / u64::from(self.per_second.max(1)));
        let steps = after.as_millis() / STEP.as_millis();
        self.from + TimeDelta::from_std(STEP * u32::try_from(steps).unwrap_or(u32::MAX)).unwrap_or_default()
    }
}

impl EventStore {
    /// Makes failed and dead ones of these events due, with all of their retries, at a bounded pace. Others are left alone:
    /// who is claimed is being tried, who is completed or discarded stays so. Gives those that will be tried, by id.
    pub async fn replay(
        &self,
        ids: &[Uuid],
        operation: &Operation,
        pace: Pace,
        now: DateTime<Utc>,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        let done = self
            .transaction("replay", || async {
                let mut tx = self.begin().await?;
                let entries = self.lock_given_up(&mut tx, ids).await?;
                let ids: Vec<Uuid> = entries.iter().map(|entry| entry.event.intent.id).collect();
                let mut script = self.script();
                let mut rest = ids.as_slice();
                let mut n = 0;
                while !rest.is_empty() {
                    let due = pace.due(n);
                    let together = (n..).take(rest.len().min(CHUNK)).take_while(|n| pace.due(*n) == due).count();
                    let (step, later) = rest.split_at(together);
                    script
                        .begin("UPDATE sync_events SET status = 'failed', retry_count = 0, next_retry_at = ")
                        .time(due);
                    script.words(", updated_at = ").time(now).words(" WHERE ");
                    id_in(&mut script, step);
                    n += together;
                    rest = later;
                }
                tx.run(&script).await?;
                self.write_down(&mut tx, "replay", operation, &ids, now).await?;
                tx.commit().await?;
                Ok(entries)
            })
            .await?;
        fail::fail_point!("store.requeued");
        Ok(done)
    }

    /// Discards failed and dead ones of these events for good; the others are left alone. Gives the discarded ones as they
    /// were, by id.
    ///
    /// Their pairs are put on the list of what the cache must be told ([`EventStore::take_refreshes`]): with the version of
    /// the event, which the row will never have.
    pub async fn discard(
        &self,
        ids: &[Uuid],
        operation: &Operation,
        now: DateTime<Utc>,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        self.transaction("discard", || async {
            let mut tx = self.begin().await?;
            let entries = self.lock_given_up(&mut tx, ids).await?;
            let ids: Vec<Uuid> = entries.iter().map(|entry| entry.event.intent.id).collect();
            let mut script = self.script();
            for chunk in ids.chunks(CHUNK) {
                script
                    .begin("UPDATE sync_events SET status = 'discarded', next_retry_at = NULL, processed_at = ")
                    .time(now);
                script.words(", updated_at = ").time(now).words(" WHERE ");
                id_in(&mut script, chunk);
            }
            let accepted = |entry: &LedgerEntry| {
                let event = &entry.event;
                (event.pair(), PairState { liked: event.intent.action.liked(), version: event.version })
            };
            remember(&mut script, &entries.iter().map(accepted).collect::<Vec<_>>(), now);
            tx.run(&script).await?;
            self.write_down(&mut tx, "discard", operation, &ids, now).await?;
            tx.commit().await?;
            Ok(entries)
        })
        .await
    }

    /// Those of some events that are failed or dead, locked, by id.
    async fn lock_given_up(&self, tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<LedgerEntry>, StoreError> {
        check_size(ids.len())?;
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let mut script = self.script();
        let lock = script.dialect().for_update();
        for chunk in ids.chunks(CHUNK) {
            select_entries(&mut script).words(" WHERE status IN ('failed', 'dead') AND ");
            id_in(&mut script, chunk).words(" ORDER BY id").words(lock);
        }
        let results = tx.run(&script).await?;
        results.iter().flatten().map(entry_of).collect()
    }

    async fn write_down(
        &self,
        tx: &mut Tx,
        action: &'static str,
        operation: &Operation,
        ids: &[Uuid],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut script = self.script();
        let id = insert_action(&mut script, action, operation, ids.len(), now);
        for chunk in ids.chunks(CHUNK) {
            script.begin("INSERT INTO operator_events (event_id, action_id) VALUES ");
            script.list(chunk, |script, event| {
                script.words("(").uuid(*event).words(",").uuid(id).words(")");
            });
        }
        tx.run(&script).await.map(drop)
    }

    /// What operators did last, newest first.
    pub async fn operator_actions(&self, limit: u32) -> Result<Vec<OperatorAction>, StoreError> {
        let mut script = self.script();
        script.begin("SELECT id, action, actor, reason, selection, events, created_at FROM operator_actions");
        script.words(" ORDER BY id DESC LIMIT ").int(i64::from(limit));
        rows(&self.read(&script).await?, 0).iter().map(|row| action_of(row, 0)).collect()
    }

    /// What operators did with these events, oldest first.
    pub async fn actions_on(&self, events: &[Uuid]) -> Result<Vec<(Uuid, OperatorAction)>, StoreError> {
        let mut script = self.script();
        for chunk in events.chunks(CHUNK) {
            script.begin("SELECT e.event_id, a.id, a.action, a.actor, a.reason, a.selection, a.events, a.created_at");
            script.words(" FROM operator_events e JOIN operator_actions a ON a.id = e.action_id WHERE e.event_id IN (");
            script.list(chunk, |script, id| {
                script.uuid(*id);
            });
            script.words(") ORDER BY a.id");
        }
        let results = self.read(&script).await?;
        results
            .iter()
            .flatten()
            .map(|row| Ok((uuid_of(&get::<Vec<u8>>(row, 0, TABLE)?)?, action_of(row, 1)?)))
            .collect()
    }
}

/// Writes down what an operator does; gives its id.
pub(crate) fn insert_action(
    script: &mut Script,
    action: &'static str,
    operation: &Operation,
    events: usize,
    now: DateTime<Utc>,
) -> Uuid {
    let id = Uuid::now_v7();
    let actor: String = operation.actor.chars().take(MAX_ACTOR_LEN).collect();
    script.begin("INSERT INTO operator_actions (id, action, actor, reason, selection, events, created_at) VALUES (");
    script.uuid(id).words(",").name(action).words(",").text(&actor).words(",");
    script.text_or_null(operation.reason.as_deref().map(cut)).words(",");
    script.text_or_null(operation.selection.as_deref().map(cut)).words(",");
    script.int(events as i64).words(",").time(now).words(")");
    id
}

fn action_of(row: &sea_orm::QueryResult, from: usize) -> Result<OperatorAction, StoreError> {
    Ok(OperatorAction {
        id: uuid_of(&get::<Vec<u8>>(row, from, TABLE)?)?,
        action: get(row, from + 1, TABLE)?,
        actor: get(row, from + 2, TABLE)?,
        reason: get(row, from + 3, TABLE)?,
        selection: get(row, from + 4, TABLE)?,
        events: get(row, from + 5, TABLE)?,
        at: utc(get::<NaiveDateTime>(row, from + 6, TABLE)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_is_spread_over_time() {
        let from = DateTime::UNIX_EPOCH;
        let due = |per_second, n| (Pace { from, per_second }.due(n) - from).num_milliseconds();
        assert_eq!([0, 9, 10, 999].map(|n| due(100, n)), [0, 0, 100, 9_900]);
        assert_eq!([0, 1, 2, 9].map(|n| due(1, n)), [0, 1_000, 2_000, 9_000]);
        assert_eq!([0, 1, 2, 15].map(|n| due(15, n)), [0, 0, 100, 1_000]);
    }
}
