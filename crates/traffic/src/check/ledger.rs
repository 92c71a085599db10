//! R5: every version that somebody was told of is in the ledger exactly once, as the change of one word.
//!
//! - A version that an answer or a read names and the ledger has not: the change is lost. (Unless it is the twin of a word
//!   that the database answered alone: the same wish, as a newer event, of which the ledger has the first.)
//! - A version that the ledger has twice: the change is doubled.
//! - Two words that each were told that this version is their change: one of them is lost.
//! - Two versions for one key within its memory: the change is doubled. (Unless one was written around the cache: what it
//!   does not know of the other's key, it may write again. The cache is told a moment after it is back. Nor if the cache was
//!   emptied between the two: it alone is asked about keys.)

use super::Rule;
use super::case::{Case, TWIN, Word};
use crate::history::Record;
use domain::Version;

const AROUND: &str =
    "one of them was written around the cache, which did not know of the key, or was not known to have heard of it";

const EMPTIED: &str = "the cache was emptied between the two, with the keys that it remembered";

pub(super) fn check(case: &mut Case<'_>) {
    let Some(entries) = case.stored.ledger else { return };
    let mut twice: Vec<Version> = entries
        .chunk_by(|a, b| a.version == b.version)
        .filter(|same| same.len() > 1)
        .map(|same| same[0].version)
        .collect();
    twice.dedup();
    for version in twice {
        let told = case.answered().find(|(_, answer)| answer.version == version && answer.changed);
        let records = told.map(|(word, _)| word.record).into_iter().collect();
        case.find(Rule::R5, format!("version {version} is in the ledger more than once"), records);
    }
    missing(case, entries.iter().map(|entry| entry.version).collect());
    claimed_twice(case);
    keys(case);
}

fn missing(case: &mut Case<'_>, known: Vec<Version>) {
    // Those who were told of a change first: they show best what is lost.
    let words = case.answered().map(|(word, answer)| (answer.version, !answer.changed, answer.liked, word.record));
    let reads = case.reads.iter().map(|read| (read.answer.version, true, read.answer.liked, read.record));
    let mut told: Vec<(Version, bool, bool, &Record)> = words.chain(reads).collect();
    told.sort_by_key(|(version, unchanged, _, record)| (*version, *unchanged, record.begin));
    told.dedup_by_key(|(version, ..)| *version);
    for (version, unchanged, liked, record) in told {
        if version <= case.stored.before.version
            || known.binary_search(&version).is_ok()
            || case.forgiven.contains(&version)
        {
            continue;
        }
        let what = format!("version {version} is not in the ledger");
        match case.twin_of(version, liked).filter(|_| unchanged) {
            Some(word) => case.find_excused(Rule::R5, what, vec![word, record], TWIN),
            None => case.find(Rule::R5, what, vec![record]),
        }
    }
}

fn claimed_twice(case: &mut Case<'_>) {
    let mut claims: Vec<(Version, &Word<'_>)> = case
        .words
        .iter()
        .filter(|word| word.is_own_change())
        .filter_map(|word| Some((word.version()?, word)))
        .collect();
    claims.sort_by_key(|(version, _)| *version);
    let mut wrong = Vec::new();
    for pair in claims.windows(2) {
        let [(version, first), (other, second)] = pair else { continue };
        let one = first.record.key.is_some() && first.record.key == second.record.key && first.action == second.action;
        // Of two actions R3 speaks.
        if version == other && !one && first.action == second.action {
            wrong.push((*version, [first.record, second.record]));
        }
    }
    for (version, records) in wrong {
        case.find(Rule::R5, format!("two words were told that version {version} is their change"), records.to_vec());
    }
}

fn keys(case: &mut Case<'_>) {
    let mut used: Vec<(&str, bool, Version, Option<&Record>)> = Vec::new();
    for (word, answer) in case.answered().filter(|(_, answer)| answer.changed) {
        if let Some(key) = word.record.key.as_deref() {
            used.push((key, word.action.liked(), answer.version, Some(word.record)));
        }
    }
    for entry in case.stored.ledger.unwrap_or_default() {
        if let Some(key) = entry.key.as_deref() {
            used.push((key, entry.action.liked(), entry.version, None));
        }
    }
    used.sort_by_key(|(key, liked, version, record)| (*key, *liked, *version, record.is_none()));
    let mut wrong = Vec::new();
    for group in used.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let (key, liked, first, _) = group[0];
        let Some((_, _, other, _)) = group.iter().find(|(_, _, version, _)| *version != first) else { continue };
        let attempts =
            || case.words.iter().filter(|word| word.record.key.as_deref() == Some(key) && word.action.liked() == liked);
        let begins = attempts().map(|word| word.record.begin);
        let apart = begins.clone().max().unwrap_or(0).saturating_sub(begins.min().unwrap_or(0));
        if apart <= case.options.key_memory {
            let what = format!("key {key:?} made two changes, {first} and {other}");
            let records: Vec<&Record> = attempts().map(|word| word.record).take(4).collect();
            let (begin, end) = (attempts().map(|w| w.record.begin).min(), attempts().map(|w| w.record.end).max());
            let emptied = case.emptied_between(begin.unwrap_or(0), end.unwrap_or(0), u64::MAX);
            let around = around_the_cache(case, first, *other).then_some(AROUND);
            wrong.push((what, records, around.or(emptied.then_some(EMPTIED))));
        }
    }
    for (what, records, excuse) in wrong {
        match excuse {
            Some(why) => case.find_excused(Rule::R5, what, records, why),
            None => case.find(Rule::R5, what, records),
        }
    }
}

/// Whether neither write can have known of the other's key: versions are microseconds.
fn around_the_cache(case: &Case<'_>, earlier: Version, later: Version) -> bool {
    let entries = case.stored.ledger.unwrap_or_default();
    let is_direct = |version| entries.iter().any(|entry| entry.version == version && entry.direct);
    let apart = u64::try_from(later.0.saturating_sub(earlier.0)).unwrap_or(u64::MAX);
    is_direct(later) || (is_direct(earlier) && apart <= case.options.recovered_within)
}
