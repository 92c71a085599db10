//! What a cache says of itself.

use crate::{ShardId, Version};
use std::time::Duration;

/// A shard's accounting. Conservation: `accepted - settled = journal_len`, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct ShardStatus {
    /// Which shard.
    pub shard: ShardId,
    /// Entries ever appended to the journal.
    pub accepted: u64,
    /// Entries ever removed by settling.
    pub settled: u64,
    /// Entries in the journal now.
    pub journal_len: u64,
    /// Oldest unsettled entry.
    pub oldest: Option<Version>,
    /// Highest version that was ever settled: what the consumers have reached.
    pub settled_up_to: Version,
    /// The cache's own clock, same unit as versions: ages are differences to this one, never to another clock.
    pub now: Version,
}

impl ShardStatus {
    /// Whether what was accepted and not settled is what the journal holds.
    pub const fn is_conserved(&self) -> bool {
        self.accepted.wrapping_sub(self.settled) == self.journal_len
    }
}

/// What a shard still knows of what it answered this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardStanding {
    /// Which shard.
    pub shard: ShardId,
    /// It has everything that it ever answered this process, as far as this process still knows what that was.
    pub whole: bool,
    /// Of what has this version or a smaller one it is not known whether a shard before this one had it.
    pub back: Version,
    /// The highest version that this process had been answered when the journal was looked at.
    pub up_to: Version,
    /// Oldest unsettled entry.
    pub oldest: Option<Version>,
}

impl ShardStanding {
    /// Whether an entry of this version, which this process was answered, has left the journal because the database has it. A
    /// later one may have come to the journal after it was looked at.
    pub fn has_settled(&self, version: Version) -> bool {
        self.whole && self.back < version && version <= self.up_to && self.oldest.is_none_or(|oldest| version < oldest)
    }
}

/// What a cache says of its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durability {
    /// It writes a file at all.
    pub persistent: bool,
    /// The last write to it went well.
    pub writable: bool,
    /// How often writing waited for a sync before it since the start of the cache; until a delayed write is made, a kill of
    /// the process takes it.
    pub delayed_syncs: u64,
    /// How much of the memory that it may use is used, in percent; none if it has no limit, or does not say.
    pub memory_percent: Option<u8>,
    /// It may drop what has no end of its own, the journal too, when it is full.
    pub may_evict: bool,
    /// Its replicas, where answers wait for them.
    pub replicas: Option<Replicas>,
}

impl Durability {
    /// Of two servers that are one cache: as good as the worse one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let replicas = |one: Replicas, other: Replicas| Replicas {
            wanted: one.wanted.max(other.wanted),
            attached: one.attached.min(other.attached),
            unconfirmed: one.unconfirmed + other.unconfirmed,
            refused: one.refused || other.refused,
        };
        Self {
            persistent: self.persistent && other.persistent,
            writable: self.writable && other.writable,
            delayed_syncs: self.delayed_syncs + other.delayed_syncs,
            memory_percent: self.memory_percent.max(other.memory_percent),
            may_evict: self.may_evict || other.may_evict,
            replicas: match (self.replicas, other.replicas) {
                (Some(one), Some(other)) => Some(replicas(one, other)),
                (one, other) => one.or(other),
            },
        }
    }
}

/// What a cache says of its replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replicas {
    /// So many confirm every answer.
    pub wanted: u32,
    /// So many follow.
    pub attached: u32,
    /// Answers of this process that were not confirmed in time, so far.
    pub unconfirmed: u64,
    /// Such answers are refused; else they are given.
    pub refused: bool,
}

impl ShardStatus {
    /// Age of the oldest unsettled entry.
    pub fn oldest_age(&self) -> Option<Duration> {
        self.oldest.map(|oldest| self.now.since(oldest))
    }
}
