//! Redis's clock as seen from here: between two bounds.
//!
//! Redis read its clock after it was asked and before the answer was heard, so each answer bounds how far it is ahead of our
//! steady clock, from below and from above; the tightest bounds count. Steps of our own wall clock do not matter.
//!
//! A call's deadline goes by the lower bound: Redis must not begin later than its caller thinks. A version that is written
//! around Redis goes by the upper bound: it must be above all that Redis accepted before, for any server, or a user's last
//! word would lose against the one before.

use arc_swap::ArcSwapOption;
use domain::Version;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use tokio::time::Instant;

/// Two clocks that are kept by NTP drift apart by less than a two-thousandth.
const DRIFT: i64 = 2_000;

/// However long they were not compared, they are no further apart than they were by more than this: NTP corrects what it
/// finds. Without this bound the wait for the clock would grow for as long as Redis is away.
const MOST_DRIFT_US: i64 = 100_000;

/// How long after a change of servers the clock of the one before is taken along: every shard is asked within that time, or
/// had nothing given lately.
const FORMER_US: i64 = 600_000_000;

/// How far Redis's microseconds are ahead of ours, as of one moment of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    lowest: i64,
    highest: i64,
    at: i64,
}

impl Bounds {
    /// Asked and heard by our clock, told by Redis's.
    fn new(asked: i64, heard: i64, told: i64) -> Self {
        // It told whole microseconds, cut off.
        Self { lowest: told - heard, highest: told + 1 - asked, at: heard }
    }

    /// What is known with a newer answer.
    fn and(self, newer: Self) -> Self {
        let drift = (newer.at - self.at).max(0) / DRIFT + 1;
        let lowest = newer.lowest.max(self.lowest - drift);
        let highest = newer.highest.min(self.highest + drift);
        // They contradict each other: Redis's clock was set.
        if lowest > highest { newer } else { Self { lowest, highest, at: newer.at } }
    }
}

/// See the head of the module.
pub(crate) struct ServerClock {
    start: Instant,
    known: Mutex<Option<Bounds>>,
    /// The bounds, to be read without waiting; 0: never measured.
    lowest: AtomicI64,
    highest: AtomicI64,
    /// When, by our steady clock.
    measured: AtomicI64,
    /// Whose clock it is; a promoted server's may be behind the one before.
    run: ArcSwapOption<String>,
    /// The upper bound of the clock before, and until when it counts, by our steady clock; 0: none.
    former: AtomicI64,
    former_until: AtomicI64,
    several: AtomicBool,
}

impl ServerClock {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            known: Mutex::default(),
            lowest: AtomicI64::new(0),
            highest: AtomicI64::new(0),
            measured: AtomicI64::new(0),
            run: ArcSwapOption::empty(),
            former: AtomicI64::new(0),
            former_until: AtomicI64::new(0),
            several: AtomicBool::new(false),
        }
    }

    /// Redis's clock says this, or more.
    pub(crate) fn at_least(&self) -> Option<Version> {
        let (now, drift) = self.since_measured();
        let ahead = self.lowest.load(Ordering::Relaxed);
        (ahead != 0).then(|| Version(ahead + now - drift))
    }

    /// Redis's clock says this, or less.
    pub(crate) fn at_most(&self) -> Option<Version> {
        let (now, drift) = self.since_measured();
        let ahead = self.highest.load(Ordering::Relaxed);
        (ahead != 0).then(|| Version(ahead + now + drift))
    }

    /// From now on this server answers.
    pub(crate) fn meets(&self, run: &str) {
        let known = |met: &Option<Arc<String>>| met.as_deref().is_some_and(|met| met == run);
        if run.is_empty() || known(&self.run.load()) {
            return;
        }
        let before = self.run.swap(Some(Arc::new(run.to_owned())));
        if before.is_some() && !known(&before) {
            let (now, drift) = self.since_measured();
            match self.highest.load(Ordering::Relaxed) {
                0 => {}
                // Two connections may meet the two in turns for a moment: the later clock counts.
                ahead if now > self.former_until.load(Ordering::Relaxed) => {
                    self.former.store(ahead + drift, Ordering::Relaxed);
                }
                ahead => drop(self.former.fetch_max(ahead + drift, Ordering::Relaxed)),
            }
            self.former_until.store(now + FORMER_US, Ordering::Relaxed);
            self.several.store(true, Ordering::Relaxed);
        }
    }

    /// No clock of the server that answers, nor of one before it, says more than this. Who has met one server only cannot
    /// know of another, and goes by its own wall clock, too.
    #[expect(clippy::disallowed_methods, reason = "the only clock there is before any server was met")]
    pub(crate) fn highest_ever(&self) -> Version {
        let (now, drift) = self.since_measured();
        let known = self.at_most().unwrap_or_default().0;
        let former = match self.former.load(Ordering::Relaxed) {
            0 => 0,
            _ if now > self.former_until.load(Ordering::Relaxed) => 0,
            ahead => ahead + now + drift,
        };
        let wall = if self.several.load(Ordering::Relaxed) {
            0
        } else {
            micros(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
        };
        Version(known.max(former).max(wall))
    }

    /// Our steady clock, and how far the two may have drifted apart since they were compared.
    fn since_measured(&self) -> (i64, i64) {
        let now = micros(self.start.elapsed());
        (now, ((now - self.measured.load(Ordering::Relaxed)).max(0) / DRIFT).min(MOST_DRIFT_US))
    }

    /// Redis, asked at that moment, has just told its time.
    pub(crate) fn told(&self, asked: Instant, told: i64) {
        let asked = micros(asked.saturating_duration_since(self.start));
        let newer = Bounds::new(asked, micros(self.start.elapsed()), told);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let bounds = known.map_or(newer, |known| known.and(newer));
        *known = Some(bounds);
        self.lowest.store(bounds.lowest, Ordering::Relaxed);
        self.highest.store(bounds.highest, Ordering::Relaxed);
        self.measured.store(bounds.at, Ordering::Relaxed);
    }
}

fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Redis is a second ahead of us.
    const AHEAD: i64 = 1_000_000;

    fn holds(bounds: Bounds, at: i64, ahead: i64) {
        assert!(bounds.lowest <= ahead && ahead <= bounds.highest, "{bounds:?} at {at} without {ahead}");
    }

    #[test]
    fn the_truth_is_between_the_bounds_however_slow_either_way_was() {
        for (there, back) in [(0, 0), (100, 5_000), (70_000, 10), (300_000, 300_000)] {
            let told = 50_000 + there + AHEAD;
            holds(Bounds::new(50_000, 50_000 + there + back, told), 0, AHEAD);
        }
    }

    #[test]
    fn a_slow_answer_takes_nothing_away_from_a_quick_one() {
        let quick = Bounds::new(1_000, 1_200, 1_100 + AHEAD);
        let slow = Bounds::new(2_000, 602_000, 600_000 + AHEAD);
        let both = quick.and(slow);
        holds(both, 602_000, AHEAD);
        assert!(both.highest - both.lowest <= 202 + 2 * (602_000 / DRIFT + 1), "{both:?}");
    }

    #[test]
    fn a_clock_that_drifts_stays_between_the_bounds_and_one_that_was_set_is_learnt_anew() {
        let mut bounds = Bounds::new(0, 200, 100 + AHEAD);
        let mut ahead = AHEAD;
        for second in 1..=600 {
            ahead += 1_000_000 / DRIFT;
            let asked = second * 1_000_000;
            bounds = bounds.and(Bounds::new(asked, asked + 200, asked + 100 + ahead));
            holds(bounds, asked, ahead);
        }
        for step in [-5_000_000, 7_000_000] {
            ahead += step;
            let asked = bounds.at + 1_000_000;
            bounds = bounds.and(Bounds::new(asked, asked + 200, asked + 100 + ahead));
            holds(bounds, asked, ahead);
            assert!(bounds.highest - bounds.lowest <= 201, "{bounds:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_unknown_of_a_clock_does_not_grow_for_ever() {
        let clock = ServerClock::new();
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        clock.told(Instant::now(), 1_000_000 + AHEAD);
        tokio::time::advance(std::time::Duration::from_secs(2)).await;
        let apart = |clock: &ServerClock| clock.at_most().unwrap().since(clock.at_least().unwrap()).as_micros();
        assert!((2_000..3_000).contains(&apart(&clock)), "{}", apart(&clock));
        tokio::time::advance(std::time::Duration::from_secs(7_200)).await;
        assert!(apart(&clock) <= 201_000, "{}", apart(&clock));
    }
}
