//! What may be as old as a replica is: lists, audits, reports, rankings.

use crate::sql::error::StoreError;
use crate::sql::pool::Results;
use crate::sql::script::Script;
use crate::sql::store::EventStore;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How old the oldest answer is, in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Oldest(AtomicU64);

impl EventStore {
    /// The same store for one answer that may be as old as `database.replica_max_lag`: lists, audits, reports and rankings are then
    /// read from replicas. Everything else is read from the database that writes all the same.
    #[must_use]
    pub fn on_replicas(&self) -> Self {
        let mut late = self.clone();
        late.oldest = Some(Arc::default());
        late
    }

    /// How old, at most, that is what was read with this [`on_replicas`](Self::on_replicas); nothing if the database that writes
    /// was asked.
    pub fn age(&self) -> Duration {
        Duration::from_micros(self.oldest.as_ref().map_or(0, |oldest| oldest.0.load(Ordering::Relaxed)))
    }

    /// Runs a script of what may be a little old.
    #[cfg(feature = "mysql")]
    pub(crate) async fn read_lately(&self, script: &Script) -> Result<Results, StoreError> {
        let Some((oldest, replicas)) = self.oldest.as_ref().zip(self.replicas.as_ref()) else {
            return self.read(script).await;
        };
        if script.is_empty() {
            return Ok(Results::default());
        }
        let count = |from: &'static str| {
            let counter = metrics::counter!("interaction_database_late_reads_total", "from" => from);
            counter.increment(script.statements() as u64);
        };
        if let Some((results, age)) = replicas.read(self, script).await {
            count("replica");
            oldest.0.fetch_max(u64::try_from(age.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
            return Ok(results);
        }
        count("primary");
        self.read(script).await
    }

    #[cfg(not(feature = "mysql"))]
    pub(crate) async fn read_lately(&self, script: &Script) -> Result<Results, StoreError> {
        self.read(script).await
    }
}
