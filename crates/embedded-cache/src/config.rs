//! Section `embedded_cache` of the configuration.

use crate::{EmbeddedCache, OpenError};
use domain::cache::CacheRules;
use domain::{ShardCount, Version};
use std::path::Path;
use std::sync::Arc;

/// What an answered like survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The end of the process, however it ends.
    Process,
    /// The end of the host too: every group of likes is synced to the disk before it is answered.
    #[default]
    Host,
}

/// How much is kept, and how safely.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmbeddedConfig {
    /// What an answered like survives.
    pub durability: Durability,
    /// Size in bytes at which a journal file is followed by the next.
    pub segment_bytes: u64,
    /// Most bytes of all journal files together; beyond it likes are refused as overloaded.
    pub max_journal_bytes: u64,
    /// Most cached pairs.
    pub max_pairs: usize,
    /// Most cached counters, not counting those with unsettled likes.
    pub max_counters: usize,
    /// Most remembered idempotency keys.
    pub max_keys: usize,
    /// Most users whose limit is remembered.
    pub max_users: usize,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            segment_bytes: 8 << 20,
            max_journal_bytes: 2 << 30,
            max_pairs: 500_000,
            max_counters: 200_000,
            max_keys: 100_000,
            max_users: 100_000,
        }
    }
}

/// Gives the time for versions; the machine's wall clock but in tests.
pub(crate) type WallClock = Arc<dyn Fn() -> Version + Send + Sync>;

impl EmbeddedConfig {
    /// Checks the bounds; the error names the key.
    pub fn validate(&self) -> Result<(), String> {
        let sizes =
            [("segment_bytes", self.segment_bytes, 256), ("max_journal_bytes", self.max_journal_bytes, 1 << 16)];
        if let Some((key, value, least)) = sizes.iter().find(|(_, value, least)| value < least) {
            return Err(format!("embedded_cache.{key}: must be at least {least}, got {value}"));
        }
        let counts = [
            ("max_pairs", self.max_pairs),
            ("max_counters", self.max_counters),
            ("max_keys", self.max_keys),
            ("max_users", self.max_users),
        ];
        match counts.iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => Err(format!("embedded_cache.{key}: must be greater than 0")),
            None => Ok(()),
        }
    }

    /// Opens (or creates) the cache in a directory that nobody else uses, and reads its journal.
    ///
    /// # Errors
    /// The directory is in use, cannot be read or written, is damaged, or belongs to another number of shards.
    pub fn open(&self, directory: &Path, rules: CacheRules) -> Result<EmbeddedCache, OpenError> {
        self.open_with_clock(directory, rules, wall_clock)
    }

    /// The number of shards that the journal in a directory was written with; none if there is none yet, or no whole one.
    pub fn shards_in(directory: &Path) -> Option<ShardCount> {
        let files = crate::segment::list(directory).ok()?;
        files.iter().rev().find_map(|(_, path)| {
            let (_, accounting, _) = crate::segment::decode_header(&std::fs::read(path).ok()?).ok()?;
            ShardCount::new(u16::try_from(accounting.len()).ok()?).ok()
        })
    }

    /// The same with another clock: for tests of clocks that go wrong.
    pub fn open_with_clock(
        &self,
        directory: &Path,
        rules: CacheRules,
        clock: impl Fn() -> Version + Send + Sync + 'static,
    ) -> Result<EmbeddedCache, OpenError> {
        EmbeddedCache::open(self, directory, rules, Arc::new(clock))
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
fn wall_clock() -> Version {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Version(i64::try_from(since_1970.as_micros()).unwrap_or(Version::MAX.0).min(Version::MAX.0))
}
