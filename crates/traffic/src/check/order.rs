//! R1: of two operations on a pair, if the one ended before the other began, the other's version is not below the one's;
//! if the other is a change of its own, it is above.
//!
//! A position is a version: of a change its own, of an "unchanged" answer the version of the state that it found. Reads
//! are earlier operations here, never later ones: what a read must not miss is [`super::reader`]'s. An operation with a
//! key may have taken effect while an earlier attempt with that key was under way; it then must fit one of these windows
//! as a whole. Where only the earlier attempt's limit forbids that, the change was late: R4.

use super::Rule;
use super::case::{Case, Word};
use crate::history::Record;
use domain::Version;

/// Between which moments a version appeared, as far as others saw it.
#[derive(Debug)]
pub(super) struct Bounds {
    /// Versions of words, with the latest begin of a word up to there.
    begins: Vec<(Version, u64)>,
    /// Versions of words and reads, with the earliest end from there on.
    ends: Vec<(Version, u64)>,
    /// Changes, with their earliest begin.
    changes: Vec<(Version, u64)>,
}

impl Bounds {
    pub(super) fn new(case: &Case<'_>) -> Self {
        let mut begins: Vec<_> = case.answered().map(|(word, answer)| (answer.version, word.begin)).collect();
        begins.sort_unstable();
        for at in 1..begins.len() {
            begins[at].1 = begins[at].1.max(begins[at - 1].1);
        }
        let reads = case.reads.iter().map(|read| (read.answer.version, read.record.end));
        let mut ends: Vec<_> =
            case.answered().map(|(word, answer)| (answer.version, word.record.end)).chain(reads).collect();
        ends.sort_unstable();
        for at in (1..ends.len()).rev() {
            ends[at - 1].1 = ends[at - 1].1.min(ends[at].1);
        }
        let changed = case.answered().filter(|(_, answer)| answer.changed);
        let mut changes: Vec<_> = changed.map(|(word, answer)| (answer.version, word.begin)).collect();
        changes.sort_unstable();
        changes.dedup_by_key(|(version, _)| *version);
        Self { begins, ends, changes }
    }

    /// It was not there before this moment: a word that began then found or made an older state.
    pub(super) fn not_before(&self, version: Version) -> u64 {
        let below = self.begins.partition_point(|(other, _)| *other < version);
        below.checked_sub(1).map_or(0, |at| self.begins[at].1)
    }

    /// It was there at this moment: something that ended then saw it or a newer state.
    pub(super) fn not_after(&self, version: Version) -> u64 {
        let first = self.ends.partition_point(|(other, _)| *other < version);
        self.ends.get(first).map_or(u64::MAX, |(_, end)| *end)
    }

    /// When a word began that was told that it made this version.
    fn made_from(&self, version: Version) -> u64 {
        let found = self.changes.binary_search_by_key(&version, |(other, _)| *other);
        found.map_or(0, |at| self.changes[at].1)
    }
}

/// Whether a word may have taken effect from some moment on.
struct Question<'c, 'a> {
    begin: u64,
    end: u64,
    word: usize,
    asked: &'c Word<'a>,
}

pub(super) fn check(case: &mut Case<'_>) {
    let found = sweep(case);
    let mut later = Vec::new();
    for at in 0..case.words.len() {
        if case.words[at].windows.is_empty() {
            continue;
        }
        let word = &case.words[at];
        let fits: Vec<u64> = found.fitting.iter().filter(|(word, _)| *word == at).map(|(_, end)| *end).collect();
        let version = word.version().unwrap_or_default();
        let needed = found.bounds.not_before(version).max(found.bounds.made_from(version));
        if fits.is_empty() {
            later.push((
                Rule::R1,
                format!("answered with version {version}, which was over before each of its attempts"),
                word.record,
            ));
        } else if fits.iter().all(|end| *end < needed) {
            let what =
                format!("answered with version {version}, which came only after the limit of the attempt it repeats");
            later.push((Rule::R4, what, word.record));
        }
    }
    for (what, records) in found.wrong {
        case.find(Rule::R1, what, records);
    }
    for (rule, what, record) in later {
        case.find(rule, what, vec![record]);
    }
}

struct Swept<'a> {
    bounds: Bounds,
    wrong: Vec<(String, Vec<&'a Record>)>,
    /// Words with several windows: those that fit what was seen before, by their ends.
    fitting: Vec<(usize, u64)>,
}

fn sweep<'a>(case: &Case<'a>) -> Swept<'a> {
    let words = case.answered().map(|(word, answer)| (word.record.end, answer.version, word.record));
    let reads = case.reads.iter().map(|read| (read.record.end, read.answer.version, read.record));
    let mut ended: Vec<(u64, Version, &'a Record)> = words.chain(reads).collect();
    ended.sort_unstable_by_key(|(end, version, _)| (*end, *version));

    let mut questions: Vec<Question<'_, 'a>> = Vec::new();
    for (at, word) in case.words.iter().enumerate().filter(|(_, word)| word.answer.is_some()) {
        if word.windows.is_empty() {
            questions.push(Question { begin: word.record.begin, end: word.record.end, word: at, asked: word });
        }
        for window in &word.windows {
            questions.push(Question { begin: window.begin, end: window.end, word: at, asked: word });
        }
    }
    questions.sort_unstable_by_key(|question| (question.begin, question.word));

    let mut swept = Swept { bounds: Bounds::new(case), wrong: Vec::new(), fitting: Vec::new() };
    let mut highest: (Version, Option<&'a Record>) = (case.stored.before.version, None);
    let mut ended = ended.into_iter().peekable();
    for Question { begin, end, word, asked } in questions {
        while let Some((_, version, record)) = ended.next_if(|(end, _, _)| *end < begin) {
            if version > highest.0 {
                highest = (version, Some(record));
            }
        }
        let version = asked.version().unwrap_or_default();
        // Where the states differ, R3 speaks.
        let strictly = asked.is_own_change() && highest.1.is_none_or(|record| names_state_of(record, asked));
        let fits = if strictly { version > highest.0 } else { version >= highest.0 };
        if !asked.windows.is_empty() {
            if fits {
                swept.fitting.push((word, end));
            }
        } else if !fits {
            let what = if version == highest.0 {
                format!("answered with version {version} as a change of its own, but that was there before it began")
            } else {
                format!("answered with version {version}, but {} was there before it began", highest.0)
            };
            swept.wrong.push((what, highest.1.into_iter().chain([asked.record]).collect()));
        }
    }
    swept
}

fn names_state_of(record: &Record, word: &Word<'_>) -> bool {
    record.answer().is_none_or(|answer| answer.liked == word.action.liked())
}
