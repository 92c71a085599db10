//! R6: a read that is not degraded names no version below what the same device was told before by the same server, be it
//! the state that it read (not degraded) or the answer to its word.
//!
//! Another server may be behind for a moment: nothing is promised about reads across servers but what they can have seen
//! ([`super::order`]). Degraded reads come from the database, which follows; so do all when the cache has been emptied and
//! is filled from there.

use super::Rule;
use super::case::Case;
use crate::history::Record;
use domain::Version;

const EMPTIED: &str = "the cache was emptied before the database had that change";

pub(super) fn check(case: &mut Case<'_>) {
    if case.reads.is_empty() {
        return;
    }
    let session = |record: &Record| (record.device, record.server);
    let reads: Vec<(Version, &Record)> =
        case.reads.iter().filter(|read| !read.answer.degraded).map(|read| (read.answer.version, read.record)).collect();
    let mut told: Vec<(Version, &Record)> =
        case.answered().map(|(word, answer)| (answer.version, word.record)).chain(reads.iter().copied()).collect();
    told.sort_by_key(|(_, record)| (session(record), record.end));
    let mut asked = reads;
    asked.sort_by_key(|(_, record)| (session(record), record.begin));

    let mut wrong = Vec::new();
    let mut told = told.into_iter().peekable();
    for reads in asked.chunk_by(|a, b| session(a.1) == session(b.1)) {
        let mut highest: Option<(Version, &Record)> = None;
        for (version, read) in reads {
            let earlier = |record: &Record| (session(record), record.end) < (session(read), read.begin);
            while let Some(told) = told.next_if(|(_, record)| earlier(record)) {
                let of_session = session(told.1) == session(read);
                if of_session && highest.is_none_or(|(highest, _)| told.0 > highest) {
                    highest = Some(told);
                }
            }
            if let Some((before, record)) = highest.filter(|(before, _)| before > version) {
                wrong.push((format!("read version {version} after {before}"), [record, *read]));
            }
        }
    }
    for (what, records) in wrong {
        let [told, read] = records;
        if case.emptied_between(told.begin, read.end, case.options.recovered_within) {
            case.find_excused(Rule::R6, what, records.to_vec(), EMPTIED);
        } else {
            case.find(Rule::R6, what, records.to_vec());
        }
    }
}
