//! Circuit breakers: whether a part is unreachable.
//!
//! A circuit opens after failures in a row and is closed by its prober alone ([`crate::recover::probe`]), after the part
//! answers *and* what piled up meanwhile is put right. Traffic never tests an open circuit: no request waits to find
//! out what the prober already knows.
//!
//! A probe that passes and a part that fails again right afterwards contradict each other: the part can do what a probe
//! asks and not what traffic needs. After each such relapse the circuit stays open for twice as long, up to a bound, so
//! that requests do not find out again and again.
//!
//! Hand-written, because the usual libraries close a circuit when a request of the traffic gets through.

use crate::clock::wall_clock;
use crate::metrics;
use chrono::{DateTime, Utc};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A circuit that opens within this time of its closing has relapsed.
const RELAPSE: Duration = Duration::from_secs(10);

/// How long it stays open after the first relapse; doubles.
const FIRST_HOLD: Duration = Duration::from_millis(500);

/// And at most.
const LONGEST_HOLD: Duration = Duration::from_secs(15);

/// Longest text of an error that is kept.
const TEXT: usize = 600;

/// One part's breaker.
#[derive(Debug)]
pub struct Circuit {
    part: &'static str,
    threshold: u32,
    failures: AtomicU32,
    open: AtomicBool,
    past: Mutex<Past>,
    /// Who has it shows it.
    quiet: bool,
}

/// The last time a part was found unreachable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// In the part's words, cut.
    pub text: String,
    /// When.
    pub at: DateTime<Utc>,
}

#[derive(Debug, Default)]
struct Past {
    last_error: Option<LastError>,
    closed_at: Option<Instant>,
    opened_at: Option<Instant>,
    relapses: u32,
    /// It is not closed any more.
    for_good: bool,
}

impl Past {
    fn hold(&self) -> Duration {
        match self.relapses {
            0 => Duration::ZERO,
            relapses => FIRST_HOLD.saturating_mul(1 << (relapses - 1).min(16)).min(LONGEST_HOLD),
        }
    }

    fn open(&mut self, now: Instant) {
        let relapsed =
            self.closed_at.is_some_and(|at| now.saturating_duration_since(at) < RELAPSE.max(2 * self.hold()));
        self.relapses = if relapsed { self.relapses + 1 } else { 0 };
        self.opened_at = Some(now);
    }

    fn held(&self, now: Instant) -> Duration {
        self.opened_at.map_or(Duration::ZERO, |at| (at + self.hold()).saturating_duration_since(now))
    }
}

impl Circuit {
    /// A closed circuit of `part` that opens after `threshold` failures in a row.
    pub fn new(part: &'static str, threshold: u32) -> Self {
        metrics::circuit(part, false);
        Self { quiet: false, ..Self::quiet(part, threshold) }
    }

    /// One of many, whose gauge somebody else sets.
    pub(super) fn quiet(part: &'static str, threshold: u32) -> Self {
        let (failures, open) = (AtomicU32::new(0), AtomicBool::new(false));
        Self { part, threshold: threshold.max(1), failures, open, past: Mutex::default(), quiet: true }
    }

    fn show(&self, open: bool) {
        if !self.quiet {
            metrics::circuit(self.part, open);
        }
    }

    /// Name of the part.
    pub const fn part(&self) -> &'static str {
        self.part
    }

    /// Failures in a row that open it.
    pub(crate) const fn threshold(&self) -> u32 {
        self.threshold
    }

    /// Whether the part is unreachable.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// What was last said against the part, and when; kept when it is well again.
    pub fn last_error(&self) -> Option<LastError> {
        self.past().last_error.clone()
    }

    /// How long the circuit stays open, whatever a probe finds.
    pub fn held(&self) -> Duration {
        if self.is_open() { self.past().held(Instant::now()) } else { Duration::ZERO }
    }

    /// A call went well. Does not close an open circuit: it may have started before the part went away.
    pub fn success(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// A call found the part unreachable.
    pub fn failure(&self, error: &dyn std::fmt::Display) {
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= self.threshold {
            self.trip(error);
        } else {
            self.remember(error);
        }
    }

    /// Opens at once: the failure leaves no doubt.
    pub fn trip(&self, error: &dyn std::fmt::Display) {
        self.remember(error);
        if !self.open.swap(true, Ordering::AcqRel) {
            let held = {
                let mut past = self.past();
                past.open(Instant::now());
                past.hold()
            };
            self.show(true);
            tracing::warn!(part = self.part, %error, ?held, "circuit opened");
        }
    }

    /// Opens at once and stays open, whoever is just about to close it.
    pub(crate) fn trip_for_good(&self, error: &dyn std::fmt::Display) {
        self.past().for_good = true;
        self.trip(error);
    }

    /// The prober's word that the part is back.
    pub fn close(&self) {
        self.failures.store(0, Ordering::Relaxed);
        let closed = {
            // Under the lock of the past: what was ordered for good comes before this, or opens it again.
            let mut past = self.past();
            let closed = !past.for_good && self.open.swap(false, Ordering::AcqRel);
            if closed {
                past.closed_at = Some(Instant::now());
            }
            closed
        };
        if closed {
            self.show(false);
            tracing::info!(part = self.part, "circuit closed");
        }
    }

    fn remember(&self, error: &dyn std::fmt::Display) {
        let text = error.to_string().chars().take(TEXT).collect();
        self.past().last_error = Some(LastError { text, at: wall_clock() });
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_failures_in_a_row_only() {
        let circuit = Circuit::new("test", 3);
        for _ in 0..5 {
            circuit.failure(&"unreachable");
            circuit.failure(&"unreachable");
            circuit.success();
        }
        assert!(!circuit.is_open());
        assert_eq!(circuit.last_error().map(|error| error.text).as_deref(), Some("unreachable"));
        (0..3).for_each(|_| circuit.failure(&"unreachable"));
        assert!(circuit.is_open());
    }

    #[test]
    fn only_the_prober_closes() {
        let circuit = Circuit::new("test", 1);
        circuit.trip(&"gone");
        circuit.success();
        assert!(circuit.is_open());
        circuit.close();
        assert!(!circuit.is_open());
        circuit.failure(&"again");
        assert!(circuit.is_open());
    }

    #[test]
    fn after_each_relapse_it_stays_open_for_longer_and_never_for_good() {
        let (mut past, mut now) = (Past::default(), Instant::now());
        let mut holds = Vec::new();
        for _ in 0..8 {
            past.open(now);
            holds.push(past.held(now).as_millis());
            now += past.hold();
            assert_eq!(past.held(now), Duration::ZERO);
            past.closed_at = Some(now);
            now += RELAPSE / 2;
        }
        assert_eq!(holds, [0, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
        // Well for long enough: forgotten.
        past.open(now + 2 * LONGEST_HOLD);
        assert_eq!(past.hold(), Duration::ZERO);
    }

    #[test]
    fn what_is_open_for_good_is_closed_by_nobody() {
        let circuit = Circuit::quiet("test", 1);
        circuit.trip(&"away");
        circuit.close();
        assert!(!circuit.is_open());
        circuit.trip_for_good(&"another number of shards");
        for _ in 0..2 {
            circuit.close();
            assert!(circuit.is_open());
        }
    }
}
