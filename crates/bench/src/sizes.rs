//! How much is measured.

/// Amounts; the same for all measurements of a run.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Sizes {
    /// How often each figure is taken.
    pub(crate) runs: u32,
    /// Length of one sample.
    pub(crate) seconds: f64,
    /// Likes before the first sample on empty stores.
    pub(crate) warm_up: u64,
    /// Liked resources; all have a count after the warm-up.
    pub(crate) resources: u64,
    /// Resources that are read, all cached.
    pub(crate) read_ids: u64,
    /// Events that wait in the queue before it is drained.
    pub(crate) prefilled: u64,
    /// Likes of a sample that is not bounded by time.
    pub(crate) likes: u64,
    /// Numbers of pairs at which growth is looked at.
    pub(crate) growth: Vec<u64>,
    /// Seconds of events that retention keeps; likes come for five times as long.
    pub(crate) history: f64,
    /// Likes that a peer is given.
    pub(crate) peer_likes: u64,
    /// Lock time of BullMQ's jobs in milliseconds; none: its default.
    pub(crate) peer_lock_ms: Option<u64>,
    /// Seconds without progress after which a peer's queue counts as done.
    pub(crate) peer_quiet_s: f64,
}

impl Sizes {
    pub(crate) fn full() -> Self {
        Self {
            runs: 3,
            seconds: 8.0,
            warm_up: 50_000,
            resources: 1_000,
            read_ids: 1_000_000,
            prefilled: 500_000,
            likes: 100_000,
            growth: vec![100_000, 1_000_000],
            history: 120.0,
            peer_likes: 20_000,
            peer_lock_ms: None,
            // A stalled job of BullMQ comes back after up to twice 30 s.
            peer_quiet_s: 75.0,
        }
    }

    /// Seconds in all.
    pub(crate) fn fast() -> Self {
        Self {
            runs: 1,
            seconds: 0.3,
            warm_up: 500,
            resources: 50,
            read_ids: 2_000,
            prefilled: 2_000,
            likes: 500,
            growth: vec![500, 1_500],
            history: 4.0,
            peer_likes: 400,
            peer_lock_ms: Some(1_000),
            peer_quiet_s: 15.0,
        }
    }
}
