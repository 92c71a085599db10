//! What an erasure asks of a cache.

use crate::{Erased, Pair, Version};

/// What of a user or a resource is looked for, and whether it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sweep {
    /// Whose.
    pub of: Erased,
    /// What is newer stays: it was said after the fence.
    pub up_to: Version,
    /// It goes; else it is only counted.
    pub remove: bool,
}

impl Sweep {
    /// Whether what is held of this pair, with this version, is meant.
    pub fn finds(&self, pair: Pair, version: Version) -> bool {
        self.of.has(pair) && version <= self.up_to
    }
}

/// What a look found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Swept {
    /// Cached pairs; those that only say that there is no row are not counted.
    pub pairs: u64,
    /// First answers of idempotency keys.
    pub keys: u64,
}

impl std::ops::AddAssign for Swept {
    fn add_assign(&mut self, more: Self) {
        self.pairs += more.pairs;
        self.keys += more.keys;
    }
}
