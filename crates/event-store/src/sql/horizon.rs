//! How far ahead a row's version is believed.
//!
//! Somebody who writes rows by hand can date them whenever he likes. A row from the far future would win against every word to
//! come, and push the clock of its shard, which must stay above all rows, to where no version may be. So a row that is dated a
//! day ahead of every clock we know counts as the oldest of all: the next word of its pair replaces it, and nobody else
//! notices it.
//!
//! A day is more than what honest clocks ever differ by. Writers believe less than readers: whatever a reader has not believed,
//! and left out of a shard's clock, no writer believes, although its own clock may be ahead of the reader's.

use chrono::{DateTime, Utc};
use domain::Version;
use planted_bugs::planted;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime};

const DAY_US: i64 = 86_400_000_000;

/// What a row counts as that is not believed.
const OLDEST: Version = Version(1);

const UNKNOWN: i64 = i64::MIN;

/// The later one of this process's clock and the database's.
#[derive(Debug)]
pub(crate) struct Horizon {
    started: Instant,
    /// The database's clock, as far as it is ahead of our steady one.
    database: AtomicI64,
}

/// Versions are believed up to this one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Believed(Version);

impl Believed {
    pub(crate) fn version(self, version: Version) -> Version {
        if version <= self.0 { version } else { OLDEST }
    }

    /// The last one that is.
    pub(crate) fn last(self) -> Version {
        self.0
    }
}

impl Horizon {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), database: AtomicI64::new(UNKNOWN) }
    }

    /// The database's clock shows this now.
    pub(crate) fn learn(&self, time: DateTime<Utc>) {
        self.database.store(time.timestamp_micros().saturating_sub(self.steady_us()), Ordering::Relaxed);
    }

    /// For whoever decides, under locks, what a row becomes.
    pub(crate) fn for_writes(&self) -> Believed {
        self.ahead_by(DAY_US)
    }

    /// For whoever only reads.
    pub(crate) fn for_reads(&self) -> Believed {
        self.ahead_by(2 * DAY_US)
    }

    /// One clock alone may be the wrong one: before the database's is known, rows are believed as far as versions go.
    fn ahead_by(&self, micros: i64) -> Believed {
        if self.database.load(Ordering::Relaxed) == UNKNOWN {
            return Believed(Version::MAX);
        }
        Believed(Version(self.latest().saturating_add(micros)).min(Version::MAX))
    }

    /// Now, for the revision of a counter: by the later one of the clocks that are known. The database's own would not do: the
    /// server that is promoted may be behind the one that died, as its rows are.
    pub(crate) fn revision(&self) -> i64 {
        planted!("revision_plus_one" => 0);
        self.latest().clamp(0, Version::MAX.0)
    }

    #[expect(clippy::disallowed_methods, reason = "a second clock is what tells that the database's was set back")]
    /// The later one of the known clocks, in microseconds.
    pub(crate) fn latest(&self) -> i64 {
        let ours = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let ours = i64::try_from(ours.as_micros()).unwrap_or(i64::MAX / 4);
        match self.database.load(Ordering::Relaxed) {
            UNKNOWN => ours,
            database => ours.max(database.saturating_add(self.steady_us())),
        }
    }

    fn steady_us(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX / 4)
    }
}
