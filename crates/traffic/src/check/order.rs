//! R1: of two operations on a pair, if the one ended before the other began, the other's version is not below the one's;
//! if the other is a change of its own, it is above.
//!
//! A position is a version: of a change its own, of an "unchanged" answer the version of the state that it found. Reads
//! are earlier operations here, never later ones: what a read must not miss is [`super::reader`]'s. An operation with a
//! key may have taken effect while another attempt with that key was under way: [`super::repeats`].

use super::Rule;
use super::case::{Case, Word};
use super::window::Window;
use crate::history::Record;
use domain::Version;

/// Between which moments a version appeared, as far as others saw it.
#[derive(Debug)]
pub(super) struct Bounds {
    /// Versions of words, with the latest begin of a word up to there.
    begins: Vec<(Version, u64)>,
    /// Versions of words and reads, with the earliest end from there on.
    ends: Vec<(Version, u64)>,
}

impl Bounds {
    pub(super) fn new(case: &Case<'_>) -> Self {
        let mut begins: Vec<_> = case.answered().map(|(word, answer)| (answer.version, word.from)).collect();
        begins.sort_unstable();
        for at in 1..begins.len() {
            begins[at].1 = begins[at].1.max(begins[at - 1].1);
        }
        let reads = case.reads.iter().map(|read| (read.answer.version, read.record.end));
        let mut ends: Vec<_> = case.answered().map(|(word, answer)| (answer.version, word.to)).chain(reads).collect();
        ends.sort_unstable();
        for at in (1..ends.len()).rev() {
            ends[at - 1].1 = ends[at - 1].1.min(ends[at].1);
        }
        Self { begins, ends }
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
}

/// Whether a word may have taken effect within a window.
struct Question<'c, 'a> {
    window: Window,
    word: usize,
    asked: &'c Word<'a>,
}

pub(super) fn check(case: &mut Case<'_>) {
    let Swept { wrong, fitting } = sweep(case);
    for (what, records) in wrong {
        case.find(Rule::R1, what, records);
    }
    super::repeats::check(case, &fitting);
}

struct Swept<'a> {
    wrong: Vec<(String, Vec<&'a Record>)>,
    /// Words with several windows: those that fit what was seen before.
    fitting: Vec<(usize, Window)>,
}

fn sweep<'a>(case: &Case<'a>) -> Swept<'a> {
    let words = case.answered().map(|(word, answer)| (word.record.end, answer.version, word.record));
    let reads = case.reads.iter().map(|read| (read.record.end, read.answer.version, read.record));
    let mut ended: Vec<(u64, Version, &'a Record)> = words.chain(reads).collect();
    ended.sort_unstable_by_key(|(end, version, _)| (*end, *version));

    let mut questions: Vec<Question<'_, 'a>> = Vec::new();
    for (at, word) in case.words.iter().enumerate().filter(|(_, word)| word.answer.is_some()) {
        let own = Window { begin: word.record.begin, end: word.record.end };
        let windows = if word.windows.is_empty() { std::slice::from_ref(&own) } else { &word.windows };
        questions.extend(windows.iter().map(|window| Question { window: *window, word: at, asked: word }));
    }
    questions.sort_unstable_by_key(|question| (question.window.begin, question.word));

    let mut swept = Swept { wrong: Vec::new(), fitting: Vec::new() };
    let mut highest: (Version, Option<&'a Record>) = (case.stored.before.version, None);
    let mut ended = ended.into_iter().peekable();
    for Question { window, word, asked } in questions {
        while let Some((_, version, record)) = ended.next_if(|(end, _, _)| *end < window.begin) {
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
                swept.fitting.push((word, window));
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
