//! A day of samples, one for each minute: what the page draws of the time before it was opened.

use crate::sql::error::StoreError;
use crate::sql::store::{EventStore, get, rows};
use crate::tables::check_runs::int_or_null;
use chrono::{DateTime, Utc};

const TABLE: &str = "sync_samples";

/// Minutes that are kept: a day and what two readers may be apart.
const KEPT: i64 = 1_500;

const COLUMNS: &str =
    "sampled_minute, accepted, journal, queue, lag_p50_ms, lag_p99_ms, failed, dead, open_findings, consistent_ppm";

/// What was seen in a minute; none of what could not be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Sample {
    /// Minutes since 1970.
    pub minute: i64,
    /// Ever accepted, as the journals count it; less than before if the cache was emptied.
    pub accepted: Option<i64>,
    /// Entries of all journals.
    pub journal: Option<i64>,
    /// Messages in the queue.
    pub queue: Option<i64>,
    /// From acceptance to commit in milliseconds, of the newest events: median.
    pub lag_p50_ms: Option<i64>,
    /// The same: 99th percentile.
    pub lag_p99_ms: Option<i64>,
    /// Events that wait for a retry.
    pub failed: Option<i64>,
    /// Events that were given up.
    pub dead: Option<i64>,
    /// Subjects with something wrong.
    pub open_findings: Option<i64>,
    /// Comparisons of the last hour that ended well, in a million.
    pub consistent_ppm: Option<i64>,
}

impl Sample {
    /// The minute of a time.
    pub fn minute_of(time: DateTime<Utc>) -> i64 {
        time.timestamp().div_euclid(60)
    }
}

impl EventStore {
    /// Keeps samples; of a minute that somebody has sampled already his stays. Old ones go.
    pub async fn keep_samples(&self, samples: &[Sample]) -> Result<(), StoreError> {
        let Some(newest) = samples.iter().map(|sample| sample.minute).max() else { return Ok(()) };
        let mut script = self.script();
        script.begin("INSERT INTO sync_samples (").words(COLUMNS).words(") VALUES ");
        script.list(samples, |script, sample| {
            script.words("(").int(sample.minute);
            for value in [
                sample.accepted,
                sample.journal,
                sample.queue,
                sample.lag_p50_ms,
                sample.lag_p99_ms,
                sample.failed,
                sample.dead,
                sample.open_findings,
                sample.consistent_ppm,
            ] {
                int_or_null(script.words(","), value);
            }
            script.words(")");
        });
        let keep = script.dialect().keep_existing("sampled_minute");
        script.words(&keep);
        script.begin("DELETE FROM sync_samples WHERE sampled_minute < ").int(newest - KEPT);
        self.write("keep_samples", &script).await.map(drop)
    }

    /// Samples from a minute on, oldest first.
    pub async fn samples_since(&self, minute: i64) -> Result<Vec<Sample>, StoreError> {
        let mut script = self.script();
        script.begin("SELECT ").words(COLUMNS).words(" FROM sync_samples WHERE sampled_minute >= ").int(minute);
        script.words(" ORDER BY sampled_minute LIMIT ").int(KEPT);
        let results = self.read(&script).await?;
        let sample = |row| {
            Ok(Sample {
                minute: get(row, 0, TABLE)?,
                accepted: get(row, 1, TABLE)?,
                journal: get(row, 2, TABLE)?,
                queue: get(row, 3, TABLE)?,
                lag_p50_ms: get(row, 4, TABLE)?,
                lag_p99_ms: get(row, 5, TABLE)?,
                failed: get(row, 6, TABLE)?,
                dead: get(row, 7, TABLE)?,
                open_findings: get(row, 8, TABLE)?,
                consistent_ppm: get(row, 9, TABLE)?,
            })
        };
        rows(&results, 0).iter().map(sample).collect()
    }
}
