//! Retention: what is done and old is deleted, in bounded batches, by one process at a time.
//!
//! Deleted are completed events of the ledger, the history of likes, what operators did, idempotency keys, numbers of dead writers,
//! and of what is liked most what belongs to no window any more. Rows of likes that were taken back (tombstones) move to an archive
//! without indexes, where an older event still finds them, whenever and by whatever way it comes. Failed, dead and discarded events stay. Ages are those of the database's clock, so a process whose own clock is wrong deletes nothing
//! early. Two owners at once (a lease that ran out) would only delete the same rows twice.
//!
//! Where ledger and history are cut into partitions (MySQL, MariaDB), those that are wholly old are dropped, and only what is left of
//! them is deleted row by row. Where the account, or the server, does not allow that, all of it is deleted row by row, and the log says
//! why. A history that an older release has left in one piece stays as it is until somebody cuts it.
//!
//! Only a process that reaches both stores competes for the lease, and whoever finds that it does not gives it back.

use crate::config::{RetentionConfig, SyncConfig};
use crate::metrics;
use crate::planted;
use crate::stores::{Stores, faults};
use chrono::{DateTime, TimeDelta, Utc};
use domain::ResourceType;
use domain::cache::CacheError;
use event_store::{Cut, Extended, PairCursor, StoreError, WRITERS_KEPT};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const LEASE: &str = "retention";
const LEASE_TTL: Duration = Duration::from_secs(30);

/// Most batches of one kind in one round.
const BATCHES: usize = 200;

/// Why rows are deleted one by one is said again after so long.
const SAID_AGAIN: Duration = Duration::from_secs(3600);

/// Between two batches, so that likes are not kept waiting.
const PAUSE: Duration = Duration::from_millis(5);

/// Deletes what is old.
pub struct Retention {
    stores: Stores,

    owner: String,
    config: RetentionConfig,
    /// As long as the cache remembers a key.
    idempotency_ttl: Duration,

    /// When the log has said last why rows are deleted one by one, of ledger and history.
    said: [Option<Instant>; Cut::ALL.len()],
    /// Where the walk through each table of pairs goes on; none: at its beginning.
    cursors: [(ResourceType, Option<PairCursor>); ResourceType::ALL.len()],
}

/// What is deleted by age alone.
#[derive(Debug, Clone, Copy)]
enum Old {
    /// Those that waited for the redo log from before that time, too.
    Completed(DateTime<Utc>),
    Behaviors,
    OperatorActions,
    IdempotencyKeys,
    Writers,
    Slices,
}

#[derive(Debug, thiserror::Error)]
enum RetentionError {
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Retention {
    /// `owner` must differ between processes.
    pub fn new(stores: Stores, owner: String, sync: &SyncConfig) -> Self {
        let cursors = ResourceType::ALL.map(|kind| (kind, None));
        Self { stores, owner, config: sync.retention, idempotency_ttl: sync.idempotency_ttl, said: [None; 2], cursors }
    }

    /// Runs until `stop`.
    pub fn run(self, stop: CancellationToken) -> BoxFuture<'static, ()> {
        self.run_inner(stop).boxed()
    }

    async fn run_inner(mut self, stop: CancellationToken) {
        loop {
            let round = async {
                tokio::time::sleep(self.config.interval).await;
                // Nothing is urgent here: what is unreachable is waited for, and others may do the work meanwhile.
                if self.stores.cache_circuit.is_open() || self.stores.database_circuit.is_open() {
                    return Ok(false);
                }
                self.round().await.map(|()| true)
            };
            let round = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                round = round => round,
            };
            match round {
                Ok(true) => continue,
                Ok(false) => {}
                Err(RetentionError::Cache(error)) if error.is_unavailable() => {
                    self.stores.cache_failed_somewhere(&error);
                }
                Err(RetentionError::Store(error)) if error.is_unavailable() => {
                    self.stores.database_circuit.failure(&error);
                }
                Err(error) => drop(faults::tell("a round of retention", &error)),
            }
            self.give_back().await;
        }
        self.give_back().await;
    }

    async fn give_back(&self) {
        for cut in Cut::ALL {
            metrics::partitions_by_rows(cut.table(), 0);
        }
        let _ = self.stores.cache.release_lease(LEASE, &self.owner).await;
    }

    async fn round(&mut self) -> Result<(), RetentionError> {
        let now = planted::retention_by_own_clock(self.stores.database.now().await?);
        let long_ago = earlier(now, self.config.tombstones);
        let completed = self.drop_partitions(Cut::Ledger, now, self.config.completed_events).await?;
        let behaviors = self.drop_partitions(Cut::History, now, self.config.behaviors).await?;
        let (Some(completed), Some(behaviors)) = (completed, behaviors) else {
            for cut in Cut::ALL {
                metrics::partitions_by_rows(cut.table(), 0);
            }
            return Ok(());
        };
        for (what, before) in [
            (Old::Completed(earlier(now, self.config.completed_events)), completed),
            (Old::Behaviors, behaviors),
            (Old::OperatorActions, long_ago),
            (Old::IdempotencyKeys, earlier(now, self.idempotency_ttl)),
            (Old::Writers, earlier(now, WRITERS_KEPT)),
            (Old::Slices, now),
        ] {
            for _ in 0..BATCHES {
                if !self.owns().await? {
                    return Ok(());
                }
                let purged = self.purge(what, before).await?;
                if purged < u64::from(self.config.batch_size) {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }

        for position in 0..self.cursors.len() {
            for _ in 0..BATCHES {
                if !self.owns().await? {
                    return Ok(());
                }
                let (kind, after) = self.cursors[position];
                let database = &self.stores.database;
                let step = database.archive_tombstones(kind, long_ago, after, self.config.batch_size).await?;
                metrics::purged("tombstones", step.archived);
                self.cursors[position].1 = step.next;
                if step.next.is_none() {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    /// Drops partitions of what is older than that, and makes those to come. Rows that were made before what it gives are deleted one
    /// by one; none if another process does all this now.
    async fn drop_partitions(
        &mut self,
        cut: Cut,
        now: DateTime<Utc>,
        kept: Duration,
    ) -> Result<Option<DateTime<Utc>>, RetentionError> {
        match self.drop_those_before(cut, now, kept).await {
            // Somebody uses the table for long: a dump. The next round looks again.
            Err(RetentionError::Store(error)) if error.is_conflict() => {
                tracing::debug!(table = cut.table(), %error, "partitions are left for later");
                metrics::partitions_by_rows(cut.table(), 1);
                Ok(Some(DateTime::UNIX_EPOCH))
            }
            // Its account may not, or the server does not let anybody. One that is unreachable says so again at once.
            Err(RetentionError::Store(error)) => {
                metrics::partitions_by_rows(cut.table(), 1);
                self.say(cut, &format!("dropping partitions failed: {error}"));
                Ok(Some(earlier(now, kept)))
            }
            done => done,
        }
    }

    async fn drop_those_before(
        &mut self,
        cut: Cut,
        now: DateTime<Utc>,
        kept: Duration,
    ) -> Result<Option<DateTime<Utc>>, RetentionError> {
        let (before, what) = (earlier(now, kept), what(cut));
        if !self.owns().await? {
            return Ok(None);
        }
        let extended = self.stores.database.extend_partitions(cut, now, kept).await?;
        // No release before partitions deleted history: what it has left is deleted when somebody has cut the table, not before.
        if (cut, extended) == (Cut::History, Extended::Whole) {
            return Ok(Some(DateTime::UNIX_EPOCH));
        }
        if extended == Extended::Behind {
            self.say(
                cut,
                "rows are behind all partitions, too many to move them beside others: syncctl migrate --partition does",
            );
        }
        for _ in 0..BATCHES {
            if !self.owns().await? {
                return Ok(None);
            }
            let step = self.stores.database.retire_partitions(cut, before).await?;
            let Some(rows) = step.dropped else {
                if step.full > 0 {
                    self.say(cut, "too many events of an old partition wait for a decision to move them beside others");
                }
                metrics::partitions_by_rows(cut.table(), step.full + usize::from(extended == Extended::Behind));
                return Ok(Some(step.by_rows));
            };
            metrics::purged(what, rows);
            tracing::info!(table = cut.table(), rows, kept = step.kept, "an old partition is dropped");
            tokio::time::sleep(PAUSE).await;
        }
        Ok(Some(DateTime::UNIX_EPOCH))
    }

    /// Says once an hour why what is old is deleted row by row.
    fn say(&mut self, cut: Cut, why: &str) {
        let said = &mut self.said[usize::from(cut == Cut::History)];
        if said.is_none_or(|said| said.elapsed() >= SAID_AGAIN) {
            *said = Some(Instant::now());
            tracing::warn!(table = cut.table(), why, "what is old is deleted row by row");
        }
    }

    async fn purge(&self, old: Old, before: DateTime<Utc>) -> Result<u64, StoreError> {
        let (database, limit) = (&self.stores.database, self.config.batch_size);
        let (name, purged) = match old {
            Old::Completed(marked) => (what(Cut::Ledger), database.purge_completed_rows(before, marked, limit).await?),
            Old::Behaviors => (what(Cut::History), database.purge_behaviors(before, limit).await?),
            Old::OperatorActions => ("operator_actions", database.purge_operator_actions(before, limit).await?),
            Old::IdempotencyKeys => ("idempotency_keys", database.purge_keys(before, limit).await?),
            Old::Writers => ("writers", database.purge_writers(before, limit).await?),
            Old::Slices => ("slices", database.purge_gains().await?),
        };
        fail::fail_point!("retention.purged");
        metrics::purged(name, purged);
        Ok(purged)
    }

    async fn owns(&self) -> Result<bool, CacheError> {
        Ok(self.stores.cache.acquire_lease(LEASE, &self.owner, LEASE_TTL).await?.is_some())
    }
}

/// As the metric calls it.
const fn what(cut: Cut) -> &'static str {
    match cut {
        Cut::Ledger => "completed_events",
        Cut::History => "behaviors",
    }
}

fn earlier(now: DateTime<Utc>, age: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(age).ok().and_then(|age| now.checked_sub_signed(age)).unwrap_or_default()
}
