//! R1 and R4 of an answer that may be another attempt's with the same key: one of these attempts was under way when the
//! version was there, that is after every older state was found or made, and before anything newer was seen.
//!
//! Where an unanswered attempt would be the one, but for its limit, a change was late: R4. Words are looked at in the order
//! of their versions, because when one took effect at the earliest follows from those before.

use super::Rule;
use super::case::{Case, Word};
use super::window::Window;
use domain::Version;

/// `fitting`: of each word with several windows those before which nothing newer was seen.
pub(super) fn check(case: &mut Case<'_>, fitting: &[(usize, Window)]) {
    if case.words.iter().all(|word| word.windows.is_empty()) {
        return;
    }
    let mut fitting = fitting.to_vec();
    fitting.sort_unstable_by_key(|(word, window)| (*word, window.begin, window.end));
    let mut answered: Vec<(Version, usize)> =
        case.words.iter().enumerate().filter_map(|(at, word)| Some((word.version()?, at))).collect();
    answered.sort_unstable();

    let mut wrong = Vec::new();
    // The latest begin of a word with an older version.
    let mut older = 0;
    for same in answered.chunk_by(|a, b| a.0 == b.0) {
        let of_change = |word: &Word<'_>| word.answer.is_some_and(|answer| answer.changed).then_some(word.from);
        let made = same.iter().filter_map(|(_, at)| of_change(&case.words[*at])).min();
        let needed = older.max(made.unwrap_or(0));
        for (version, at) in same {
            let word = &mut case.words[*at];
            if word.windows.is_empty() {
                continue;
            }
            let first = fitting.partition_point(|(word, _)| word < at);
            let last = fitting.partition_point(|(word, _)| word <= at);
            let windows =
                || fitting[first..last].iter().map(|(_, window)| window).filter(|window| window.end >= needed);
            if let Some(from) = windows().map(|window| window.begin).min() {
                word.from = from;
                word.to = windows().map(|window| window.end).max().unwrap_or(word.to);
            } else {
                wrong.push((explain(word, *version, first < last), word.record));
            }
        }
        older = same.iter().map(|(_, at)| case.words[*at].from).fold(older, u64::max);
    }
    for ((rule, what), record) in wrong {
        case.find(rule, what, vec![record]);
    }
}

fn explain(word: &Word<'_>, version: Version, begun_in_time: bool) -> (Rule, String) {
    if !begun_in_time {
        return (Rule::R1, format!("answered with version {version}, which was over before each of its attempts"));
    }
    // A change that came after its attempt's limit was late; a state was merely not there.
    let rule = if word.answer.is_some_and(|answer| answer.changed) { Rule::R4 } else { Rule::R1 };
    (rule, format!("answered with version {version}, which was not there yet when each of its attempts was over"))
}
