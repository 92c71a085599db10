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
    /// The latest commit that is known to be lost: at least `known_at`.
    pub lost_until: DateTime<Utc>,
}

impl WentBack {
    pub(crate) fn new(expected: &Expected, found: Option<(i64, DateTime<Utc>)>, noticed_at: DateTime<Utc>) -> Self {
        Self { known: expected.commit, known_at: expected.at, found, noticed_at, lost_until: expected.at }
    }

    /// How far the database went back; none: nobody can say.
    pub fn back_to(&self) -> Option<DateTime<Utc>> {
        self.found.map(|(_, at)| at)
    }

    /// Both. In whatever order findings come together, everybody arrives at the same.
    #[must_use]
    pub(crate) fn and(self, other: Self) -> Self {
        let key = |one: &Self| (one.back_to(), one.known.writer, one.known.lane, one.known.number);
        let further = if key(&other) < key(&self) { other } else { self };
        Self {
            noticed_at: self.noticed_at.min(other.noticed_at),
            lost_until: self.lost_until.max(other.lost_until),
            ..further
        }
    }

    /// At most 255 bytes.
    pub(crate) fn to_note(self) -> String {
        let CommitNumber { writer, lane, number } = self.known;
        let (found, back_to) = self.found.map_or((-1, 0), |(found, at)| (found, at.timestamp_micros()));
        let [at, noticed, until] = [self.known_at, self.noticed_at, self.lost_until].map(|at| at.timestamp_micros());
        format!("{} {lane} {number} {at} {found} {back_to} {noticed} {until}", writer.simple())
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
        let noticed_at = time(number()?);
        let lost_until = number().map_or(known_at, time);
        Some(Self { known, known_at, found, noticed_at, lost_until })
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

/// Lanes of others that are remembered: the newest ones.
const SEEN: usize = 64;

/// What a process knows.
#[derive(Debug, Default)]
pub(crate) struct History {
    verdict: Mutex<Option<Verdict>>,
    /// How far others had come when the database was looked at last. Whoever had told it may be gone, the writer and what the
    /// cache knew of it.
    seen: Mutex<Vec<Expected>>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Verdict {
    pub(crate) evidence: WentBack,
    /// The database has it, so that everybody knows; if it is not there any more, somebody has taken it away.
    pub(crate) written: bool,
}

impl History {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<Verdict>> {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn seen(&self) -> Vec<Expected> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The database has these now, whatever it had before.
    pub(crate) fn saw(&self, mut rows: Vec<Expected>) {
        rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.at));
        rows.truncate(SEEN);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = rows;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(micros: i64) -> DateTime<Utc> {
        time_of(Version(micros))
    }

    fn evidence(known_at: i64, found: Option<i64>, noticed_at: i64) -> WentBack {
        let known = CommitNumber { writer: Uuid::from_u128(7), lane: 0, number: known_at };
        let (known_at, noticed_at) = (time(known_at), time(noticed_at));
        WentBack { known, known_at, found: found.map(|at| (1, time(at))), noticed_at, lost_until: known_at }
    }

    #[test]
    fn findings_come_together_in_any_order() {
        let all = [
            evidence(50, Some(40), 60),
            evidence(55, Some(45), 59),
            evidence(51, Some(40), 62),
            evidence(70, None, 71),
        ];
        let together = all.into_iter().reduce(WentBack::and).unwrap();
        assert_eq!((together.known.number, together.back_to()), (70, None));
        assert_eq!((together.noticed_at, together.lost_until), (time(59), time(70)));
        assert_eq!(all.into_iter().rev().reduce(WentBack::and).unwrap(), together);
        for one in all {
            assert_eq!((together.and(one), one.and(together)), (together, together));
        }
        let without_emptied = all[0].and(all[1]).and(all[2]);
        assert_eq!((without_emptied.known.number, without_emptied.back_to()), (50, Some(time(40))));
    }

    #[test]
    fn evidence_is_a_note_and_back() {
        let known = CommitNumber { writer: Uuid::now_v7(), lane: u32::MAX, number: i64::MAX };
        let (known_at, noticed_at) = (time(1_700_000_000_000_000), time(1_700_000_000_000_009));
        for found in [None, Some((0, time(1_600_000_000_000_000))), Some((i64::MAX, time(4_000_000_000_000_000)))] {
            let evidence = WentBack { known, known_at, found, noticed_at, lost_until: noticed_at };
            let note = evidence.to_note();
            assert!(note.len() <= 255, "{note}");
            assert_eq!(WentBack::of_note(&note), Some(evidence));
        }
        assert_eq!(WentBack::of_note("somebody wrote this"), None);
    }
}
