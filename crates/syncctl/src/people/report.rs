//! What a run of people produced.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use traffic::history::{Kind, Outcome, Record};

/// Everything that is counted; each name is in the report, also at zero.
const NAMES: [&str; 29] = [
    "single_words",
    "small_batches",
    "large_batches",
    "words_of_other_devices",
    "words_with_keys",
    "repeats",
    "late_repeats",
    "opposite_keys",
    "calls_with_deadlines",
    "abandoned_calls",
    "calls_to_drop",
    "cancelled_calls",
    "words_after_leaving",
    "retries_after_leaving",
    "retries_with_same_key",
    "retries_without_key",
    "retries_elsewhere",
    "reads_of_states",
    "reads_of_counts",
    "states",
    "counts",
    "streams",
    "streams_unread",
    "stream_counts",
    "connections_lost",
    "too_many_resets",
    "open_at_end",
    "words_refused",
    "words_unknown",
];

/// Numbers so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    words: u64,
    acknowledged: u64,
    changed: u64,
    degraded: u64,
    calls: u64,
    produced: BTreeMap<&'static str, u64>,
    errors: BTreeMap<&'static str, u64>,
    failed: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub(super) fn count(&mut self, what: &'static str, number: u64) {
        *self.produced.entry(what).or_default() += number;
    }

    /// An error of a call or of one of its items; `for_good`: one that no client should ever see.
    pub(super) fn error(&mut self, code: &'static str, for_good: bool) {
        *self.errors.entry(code).or_default() += 1;
        if for_good {
            *self.failed.entry(code).or_default() += 1;
        }
    }

    pub(super) fn see(&mut self, record: &Record) {
        self.calls += u64::from(record.item == 0 && record.kind != Kind::Stream);
        let answered = u64::from(record.answer().is_some());
        match record.kind {
            Kind::Word(_) => {
                self.words += 1;
                self.acknowledged += answered;
                self.count("words_with_keys", u64::from(record.key.is_some()));
                match &record.outcome {
                    Outcome::Answered(answer) => {
                        self.changed += u64::from(answer.changed);
                        self.degraded += u64::from(answer.degraded);
                    }
                    Outcome::Refused => self.count("words_refused", 1),
                    Outcome::Unknown => self.count("words_unknown", 1),
                    Outcome::Abandoned | Outcome::Cancelled => {}
                }
            }
            Kind::State => self.count("states", answered),
            Kind::Count => self.count("counts", answered),
            Kind::Stream => self.count("stream_counts", answered),
        }
    }
}

/// What came out.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PeopleReport {
    /// Words sent; each attempt is one.
    pub words: u64,
    /// Words that were answered.
    pub acknowledged: u64,
    /// Words that changed something.
    pub changed: u64,
    /// Words that were answered without a part of the system.
    pub degraded: u64,
    /// Calls, streams aside.
    pub calls: u64,
    /// Numbers of what people did.
    pub produced: BTreeMap<&'static str, u64>,
    /// Errors by code.
    pub errors: BTreeMap<&'static str, u64>,
    /// Errors that no condition of the system explains.
    pub failed: BTreeMap<&'static str, u64>,
    /// Length of the run in seconds.
    pub elapsed_s: f64,
    /// Words answered per second.
    pub words_per_s: f64,
    /// Longest time without an answered word, in milliseconds.
    pub longest_gap_ms: u64,
    /// Milliseconds for which this program itself was held up.
    pub held_up_ms: u64,
    /// Whether the run was interrupted.
    pub interrupted: bool,
}

impl PeopleReport {
    pub(super) fn new(tally: &Tally, recorder: &super::recorder::Recorder, interrupted: bool) -> Self {
        let elapsed = recorder.elapsed().as_secs_f64();
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let mut produced: BTreeMap<&'static str, u64> = NAMES.into_iter().map(|name| (name, 0)).collect();
        produced.extend(&tally.produced);
        Self {
            words: tally.words,
            acknowledged: tally.acknowledged,
            changed: tally.changed,
            degraded: tally.degraded,
            calls: tally.calls,
            produced,
            errors: tally.errors.clone(),
            failed: tally.failed.clone(),
            elapsed_s: (elapsed * 1e3).round() / 1e3,
            words_per_s: (tally.acknowledged as f64 / elapsed.max(1e-9)).round(),
            longest_gap_ms: millis(recorder.longest_gap()),
            held_up_ms: millis(recorder.held_up()),
            interrupted,
        }
    }

    /// Whether no error was seen that no condition of the system explains.
    pub fn is_fine(&self) -> bool {
        self.failed.is_empty()
    }
}

impl fmt::Display for PeopleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} of {} words answered in {:.1} s ({:.0}/s), in {} calls; changed {}, degraded {}",
            self.acknowledged, self.words, self.elapsed_s, self.words_per_s, self.calls, self.changed, self.degraded
        )?;
        for (name, number) in &self.produced {
            writeln!(f, "  {:<24}{number:>10}", name.replace('_', " "))?;
        }
        writeln!(f, "longest time without an answered word: {} ms", self.longest_gap_ms)?;
        writeln!(f, "held up itself for {} ms", self.held_up_ms)?;
        self.errors.iter().try_for_each(|(code, number)| writeln!(f, "answered {code}: {number}"))?;
        self.failed.iter().try_for_each(|(code, number)| writeln!(f, "FAILED with {code}: {number}"))
    }
}
