//! Whether the database still has what it had confirmed.
//!
//! Looked at with every look at the database, about once a second: what this process committed, and what the note says that
//! other processes write. What *dead* writers had committed the cache knows, by settlements; that is asked whenever another
//! server may answer (at start, after an outage, under another name), and now and then besides.
//!
//! While the database lacks something, nobody may use it as evidence against the cache: the checker lowers nothing, and no row is
//! a reason for "unchanged". What comes in is committed and settled as ever: it is right by its version in any database.
//!
//! Deliberately absent: to bring back what was lost. Until then the verdict stands.

use crate::metrics;
use domain::cache::LikeCache;
use event_store::{EventStore, StoreError, WentBack};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the cache is asked for what dead writers had committed, although nothing points to another server.
const CALM_INTERVAL: Duration = Duration::from_secs(5);

/// What the database has lost, as far as this process knows.
#[derive(Debug)]
pub struct DatabaseHistory {
    database: EventStore,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    server: Option<String>,
    /// When the cache was asked last.
    asked: Option<Instant>,
    went_back: bool,
}

impl DatabaseHistory {
    pub(super) fn new(database: EventStore) -> Self {
        Self { database, seen: Mutex::default() }
    }

    /// The evidence, while the verdict stands.
    pub fn went_back(&self) -> Option<WentBack> {
        self.database.went_back()
    }

    /// Looks. `suspect`: the database was unreachable until now, and may be another one.
    pub(super) async fn look(&self, cache: &dyn LikeCache, suspect: bool) -> Result<(), StoreError> {
        let server = self.database.server().await?;
        let due = {
            let seen = self.seen();
            suspect || seen.server != server || seen.asked.is_none_or(|asked| asked.elapsed() >= CALM_INTERVAL)
        };
        // Asked before the database is: of what is told then it must have everything.
        let told = if due { cache.commits().await.ok() } else { None };
        let asked = told.is_some();
        self.database.look_back(&told.unwrap_or_default()).await?;
        let mut seen = self.seen();
        if asked {
            (seen.server, seen.asked) = (server, Some(Instant::now()));
        }
        let went_back = self.went_back().is_some();
        metrics::database_went_back(went_back);
        if seen.went_back && !went_back {
            tracing::info!("what the database had lost is in it again, or given up");
        }
        seen.went_back = went_back;
        Ok(())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
