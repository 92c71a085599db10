//! The `data_consistency` section of the configuration.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// When and how much is checked, and what is repaired.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConsistencyConfig {
    /// From the beginning of one full sweep to the next.
    #[serde(with = "humantime_serde")]
    pub check_interval: Duration,
    /// From one check of the hot resources to the next.
    #[serde(with = "humantime_serde")]
    pub hot_data_check: Duration,
    /// How many resources are hot.
    pub hot_resources: u32,
    /// Resources, or entries of history, ledger or journal, in one step.
    pub batch_size: u32,
    /// Most of these per second in a full sweep.
    pub max_rate: u32,
    /// Older than this what is on its way is stuck.
    #[serde(with = "humantime_serde")]
    pub stuck_after: Duration,
    /// What seems wrong is looked at again after this time, and must be the same.
    #[serde(with = "humantime_serde")]
    pub confirm_after: Duration,
    /// How far back rows and ledger are compared with the history; must be shorter than history and tombstones are kept.
    #[serde(with = "humantime_serde")]
    pub history: Duration,
    /// How long a checker that was not heard of keeps its leader.
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    /// What is repaired.
    pub auto_fix: AutoFix,
    /// What is kept.
    pub report: ReportConfig,
}

impl Default for ConsistencyConfig {
    fn default() -> Self {
        Self {
            check_interval: Duration::from_secs(300),
            hot_data_check: Duration::from_secs(60),
            hot_resources: 200,
            batch_size: 500,
            max_rate: 5_000,
            stuck_after: Duration::from_secs(60),
            confirm_after: Duration::from_secs(1),
            history: Duration::from_secs(7 * 86_400),
            lease: Duration::from_secs(15),
            auto_fix: AutoFix::default(),
            report: ReportConfig::default(),
        }
    }
}

/// `data_consistency.auto_fix`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AutoFix {
    /// Off: everything is only reported.
    pub enabled: bool,
    /// Who is believed.
    pub strategy: Strategy,
    /// Says what would be repaired, and writes nothing.
    pub dry_run: bool,
}

impl Default for AutoFix {
    fn default() -> Self {
        Self { enabled: true, strategy: Strategy::DatabaseFirst, dry_run: false }
    }
}

impl AutoFix {
    /// The strategy, as far as it is switched on.
    pub const fn effective(self) -> Strategy {
        if self.enabled { self.strategy } else { Strategy::ReportOnly }
    }
}

/// Who is believed where both sides are settled and differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Rows and history; the cache follows.
    DatabaseFirst,
    /// The same, but a cached pair that differs from its row is written to the row.
    CacheFirst,
    /// Nobody: nothing is written.
    ReportOnly,
}

impl Strategy {
    /// As configured and stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DatabaseFirst => "database_first",
            Self::CacheFirst => "cache_first",
            Self::ReportOnly => "report_only",
        }
    }
}

/// `data_consistency.report`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReportConfig {
    /// How long runs and findings are kept.
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
    /// Most findings of one run that are written down; the others are only counted.
    pub max_findings: u32,
}

impl Default for ReportConfig {
    fn default() -> Self {
        Self { retention: Duration::from_secs(30 * 86_400), max_findings: 1_000 }
    }
}

impl ConsistencyConfig {
    /// Checks what can be checked alone; the error is `data_consistency.key: reason`.
    pub fn validate(&self) -> Result<(), String> {
        for (key, value) in [
            ("check_interval", self.check_interval),
            ("hot_data_check", self.hot_data_check),
            ("stuck_after", self.stuck_after),
            ("history", self.history),
            ("report.retention", self.report.retention),
        ] {
            if value.is_zero() {
                return Err(format!("data_consistency.{key}: must be greater than 0"));
            }
        }
        if self.lease < Duration::from_millis(300) {
            return Err(format!("data_consistency.lease: must be at least 300ms, got {:?}", self.lease));
        }
        for (key, value, most) in [
            ("hot_resources", self.hot_resources, 10_000),
            ("batch_size", self.batch_size, 5_000),
            ("max_rate", self.max_rate, u32::MAX),
            ("report.max_findings", self.report.max_findings, 1_000_000),
        ] {
            if value == 0 || value > most {
                return Err(format!("data_consistency.{key}: must be 1 to {most}, got {value}"));
            }
        }
        Ok(())
    }
}
