//! Where a resource lives: all of its cache keys and its journal are in one shard.

use crate::{Invalid, Resource};
use std::fmt;
use std::str::FromStr;

/// Number of shards, chosen when the data is first written; stored with it and looked at ever after.
///
/// It is changed by resharding only, which gives the data new keys: the epoch says how often that was. So the same number of another
/// epoch is another place, and whoever still knows the old one cannot write to the new one.
///
/// As text it is `64`, or `64@2` after it was changed for the second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct ShardCount {
    count: u16,
    epoch: u16,
}

impl ShardCount {
    /// Largest number of shards.
    pub const MAX: u16 = 1024;

    /// Of data that was never resharded: 1 to [`Self::MAX`].
    pub fn new(count: u16) -> Result<Self, Invalid> {
        if (1..=Self::MAX).contains(&count) {
            Ok(Self { count, epoch: 0 })
        } else {
            Err(Invalid::new("shards", format!("must be 1 to {}, got {count}", Self::MAX)))
        }
    }

    /// This number of shards, after data of ours was resharded.
    pub fn resharded_to(self, count: u16) -> Result<Self, Invalid> {
        let epoch = self.epoch.checked_add(1);
        let epoch = epoch.ok_or_else(|| Invalid::new("shards", "were changed too often".to_owned()))?;
        Ok(Self { epoch, ..Self::new(count)? })
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.count
    }

    /// How often the data was resharded.
    pub const fn epoch(self) -> u16 {
        self.epoch
    }

    /// Every shard.
    pub fn all(self) -> impl Iterator<Item = ShardId> + Clone {
        (0..self.count).map(ShardId)
    }

    /// The name of a shard, which no other number of shards has: `s3`, and after resharding `s3.1`.
    pub const fn name_of(self, shard: ShardId) -> ShardName {
        ShardName { shard, epoch: self.epoch }
    }

    /// The shard of a resource: a fixed mixing function (SplitMix64's finalizer), because the result is stored.
    pub fn of(self, resource: Resource) -> ShardId {
        let mut hash = (resource.id.get() as u64) ^ ((resource.kind as u64) << 62);
        hash = hash.wrapping_add(0x9E37_79B9_7F4A_7C15);
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        hash ^= hash >> 31;
        ShardId((hash % u64::from(self.count)) as u16)
    }
}

/// For new data. Data of before 0.3 has 16, and keeps them.
impl Default for ShardCount {
    fn default() -> Self {
        Self { count: 64, epoch: 0 }
    }
}

impl fmt::Display for ShardCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch {
            0 => self.count.fmt(f),
            epoch => write!(f, "{}@{epoch}", self.count),
        }
    }
}

impl FromStr for ShardCount {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (count, epoch) = text.split_once('@').map_or((text, None), |(count, epoch)| (count, Some(epoch)));
        let number = |text: &str| text.parse::<u16>().ok();
        let read = number(count).zip(epoch.map_or(Some(0), |epoch| number(epoch).filter(|epoch| *epoch > 0)));
        let (count, epoch) = read.ok_or_else(|| Invalid::new("shards", format!("{text:?} is no number of shards")))?;
        Ok(Self { epoch, ..Self::new(count)? })
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
        count.count
    }
}

/// The data has another number of shards than this process works with, because it was resharded meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the data was resharded: it has {} shards now, and this process knows {}; restart it", now.get(), ours.get())]
pub struct Resharded {
    /// What the data has.
    pub now: ShardCount,
    /// What this process works with.
    pub ours: ShardCount,
}

/// One shard, below the shard count it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// See [`ShardCount::name_of`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardName {
    shard: ShardId,
    epoch: u16,
}

impl fmt::Display for ShardName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch {
            0 => write!(f, "s{}", self.shard),
            epoch => write!(f, "s{}.{epoch}", self.shard),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ResourceType;

    #[test]
    fn placement_never_changes() {
        // Stored data depends on these: a changed number here is a broken upgrade.
        let shards = ShardCount::new(16).unwrap();
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
        let shards = ShardCount::new(16).unwrap();
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

    #[test]
    fn what_is_stored_is_read_again_and_nothing_else_is() {
        let first = ShardCount::new(16).unwrap();
        let second = first.resharded_to(64).unwrap();
        for (shards, text, name) in [(first, "16", "s3"), (second, "64@1", "s3.1")] {
            assert_eq!(shards.to_string(), text);
            assert_eq!(text.parse::<ShardCount>().unwrap(), shards);
            assert_eq!(shards.name_of(ShardId(3)).to_string(), name);
        }
        for text in ["", "0", "64@", "64@0", "@1", "64@1@1", "-1", "1025", "64@70000"] {
            assert!(text.parse::<ShardCount>().is_err(), "{text}");
        }
    }
}
