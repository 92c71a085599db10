//! What a user did, and what became of it.

use crate::{Invalid, Pair};
use std::fmt;
use std::time::Duration;
use uuid::Uuid;

/// Orders the changes of one pair: microseconds since 1970, strictly increasing within a shard.
///
/// Zero stands for "never changed". Below 2^52 (year 2112), so that a version and one bit fit a Lua number exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize)]
pub struct Version(pub i64);

impl Version {
    /// The version of a pair that nobody ever touched.
    pub const ZERO: Self = Self(0);

    /// Largest version that every store keeps exactly.
    pub const MAX: Self = Self((1 << 52) - 1);

    /// What a store says, as far as it can be a version: numbers beyond order nothing, and must move no clock.
    #[must_use]
    pub fn if_possible(self) -> Self {
        if self > Self::MAX { Self::ZERO } else { self }
    }

    /// Time between two versions, zero if `earlier` is the later one.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the user wants; the discriminants are stored and sent.
///
/// The order matters: at equal versions (only possible between two stores' clocks) a like beats an unlike, everywhere alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Action {
    /// Take the like back.
    Unlike = 0,
    /// Like.
    Like = 1,
}

impl Action {
    /// The state this action leads to.
    pub const fn liked(self) -> bool {
        matches!(self, Self::Like)
    }

    /// The action that leads to `liked`.
    pub const fn from_liked(liked: bool) -> Self {
        if liked { Self::Like } else { Self::Unlike }
    }

    /// `like` or `unlike`, as stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Like => "like",
            Self::Unlike => "unlike",
        }
    }

    /// From its stored number.
    pub fn from_code(code: u8) -> Result<Self, Invalid> {
        match code {
            0 => Ok(Self::Unlike),
            1 => Ok(Self::Like),
            other => Err(Invalid::new("action", format!("unknown code {other}"))),
        }
    }
}

impl std::str::FromStr for Action {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "like" => Ok(Self::Like),
            "unlike" => Ok(Self::Unlike),
            other => Err(Invalid::new("action_type", format!("expected like or unlike, got {other:?}"))),
        }
    }
}

/// Which way an event came to the database; the discriminants are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Origin {
    /// Accepted by the cache, carried by its journal: settling removes the journal entry.
    Journal = 0,
    /// Written to the database directly, because the cache was unreachable or the synchronous path is configured.
    Direct = 1,
    /// Brought in by an import or a backfill.
    Import = 2,
}

impl Origin {
    /// As stored in `sync_events.origin`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Direct => "direct",
            Self::Import => "import",
        }
    }

    /// From its sent number.
    pub fn from_code(code: u8) -> Result<Self, Invalid> {
        match code {
            0 => Ok(Self::Journal),
            1 => Ok(Self::Direct),
            2 => Ok(Self::Import),
            other => Err(Invalid::new("origin", format!("unknown code {other}"))),
        }
    }
}

impl std::str::FromStr for Origin {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "journal" => Ok(Self::Journal),
            "direct" => Ok(Self::Direct),
            "import" => Ok(Self::Import),
            other => Err(Invalid::new("origin", format!("unknown origin {other:?}"))),
        }
    }
}

/// W3C trace context of the request that caused an event: lets one trace span the journal and the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// Trace id.
    pub trace_id: [u8; 16],
    /// Span that the next one hangs under.
    pub span_id: [u8; 8],
    /// W3C trace flags; bit 0 is "sampled".
    pub flags: u8,
}

/// A change as the caller asked for it; it has no version yet, because only the cache's shard clock gives one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LikeIntent {
    /// UUID v7; identifies the event in every store.
    pub id: Uuid,
    /// Who and what.
    pub pair: Pair,
    /// Wanted state.
    pub action: Action,
    /// Caller's own key, at most [`LikeIntent::MAX_KEY_LEN`] bytes.
    pub idempotency_key: Option<String>,
    /// Trace of the request, where it is sampled.
    pub trace: Option<TraceContext>,
}

impl LikeIntent {
    /// Longest idempotency key in bytes.
    pub const MAX_KEY_LEN: usize = 128;
}

/// An accepted change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LikeEvent {
    /// What was asked.
    pub intent: LikeIntent,
    /// Its place in the order of the pair's changes; also its acceptance time by the clock that gave it.
    pub version: Version,
    /// Which way it came.
    pub origin: Origin,
}

impl LikeEvent {
    /// The pair concerned.
    pub const fn pair(&self) -> Pair {
        self.intent.pair
    }

    /// Key of the total order in which a pair's events take effect.
    pub const fn order(&self) -> (Version, Action) {
        (self.version, self.intent.action)
    }
}

/// What the database last said about a resource's count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct StoredCount {
    /// Live rows.
    pub count: i64,
    /// The counter row's own number, +1 on every change: orders what the database said. Zero: no row yet.
    pub revision: i64,
    /// Highest version ever applied to the resource; a shard clock must not fall behind it.
    pub last_version: Version,
}
