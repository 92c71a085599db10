//! R3: whoever names a version of a pair, be it an answer, a read or the ledger, names the same state; and the answer to a
//! word is the state that the word asked for.
//!
//! Version zero is "not liked": nobody ever touched the pair. The final row and the final cached pair are R1's.

use super::Rule;
use super::case::Case;
use crate::history::Record;
use domain::Version;

pub(super) fn check(case: &mut Case<'_>) {
    let opposite: Vec<&Record> = case
        .answered()
        .filter(|(word, answer)| word.action.liked() != answer.liked)
        .map(|(word, _)| word.record)
        .collect();
    for record in opposite {
        case.find(Rule::R3, "answered with the opposite of what was asked".to_owned(), vec![record]);
    }

    let mut named: Vec<(Version, bool, Option<&Record>)> = vec![(Version::ZERO, false, None)];
    named.push((case.stored.before.version, case.stored.before.liked, None));
    named.extend(case.answered().map(|(word, answer)| (answer.version, answer.liked, Some(word.record))));
    named.extend(case.reads.iter().map(|read| (read.answer.version, read.answer.liked, Some(read.record))));
    let entries = case.stored.ledger.unwrap_or_default();
    named.extend(entries.iter().map(|entry| (entry.version, entry.action.liked(), None)));
    // Stable: within a version the first one named stays first.
    named.sort_by_key(|(version, _, _)| *version);
    for same in named.chunk_by(|a, b| a.0 == b.0) {
        let (version, liked, first) = same[0];
        if let Some((_, _, other)) = same.iter().find(|(_, other, _)| *other != liked) {
            let what = format!("version {version} is named as liked and as not liked");
            case.find(Rule::R3, what, first.iter().chain(other).copied().collect());
        }
    }
}
