//! What a history contains that could have gone wrong. A run without it shows nothing, however clean it is.

use super::Observed;
use crate::history::{Kind, Record};
use std::fmt;

/// Numbers of what could have gone wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Coverage {
    /// Words.
    pub words: u64,
    /// Words that were answered.
    pub answered: u64,
    /// Words that the server said it did not do.
    pub refused: u64,
    /// Unanswered attempts that took effect.
    pub unanswered_with_effect: u64,
    /// Unanswered attempts that did not.
    pub unanswered_without_effect: u64,
    /// Ledger entries that nobody was told of.
    pub orphans: u64,
    /// Answers to a key that was answered before.
    pub repeated_answers: u64,
    /// Answers to a key whose earlier attempt had no answer.
    pub retried_with_key: u64,
    /// Words that wrote the state which the pair had already.
    pub rewrites: u64,
    /// Words that were written around the cache.
    pub direct_writes: u64,
    /// Words of a pair that another item of the same call is about, too.
    pub batched_together: u64,
    /// Reads of pairs.
    pub reads: u64,
    /// Counts that were read or streamed.
    pub counts: u64,
    /// Answers without a part of the system.
    pub degraded: u64,
    /// What only servers can say.
    pub observed: Observed,
}

impl Coverage {
    pub(super) const fn observe(&mut self, observed: Observed) {
        self.observed = observed;
    }

    pub(super) fn see(&mut self, record: &Record) {
        let answer = record.answer();
        self.degraded += u64::from(answer.is_some_and(|answer| answer.degraded));
        match record.kind {
            Kind::Word(_) => {
                self.words += 1;
                self.answered += u64::from(answer.is_some());
                self.refused += u64::from(answer.is_none() && !record.is_unanswered());
            }
            Kind::State => self.reads += u64::from(answer.is_some()),
            Kind::Count | Kind::Stream => self.counts += u64::from(answer.is_some()),
        }
    }

    /// Everything that a run with all behaviours of clients must contain.
    pub const fn required(&self) -> [(&'static str, u64); 12] {
        [
            ("unanswered attempts with effect", self.unanswered_with_effect),
            ("unanswered attempts without effect", self.unanswered_without_effect),
            ("orphans", self.orphans),
            ("repeated answers", self.repeated_answers),
            ("retries with a key", self.retried_with_key),
            ("rewrites", self.rewrites),
            ("direct writes", self.direct_writes),
            ("words batched together", self.batched_together),
            ("reads", self.reads),
            ("counts", self.counts),
            ("confirm rewrites", self.observed.confirm_rewrites),
            ("calls asked again", self.observed.asked_again),
        ]
    }

    /// What is missing: the run is vacuous in these.
    pub fn vacuous(&self) -> Vec<&'static str> {
        self.required().into_iter().filter(|(_, number)| *number == 0).map(|(name, _)| name).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} words: {} answered, {} refused; {} degraded answers",
            self.words, self.answered, self.refused, self.degraded
        )?;
        for (name, number) in self.required() {
            writeln!(f, "  {name}: {number}{}", if number == 0 { " (vacuous)" } else { "" })?;
        }
        Ok(())
    }
}
