//! What the cache is told when the database has something.

use super::CommitNumber;
use crate::{Pair, PairState, Resource, StoredCount, Version};

/// What a committed (or parked) batch means for one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledResource {
    /// Which one.
    pub resource: Resource,
    /// Journal entries that the database now holds.
    pub entries: Vec<Version>,
    /// Count and revision read in the committed transaction, if it wrote any.
    pub stored: Option<StoredCount>,
}

/// Told to the cache after each commit. Calling it twice, late or out of order is harmless.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settlement {
    /// Per resource.
    pub resources: Vec<SettledResource>,
    /// Rows of the pairs concerned: a cached pair that is older is refreshed, an uncached one is left alone.
    pub pairs: Vec<(Pair, PairState)>,
    /// The commit that is settled, if it has a number.
    pub commit: Option<CommitNumber>,
}

impl Settlement {
    /// What rows say, to a cache that may have heard something older; the journal keeps its entries.
    pub fn of_rows(
        counts: impl IntoIterator<Item = (Resource, StoredCount)>,
        pairs: impl IntoIterator<Item = (Pair, PairState)>,
    ) -> Self {
        let of_count = |(resource, stored)| SettledResource { resource, entries: Vec::new(), stored: Some(stored) };
        let resources = counts.into_iter().map(of_count).collect();
        Self { resources, pairs: pairs.into_iter().collect(), commit: None }
    }
}

/// What a settlement changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SettleReport {
    /// Entries that were really in the journal.
    pub removed: u64,
    /// Served counts that were wrong and are right now.
    pub corrections: u64,
    /// Cached pairs that were older than their rows.
    pub refreshed: u64,
}

impl std::ops::AddAssign for SettleReport {
    fn add_assign(&mut self, other: Self) {
        self.removed += other.removed;
        self.corrections += other.corrections;
        self.refreshed += other.refreshed;
    }
}
