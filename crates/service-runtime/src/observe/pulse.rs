//! The process's pulse: how long ago a request that is seen now may have arrived.
//!
//! A process that was stopped (SIGSTOP, a paused virtual machine, a starved scheduler) finds requests in its sockets that
//! have waited there for as long. Their callers may have given up and gone on elsewhere, so such a request must count from
//! the beginning of the pause and not from when it was read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// From beat to beat.
const BEAT: Duration = Duration::from_millis(20);

/// Two beats further apart than this: the process did not run in between.
const PAUSE: Duration = Duration::from_millis(50);

/// After a pause the sockets are read within the time that it took, but not less than the first and not more than the
/// second. A pause that begins in that time goes on with the one before: what waited then may still be unread.
const CATCHING_UP: (Duration, Duration) = (PAUSE, Duration::from_millis(500));

/// A pause worth a line in the log.
const LONG: Duration = Duration::from_secs(1);

/// Cheap to clone; clones are the same pulse. One that nobody keeps beating knows of no pause.
#[derive(Debug, Clone)]
pub struct Pulse(Arc<Beats>);

/// Microseconds since `start`; zero: never.
#[derive(Debug)]
struct Beats {
    start: Instant,
    last: AtomicU64,
    pause_began: AtomicU64,
    pause_ended: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        let never = || AtomicU64::new(0);
        Self(Arc::new(Beats { start: Instant::now(), last: never(), pause_began: never(), pause_ended: never() }))
    }
}

impl Pulse {
    /// Beats until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            self.beat(Instant::now());
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(BEAT) => {}
            }
        }
        self.0.last.store(0, Ordering::Relaxed);
    }

    /// A request that is seen at `now` arrived then or later.
    pub fn arrival(&self, now: Instant) -> Instant {
        let at = self.micros(now);
        let last = self.0.last.load(Ordering::Relaxed);
        if last == 0 {
            return now;
        }
        // The pause has just ended and this runs before the next beat.
        let seen = if at.saturating_sub(last) > micros(PAUSE) { last } else { at };
        self.instant(self.unread_since(seen).unwrap_or(seen))
    }

    /// Since when requests may wait in sockets, if the last pause is not caught up with at that moment.
    fn unread_since(&self, at: u64) -> Option<u64> {
        let began = self.0.pause_began.load(Ordering::Relaxed);
        let ended = self.0.pause_ended.load(Ordering::Relaxed);
        let (least, most) = CATCHING_UP;
        let window = ended.saturating_sub(began).clamp(micros(least), micros(most));
        (ended != 0 && at.saturating_sub(ended) < window).then_some(began)
    }

    fn beat(&self, now: Instant) {
        let at = self.micros(now).max(1);
        let last = self.0.last.swap(at, Ordering::Relaxed);
        if last != 0 && at.saturating_sub(last) > micros(PAUSE) {
            if at - last > micros(LONG) {
                tracing::warn!(paused_ms = (at - last) / 1_000, "this process did not run for a while");
            }
            let began = self.unread_since(last).unwrap_or(last);
            self.0.pause_began.store(began, Ordering::Relaxed);
            self.0.pause_ended.store(at, Ordering::Relaxed);
        }
    }

    fn micros(&self, moment: Instant) -> u64 {
        micros(moment.saturating_duration_since(self.0.start))
    }

    fn instant(&self, at: u64) -> Instant {
        self.0.start + Duration::from_micros(at)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_is_seen_after_a_pause_may_have_arrived_at_its_beginning() {
        let pulse = Pulse::default();
        let start = pulse.0.start;
        let near = |one: Instant, other: Instant| one.max(other) - one.min(other) < MS;
        assert_eq!(pulse.arrival(start + 10_000 * MS), start + 10_000 * MS, "no pulse, no pause");
        pulse.beat(start + 1_000 * MS);
        assert!(near(pulse.arrival(start + 1_040 * MS), start + 1_040 * MS));
        // Seen before the first beat after the pause.
        assert!(near(pulse.arrival(start + 4_400 * MS), start + 1_000 * MS));
        pulse.beat(start + 4_400 * MS);
        assert!(near(pulse.arrival(start + 4_401 * MS), start + 1_000 * MS));
        pulse.beat(start + 4_450 * MS);
        assert!(near(pulse.arrival(start + 4_460 * MS), start + 1_000 * MS), "sockets are still being read");
        (2..26).for_each(|n| pulse.beat(start + (4_400 + n * 25) * MS));
        assert!(near(pulse.arrival(start + 5_010 * MS), start + 5_010 * MS));
    }

    #[test]
    fn a_second_pause_goes_on_with_the_first_while_its_requests_are_unread() {
        let pulse = Pulse::default();
        let start = pulse.0.start;
        let near = |one: Instant, other: Instant| one.max(other) - one.min(other) < MS;
        pulse.beat(start + 1_000 * MS);
        // Stopped for 1.3 s, runs for 2 ms, stopped for 0.3 s.
        pulse.beat(start + 2_300 * MS);
        assert!(near(pulse.arrival(start + 2_605 * MS), start + 1_000 * MS), "before the next beat");
        pulse.beat(start + 2_602 * MS);
        assert!(near(pulse.arrival(start + 2_605 * MS), start + 1_000 * MS), "after it");
        // A pause long after another one is its own.
        (1..80).for_each(|n| pulse.beat(start + (2_602 + n * 20) * MS));
        pulse.beat(start + 4_300 * MS);
        assert!(near(pulse.arrival(start + 4_301 * MS), start + 4_182 * MS));
        assert!(near(pulse.arrival(start + 4_340 * MS), start + 4_182 * MS));
        // A short one is caught up with soon.
        (1..8).for_each(|n| pulse.beat(start + (4_300 + n * 20) * MS));
        assert!(near(pulse.arrival(start + 4_445 * MS), start + 4_445 * MS));
    }
}
