//! Section `event_driven_sync` of the configuration.

use domain::codec::MAX_BATCH;
use domain::retry::RetryPolicy;
use domain::{ShardCount, WritePath};
use std::time::Duration;

/// How likes travel.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SyncConfig {
    /// Number of shards; fixed once data exists.
    pub shards: ShardCount,
    /// Most events in one message and in one transaction.
    pub batch_size: usize,
    /// Accepted events that wait in memory to be published; beyond it they wait in the journal.
    pub relay_capacity: usize,
    /// Bytes of events that could not be delivered and are kept in memory until they are settled; beyond it the oldest are in
    /// the journal alone.
    pub kept_bytes: usize,
    /// Most unsettled events per shard; beyond it likes are refused.
    pub journal_limit: u64,
    /// Age at which an unsettled event is taken to be stuck and published again.
    #[serde(with = "humantime_serde")]
    pub republish_after: Duration,
    /// How often the journals are looked at for stuck events.
    #[serde(with = "humantime_serde")]
    pub rescue_interval: Duration,
    /// How long the first answer to an idempotency key is remembered.
    #[serde(with = "humantime_serde")]
    pub idempotency_ttl: Duration,
    /// Likes written directly to the database at the same time, while the cache is unreachable.
    pub direct_writes: usize,
    /// Which way likes go, until an operator orders another.
    pub write_path: WriteMode,
    /// With `percentage`: how many of 100 users are event-driven.
    pub event_driven_percentage: u8,
    /// Retries of events that failed for a reason of their own.
    pub retry: RetryConfig,
    /// When a part counts as unreachable.
    pub circuit: CircuitConfig,
    /// How long what is done is kept.
    pub retention: RetentionConfig,
    /// What happens when the database has gone back in time.
    pub recovery: RecoveryConfig,
}

impl Default for SyncConfig {
    fn default() -> Self {
        Self {
            shards: ShardCount::default(),
            batch_size: 500,
            relay_capacity: 65_536,
            kept_bytes: 64 << 20,
            journal_limit: 250_000,
            republish_after: Duration::from_secs(5),
            rescue_interval: Duration::from_millis(500),
            idempotency_ttl: Duration::from_secs(24 * 3600),
            direct_writes: 32,
            write_path: WriteMode::EventDriven,
            event_driven_percentage: 0,
            retry: RetryConfig::default(),
            circuit: CircuitConfig::default(),
            retention: RetentionConfig::default(),
            recovery: RecoveryConfig::default(),
        }
    }
}

impl SyncConfig {
    /// Checks the bounds; the error names the key.
    pub fn validate(&self) -> Result<(), String> {
        if !(1..=MAX_BATCH).contains(&self.batch_size) {
            return Err(format!("event_driven_sync.batch_size: must be 1 to {MAX_BATCH}, got {}", self.batch_size));
        }
        for (key, value) in [("relay_capacity", self.relay_capacity), ("direct_writes", self.direct_writes)] {
            if !(1..=10_000_000).contains(&value) {
                return Err(format!("event_driven_sync.{key}: must be 1 to 10000000, got {value}"));
            }
        }
        if self.journal_limit == 0 {
            return Err("event_driven_sync.journal_limit: must be greater than 0".to_owned());
        }
        for (key, value) in [("rescue_interval", self.rescue_interval), ("republish_after", self.republish_after)] {
            if value < Duration::from_millis(10) {
                return Err(format!("event_driven_sync.{key}: must be at least 10ms, got {value:?}"));
            }
        }
        if !(1.0..=100.0).contains(&self.retry.backoff_factor) {
            return Err(format!(
                "event_driven_sync.retry.backoff_factor: must be 1 to 100, got {}",
                self.retry.backoff_factor
            ));
        }
        if self.retry.claim_lease < Duration::from_millis(100) {
            return Err(format!(
                "event_driven_sync.retry.claim_lease: must be at least 100ms, got {:?}",
                self.retry.claim_lease
            ));
        }
        if self.event_driven_percentage > 100 {
            return Err(format!(
                "event_driven_sync.event_driven_percentage: must be 0 to 100, got {}",
                self.event_driven_percentage
            ));
        }
        self.retention.validate()
    }

    /// The configured write path.
    pub fn write_path(&self) -> WritePath {
        match self.write_path {
            WriteMode::EventDriven => WritePath::EventDriven,
            WriteMode::Percentage => WritePath::Percentage(self.event_driven_percentage),
            WriteMode::Synchronous => WritePath::Synchronous,
        }
    }
}

/// `event_driven_sync.write_path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// Cache first, events behind it.
    #[default]
    EventDriven,
    /// `event_driven_percentage` of the users event-driven, the others synchronous.
    Percentage,
    /// Database first, then the cache: the old mechanism, for gradual migration and as a baseline.
    Synchronous,
}

/// Section `event_driven_sync.retry`.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// Retries after the first failure; then the event is dead.
    pub max_retries: u32,
    /// Delay before the first retry.
    #[serde(with = "humantime_serde")]
    pub base_delay: Duration,
    /// Longest delay.
    #[serde(with = "humantime_serde")]
    pub max_delay: Duration,
    /// Growth of the delay from retry to retry.
    pub backoff_factor: f64,
    /// A worker that does not conclude an event within this time has died: another may take it.
    #[serde(with = "humantime_serde")]
    pub claim_lease: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            max_retries: 3,
            base_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(60),
            backoff_factor: 2.0,
            claim_lease: Duration::from_secs(60),
        }
    }
}

impl From<RetryConfig> for RetryPolicy {
    fn from(config: RetryConfig) -> Self {
        Self {
            max_retries: config.max_retries,
            base_delay: config.base_delay,
            max_delay: config.max_delay,
            backoff_factor: config.backoff_factor,
        }
    }
}

/// Section `event_driven_sync.circuit`.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CircuitConfig {
    /// Failures in a row that open a circuit.
    pub failures: u32,
    /// How often an open circuit's part is probed.
    #[serde(with = "humantime_serde")]
    pub probe_interval: Duration,
}

impl Default for CircuitConfig {
    fn default() -> Self {
        Self { failures: 3, probe_interval: Duration::from_millis(250) }
    }
}

/// Section `event_driven_sync.recovery`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecoveryConfig {
    /// A consumer brings back what was lost; off: an operator does.
    pub automatic: bool,
    /// Most events of the redo log, or cached pairs, per second.
    pub max_rate: u32,
    /// Batches of them that are compared, or applied, at a time; and journals that are settled afterwards.
    pub at_once: usize,
    /// The redo log is read from so long before the last commit that the database still has: longer than a like may wait between
    /// its publication and its commit.
    #[serde(with = "humantime_serde")]
    pub margin: Duration,
}

impl Default for RecoveryConfig {
    fn default() -> Self {
        Self { automatic: true, max_rate: 100_000, at_once: 4, margin: Duration::from_secs(120) }
    }
}

/// Section `event_driven_sync.retention`.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// Age at which completed events leave the ledger. Failed and dead ones stay until they are replayed or discarded, and
    /// discarded ones for good.
    #[serde(with = "humantime_serde")]
    pub completed_events: Duration,
    /// Age at which the history of likes is deleted. The checker compares rows with history that is younger, and a backfill folds
    /// what is left.
    #[serde(with = "humantime_serde")]
    pub behaviors: Duration,
    /// Age at which rows of likes taken back move to the archive, where older events still find them, and at which what
    /// operators did is deleted.
    #[serde(with = "humantime_serde")]
    pub tombstones: Duration,
    /// Most rows looked at or deleted at once.
    pub batch_size: u32,
    /// Most rows and cached keys per second that are looked at, or deleted, for users who are erased.
    pub erasure_rate: u32,
    /// Pause between two rounds.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        let interval = Duration::from_secs(60);
        Self {
            completed_events: 7 * day,
            behaviors: 400 * day,
            tombstones: 30 * day,
            batch_size: 1000,
            erasure_rate: 20_000,
            interval,
        }
    }
}

impl RetentionConfig {
    /// What is younger is still being worked on: an event that is retried finds its row, not the archive.
    const SHORTEST: Duration = Duration::from_secs(3600);

    fn validate(&self) -> Result<(), String> {
        let ages = [
            ("completed_events", self.completed_events),
            ("behaviors", self.behaviors),
            ("tombstones", self.tombstones),
        ];
        for (key, age) in ages {
            if age < Self::SHORTEST {
                return Err(format!("event_driven_sync.retention.{key}: must be at least 1h, got {age:?}"));
            }
        }
        // Whether an event is known is asked of the ledger, and of the history, which outlives it.
        if self.behaviors < self.completed_events {
            return Err("event_driven_sync.retention.behaviors: must not be shorter than completed_events".to_owned());
        }
        if !(1..=10_000).contains(&self.batch_size) {
            return Err(format!("event_driven_sync.retention.batch_size: must be 1 to 10000, got {}", self.batch_size));
        }
        if !(100..=10_000_000).contains(&self.erasure_rate) {
            let rate = self.erasure_rate;
            return Err(format!("event_driven_sync.retention.erasure_rate: must be 100 to 10000000, got {rate}"));
        }
        if self.interval < Duration::from_millis(10) {
            return Err(format!(
                "event_driven_sync.retention.interval: must be at least 10ms, got {:?}",
                self.interval
            ));
        }
        Ok(())
    }
}
