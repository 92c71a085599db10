//! Whether others hear of what is committed, as far as this process sees: whether the exchange takes it, and what waits.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// After a failure it is tried again after so long, twice as long after each one more, up to the longest.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// What waits for longer is late.
pub const LATE: Duration = Duration::from_secs(60);

/// Written by those who publish changes; read by them, so that all rest together, and by health.
#[derive(Debug, Default)]
pub struct ChangesStanding(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    failures: u32,
    rest_until: Option<Instant>,
    reason: String,
    waiting: u64,
    oldest: Duration,
}

impl ChangesStanding {
    /// Whether publishing is worth a try now.
    pub(crate) fn may_try(&self, now: Instant) -> bool {
        self.seen().rest_until.is_none_or(|until| now >= until)
    }

    /// The exchange took something.
    pub(crate) fn taken(&self) {
        let mut seen = self.seen();
        (seen.failures, seen.rest_until) = (0, None);
    }

    /// It did not.
    pub(crate) fn refused(&self, now: Instant, reason: String) {
        let mut seen = self.seen();
        let pause = PAUSE.saturating_mul(1 << seen.failures.min(16)).min(LONGEST_PAUSE);
        (seen.failures, seen.rest_until, seen.reason) = (seen.failures.saturating_add(1), Some(now + pause), reason);
    }

    /// So much is noted and not published, the oldest of it since so long; nothing where another process looks.
    pub(crate) fn saw_waiting(&self, waiting: u64, oldest: Duration) {
        let mut seen = self.seen();
        (seen.waiting, seen.oldest) = (waiting, oldest);
    }

    /// What is wrong with it, in words for an operator.
    pub fn trouble(&self) -> Option<String> {
        let seen = self.seen();
        if seen.failures > 0 {
            return Some(format!("changes are noted, and published later: {}", seen.reason));
        }
        let late = seen.waiting > 0 && seen.oldest > LATE;
        late.then(|| format!("{} changes are not published, the oldest for {} s", seen.waiting, seen.oldest.as_secs()))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_end_with_the_first_that_is_taken() {
        let (standing, mut now) = (ChangesStanding::default(), Instant::now());
        assert!(standing.may_try(now) && standing.trouble().is_none());
        let mut pauses = Vec::new();
        for _ in 0..9 {
            standing.refused(now, "no right".to_owned());
            let began = now;
            while !standing.may_try(now) {
                now += Duration::from_millis(250);
            }
            pauses.push((now - began).as_millis());
        }
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]);
        assert!(standing.trouble().unwrap().ends_with("no right"));
        standing.taken();
        assert!(standing.may_try(now) && standing.trouble().is_none());
        standing.refused(now, "again".to_owned());
        assert!(standing.may_try(now + PAUSE), "from the shortest on");
    }

    #[test]
    fn what_waits_is_wrong_when_it_is_late() {
        let standing = ChangesStanding::default();
        standing.saw_waiting(7, LATE);
        assert_eq!(standing.trouble(), None);
        standing.saw_waiting(7, LATE * 2);
        assert_eq!(standing.trouble().unwrap(), "7 changes are not published, the oldest for 120 s");
        standing.saw_waiting(0, Duration::ZERO);
        assert_eq!(standing.trouble(), None);
    }
}
