//! What a repair did, or why it did nothing.

use super::Side;
use domain::cache::RepairOutcome;
use serde::{Serialize, Serializer};

/// What is done about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RepairAction {
    /// It is another part's work, or a person's.
    Nothing,
    /// Count the live rows again.
    Recount,
    /// Tell the cache once more what the database has.
    Settle,
    /// Overwrite the cached counter, if it is still as it was seen.
    CachedCount,
    /// Overwrite the cached pair, if it is still as it was seen.
    CachedPair,
    /// A shard's accounting was made to agree with its journal.
    Accounting,
    /// The cache forgets a pair whose event an operator discarded.
    Forget,
    /// Write what the cache says as a row.
    Row,
    /// Apply the event that a row or the history lacks.
    Restore,
    /// Settle a journal entry that the ledger has.
    SettleEntry,
}

impl RepairAction {
    /// As stored, served and counted.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Recount => "recount",
            Self::Settle => "settle",
            Self::CachedCount => "cached_count",
            Self::CachedPair => "cached_pair",
            Self::Accounting => "accounting",
            Self::Forget => "forget",
            Self::Row => "row",
            Self::Restore => "restore",
            Self::SettleEntry => "settle_entry",
        }
    }
}

impl Serialize for RepairAction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// How the action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RepairResult {
    /// Written.
    Repaired,
    /// Not as it was seen any more: nothing was written.
    Changed,
    /// Refused: somebody with a larger fencing token repairs now.
    Fenced,
    /// It would have been tried; nothing is to be written.
    DryRun,
    /// It would have been tried; another process is the leader.
    NotLeader,
    /// Only reported.
    Reported,
}

impl RepairResult {
    /// As stored, served and counted.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Repaired => "repaired",
            Self::Changed => "changed",
            Self::Fenced => "fenced",
            Self::DryRun => "dry_run",
            Self::NotLeader => "not_leader",
            Self::Reported => "reported",
        }
    }
}

impl Serialize for RepairResult {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl From<RepairOutcome> for RepairResult {
    fn from(outcome: RepairOutcome) -> Self {
        match outcome {
            RepairOutcome::Repaired => Self::Repaired,
            RepairOutcome::Changed => Self::Changed,
            RepairOutcome::Fenced => Self::Fenced,
        }
    }
}

/// What a repair did, or why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepairNote {
    /// What was done.
    pub action: RepairAction,
    /// How that ended.
    pub outcome: RepairResult,
    /// The repaired side before.
    pub before: Option<Side>,
    /// And after.
    pub after: Option<Side>,
    /// Fencing token that it was tried with.
    pub token: Option<u64>,
}

impl RepairNote {
    /// Whether something was written.
    pub fn is_repaired(&self) -> bool {
        self.outcome == RepairResult::Repaired
    }
}
