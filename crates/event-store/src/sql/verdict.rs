//! The verdict that the database went back in time, in memory and as the text of a note.

use crate::sql::lanes::Expected;
use crate::sql::script::time_of;
use chrono::{DateTime, Utc};
use domain::Version;
use domain::cache::CommitNumber;
use std::sync::{Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// Evidence: a lane of a writer that was further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WentBack {
    /// Which writer, which of its lanes, and the number of the last commit that is known of.
    pub known: CommitNumber,
    /// When that was committed.
    pub known_at: DateTime<Utc>,
    /// The number that the database has, and when that was committed: as far as it went back. None: it has no such lane.
    pub found: Option<(i64, DateTime<Utc>)>,
    /// When it was noticed.
    pub noticed_at: DateTime<Utc>,
}

impl WentBack {
    pub(crate) fn new(expected: &Expected, found: Option<(i64, DateTime<Utc>)>, noticed_at: DateTime<Utc>) -> Self {
        Self { known: expected.commit, known_at: expected.at, found, noticed_at }
    }

    /// At most 255 bytes.
    pub(crate) fn to_note(self) -> String {
        let CommitNumber { writer, lane, number } = self.known;
        let (found, back_to) = self.found.map_or((-1, 0), |(found, at)| (found, at.timestamp_micros()));
        let (at, noticed) = (self.known_at.timestamp_micros(), self.noticed_at.timestamp_micros());
        format!("{} {lane} {number} {at} {found} {back_to} {noticed}", writer.simple())
    }

    pub(crate) fn of_note(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let writer = Uuid::try_parse(words.next()?).ok()?;
        let lane = words.next()?.parse().ok()?;
        let mut number = || words.next()?.parse::<i64>().ok();
        let time = |micros| time_of(Version(micros));
        let known = CommitNumber { writer, lane, number: number()? };
        let known_at = time(number()?);
        let (found, back_to) = (number()?, number()?);
        let found = (found >= 0).then(|| (found, time(back_to)));
        Some(Self { known, known_at, found, noticed_at: time(number()?) })
    }
}

impl std::fmt::Display for WentBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let CommitNumber { writer, lane, number } = self.known;
        write!(f, "writer {writer} had committed {number} in its lane {lane} at {}, ", self.known_at)?;
        match self.found {
            Some((found, at)) => write!(f, "the database has {found} of {at}"),
            None => write!(f, "the database does not know the lane"),
        }
    }
}

/// What a process knows.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<Option<Verdict>>);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Verdict {
    pub(crate) evidence: WentBack,
    /// The database has it, so that everybody knows; if it is not there any more, somebody has taken it away.
    pub(crate) written: bool,
}

impl History {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<Verdict>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_a_note_and_back() {
        let time = |micros| time_of(Version(micros));
        let known = CommitNumber { writer: Uuid::now_v7(), lane: u32::MAX, number: i64::MAX };
        let (known_at, noticed_at) = (time(1_700_000_000_000_000), time(1_700_000_000_000_009));
        for found in [None, Some((0, time(1_600_000_000_000_000))), Some((i64::MAX, time(4_000_000_000_000_000)))] {
            let evidence = WentBack { known, known_at, found, noticed_at };
            let note = evidence.to_note();
            assert!(note.len() <= 255, "{note}");
            assert_eq!(WentBack::of_note(&note), Some(evidence));
        }
        assert_eq!(WentBack::of_note("somebody wrote this"), None);
    }
}
