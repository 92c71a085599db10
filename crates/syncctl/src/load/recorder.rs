//! What happened during a run.

use crate::oplog::{Entry, OplogWriter, Outcome};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

/// Longest latency told apart, in microseconds: an hour.
const MAX_LATENCY_US: u64 = 3_600_000_000;

/// Collects results; shared behind one lock, which also gives the log its order.
pub struct Recorder {
    latency: Histogram<u64>,
    /// Closed loop: interval at which each worker meant to call, in microseconds; 0 for none.
    expected_interval_us: u64,
    oplog: Option<OplogWriter>,
    started: Instant,
    last_acknowledged: Instant,
    longest_gap: Duration,
    /// Running totals.
    pub totals: Totals,
}

/// Numbers of operations.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Ended, one way or another.
    pub operations: u64,
    /// Answered.
    pub acknowledged: u64,
    /// Answered with "changed".
    pub changed: u64,
    /// Answered with "degraded".
    pub degraded: u64,
    /// Answered after more than one call.
    pub retried: u64,
    /// Given up, may have taken effect.
    pub unknown: u64,
    /// Refused, had no effect; by status code.
    pub failed: BTreeMap<&'static str, u64>,
    /// Calls that were answered with an error and made again; by status code.
    pub errors: BTreeMap<&'static str, u64>,
    /// Calls, the repeated ones included.
    pub calls: u64,
}

/// Percentiles of the time from a call's start (open loop: from when it should have started) to its answer, with all
/// of its retries, in microseconds.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Latency {
    /// Half are faster.
    pub p50: u64,
    /// 90 of 100 are faster.
    pub p90: u64,
    /// 99 of 100 are faster.
    pub p99: u64,
    /// 999 of 1,000 are faster.
    pub p999: u64,
    /// The slowest.
    pub max: u64,
    /// Arithmetic mean.
    pub mean: f64,
}

impl Recorder {
    /// The run starts now.
    pub fn new(oplog: Option<OplogWriter>, expected_interval: Option<Duration>) -> anyhow::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            latency: histogram()?,
            expected_interval_us: expected_interval.map_or(0, micros),
            oplog,
            started: now,
            last_acknowledged: now,
            longest_gap: Duration::ZERO,
            totals: Totals::default(),
        })
    }

    /// One operation was answered.
    pub fn acknowledged(&mut self, entry: &Entry, now: Instant) -> io::Result<()> {
        self.totals.operations += 1;
        self.totals.acknowledged += 1;
        if let Outcome::Acknowledged { changed, degraded, .. } = entry.outcome {
            self.totals.changed += u64::from(changed);
            self.totals.degraded += u64::from(degraded);
        }
        self.note_gap(now);
        self.oplog.as_mut().map_or(Ok(()), |oplog| oplog.append(entry))
    }

    /// One operation was given up, and may have taken effect.
    pub fn unknown(&mut self, entry: &Entry) -> io::Result<()> {
        self.totals.operations += 1;
        self.totals.unknown += 1;
        self.oplog.as_mut().map_or(Ok(()), |oplog| oplog.append(entry))
    }

    /// One operation was refused, and had no effect.
    pub fn failed(&mut self, code: &'static str) {
        self.totals.operations += 1;
        *self.totals.failed.entry(code).or_default() += 1;
    }

    /// One call, with all of its retries, is over.
    pub fn latency(&mut self, took: Duration) {
        let us = micros(took).clamp(1, MAX_LATENCY_US);
        // The value is within the bounds, so neither can fail.
        let _ = match self.expected_interval_us {
            0 => self.latency.record(us),
            interval => self.latency.record_correct(us, interval),
        };
    }

    /// Makes the log readable up to here.
    pub fn flush(&mut self) -> io::Result<()> {
        self.oplog.as_mut().map_or(Ok(()), OplogWriter::flush)
    }

    /// Ends the run: its length, the latencies, the longest time without an acknowledged operation.
    pub fn finish(&mut self) -> io::Result<(Duration, Latency, Duration)> {
        let now = Instant::now();
        self.note_gap(now);
        self.flush()?;
        let latency = percentiles(&self.latency);
        Ok((now - self.started, latency, self.longest_gap))
    }

    fn note_gap(&mut self, now: Instant) {
        self.longest_gap = self.longest_gap.max(now.saturating_duration_since(self.last_acknowledged));
        self.last_acknowledged = now;
    }
}

/// An empty histogram of latencies in microseconds.
pub(super) fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, MAX_LATENCY_US, 3)?)
}

/// What is reported of one.
pub(super) fn percentiles(latency: &Histogram<u64>) -> Latency {
    let at = |quantile| latency.value_at_quantile(quantile);
    Latency {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: latency.max(),
        mean: (latency.mean() * 10.0).round() / 10.0,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_recorded_values() {
        let mut recorder = Recorder::new(None, None).unwrap();
        for us in 1..=1_000 {
            recorder.latency(Duration::from_micros(us));
        }
        let (_, latency, _) = recorder.finish().unwrap();
        assert_eq!(latency, Latency { p50: 500, p90: 900, p99: 990, p999: 999, max: 1_000, mean: 500.5 });
    }

    #[test]
    fn a_stall_counts_for_the_calls_it_held_up() {
        let stalled = |expected| {
            let mut recorder = Recorder::new(None, expected).unwrap();
            for _ in 0..99 {
                recorder.latency(Duration::from_millis(1));
            }
            recorder.latency(Duration::from_millis(100));
            recorder.finish().unwrap().1.p90
        };
        assert_eq!(stalled(None) / 1_000, 1);
        assert!(stalled(Some(Duration::from_millis(1))) > 75_000, "the 99 calls of the stall are missing");
    }

    #[test]
    fn the_longest_gap_is_between_two_answers() {
        use crate::Operation;
        use domain::{Action, Pair, ResourceType, Version};
        let mut recorder = Recorder::new(None, None).unwrap();
        let entry = Entry {
            operation: Operation { pair: Pair::new(1, ResourceType::Video, 1).unwrap(), action: Action::Like },
            outcome: Outcome::Acknowledged { version: Version(1), changed: true, degraded: false },
            doubtful: 0,
        };
        let start = recorder.started;
        for ms in [100, 60_100, 60_200] {
            recorder.acknowledged(&entry, start + Duration::from_millis(ms)).unwrap();
        }
        assert_eq!(recorder.longest_gap, Duration::from_secs(60));
    }
}
