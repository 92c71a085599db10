//! How long accepted likes take to the database. One definition, for page, report, command line, health and metrics: of likes
//! accepted within the last minute, those that are committed. What waits longer than that is none of them, and is judged by its
//! age in the journals.

use crate::clock::wall_clock;
use crate::stores::Stores;
use event_store::{RecentLags, StoreError};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Serialize;
use std::time::Duration;

/// How far back it is looked.
pub const WITHIN: Duration = Duration::from_secs(60);

/// Milliseconds from acceptance to commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Lag {
    /// Likes that were looked at.
    pub events: usize,
    /// Median.
    pub p50_ms: i64,
    /// 95th percentile.
    pub p95_ms: i64,
    /// 99th percentile.
    pub p99_ms: i64,
    /// Longest.
    pub max_ms: i64,
    /// Of the one that was accepted last.
    pub newest_ms: i64,
}

impl Lag {
    /// None of no likes.
    pub fn of(RecentLags { mut lags, newest }: RecentLags) -> Option<Self> {
        lags.sort_unstable();
        let last = *lags.last()?;
        let at = |percent: usize| lags.get(lags.len() * percent / 100).copied().unwrap_or(last);
        let (p50_ms, p95_ms, p99_ms) = (at(50), at(95), at(99));
        Some(Self { events: lags.len(), p50_ms, p95_ms, p99_ms, max_ms: last, newest_ms: newest.unwrap_or(last) })
    }
}

/// As it is now; none if no like that was accepted within the last minute is committed.
pub fn recent(stores: &Stores) -> BoxFuture<'_, Result<Option<Lag>, StoreError>> {
    async {
        let now = wall_clock();
        Ok(Lag::of(stores.database.recent_lags(now - WITHIN, now).await?))
    }
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_nothing_and_of_something() {
        assert_eq!(Lag::of(RecentLags::default()), None);
        let lag = Lag::of(RecentLags { lags: (1..=100).rev().collect(), newest: Some(3) });
        let expected = Lag { events: 100, p50_ms: 51, p95_ms: 96, p99_ms: 100, max_ms: 100, newest_ms: 3 };
        assert_eq!(lag, Some(expected));
    }
}
