//! What those have in common who bring to the broker, afterwards, what went around it: one process at a time, in batches.

use domain::cache::CacheError;
use event_bus::BusError;
use event_store::StoreError;
use std::time::Duration;

pub(super) const LEASE_TTL: Duration = Duration::from_secs(10);

/// How often it is looked for.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// Rows at once.
pub(super) const BATCH: usize = 500;

/// Most batches between two looks at the lease's other conditions.
pub(super) const BATCHES: usize = 100;

/// What waits is counted up to this.
pub(super) const COUNTED: u32 = 100_000;

/// A round that did not end well.
#[derive(Debug, thiserror::Error)]
pub(super) enum RoundError {
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Bus(#[from] BusError),
}
