//! What can be compared, what can be found, and what was done about it.

mod counts;
mod of_tables;
mod repair_note;

use domain::cache::CachedCount;
use domain::{LikeEvent, Pair, PairState, Resource, ResourceType, ShardId, StoredCount, UserId, Version};
use event_store::FindingLife;
use planted_bugs::planted;
use serde::Serialize;
use std::time::Duration;

pub use counts::CountConclusion;
pub(crate) use of_tables::{foreign_finding, history_finding, ledger_finding, row_finding};
pub use repair_note::{RepairAction, RepairNote, RepairResult};

const DAY_US: i64 = 86_400_000_000;

/// What was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Cached counter and stored counter.
    CachedCount,
    /// Stored counter and live rows.
    StoredCount,
    /// A row and the history of its pair.
    Row,
    /// The history and the ledger.
    History,
    /// A cached pair and its row.
    CachedPair,
    /// An event of the ledger that is not finished.
    Ledger,
    /// An entry of a journal.
    Journal,
    /// A shard's accounting.
    Accounting,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::CachedCount,
        Self::StoredCount,
        Self::Row,
        Self::History,
        Self::CachedPair,
        Self::Ledger,
        Self::Journal,
        Self::Accounting,
    ];

    /// As stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CachedCount => "cached_count",
            Self::StoredCount => "stored_count",
            Self::Row => "row",
            Self::History => "history",
            Self::CachedPair => "cached_pair",
            Self::Ledger => "ledger",
            Self::Journal => "journal",
            Self::Accounting => "accounting",
        }
    }
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Both sides say the same.
    Consistent,
    /// Accepted changes are on their way: not wrong.
    InFlight,
    /// They are on their way for too long.
    Stuck,
    /// The cache has not heard the newest of the database.
    Stale,
    /// Both are settled, and differ.
    Drift,
    /// One side lacks what the other one has.
    Missing,
    /// Something that stands for nothing any more.
    Orphan,
    /// The cache has heard from the database what the database does not have: evidence that it went back in time.
    WentBack,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 8] = [
        Self::Consistent,
        Self::InFlight,
        Self::Stuck,
        Self::Stale,
        Self::Drift,
        Self::Missing,
        Self::Orphan,
        Self::WentBack,
    ];

    /// As stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Consistent => "consistent",
            Self::InFlight => "in_flight",
            Self::Stuck => "stuck",
            Self::Stale => "stale",
            Self::Drift => "drift",
            Self::Missing => "missing",
            Self::Orphan => "orphan",
            Self::WentBack => "went_back",
        }
    }

    /// Whether this is an inconsistency: lag is none.
    pub const fn is_wrong(self) -> bool {
        !matches!(self, Self::Consistent | Self::InFlight)
    }
}

/// What it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Subject {
    /// A user and a resource.
    Pair(Pair),
    /// A resource.
    Resource(Resource),
    /// A shard.
    Shard {
        /// Its number.
        shard: ShardId,
    },
}

impl Subject {
    /// The resource that it is about; none of a shard.
    pub(crate) const fn resource(self) -> Option<Resource> {
        match self {
            Self::Pair(pair) => Some(pair.resource),
            Self::Resource(resource) => Some(resource),
            Self::Shard { .. } => None,
        }
    }

    /// Of what was written down; none if that is of no resource that there is.
    pub(crate) fn of(life: &FindingLife) -> Option<Self> {
        if life.resource_type == "shard" {
            return u16::try_from(life.resource_id).ok().map(|shard| Self::Shard { shard: ShardId(shard) });
        }
        let resource = Resource::new(life.resource_type.parse::<ResourceType>().ok()?, life.resource_id).ok()?;
        match life.user_id {
            None => Some(Self::Resource(resource)),
            Some(user) => Some(Self::Pair(Pair { resource, user: UserId::new(user).ok()? })),
        }
    }
}

/// What one side says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Side {
    /// Count, or 1 for liked and 0 for not.
    pub value: i64,
    /// Version, where there is one.
    pub version: Option<Version>,
    /// Revision, where there is one.
    pub revision: Option<i64>,
    /// Entries not settled; of a cached counter.
    pub pending: Option<i64>,
}

impl From<CachedCount> for Side {
    fn from(count: CachedCount) -> Self {
        Self {
            value: count.served,
            version: Some(count.last_version),
            revision: Some(count.stored_revision),
            pending: Some(count.pending),
        }
    }
}

impl From<StoredCount> for Side {
    fn from(stored: StoredCount) -> Self {
        let (version, revision) = (Some(stored.last_version), Some(stored.revision));
        Self { value: stored.count, version, revision, pending: None }
    }
}

impl From<PairState> for Side {
    fn from(state: PairState) -> Self {
        Self { value: i64::from(state.liked), version: Some(state.version), revision: None, pending: None }
    }
}

impl From<i64> for Side {
    fn from(value: i64) -> Self {
        Self { value, version: None, revision: None, pending: None }
    }
}

/// One comparison that did not end as consistent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was compared.
    pub kind: Kind,
    /// What was found.
    pub verdict: Verdict,
    /// About what.
    #[serde(flatten)]
    pub subject: Subject,
    /// What the cache (or, between tables, the derived one) says; none if it does not know.
    pub cache: Option<Side>,
    /// What the database (or the deriving one) says.
    pub stored: Option<Side>,
    /// In words, where the numbers do not say it.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub detail: String,
    /// What was done about it.
    pub repair: Option<RepairNote>,
    /// What a row or the history lacks: the event that repairs it.
    #[serde(skip)]
    pub event: Option<Box<LikeEvent>>,
}

/// Whether a cached counter, read before the stored one, is evidence that the database went back in time: a newer revision is
/// impossible in that order otherwise. Revisions are times, so what is a day ahead of every clock is nobody's.
pub(crate) fn is_evidence(cached: CachedCount, stored: StoredCount, now: Version) -> bool {
    planted!("repairs_cache_backwards" => false);
    cached.stored_revision > stored.revision && cached.stored_revision < now.0.saturating_add(DAY_US)
}

/// A cached counter, read before the stored one.
pub(crate) fn judge_cached(
    cached: Option<CachedCount>,
    stored: StoredCount,
    now: Version,
    stuck_after: Duration,
) -> Verdict {
    let Some(cached) = cached else { return Verdict::Consistent };
    if cached.pending > 0 {
        let old = now.since(cached.last_version) > stuck_after;
        return if old { Verdict::Stuck } else { Verdict::InFlight };
    }
    match cached.stored_revision.cmp(&stored.revision) {
        std::cmp::Ordering::Less => Verdict::Stale,
        std::cmp::Ordering::Greater if is_evidence(cached, stored, now) => Verdict::WentBack,
        std::cmp::Ordering::Greater => Verdict::Drift,
        std::cmp::Ordering::Equal if cached.served != stored.count || cached.stored != stored.count => Verdict::Drift,
        std::cmp::Ordering::Equal => Verdict::Consistent,
    }
}

/// A stored counter and live rows of the same snapshot.
pub(crate) const fn judge_stored(stored: Option<StoredCount>, live: i64) -> Verdict {
    match stored {
        None if live > 0 => Verdict::Missing,
        Some(stored) if stored.count != live => Verdict::Drift,
        _ => Verdict::Consistent,
    }
}

/// A cached pair, read before its row. A newer one is only a suspect: its event may be on its way.
pub(crate) fn judge_pair(cached: Option<PairState>, row: PairState) -> Verdict {
    let Some(cached) = cached else { return Verdict::Consistent };
    if !cached.liked && row == PairState::UNTOUCHED {
        // Never liked, or a tombstone that was archived.
        return Verdict::Consistent;
    }
    match cached.version.cmp(&row.version) {
        std::cmp::Ordering::Less => Verdict::Stale,
        std::cmp::Ordering::Greater => Verdict::Missing,
        std::cmp::Ordering::Equal if cached.liked != row.liked => Verdict::Drift,
        std::cmp::Ordering::Equal => Verdict::Consistent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Version = Version(100_000_000);
    const LIMIT: Duration = Duration::from_secs(1);

    fn cached(served: i64, pending: i64, stored: i64, stored_revision: i64) -> Option<CachedCount> {
        Some(CachedCount { served, pending, last_version: Version(99_500_000), stored, stored_revision })
    }

    #[test]
    fn lag_is_told_from_drift() {
        let stored = StoredCount { count: 5, revision: 7, last_version: Version::ZERO };
        let judge = |cached| judge_cached(cached, stored, NOW, LIMIT);
        for (seen, verdict) in [
            (None, Verdict::Consistent),
            (cached(5, 0, 5, 7), Verdict::Consistent),
            (cached(9, 2, 5, 7), Verdict::InFlight),
            (cached(9, 2, 1, 1), Verdict::InFlight),
            (cached(4, 0, 4, 6), Verdict::Stale),
            (cached(6, 0, 5, 7), Verdict::Drift),
            (cached(5, 0, 4, 7), Verdict::Drift),
            (cached(9, 0, 9, 8), Verdict::WentBack),
            (cached(9, 1, 9, 8), Verdict::InFlight),
            (cached(5, 0, 5, NOW.0 + DAY_US), Verdict::Drift),
        ] {
            assert_eq!(judge(seen), verdict, "{seen:?}");
        }
        let old = cached(9, 2, 5, 7).map(|count| CachedCount { last_version: Version(1), ..count });
        assert_eq!(judge(old), Verdict::Stuck);
    }

    #[test]
    fn a_purged_tombstone_is_nothing() {
        let state = |liked, version| PairState { liked, version: Version(version) };
        for (seen, row, verdict) in [
            (None, state(true, 5), Verdict::Consistent),
            (Some(state(true, 5)), state(true, 5), Verdict::Consistent),
            (Some(state(false, 5)), state(true, 5), Verdict::Drift),
            (Some(state(true, 4)), state(false, 5), Verdict::Stale),
            (Some(state(true, 6)), state(false, 5), Verdict::Missing),
            (Some(state(false, 6)), PairState::UNTOUCHED, Verdict::Consistent),
            (Some(state(true, 6)), PairState::UNTOUCHED, Verdict::Missing),
        ] {
            assert_eq!(judge_pair(seen, row), verdict, "{seen:?} {row:?}");
        }
    }
}
