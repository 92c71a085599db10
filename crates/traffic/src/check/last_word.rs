//! R1 at the end: the row and the cached pair have the highest version that anybody was told of or that the ledger has,
//! and its state.
//!
//! A row may be missing if the last word was an unlike: tombstones are removed for their age. A cached pair may be missing.
//! Two excuses, both reported: the last change is dead and waits for an operator; or the store has the twin of a word that
//! the database answered alone (the same wish, as a newer event).

use super::Rule;
use super::case::{Case, TWIN};
use crate::history::Record;
use domain::PairState;

const DEAD: &str = "its event is dead, and an operator decides";

/// The last word, and who was told.
#[derive(Clone, Copy)]
struct Last<'a> {
    state: PairState,
    record: Option<&'a Record>,
}

pub(super) fn check(case: &mut Case<'_>) {
    let (all, living) = (last(case, true), last(case, false));
    if let Some(row) = case.stored.row {
        compare(case, "the row", row, all, living);
    }
    if let Some(cached) = case.stored.cached {
        compare(case, "the cached pair", Some(cached), all, living);
    }
}

fn compare<'a>(case: &mut Case<'a>, name: &str, found: Option<PairState>, all: Last<'a>, living: Last<'a>) {
    if agrees(found, all.state) {
        return;
    }
    let what = format!("{name} is {}, but the last word is {}", show(found), show(Some(all.state)));
    let records: Vec<&Record> = all.record.into_iter().collect();
    if agrees(found, living.state) {
        return case.find_excused(Rule::R1, what, records, DEAD);
    }
    let newer = found.filter(|found| found.version > all.state.version && found.liked == all.state.liked);
    if let Some(word) = newer.and_then(|found| case.twin_of(found.version, found.liked)) {
        return case.find_excused(Rule::R1, what, vec![word], TWIN);
    }
    case.find(Rule::R1, what, records);
}

fn agrees(found: Option<PairState>, last: PairState) -> bool {
    found.map_or(!last.liked, |found| found == last)
}

fn show(state: Option<PairState>) -> String {
    match state {
        None => "missing".to_owned(),
        Some(PairState { liked: true, version }) => format!("liked at {version}"),
        Some(PairState { liked: false, version }) => format!("not liked at {version}"),
    }
}

fn last<'a>(case: &Case<'a>, dead: bool) -> Last<'a> {
    let entries = case.stored.ledger.unwrap_or_default();
    let is_dead = |version| {
        let found = entries.binary_search_by_key(&version, |entry| entry.version);
        found.is_ok_and(|at| entries[at].dead)
    };
    let words = case.answered().map(|(word, answer)| (answer, word.record));
    let reads = case.reads.iter().map(|read| (read.answer, read.record));
    let told = words.chain(reads).filter(|(answer, _)| dead || !is_dead(answer.version)).map(|(answer, record)| Last {
        state: PairState { liked: answer.liked, version: answer.version },
        record: Some(record),
    });
    let written = entries
        .iter()
        .filter(|entry| dead || !entry.dead)
        .map(|entry| Last { state: PairState { liked: entry.action.liked(), version: entry.version }, record: None });
    let before = Last { state: case.stored.before, record: None };
    // Of those with one version the ledger's is the state; whether the others agree is R3's question.
    [before].into_iter().chain(told).chain(written).max_by_key(|last| last.state.version).unwrap_or(before)
}
