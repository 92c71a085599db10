//! What a cache enforces.

use crate::ShardCount;
use std::time::Duration;

/// Limits and lifetimes that a cache enforces.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheRules {
    /// Number of shards of the data.
    pub shards: ShardCount,
    /// Lifetime of a cached pair since its last change or fill.
    pub pair_ttl: Duration,
    /// Lifetime of a cached counter since it last had nothing pending.
    pub counter_ttl: Duration,
    /// Lifetime of pairs and counters that the database does not know either: whoever asks for ids that do not exist must not
    /// fill the cache. Their first like gives them the lifetimes above.
    pub unknown_ttl: Duration,
    /// How long the first answer to an idempotency key is remembered.
    pub idempotency_ttl: Duration,
    /// Most unsettled entries per shard; beyond it likes are refused as overloaded.
    pub journal_limit: u64,
    /// Limit per user, or none.
    pub user_limit: Option<UserLimit>,
}

/// Evenly spaced tokens with a burst (GCRA): `actions` per `period`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserLimit {
    /// Tokens per period, and the burst; at least 1.
    pub actions: u32,
    /// The period.
    pub period: Duration,
}
