//! The process's pulse: how long ago a request that is seen now may have arrived.
//!
//! A process that was stopped (SIGSTOP, a paused virtual machine, a starved scheduler) finds requests in its sockets that
//! have waited there for as long. Their callers may have given up and gone on elsewhere, so such a request must count from
//! the beginning of the pause and not from when it was read. A cancellation may wait in the same socket, behind the request:
//! it must be read before the request takes effect.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// From beat to beat.
const BEAT: Duration = Duration::from_millis(20);

/// Two beats further apart than this: the process did not run in between.
const PAUSE: Duration = Duration::from_millis(50);

/// After a pause the sockets are read within the time that it took, but not less than the first and not more than the
/// second. Only time in which the process ran counts: what waited during one pause may still be unread after the next.
const CATCHING_UP: (Duration, Duration) = (PAUSE, Duration::from_millis(500));

/// More pauses than can follow each other before the first of them is caught up with.
const REMEMBERED: usize = 32;

/// After a pause, the time in which what a socket holds behind a request is read; and how often. In each round the runtime
/// asks the kernel for ready sockets and runs whoever waits for them, this one behind them at the latest in the second.
const ROUND: Duration = Duration::from_millis(5);
const ROUNDS: u32 = 2;

/// Who comes back later than this has a runtime behind that does not keep up: one more round, but not for ever.
const PUNCTUAL: Duration = Duration::from_millis(10);
const MOST_ROUNDS: u32 = 40;

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
    /// From then on every pause is caught up with.
    caught_up: AtomicU64,
    /// Begin and end of the last ones, oldest first.
    pauses: Mutex<VecDeque<(u64, u64)>>,
}

impl Default for Pulse {
    fn default() -> Self {
        let never = || AtomicU64::new(0);
        Self(Arc::new(Beats { start: Instant::now(), last: never(), caught_up: never(), pauses: Mutex::default() }))
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
        self.waited_since(now).unwrap_or(now)
    }

    /// A request that is seen now arrived then or later. If it may have waited in its socket, this returns when what came
    /// behind it was read, its cancellation for one: the caller of this is dropped then.
    pub async fn arrived(&self) -> Instant {
        let now = Instant::now();
        let Some(since) = self.waited_since(now) else { return now };
        sockets_are_read().await;
        since
    }

    fn waited_since(&self, now: Instant) -> Option<Instant> {
        let at = self.micros(now);
        let last = self.0.last.load(Ordering::Acquire);
        if last == 0 {
            return None;
        }
        // The pause has just ended and this runs before the next beat.
        let just_ended = at.saturating_sub(last) > micros(PAUSE);
        let seen = if just_ended { last } else { at };
        self.unread_since(seen).or(just_ended.then_some(last)).map(|since| self.instant(since))
    }

    /// Since when requests may wait in sockets, if some pause is not caught up with at that moment.
    fn unread_since(&self, at: u64) -> Option<u64> {
        if at >= self.0.caught_up.load(Ordering::Relaxed) {
            return None;
        }
        let (least, most) = CATCHING_UP;
        let (mut ran, mut until, mut since) = (0, at, None);
        for (began, ended) in self.pauses().iter().rev() {
            ran += until.saturating_sub(*ended);
            until = *began;
            if ran < ended.saturating_sub(*began).clamp(micros(least), micros(most)) {
                since = Some(*began);
            }
        }
        since
    }

    fn pauses(&self) -> MutexGuard<'_, VecDeque<(u64, u64)>> {
        self.0.pauses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn beat(&self, now: Instant) {
        let at = self.micros(now).max(1);
        let last = self.0.last.load(Ordering::Relaxed);
        let paused = if last == 0 { 0 } else { at.saturating_sub(last) };
        if paused > micros(PAUSE) {
            let mut pauses = self.pauses();
            pauses.push_back((last, at));
            if pauses.len() > REMEMBERED {
                pauses.pop_front();
            }
            self.0.caught_up.store(at.saturating_add(micros(CATCHING_UP.1)), Ordering::Relaxed);
        }
        // Only now: another thread that sees this beat must see the pause before it, too.
        self.0.last.store(at, Ordering::Release);
        if paused > micros(LONG) {
            tracing::warn!(paused_ms = paused / 1_000, "this process did not run for a while");
        }
    }

    fn micros(&self, moment: Instant) -> u64 {
        micros(moment.saturating_duration_since(self.0.start))
    }

    fn instant(&self, at: u64) -> Instant {
        self.0.start + Duration::from_micros(at)
    }
}

async fn sockets_are_read() {
    let mut rounds = 0;
    for _ in 0..MOST_ROUNDS {
        let began = Instant::now();
        tokio::time::sleep(ROUND).await;
        if began.elapsed() <= PUNCTUAL {
            rounds += 1;
        }
        if rounds == ROUNDS {
            return;
        }
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

    /// Stopped for most of the time, as under a quota of CPU: what has just come is not taken for old.
    #[test]
    fn pauses_that_go_on_and_on_are_caught_up_with_one_by_one() {
        let pulse = Pulse::default();
        let start = pulse.0.start;
        let mut now = start + 1_000 * MS;
        pulse.beat(now);
        pulse.beat(now + 600 * MS);
        now += 600 * MS;
        for _ in 0..100 {
            pulse.beat(now + 20 * MS);
            pulse.beat(now + 40 * MS);
            assert!(now + 40 * MS - pulse.arrival(now + 40 * MS) < 1_900 * MS);
            pulse.beat(now + 100 * MS);
            now += 100 * MS;
        }
        let waited = now - pulse.arrival(now);
        assert!((60 * MS..200 * MS).contains(&waited), "{waited:?}");
    }
}
