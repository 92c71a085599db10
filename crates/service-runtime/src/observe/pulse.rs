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
const BEAT: Duration = Duration::from_millis(50);

/// Two beats further apart than this: the process did not run in between.
const PAUSE: Duration = Duration::from_millis(250);

/// After a pause the sockets are read within this time.
const CATCHING_UP: Duration = Duration::from_millis(500);

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
        // The pause has just ended and this runs before the next beat.
        if last != 0 && at.saturating_sub(last) > micros(PAUSE) {
            return self.instant(last);
        }
        let ended = self.0.pause_ended.load(Ordering::Relaxed);
        if ended != 0 && at.saturating_sub(ended) < micros(CATCHING_UP) {
            return self.instant(self.0.pause_began.load(Ordering::Relaxed));
        }
        now
    }

    fn beat(&self, now: Instant) {
        let at = self.micros(now).max(1);
        let last = self.0.last.swap(at, Ordering::Relaxed);
        if last != 0 && at.saturating_sub(last) > micros(PAUSE) {
            tracing::warn!(paused_ms = (at - last) / 1_000, "this process did not run for a while");
            self.0.pause_began.store(last, Ordering::Relaxed);
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
        assert_eq!(pulse.arrival(start + 1_040 * MS), start + 1_040 * MS);
        // Seen before the first beat after the pause.
        assert!(near(pulse.arrival(start + 4_400 * MS), start + 1_000 * MS));
        pulse.beat(start + 4_400 * MS);
        assert!(near(pulse.arrival(start + 4_401 * MS), start + 1_000 * MS));
        pulse.beat(start + 4_450 * MS);
        assert!(near(pulse.arrival(start + 4_460 * MS), start + 1_000 * MS), "sockets are still being read");
        (5..12).for_each(|n| pulse.beat(start + (4_400 + n * 50) * MS));
        assert_eq!(pulse.arrival(start + 4_960 * MS), start + 4_960 * MS);
    }
}
