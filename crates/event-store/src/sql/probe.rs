//! The probe: whether the database would take likes.

use crate::sql::error::StoreError;
#[cfg(feature = "mysql")]
use crate::sql::hosts;
use crate::sql::pool::Results;
use crate::sql::store::EventStore;
#[cfg(feature = "mysql")]
use crate::sql::store::{get, row};
use domain::ResourceType;
use planted_bugs::is_planted;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// While all is well a probe commits this often; after an error the next one does.
const COMMIT_EVERY: Duration = Duration::from_secs(5);

/// What likes need to be allowed, in statements that touch no row; beside the same of the tables of likes.
const PROBE: &[&str] = &[
    "UPDATE sync_events SET version = version WHERE 1 = 0",
    "INSERT INTO sync_events SELECT * FROM sync_events WHERE 1 = 0",
    "INSERT INTO user_behaviors SELECT * FROM user_behaviors WHERE 1 = 0",
    "UPDATE like_counts SET revision = revision WHERE 1 = 0",
    "INSERT INTO like_counts SELECT * FROM like_counts WHERE 1 = 0",
    "INSERT INTO idempotency_keys SELECT * FROM idempotency_keys WHERE 1 = 0",
    "UPDATE sync_writers SET seq = seq WHERE 1 = 0",
    "INSERT INTO sync_writers SELECT * FROM sync_writers WHERE 1 = 0",
    "INSERT INTO cache_refreshes SELECT * FROM cache_refreshes WHERE 1 = 0",
    "DELETE FROM cache_refreshes WHERE 1 = 0",
];

impl EventStore {
    /// Answers if the database would take likes, within `connect_timeout`: writes as they do, and takes it back or away. A server
    /// that only reads, cannot log what is written, or gives our user too few rights does not.
    ///
    /// SQLite is only asked to read: it has one writer at a time, which may be at work for longer than a probe waits.
    pub async fn probe(&self) -> Result<(), StoreError> {
        if self.script().dialect().is_sqlite() {
            return self.ping().await;
        }
        let mut script = self.script();
        if is_planted("probe_select_one") {
            script.begin("SELECT 1");
            return self.read(&script).await.map(drop);
        }
        // A table that somebody locks is not waited for as long as by others: that is longer than a probe has.
        script.begin("SET SESSION lock_wait_timeout = 1");
        #[cfg(feature = "mysql")]
        script.begin("SELECT ").words(hosts::ROLE);
        let name = format!("probe:{}", Uuid::now_v7());
        script.begin("INSERT INTO sync_meta (name, value) VALUES (").text(&name).words(", '')");
        for statement in PROBE {
            script.begin(statement);
        }
        for table in ResourceType::ALL.map(ResourceType::likes_table) {
            script.begin("UPDATE ").words(table).words(" SET version = version WHERE 1 = 0");
            script.begin("INSERT INTO ").words(table).words(" SELECT * FROM ").words(table).words(" WHERE 1 = 0");
        }
        // Where commits hang everything else answers. Each of them costs a write to the disk, so not every probe has one while
        // all is well.
        let commits = self.commit_due();
        if commits {
            script.begin("DELETE FROM sync_meta WHERE name = ").text(&name);
        }
        let mut as_before = self.script();
        as_before.begin("SET SESSION lock_wait_timeout = @@innodb_lock_wait_timeout");
        let probe = async {
            let mut tx = self.begin().await?;
            let results = tx.run(&script).await.map_err(StoreError::or_locked);
            let restored = tx.run(&as_before).await;
            let results = results?;
            restored?;
            if commits {
                tx.commit().await?;
                *self.probe_committed() = Some(Instant::now());
            } else {
                tx.roll_back().await?;
            }
            check_role(&results)?;
            self.pool.proved();
            Ok(())
        };
        match tokio::time::timeout(self.ping_timeout, probe).await {
            Ok(answer) => self.noticed(answer),
            Err(_) => self.noticed(Err(self.silent(self.ping_timeout).await)),
        }
    }

    fn commit_due(&self) -> bool {
        self.probe_committed().is_none_or(|last| last.elapsed() >= COMMIT_EVERY)
    }

    pub(crate) fn probe_committed(&self) -> MutexGuard<'_, Option<Instant>> {
        self.probe_committed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The second statement of a probe has asked.
#[cfg(feature = "mysql")]
fn check_role(results: &Results) -> Result<(), StoreError> {
    let role: String = get(row(results, 1, "variables")?, 0, "variables")?;
    if hosts::writes(&role) { Ok(()) } else { Err(StoreError::only_reads()) }
}

#[cfg(not(feature = "mysql"))]
fn check_role(_: &Results) -> Result<(), StoreError> {
    Ok(())
}
