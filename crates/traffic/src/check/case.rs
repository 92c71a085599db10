//! One pair: its words and reads in the order of their begins, what the stores hold of it, and what was found.

use super::stores::Stored;
use super::window::Window;
use super::{Options, Rule, Violation};
use crate::history::{Answer, Kind, Record};
use domain::{Action, Pair, Version};

/// Why the twin of a word is no violation.
pub(super) const TWIN: &str = "the same wish had reached the cache, too, and came as an event of its own";

/// An attempt at a word that was not refused.
#[derive(Debug, Clone)]
pub(super) struct Word<'a> {
    pub(super) record: &'a Record,
    pub(super) action: Action,
    /// None: unanswered.
    pub(super) answer: Option<Answer>,
    /// When its answer may have been made, at the earliest: the first attempt with its key whose answer this may be.
    pub(super) begin: u64,
    /// The same, and the latest moment, as far as other answers allow it.
    pub(super) from: u64,
    pub(super) to: u64,
    /// Several, if the answer may be an earlier attempt's: of that attempt, and of this one. Otherwise empty.
    pub(super) windows: Vec<Window>,
    /// Whether an attempt with this key had this answer before.
    pub(super) repeats_answer: bool,
    /// When it has taken effect, at the latest.
    pub(super) latest: u64,
}

impl Word<'_> {
    pub(super) fn version(&self) -> Option<Version> {
        self.answer.map(|answer| answer.version)
    }

    /// Whether it says that this version is a change of this word's own. An answer of the database alone may also name a
    /// change of the same state that came just before.
    pub(super) fn is_own_change(&self) -> bool {
        self.answer.is_some_and(|answer| answer.changed && !answer.degraded)
    }

    /// Whether its answer may be that of an earlier attempt with its key.
    pub(super) const fn repeats(&self) -> bool {
        !self.windows.is_empty()
    }
}

/// A read of the pair's state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read<'a> {
    pub(super) record: &'a Record,
    pub(super) answer: Answer,
}

/// Something wrong with a pair.
#[derive(Debug, Clone)]
pub(super) struct Finding<'a> {
    pub(super) rule: Rule,
    pub(super) what: String,
    pub(super) records: Vec<&'a Record>,
    /// Why it is no violation.
    pub(super) excuse: Option<&'static str>,
}

impl Finding<'_> {
    pub(super) fn violation(&self, pair: Pair) -> Violation {
        let records = self.records.iter().copied().cloned().collect();
        Violation { rule: self.rule, resource: pair.resource, pair: Some(pair), what: self.what.clone(), records }
    }
}

/// Everything about one pair.
#[derive(Debug, Clone)]
pub(super) struct Case<'a> {
    pub(super) pair: Pair,
    pub(super) words: Vec<Word<'a>>,
    pub(super) reads: Vec<Read<'a>>,
    pub(super) stored: Stored<'a>,
    pub(super) options: &'a Options,
    /// Versions whose answers were excused: nothing is wrong if the ledger does not know them.
    pub(super) forgiven: Vec<Version>,
    pub(super) findings: Vec<Finding<'a>>,
}

impl<'a> Case<'a> {
    /// Of records in the order of their begins.
    pub(super) fn new(pair: Pair, records: &[&'a Record], stored: Stored<'a>, options: &'a Options) -> Self {
        let (mut words, mut reads) = (Vec::new(), Vec::new());
        for record in records {
            match (record.kind, record.answer()) {
                (Kind::Word(action), answer) if answer.is_some() || record.is_unanswered() => {
                    let latest = match answer {
                        Some(_) => record.end,
                        None => record.begin.saturating_add(record.limit).saturating_add(options.drift),
                    };
                    words.push(Word {
                        record,
                        action,
                        answer: answer.copied(),
                        begin: record.begin,
                        from: record.begin,
                        to: record.end,
                        windows: Vec::new(),
                        repeats_answer: false,
                        latest,
                    });
                }
                (Kind::State, Some(answer)) => reads.push(Read { record, answer: *answer }),
                _ => {}
            }
        }
        super::window::find(&mut words);
        Self { pair, words, reads, stored, options, forgiven: Vec::new(), findings: Vec::new() }
    }

    /// Words with their answers.
    pub(super) fn answered(&self) -> impl Iterator<Item = (&Word<'a>, Answer)> {
        self.words.iter().filter_map(|word| word.answer.map(|answer| (word, answer)))
    }

    pub(super) fn find(&mut self, rule: Rule, what: String, records: Vec<&'a Record>) {
        self.findings.push(Finding { rule, what, records, excuse: None });
    }

    pub(super) fn find_excused(&mut self, rule: Rule, what: String, records: Vec<&'a Record>, why: &'static str) {
        self.findings.push(Finding { rule, what, records, excuse: Some(why) });
    }

    /// Whether the cache was emptied after the first moment and, give or take `late`, before the second one.
    pub(super) fn emptied_between(&self, first: u64, second: u64, late: u64) -> bool {
        self.options
            .emptied
            .iter()
            .any(|(from, to)| first <= *to && *from <= second && second <= to.saturating_add(late))
    }

    /// A word answered by the database alone whose twin this may be: the same wish had reached the cache just before, whose
    /// answer the server did not get, and comes as another event to the same effect, a newer one unless the database was late.
    pub(super) fn twin_of(&self, version: Version, liked: bool) -> Option<&'a Record> {
        let may_be = |(word, answer): &(&Word<'a>, Answer)| {
            let within = version.0.saturating_sub(answer.version.0).saturating_abs();
            let limit = word.record.limit.saturating_add(self.options.drift);
            answer.degraded && answer.liked == liked && within > 0 && u64::try_from(within).is_ok_and(|us| us <= limit)
        };
        self.answered().find(may_be).map(|(word, _)| word.record)
    }
}
