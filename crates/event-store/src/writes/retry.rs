//! Failed events: parked alone, claimed by one worker when due, given up.
//!
//! Completion has no call of its own: [`EventStore::apply`] turns the row into a completed one.

use crate::sql::error::StoreError;
use crate::sql::script::CHUNK;
use crate::sql::store::{EventStore, rows};
use crate::tables::event_status::EventStatus;
use crate::tables::fences::{self, Held};
use crate::tables::ledger::{EVENT_COLUMNS, FINAL, entry_of, event_values, id_in, select_entries};
use crate::tables::unpublished::note_pairs;
use crate::writes::apply::check_size;
use chrono::{DateTime, TimeDelta, Utc};
use domain::LikeEvent;
use domain::cache::CommitNumber;
use planted_bugs::planted;
use std::time::Duration;
use uuid::Uuid;

/// Longest error text that is kept, in bytes.
const MAX_ERROR_LEN: usize = 2000;

/// An event that cannot be applied, and why.
#[derive(Debug, Clone)]
pub struct FailedEvent {
    /// The event.
    pub event: LikeEvent,
    /// Why; cut at 2000 bytes.
    pub error: String,
    /// When to try again; `None`: it is dead at once.
    pub next_retry_at: Option<DateTime<Utc>>,
}

/// An event that this worker has until its lease ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedEvent {
    /// The event.
    pub event: LikeEvent,
    /// Retries that failed so far.
    pub retry_count: u32,
    /// Retries it gets.
    pub max_retries: u32,
    /// Why it failed last.
    pub error: Option<String>,
}

/// A retry that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryFailure {
    /// Of which event.
    pub id: Uuid,
    /// Why.
    pub error: String,
    /// When it is tried again; `None`: it is dead.
    pub next_retry_at: Option<DateTime<Utc>>,
}

impl EventStore {
    /// Writes down events that failed. A row that exists keeps its status and retries, and gets the new error, if it is
    /// another one; a completed or discarded one stays as it is. What is
    /// behind a fence is not written down. Gives the number of the commit.
    pub async fn park(
        &self,
        failed: &[FailedEvent],
        max_retries: u32,
        now: DateTime<Utc>,
    ) -> Result<Option<CommitNumber>, StoreError> {
        planted!("park_forgets" => Ok(None));
        check_size(failed.len())?;
        if failed.is_empty() {
            return Ok(None);
        }
        let mut failed: Vec<&FailedEvent> = failed.iter().collect();
        failed.sort_unstable_by_key(|failed| failed.event.intent.id);
        self.transaction("park", || self.park_once(&failed, max_retries, now)).await
    }

    async fn park_once(
        &self,
        failed: &[&FailedEvent],
        max_retries: u32,
        now: DateTime<Utc>,
    ) -> Result<Option<CommitNumber>, StoreError> {
        let mut tx = self.begin().await?;
        let mut script = self.script();
        let held = fences::hold(&mut script);
        let results = tx.run(&script).await?;
        let held = Held::of(&mut tx, self.script(), &results, held).await?;
        let said = |failed: &FailedEvent| (failed.event.pair(), failed.event.version);
        let fences = held.fences(&mut tx, self.script(), failed.iter().map(|failed| said(failed))).await?;
        let fenced = |failed: &FailedEvent| {
            let (pair, version) = said(failed);
            fences.cover(pair, version)
        };
        let failed: Vec<&FailedEvent> = failed.iter().copied().filter(|failed| !fenced(failed)).collect();
        let mut script = self.script();
        // A redelivery that fails in the same way changes nothing, not even the time of the last change.
        let new_error = script.dialect().new_value("error_message");
        let known = format!("{FINAL} OR error_message = {new_error}");
        let upsert = script.dialect().overwrite("id", &["updated_at", "error_message"], Some(&known));
        for chunk in failed.chunks(CHUNK) {
            script.begin("INSERT INTO sync_events (").words(EVENT_COLUMNS);
            script.words(", idempotency_key, status, max_retries, next_retry_at, error_message, updated_at) VALUES ");
            script.list(chunk, |script, failed| {
                event_values(script.words("("), &failed.event);
                let status = if failed.next_retry_at.is_some() { EventStatus::Failed } else { EventStatus::Dead };
                script.words(",").text_or_null(failed.event.intent.idempotency_key.as_deref());
                script.words(",").name(status.name()).words(",").int(stored_count(max_retries)).words(",");
                script.time_or_null(failed.next_retry_at).words(",").text(cut(&failed.error)).words(",");
                script.time(now).words(")");
            });
            script.words(&upsert);
        }
        if script.is_empty() {
            return Ok(None);
        }
        if self.notes_changes {
            // One that is refused now may have been applied by one who died before telling of it.
            note_pairs(&mut script, failed.iter().map(|failed| failed.event.pair()), now);
        }
        let turn = self.numbered(&mut tx, script).await?;
        tx.commit().await?;
        Ok(Some(turn.committed(self.latest_clock())))
    }

    /// Takes up to `limit` due events for this worker alone, for as long as `lease`; claimed ones whose lease ended
    /// come first.
    pub async fn claim_due(
        &self,
        now: DateTime<Utc>,
        limit: u32,
        lease: Duration,
    ) -> Result<Vec<ClaimedEvent>, StoreError> {
        let until = now + TimeDelta::from_std(lease).unwrap_or(TimeDelta::days(1));
        self.transaction("claim_due", || self.claim_due_once(now, limit, until)).await
    }

    async fn claim_due_once(
        &self,
        now: DateTime<Utc>,
        limit: u32,
        until: DateTime<Utc>,
    ) -> Result<Vec<ClaimedEvent>, StoreError> {
        let mut tx = self.begin().await?;
        let mut claimed = Vec::new();
        for status in [EventStatus::Processing, EventStatus::Failed] {
            let left = i64::from(limit).saturating_sub(claimed.len() as i64);
            let mut script = self.script();
            select_entries(&mut script).words(" WHERE status = ").name(status.name());
            script.words(" AND next_retry_at <= ").time(now).words(" ORDER BY next_retry_at LIMIT ").int(left);
            let lock = script.dialect().skip_locked();
            script.words(lock);
            let results = tx.run(&script).await?;
            for row in rows(&results, 0) {
                claimed.push(entry_of(row)?);
            }
        }
        let ids: Vec<Uuid> = claimed.iter().map(|entry| entry.event.intent.id).collect();
        let mut script = self.script();
        for chunk in ids.chunks(CHUNK) {
            script.begin("UPDATE sync_events SET status = 'processing', next_retry_at = ").time(until);
            script.words(", updated_at = ").time(now).words(" WHERE ");
            id_in(&mut script, chunk);
        }
        tx.run(&script).await?;
        tx.commit().await?;
        let claim = |entry: crate::LedgerEntry| ClaimedEvent {
            event: entry.event,
            retry_count: entry.retry_count,
            max_retries: entry.max_retries,
            error: entry.error,
        };
        Ok(claimed.into_iter().map(claim).collect())
    }

    /// Notes that retries of claimed events failed: one more each.
    ///
    /// Passes over what is not claimed any more, for example because somebody completed it.
    pub async fn record_retry_failures(&self, failures: &[RetryFailure], now: DateTime<Utc>) -> Result<(), StoreError> {
        check_size(failures.len())?;
        let mut failures: Vec<&RetryFailure> = failures.iter().collect();
        // Locked in the order of everybody else.
        failures.sort_unstable_by_key(|failure| failure.id);
        let mut script = self.script();
        for RetryFailure { id, error, next_retry_at } in failures {
            let status = if next_retry_at.is_some() { EventStatus::Failed } else { EventStatus::Dead };
            script.begin("UPDATE sync_events SET retry_count = retry_count + 1, status = ").name(status.name());
            script.words(", next_retry_at = ").time_or_null(*next_retry_at);
            script.words(", error_message = ").text(cut(error)).words(", updated_at = ").time(now);
            script.words(" WHERE status = 'processing' AND id = ").uuid(*id);
        }
        self.write("record_retry_failures", &script).await.map(drop)
    }
}

fn stored_count(count: u32) -> i64 {
    i64::from(count.min(i32::MAX.cast_unsigned()))
}

pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_ERROR_LEN)]
}
