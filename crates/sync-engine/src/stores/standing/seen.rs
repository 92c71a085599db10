//! What a process saw last. Journals and ledger are looked at apart, so that one that hangs does not hide the other: what leaves
//! the journals between two looks at the ledger counts until the ledger was read from then on.

use super::processes::Words;
use super::{Figures, Journals, SLOW, TroubleKind, calm, troubles};
use crate::stores::database_history::DatabaseHistory;
use crate::stores::lag::Lag;
use chrono::{DateTime, Utc};
use event_store::{ProcessRow, Standing};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What was seen longer ago is said with its age, or not at all.
const FRESH: Duration = Duration::from_secs(30);

/// After an outage of the database what it delayed arrives.
const CATCHING_UP: Duration = Duration::from_secs(60);

/// Ages of one entry, measured twice, differ by less; and so much older may it be by the next look after an outage.
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
    /// What had waited for long and was in the journals no more, and when that was noticed: no lag that was read has it.
    left: Option<(Instant, Journals)>,
    /// Since when the database is unreachable.
    lost: Option<Instant>,
    /// When it was read again.
    back: Option<Instant>,
    processes: Words,
}

/// The latest looks.
#[derive(Debug, Default)]
pub struct Standings {
    seen: Mutex<Seen>,
    /// Knows at any time what the database has lost.
    history: Option<Arc<DatabaseHistory>>,
}

impl Standings {
    /// With what the database has lost.
    pub(crate) fn with(history: Arc<DatabaseHistory>) -> Self {
        Self { seen: Mutex::default(), history: Some(history) }
    }

    /// The journals as they are now; none if the cache does not answer. True if something has left them whose lag nobody knows
    /// yet, and that is not quick.
    pub fn saw_journals(&self, now: Instant, journals: Option<Journals>) -> bool {
        let mut seen = self.seen();
        let left = seen.journals.zip(journals).and_then(|((at, before), journals)| {
            let stayed = before.oldest + now.saturating_duration_since(at);
            let gone = journals.entries == 0 || journals.oldest + TICK < stayed;
            (before.entries > 0 && before.oldest + TICK > SLOW && gone).then_some((now, before))
        });
        seen.journals = journals.map(|journals| (now, journals));
        if left.is_some() {
            seen.left = left;
        }
        left.is_some()
    }

    /// Ledger and findings, as they were read since `began`.
    pub fn saw(&self, began: Instant, now: Instant, at: DateTime<Utc>, standing: Standing, lag: Option<Lag>) {
        let mut seen = self.seen();
        seen.database = Some((now, Stored { at, standing, lag }));
        seen.left = seen.left.filter(|(at, _)| *at > began);
        // What was asked before an outage says nothing of its end.
        if seen.lost.is_some_and(|lost| lost <= began) {
            seen.lost = None;
            seen.back = Some(now);
        }
    }

    /// What all processes said last.
    pub fn saw_processes(&self, now: Instant, rows: Vec<ProcessRow>) {
        self.seen().processes.saw(now, rows);
    }

    /// Whether that was heard within this time.
    pub fn heard_processes(&self, now: Instant, within: Duration) -> bool {
        self.seen().processes.was_heard(now, within)
    }

    /// The database is unreachable. Nobody knows that all is well until it was read again.
    pub fn lost(&self, now: Instant) {
        let mut seen = self.seen();
        seen.lost = seen.lost.or(Some(now));
    }

    /// The database is unreachable, or was a moment ago.
    pub fn is_catching_up(&self, now: Instant) -> bool {
        self.seen().is_catching_up(now)
    }

    /// The latest figures.
    pub fn latest(&self, now: Instant, wall: DateTime<Utc>) -> Figures {
        let seen = self.seen();
        let age = |at: Instant| now.saturating_duration_since(at);
        // Not grown older since: what waited then may have arrived.
        let journals = seen.journals.filter(|(at, _)| age(*at) < FRESH).map(|(_, journals)| journals);
        let journals = match (journals, seen.left) {
            (Some(journals), Some((_, left))) if journals.oldest < left.oldest => {
                Some(Journals { entries: left.entries.max(journals.entries), oldest: left.oldest, ..journals })
            }
            (journals, _) => journals,
        };
        let unread = match (&seen.database, seen.lost) {
            (Some((read, _)), Some(_)) => Some(age(*read)),
            (None, Some(lost)) => Some(age(lost)),
            (Some((read, _)), None) => Some(age(*read)).filter(|age| *age >= FRESH),
            // It has just begun.
            (None, None) => None,
        };
        let (at, standing, lag) = match &seen.database {
            Some((read, Stored { at, standing, lag })) => {
                (*at, Some(standing.clone()), lag.filter(|_| age(*read) < FRESH))
            }
            None => (wall, None, None),
        };
        let (catching_up, silent) = (seen.is_catching_up(now), seen.processes.silent(wall));
        let went_back = self.history.as_ref().and_then(|history| history.trouble());
        Figures { at, standing, lag, journals, unread, catching_up, silent, went_back }
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
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn is_catching_up(&self, now: Instant) -> bool {
        let back = self.back.map(|back| now.saturating_duration_since(back));
        self.lost.is_some() || back.is_some_and(|back| back < CATCHING_UP)
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

    const fn journals(entries: u64, oldest: Duration) -> Option<Journals> {
        Some(Journals { entries, oldest, fullest_shard: 0.0 })
    }

    fn lag(p99_ms: i64) -> Option<Lag> {
        Some(Lag { events: 5, p99_ms, newest_ms: p99_ms, ..Lag::default() })
    }

    #[test]
    fn what_was_known_stays_said_with_its_age() {
        let standings = Standings::default();
        let now = Instant::now();
        assert_eq!(kinds(&standings, now), [], "a process that has just begun");
        let dead = standing(&[(EventStatus::Dead, 2, 999)]);
        standings.saw(now, now, wall(), dead, lag(9_000));
        let said = |now| standings.trouble(now, wall(), TroubleKind::DeadEvents);
        assert_eq!(said(now).as_deref(), Some("2 accepted likes are dead, the oldest for 1 s"));
        assert_eq!(standings.trouble(now, wall(), TroubleKind::LateEvents), None);
        // Nobody can ask any more. How long likes took a minute ago is no news, what is dead is.
        assert_eq!(kinds(&standings, now + FRESH), [TroubleKind::DeadEvents, TroubleKind::LedgerUnread]);
        let of_then = "2 accepted likes are dead, the oldest for 1 s, as of 00:16:40Z";
        assert_eq!(said(now + FRESH).as_deref(), Some(of_then));
        standings.lost(now + SECOND);
        assert_eq!(said(now + SECOND).as_deref(), Some(of_then));
    }

    /// From the first moment of an outage until what it delayed has arrived there is no moment at which all is well.
    #[test]
    fn there_is_no_all_clear_between_an_outage_and_its_end() {
        let standings = Standings::default();
        let start = Instant::now();
        let after = |seconds| start + seconds * SECOND;
        standings.saw_journals(start, journals(0, Duration::ZERO));
        standings.saw(start, start, wall(), standing(&[]), lag(20));
        assert_eq!(kinds(&standings, start), []);
        standings.lost(after(1));
        assert!(!standings.saw_journals(after(9), journals(5, 8 * SECOND)));
        assert_eq!(kinds(&standings, after(9)), [TroubleKind::JournalAge, TroubleKind::LedgerUnread]);
        // It answers again, and nobody has looked yet.
        let said = standings.trouble(after(12), wall(), TroubleKind::LedgerUnread);
        assert!(said.is_some_and(|said| said.contains("were not read for 12 s")));
        // An answer to what was asked before it hung.
        standings.saw(start, after(12), wall(), standing(&[]), lag(20));
        assert_eq!(kinds(&standings, after(12)), [TroubleKind::JournalAge, TroubleKind::LedgerUnread]);
        standings.saw(after(12), after(13), wall(), standing(&[]), lag(20));
        assert_eq!(kinds(&standings, after(13)), [TroubleKind::JournalAge]);
        // They arrive between two looks at the database: nobody knows yet how long they took.
        assert!(standings.saw_journals(after(14), journals(0, Duration::ZERO)), "somebody has to look");
        assert_eq!(kinds(&standings, after(14)), [TroubleKind::JournalAge]);
        standings.saw(after(13), after(14), wall(), standing(&[]), lag(20));
        assert_eq!(kinds(&standings, after(14)), [TroubleKind::JournalAge], "it was asked before");
        standings.saw(after(14), after(15), wall(), standing(&[]), lag(13_000));
        assert_eq!(kinds(&standings, after(15)), [TroubleKind::CommitLag]);
        standings.saw_journals(after(80), journals(5, 8 * SECOND));
        standings.saw(after(80), after(80), wall(), standing(&[]), None);
        assert_eq!(kinds(&standings, after(80)), [], "what is late in quiet times is another thing");
    }

    #[test]
    fn what_is_on_its_way_does_not_grow_old_between_two_looks() {
        let standings = Standings::default();
        let start = Instant::now();
        standings.lost(start);
        standings.saw(start, start, wall(), standing(&[]), lag(20));
        standings.saw_journals(start, journals(3, SECOND / 10));
        assert!(standings.is_catching_up(start));
        for seconds in 0..30 {
            assert_eq!(kinds(&standings, start + seconds * SECOND), [], "after {seconds} s");
        }
        // Others may be there by now, or none.
        assert!(!standings.saw_journals(start + 20 * SECOND, journals(2, SECOND / 10)));
        assert_eq!(kinds(&standings, start + 20 * SECOND), []);
        assert!(!standings.is_catching_up(start + CATCHING_UP));
    }
}
