//! Sections that belong to no single adapter.

use serde::Deserialize;
use std::time::Duration;
use sync_engine::read::live::LiveConfig;
use sync_engine::read::warm_up::WarmupConfig;
use sync_engine::stores::near_cache::NearCacheConfig;

/// Section `cache_management`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheManagement {
    /// Lifetime of cached pairs and counters; whole seconds. A counter with unsettled likes does not expire.
    #[serde(with = "humantime_serde")]
    pub default_expiry: Duration,
    /// Lifetime of cached pairs and counters that the database does not know either; whole seconds.
    #[serde(with = "humantime_serde")]
    pub unknown_expiry: Duration,
    /// What is cached before somebody asks.
    pub warmup: WarmupConfig,
    /// Counts that callers watch.
    pub live_counts: LiveConfig,
    /// Calls that read much.
    pub bulk_reads: BulkReads,
    /// Counts that each server remembers for a moment.
    pub near_cache: NearCacheConfig,
}

/// `cache_management.bulk_reads`: calls for more than a few counts or states, and lists; each server alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BulkReads {
    /// So many are answered at a time; the others wait, callers in turn.
    pub at_once: usize,
    /// So many wait; more are refused.
    pub waiting: usize,
}

impl Default for BulkReads {
    fn default() -> Self {
        Self { at_once: 4, waiting: 1_000 }
    }
}

impl Default for CacheManagement {
    fn default() -> Self {
        Self {
            default_expiry: Duration::from_secs(24 * 3600),
            unknown_expiry: Duration::from_secs(30),
            warmup: WarmupConfig::default(),
            live_counts: LiveConfig::default(),
            bulk_reads: BulkReads::default(),
            near_cache: NearCacheConfig::default(),
        }
    }
}

impl CacheManagement {
    pub(crate) fn validate(&self) -> Result<(), String> {
        if self.default_expiry < Duration::from_secs(1) {
            return Err(format!("cache_management.default_expiry: must be at least 1s, got {:?}", self.default_expiry));
        }
        self.warmup.validate()?;
        self.live_counts.validate()
    }
}

/// Section `rate_limiting`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimiting {
    /// Likes of one user, counted in Redis for all servers together.
    pub user_action: UserActionLimit,
    /// Likes from one address, counted by each server alone.
    pub ip: IpLimit,
    /// Likes in all, counted by each server alone.
    pub global: GlobalLimit,
    /// What each token may ask for, counted by each server alone.
    pub token: TokenLimit,
}

/// `rate_limiting.token`: by the token's name; where nobody needs a token it limits nobody.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenLimit {
    /// Off where one token is everybody's.
    pub enabled: bool,
    /// Likes per second.
    pub likes_per_second: u32,
    /// Likes at once.
    pub likes_burst: u32,
    /// Counts, states and lines of lists per second.
    pub reads_per_second: u32,
    /// The same at once.
    pub reads_burst: u32,
    /// Streams of live counts at a time.
    pub max_streams: usize,
    /// Different resources that they watch together.
    pub max_watched: usize,
}

impl Default for TokenLimit {
    fn default() -> Self {
        Self {
            enabled: true,
            likes_per_second: 20_000,
            likes_burst: 40_000,
            reads_per_second: 100_000,
            reads_burst: 200_000,
            max_streams: 500,
            max_watched: 1_000,
        }
    }
}

/// `rate_limiting.user_action`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserActionLimit {
    /// Off for load tests.
    pub enabled: bool,
    /// Likes and unlikes per window, and at once.
    pub max_actions: u32,
    /// The window.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
}

impl Default for UserActionLimit {
    fn default() -> Self {
        Self { enabled: true, max_actions: 60, window: Duration::from_secs(60) }
    }
}

/// `rate_limiting.ip`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IpLimit {
    /// Off where callers are other services behind few addresses.
    pub enabled: bool,
    /// Likes per second from one address.
    pub max_per_second: u32,
    /// Likes at once.
    pub burst: u32,
}

impl Default for IpLimit {
    fn default() -> Self {
        Self { enabled: false, max_per_second: 1_000, burst: 2_000 }
    }
}

/// `rate_limiting.global`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GlobalLimit {
    /// Off by configuration for load tests.
    pub enabled: bool,
    /// Likes per second.
    pub max_per_second: u32,
    /// Likes at once.
    pub burst: u32,
}

impl Default for GlobalLimit {
    fn default() -> Self {
        Self { enabled: true, max_per_second: 50_000, burst: 100_000 }
    }
}

impl RateLimiting {
    pub(crate) fn validate(&self) -> Result<(), String> {
        let positive = [
            ("user_action.max_actions", self.user_action.max_actions),
            ("ip.max_per_second", self.ip.max_per_second),
            ("ip.burst", self.ip.burst),
            ("global.max_per_second", self.global.max_per_second),
            ("global.burst", self.global.burst),
            ("token.likes_per_second", self.token.likes_per_second),
            ("token.likes_burst", self.token.likes_burst),
            ("token.reads_per_second", self.token.reads_per_second),
            ("token.reads_burst", self.token.reads_burst),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("rate_limiting.{key}: must be greater than 0"));
        }
        if self.user_action.window < Duration::from_millis(1) {
            return Err("rate_limiting.user_action.window: must be at least 1ms".to_owned());
        }
        Ok(())
    }
}
