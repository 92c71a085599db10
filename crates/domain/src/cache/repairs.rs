//! What a checker asks of a cache that is wrong.

use super::{CacheError, CachedCount};
use crate::{Pair, PairState, Resource, StoredCount};

/// A cached counter to repair, as it was seen, and what the database said afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountRepair {
    /// Which one.
    pub resource: Resource,
    /// The counter as it was seen *before* the database was read.
    pub seen: CachedCount,
    /// What the database said.
    pub stored: StoredCount,
    /// The counter has pending entries, but none of them is in the journal: it was searched after `seen`.
    pub abandoned: bool,
}

/// A cached pair to repair, as it was seen, and its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairRepair {
    /// Which one.
    pub pair: Pair,
    /// The pair as it was seen *before* its row was read.
    pub seen: PairState,
    /// What the row says.
    pub row: PairState,
}

/// What became of a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RepairOutcome {
    /// Written.
    Repaired,
    /// It is not as it was seen any more: look again.
    Changed,
    /// Somebody with a larger fencing token repairs now.
    Fenced,
}

/// This cache does not do what was asked.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("this cache does not support that")]
pub struct Unsupported;

impl From<Unsupported> for CacheError {
    fn from(error: Unsupported) -> Self {
        Self::Rejected(std::sync::Arc::new(error))
    }
}
