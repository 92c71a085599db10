//! Which way likes go now: what the configuration says, unless an operator ordered otherwise.
//!
//! An order is a row of the database (`sync_meta`), so it survives every process and is the same for all; each server
//! reads it at start and then with every look at the database, about once a second. It is not a barrier, and need not be:
//! servers switch at different moments, and for a second one user's likes may go both ways. Nothing depends on the way,
//! because every version comes from the same clock, the shard's in the cache, before the caller is answered:
//!
//! - event-driven, then synchronous: the version is taken after the accepted one, so the older event, applied later, loses;
//! - synchronous, then event-driven: the clock stands above the row's version, so the event wins; and a cached pair that
//!   missed the row is no reason to answer "unchanged" ([`crate::accept`] reads the row before it says so);
//! - a synchronous write that got stuck (a slow database, a paused server) keeps the version it took. Whatever the user
//!   was answered since has a larger one, and it comes too late, wherever that is: in the row or still in the journal.

use crate::metrics;
use domain::WritePath;
use event_store::{EventStore, StoreError};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// Stands for "nobody said".
const NONE: u8 = u8::MAX;

/// The write path of this process; what matters of it is the percentage.
#[derive(Debug)]
pub struct WriteSwitch {
    configured: AtomicU8,
    ordered: AtomicU8,
    complained: AtomicBool,
}

impl Default for WriteSwitch {
    fn default() -> Self {
        Self { configured: AtomicU8::new(NONE), ordered: AtomicU8::new(NONE), complained: AtomicBool::new(false) }
    }
}

impl WriteSwitch {
    /// The path that likes go now.
    pub fn path(&self) -> WritePath {
        let percent = match self.ordered.load(Ordering::Relaxed) {
            NONE => self.configured.load(Ordering::Relaxed),
            ordered => ordered,
        };
        match percent {
            0 => WritePath::Synchronous,
            100.. => WritePath::EventDriven,
            percent => WritePath::Percentage(percent),
        }
    }

    /// What holds without an order, in a process that takes likes.
    pub(crate) fn configure(&self, path: WritePath) {
        self.configured.store(path.event_driven_percent(), Ordering::Relaxed);
        self.show();
    }

    fn show(&self) {
        if self.configured.load(Ordering::Relaxed) != NONE {
            metrics::write_path(self.path());
        }
    }

    /// Reads the order. One that cannot be understood is complained about once and changes nothing.
    pub(crate) async fn follow(&self, database: &EventStore) -> Result<(), StoreError> {
        self.told(database.write_path().await)
    }

    /// The order as it was read.
    pub(crate) fn told(&self, order: Result<Option<WritePath>, StoreError>) -> Result<(), StoreError> {
        let before = self.path();
        match order {
            Ok(order) => {
                let percent = order.map_or(NONE, WritePath::event_driven_percent);
                self.ordered.store(percent, Ordering::Relaxed);
                self.complained.store(false, Ordering::Relaxed);
            }
            Err(error @ StoreError::Corrupt { .. }) => {
                if !self.complained.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, path = %before, "the ordered write path is not understood and not followed");
                }
            }
            Err(error) => return Err(error),
        }
        let now = self.path();
        if now != before {
            tracing::info!(from = %before, to = %now, "the write path has changed");
        }
        self.show();
        Ok(())
    }
}
