//! Inspect: look at both stores and compare. Nothing here writes.

pub(crate) mod counters;
pub(crate) mod journals;
pub(crate) mod ledger;
pub(crate) mod pairs;
pub(crate) mod pending_refreshes;

use chrono::{DateTime, Utc};
use domain::ShardCount;
use std::time::Duration;
use sync_engine::Stores;

/// Entries of a journal read at once.
const PAGE: usize = 1_000;

/// Compares; writes nothing.
#[derive(Clone)]
pub(crate) struct Inspector {
    pub(crate) stores: Stores,
    pub(crate) shards: ShardCount,
    pub(crate) stuck_after: Duration,
    pub(crate) confirm_after: Duration,
}

impl Inspector {
    /// For reports only; never compared with versions.
    pub(crate) fn wall_clock(&self) -> DateTime<Utc> {
        sync_engine::clock::wall_clock()
    }
}
