//! Circuit breakers: whether a part is unreachable.
//!
//! A circuit opens after failures in a row and is closed by its prober alone ([`crate::recover::probe`]), after the part
//! answers *and* what piled up meanwhile is put right. Traffic never tests an open circuit: no request waits to find
//! out what the prober already knows.
//!
//! Hand-written, because the usual libraries close a circuit when a request of the traffic gets through.

use crate::metrics;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// One part's breaker.
#[derive(Debug)]
pub struct Circuit {
    part: &'static str,
    threshold: u32,
    failures: AtomicU32,
    open: AtomicBool,
}

impl Circuit {
    /// A closed circuit of `part` that opens after `threshold` failures in a row.
    pub fn new(part: &'static str, threshold: u32) -> Self {
        metrics::circuit(part, false);
        Self { part, threshold: threshold.max(1), failures: AtomicU32::new(0), open: AtomicBool::new(false) }
    }

    /// Name of the part.
    pub const fn part(&self) -> &'static str {
        self.part
    }

    /// Whether the part is unreachable.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
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
        }
    }

    /// Opens at once: the failure leaves no doubt.
    pub fn trip(&self, error: &dyn std::fmt::Display) {
        if !self.open.swap(true, Ordering::AcqRel) {
            metrics::circuit(self.part, true);
            tracing::warn!(part = self.part, %error, "circuit opened");
        }
    }

    /// The prober's word that the part is back.
    pub fn close(&self) {
        self.failures.store(0, Ordering::Relaxed);
        if self.open.swap(false, Ordering::AcqRel) {
            metrics::circuit(self.part, false);
            tracing::info!(part = self.part, "circuit closed");
        }
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
}
