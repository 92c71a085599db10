//! Sections that belong to no single adapter.

use serde::Deserialize;
use std::time::Duration;
use sync_engine::read::live::LiveConfig;
use sync_engine::read::warm_up::WarmupConfig;

/// Section `cache_management`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheManagement {
    /// Lifetime of cached pairs and counters; whole seconds. A counter with unsettled likes does not expire.
    #[serde(with = "humantime_serde")]
    pub default_expiry: Duration,
    /// What is cached before somebody asks.
    pub warmup: WarmupConfig,
    /// Counts that callers watch.
    pub live_counts: LiveConfig,
}

impl Default for CacheManagement {
    fn default() -> Self {
        Self {
            default_expiry: Duration::from_secs(24 * 3600),
            warmup: WarmupConfig::default(),
            live_counts: LiveConfig::default(),
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
