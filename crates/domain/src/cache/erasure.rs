//! What an erasure asks of a cache.

use crate::{Erased, Fence, Pair, Version};
use std::collections::HashMap;

/// What of users and resources is looked for, and whether it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sweep<'a> {
    /// Whose, and up to where: what is newer stays. No two are of the same.
    pub fences: &'a [Fence],
    /// It goes; else it is only counted.
    pub remove: bool,
}

impl<'a> Sweep<'a> {
    /// Ready to be asked about many pairs.
    pub fn index(&self) -> SweepIndex<'a> {
        let places = self.fences.iter().enumerate().map(|(place, fence)| (fence.of, place)).collect();
        SweepIndex { fences: self.fences, places }
    }
}

/// Finds the fence of a pair without a look at each.
#[derive(Debug)]
pub struct SweepIndex<'a> {
    fences: &'a [Fence],
    places: HashMap<Erased, usize>,
}

impl SweepIndex<'_> {
    /// The fence of a pair, and its place among all: the higher one, if its user and its resource have one.
    pub fn of(&self, pair: Pair) -> Option<(usize, Version)> {
        let of = [Erased::User(pair.user), Erased::Resource(pair.resource)];
        let found = of.iter().filter_map(|of| self.places.get(of));
        found.map(|place| (*place, self.fences[*place].up_to)).max_by_key(|(_, up_to)| *up_to)
    }

    /// The place of the fence that what is held of this pair, with this version, is behind.
    pub fn finds(&self, pair: Pair, version: Version) -> Option<usize> {
        self.of(pair).filter(|(_, up_to)| version <= *up_to).map(|(place, _)| place)
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
