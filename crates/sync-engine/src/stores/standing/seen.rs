//! What a process saw last. The journals are looked at before the ledger: what has left them by then is in the ledger's lag, so
//! nothing is in neither.

use super::{Figures, Journals, SLOW, TroubleKind, calm, troubles};
use crate::stores::lag::Lag;
use chrono::{DateTime, Utc};
use event_store::Standing;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What was seen longer ago says nothing any more.
const FRESH: Duration = Duration::from_secs(30);

/// After an outage of the database what it delayed arrives.
const CATCHING_UP: Duration = Duration::from_secs(60);

/// Ages of one entry, measured twice, differ by less.
const TICK: Duration = Duration::from_secs(1);

/// What the database says.
#[derive(Debug, Clone)]
struct Stored {
    at: DateTime<Utc>,
    standing: Standing,
    lag: Option<Lag>,
}

#[derive(Debug, Default)]
struct Seen {
    database: Option<(Instant, Stored)>,
    journals: Option<(Instant, Journals)>,
    /// Since when the database is unreachable.
    lost: Option<Instant>,
    /// When it was read again.
    back: Option<Instant>,
}

/// The latest looks.
#[derive(Debug, Default)]
pub struct Standings(Mutex<Seen>);

impl Standings {
    /// The journals as they are now; none if the cache does not answer. What waited for long and has left them is in no lag that
    /// was read yet: it counts until the next look at [both](Self::saw).
    pub fn saw_journals(&self, now: Instant, journals: Option<Journals>) {
        let mut seen = self.seen();
        let waited = seen.journals.map(|(at, seen)| (seen.entries, seen.oldest + now.saturating_duration_since(at)));
        let has_left = |journals: &Journals| {
            waited.is_some_and(|(entries, oldest)| {
                entries > 0 && oldest > SLOW && (journals.entries == 0 || journals.oldest + TICK < oldest)
            })
        };
        if !journals.as_ref().is_some_and(has_left) {
            seen.journals = journals.map(|journals| (now, journals));
        }
    }

    /// Ledger and findings as they are now, and the journals as they were just before.
    pub fn saw(
        &self,
        now: Instant,
        at: DateTime<Utc>,
        standing: Standing,
        lag: Option<Lag>,
        journals: Option<Journals>,
    ) {
        let mut seen = self.seen();
        seen.database = Some((now, Stored { at, standing, lag }));
        seen.journals = journals.map(|journals| (now, journals));
        if seen.lost.take().is_some() {
            seen.back = Some(now);
        }
    }

    /// The database is unreachable. Nobody knows that all is well until it was read again.
    pub fn lost(&self, now: Instant) {
        let mut seen = self.seen();
        seen.lost = seen.lost.or(Some(now));
    }

    /// The latest figures.
    pub fn latest(&self, now: Instant, wall: DateTime<Utc>) -> Figures {
        let seen = self.seen();
        let age = |at: Instant| now.saturating_duration_since(at);
        let stored = seen.database.as_ref().filter(|(at, _)| age(*at) < FRESH).map(|(_, stored)| stored.clone());
        let journals = seen.journals.filter(|(at, _)| age(*at) < FRESH);
        let unread = match (&seen.database, seen.lost) {
            (Some((read, _)), Some(_)) => Some(age(*read)),
            (None, Some(lost)) => Some(age(lost)),
            (Some((read, _)), None) => Some(age(*read)).filter(|age| *age >= FRESH),
            // It has just begun.
            (None, None) => None,
        };
        let (at, standing, lag) = match stored {
            Some(Stored { at, standing, lag }) => (at, Some(standing), lag),
            None => (wall, None, None),
        };
        Figures {
            at,
            standing,
            lag,
            journals: journals.map(|(at, seen)| Journals { oldest: seen.oldest + age(at), ..seen }),
            unread,
            catching_up: seen.lost.is_some() || seen.back.is_some_and(|back| age(back) < CATCHING_UP),
        }
    }

    /// What is wrong of one kind, in words.
    pub fn trouble(&self, now: Instant, wall: DateTime<Utc>, kind: TroubleKind) -> Option<String> {
        let found = troubles(&self.latest(now, wall));
        let words: Vec<_> = found.into_iter().filter(|one| one.kind == kind).map(|one| one.detail).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }

    /// The figure of a kind that is well.
    pub fn calm(&self, now: Instant, wall: DateTime<Utc>, kind: TroubleKind) -> Option<String> {
        calm(&self.latest(now, wall), kind)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::standing;
    use super::*;
    use event_store::EventStatus;

    const SECOND: Duration = Duration::from_secs(1);

    fn wall() -> DateTime<Utc> {
        DateTime::from_timestamp(1_000, 0).unwrap_or_default()
    }

    fn kinds(standings: &Standings, now: Instant) -> Vec<TroubleKind> {
        troubles(&standings.latest(now, wall())).into_iter().map(|one| one.kind).collect()
    }

    #[test]
    fn what_was_seen_long_ago_says_only_that_it_was() {
        let standings = Standings::default();
        let now = Instant::now();
        assert_eq!(kinds(&standings, now), [], "a process that has just begun");
        let dead = standing(&[(EventStatus::Dead, 2, 999)]);
        standings.saw(now, wall(), dead, None, None);
        let said = standings.trouble(now, wall(), TroubleKind::DeadEvents);
        assert_eq!(said.as_deref(), Some("2 accepted likes are dead, the oldest for 1 s"));
        assert_eq!(standings.trouble(now, wall(), TroubleKind::LateEvents), None);
        assert_eq!(kinds(&standings, now + FRESH), [TroubleKind::LedgerUnread]);
    }

    /// From the first moment of an outage until what it delayed has arrived there is no moment at which all is well.
    #[test]
    fn there_is_no_all_clear_between_an_outage_and_its_end() {
        let standings = Standings::default();
        let start = Instant::now();
        let journals = |entries, oldest| Some(Journals { entries, oldest, fullest_shard: 0.0 });
        let lag = |p99_ms| Some(Lag { events: 5, p99_ms, newest_ms: p99_ms, ..Lag::default() });
        standings.saw(start, wall(), standing(&[]), lag(20), journals(0, Duration::ZERO));
        assert_eq!(kinds(&standings, start), []);
        standings.lost(start + SECOND);
        standings.saw_journals(start + 9 * SECOND, journals(5, 8 * SECOND));
        assert_eq!(kinds(&standings, start + 9 * SECOND), [TroubleKind::JournalAge, TroubleKind::LedgerUnread]);
        // It answers again, and nobody has looked yet.
        let said = standings.trouble(start + 12 * SECOND, wall(), TroubleKind::LedgerUnread);
        assert!(said.is_some_and(|said| said.contains("were not read for 12 s")));
        standings.saw(start + 13 * SECOND, wall(), standing(&[]), lag(20), journals(5, 12 * SECOND));
        assert_eq!(kinds(&standings, start + 13 * SECOND), [TroubleKind::JournalAge]);
        // They arrive between two looks at the database: nobody knows yet how long they took.
        standings.saw_journals(start + 13 * SECOND, journals(0, Duration::ZERO));
        assert_eq!(kinds(&standings, start + 13 * SECOND), [TroubleKind::JournalAge]);
        standings.saw(start + 14 * SECOND, wall(), standing(&[]), lag(13_000), journals(0, Duration::ZERO));
        assert_eq!(kinds(&standings, start + 14 * SECOND), [TroubleKind::CommitLag]);
        standings.saw(start + 80 * SECOND, wall(), standing(&[]), None, journals(5, 8 * SECOND));
        assert_eq!(kinds(&standings, start + 80 * SECOND), [], "what is late in quiet times is another thing");
    }
}
