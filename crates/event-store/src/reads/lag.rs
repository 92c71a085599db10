//! How long likes took from acceptance to commit, as the ledger knows it.

use crate::sql::error::StoreError;
use crate::sql::script::{Script, first_id_of};
use crate::sql::store::{EventStore, get, rows};
use chrono::{DateTime, NaiveDateTime, Utc};
use sea_orm::QueryResult;

const LEDGER: &str = "sync_events";

/// A range is looked at in so many steps, and in each at so many likes: what came in a burst does not hide the rest.
const STEPS: i32 = 12;
const OF_A_STEP: i64 = 100;

/// Milliseconds from acceptance to commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecentLags {
    /// Of likes all over the range, in no order.
    pub lags: Vec<i64>,
    /// Of the one that was accepted last.
    pub newest: Option<i64>,
}

impl EventStore {
    /// Of the newest committed events, at most `events`, in no order. Those that failed at first are left out: they took as
    /// long as somebody needed.
    pub async fn commit_lags(&self, events: u32) -> Result<Vec<i64>, StoreError> {
        let mut script = self.script();
        select(&mut script).words(" ORDER BY id DESC LIMIT ").int(i64::from(events));
        rows(&self.read(&script).await?, 0).iter().filter_map(|row| lag_of(row).transpose()).collect()
    }

    /// Of likes that were accepted within a range and are committed: the newest one, and some of each part of it. Those that
    /// failed at first are left out, and what a repair or an import brought in.
    pub async fn recent_lags(&self, since: DateTime<Utc>, until: DateTime<Utc>) -> Result<RecentLags, StoreError> {
        let mut script = self.script();
        let begin = |script: &mut Script| {
            select(script).words(" AND origin <> 'import' AND id >= ");
        };
        begin(&mut script);
        script.uuid(first_id_of(since)).words(" ORDER BY id DESC LIMIT 1");
        let results = self.read(&script).await?;
        let Some(newest) = rows(&results, 0).first() else { return Ok(RecentLags::default()) };
        let newest = lag_of(newest)?;
        let mut script = self.script();
        let step = (until - since) / STEPS;
        for at in 0..STEPS {
            begin(&mut script);
            script.uuid(first_id_of(since + step * at)).words(" AND id < ").uuid(first_id_of(since + step * (at + 1)));
            script.words(" ORDER BY id LIMIT ").int(OF_A_STEP);
        }
        let results = self.read(&script).await?;
        let mut lags = Vec::new();
        for row in results.iter().flatten() {
            lags.extend(lag_of(row)?);
        }
        if lags.is_empty() {
            // Dated later than the range, by a server whose clock is ahead.
            lags.extend(newest);
        }
        Ok(RecentLags { lags, newest })
    }
}

fn select(script: &mut Script) -> &mut Script {
    script.begin("SELECT version, processed_at FROM sync_events WHERE status = 'completed' AND max_retries = 0")
}

fn lag_of(row: &QueryResult) -> Result<Option<i64>, StoreError> {
    let accepted: i64 = get(row, 0, LEDGER)?;
    let committed: Option<NaiveDateTime> = get(row, 1, LEDGER)?;
    Ok(committed.map(|at| (at.and_utc().timestamp_micros() - accepted).max(0) / 1000))
}
