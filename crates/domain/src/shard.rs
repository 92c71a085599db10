//! Where a resource lives: all of its cache keys and its journal are in one shard.

use crate::{Invalid, Resource};
use std::fmt;

/// Number of shards, fixed when the data is first written; stored with it and checked at every start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct ShardCount(u16);

impl ShardCount {
    /// Largest number of shards.
    pub const MAX: u16 = 1024;

    /// 1 to [`Self::MAX`].
    pub fn new(count: u16) -> Result<Self, Invalid> {
        if (1..=Self::MAX).contains(&count) {
            Ok(Self(count))
        } else {
            Err(Invalid::new("shards", format!("must be 1 to {}, got {count}", Self::MAX)))
        }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Every shard.
    pub fn all(self) -> impl Iterator<Item = ShardId> + Clone {
        (0..self.0).map(ShardId)
    }

    /// The shard of a resource: a fixed mixing function (SplitMix64's finalizer), because the result is stored.
    pub fn of(self, resource: Resource) -> ShardId {
        let mut hash = (resource.id.get() as u64) ^ ((resource.kind as u64) << 62);
        hash = hash.wrapping_add(0x9E37_79B9_7F4A_7C15);
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        hash ^= hash >> 31;
        ShardId((hash % u64::from(self.0)) as u16)
    }
}

impl Default for ShardCount {
    fn default() -> Self {
        Self(16)
    }
}

impl TryFrom<u16> for ShardCount {
    type Error = Invalid;

    fn try_from(count: u16) -> Result<Self, Invalid> {
        Self::new(count)
    }
}

impl From<ShardCount> for u16 {
    fn from(count: ShardCount) -> Self {
        count.0
    }
}

/// One shard, below the shard count it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ResourceType;

    #[test]
    fn placement_never_changes() {
        // Stored data depends on these: a changed number here is a broken upgrade.
        let shards = ShardCount::default();
        let place = |kind, id| shards.of(Resource::new(kind, id).unwrap()).0;
        let seen: Vec<u16> = (1..=8).map(|id| place(ResourceType::Video, id)).collect();
        assert_eq!(seen, [1, 5, 5, 12, 6, 9, 7, 12]);
        assert_ne!(
            (1..=64).map(|id| place(ResourceType::Video, id)).collect::<Vec<_>>(),
            (1..=64).map(|id| place(ResourceType::Comment, id)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn placement_is_even() {
        let shards = ShardCount::default();
        let mut load = [0u32; 16];
        for id in 1..=16_000 {
            load[usize::from(shards.of(Resource::new(ResourceType::Video, id).unwrap()).0)] += 1;
        }
        assert!(load.iter().all(|n| (850..1150).contains(n)), "{load:?}");
    }

    #[test]
    fn zero_and_huge_counts_are_refused() {
        assert!(ShardCount::new(0).is_err());
        assert!(ShardCount::new(1025).is_err());
    }
}
