//! Judges a history together with what the stores hold at the end.
//!
//! A version orders the changes of a pair, and every answer says which version it saw. So no search for an order is
//! needed, as it is for histories without versions: the order is in the answers, and the checker only has to see whether
//! it fits the times. A pair costs a sort and a sweep, a history O(n log n).
//!
//! | rule | invariant |
//! |---|---|
//! | R1 | what ended before something else began is not above it, and the row and the cached pair are the last word |
//! | R2 | the items of one call take effect in their order |
//! | R3 | one version of a pair is one state, and a word is answered with the state it asked for |
//! | R4 | a change that nobody was told of was made by an unanswered attempt, within its limit |
//! | R5 | every change that somebody was told of is in the ledger exactly once |
//! | R6 | one reader on one server never goes back, and sees what that server acknowledged to it |
//! | R7 | a count lies between the pairs that are surely liked and those that are possibly liked |
//!
//! Each rule stands in a file of its own, with its exact meaning at its head.
//!
//! Excuses are given per pair and per resource, each for one window of time, and each is reported with its reason. Nothing
//! is excused in silence, and nothing everywhere.
//!
//! Deliberately absent: how the servers work. The only thing known of them is what they promise.

mod batch;
mod case;
mod counts;
mod coverage;
mod effects;
mod excuse;
mod fenwick;
mod last_word;
mod ledger;
mod order;
mod place;
mod reader;
mod repeats;
mod report;
mod states;
mod stores;
mod window;

pub use coverage::Coverage;
pub use report::{Excused, Report, Rule, Violation};
pub use stores::{Entry, Observed, PairRow, Stores};

use crate::history::{History, Record};
use case::Case;
use counts::Counts;
use domain::{Pair, Resource, Version};
use stores::Sorted;

/// So begin the names of faults after which the cache lacks what it had: all, or the last of it.
pub const EMPTIED: [&str; 3] = ["flush_redis", "failover_redis", "split_redis"];

/// What the checker takes for granted.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// How far the clocks by which a server and the stores count a limit may be apart, in microseconds.
    pub drift: u64,
    /// How old a count may be that somebody reads, in microseconds: servers remember counts for a moment.
    pub count_delay: u64,
    /// How old a stream's count may be, in microseconds.
    pub stream_delay: u64,
    /// Within this many microseconds of an accepted change the served count is corrected, if the cache had to guess the
    /// pair's state.
    pub settled_within: u64,
    /// Counts are not judged strictly until this many microseconds after a fault.
    pub recovered_within: u64,
    /// How long the answer to an idempotency key is remembered, in microseconds.
    pub key_memory: u64,
    /// Version that stands for the moment 0 of the history, where versions are times of a clock that nobody sets and that
    /// is nowhere ahead: then a change's version itself shows that it came late.
    pub version_at_zero: Option<Version>,
    /// Others wrote, too: pairs without any record are not judged.
    pub shared: bool,
    /// What may be lost.
    pub excuses: Vec<Excuse>,
    /// When the cache was emptied, from and to; faults of the history whose name begins with one of [`EMPTIED`] as well.
    pub emptied: Vec<(u64, u64)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            drift: 50_000,
            count_delay: 0,
            stream_delay: 250_000,
            settled_within: 5_000_000,
            recovered_within: 5_000_000,
            key_memory: 24 * 3_600_000_000,
            version_at_zero: None,
            shared: false,
            excuses: Vec::new(),
            emptied: Vec::new(),
        }
    }
}

/// What was answered about one pair within a window may be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excuse {
    /// Which pair.
    pub pair: Pair,
    /// Answers that ended at this moment or later,
    pub begin: u64,
    /// and not after this one.
    pub end: u64,
    /// Why, for people.
    pub reason: String,
}

/// Judges a history.
pub fn check(history: &History, stores: &Stores, options: &Options) -> Report {
    let empties = |name: &str| EMPTIED.iter().any(|emptied| name.starts_with(emptied));
    let flushes = history.faults().iter().filter(|fault| empties(&fault.name));
    let mut options = options.clone();
    options.emptied.extend(flushes.map(|fault| (fault.begin, fault.end)));
    let options = &options;
    let records = history.records();
    let mut order: Vec<u32> = (0..u32::try_from(records.len()).unwrap_or(u32::MAX)).collect();
    order.sort_unstable_by_key(|at| {
        let record = &records[*at as usize];
        (record.resource, record.user, record.begin, record.call, record.item)
    });
    let sorted: Vec<&Record> = order.iter().map(|at| &records[*at as usize]).collect();
    let stores = Sorted::new(stores);
    let mut excuses = options.excuses.clone();
    excuses.sort_by_key(|excuse| (excuse.pair, excuse.begin));

    let mut report = Report::new(history);
    report.coverage.observe(stores.observed());
    let mut rest = sorted.as_slice();
    while let Some(resource) = next_resource(rest, &stores) {
        let (of_resource, later) = rest.split_at(rest.partition_point(|record| record.resource == resource));
        rest = later;
        check_resource(resource, of_resource, &stores, &excuses, options, history, &mut report);
    }
    report
}

fn next_resource(records: &[&Record], stores: &Sorted<'_>) -> Option<Resource> {
    let recorded = records.first().map(|record| record.resource);
    let stored = stores.next_resource();
    recorded.into_iter().chain(stored).min()
}

fn check_resource(
    resource: Resource,
    records: &[&Record],
    stores: &Sorted<'_>,
    excuses: &[Excuse],
    options: &Options,
    history: &History,
    report: &mut Report,
) {
    let mut counts = Counts::new(resource, history.faults(), options, stores.others(resource));
    for record in records {
        report.coverage.see(record);
        counts.see(record);
    }
    stores.counts(resource).iter().for_each(|(_, count)| counts.see_final(*count));
    let mut rest = &records[records.partition_point(|record| record.user.is_none())..];
    loop {
        let recorded = rest.first().and_then(|record| record.pair());
        let stored = stores.next_pair().filter(|pair| pair.resource == resource);
        let Some(pair) = recorded.into_iter().chain(stored).min() else { break };
        let (of_pair, later) = rest.split_at(rest.partition_point(|record| record.pair() == Some(pair)));
        rest = later;
        let stored = stores.take(pair);
        if of_pair.is_empty() && options.shared {
            continue;
        }
        report.pairs += 1;
        let case = Case::new(pair, of_pair, stored, options);
        let first = excuses.partition_point(|excuse| excuse.pair < pair);
        let mine = excuses[first..].iter().take_while(|excuse| excuse.pair == pair);
        let (judged, spoiled) = excuse::judge(case, &mine.collect::<Vec<_>>(), report);
        counts.add_pair(&judged.case, &judged.orphans, spoiled);
    }
    if stores.has_ledger() {
        counts.judge(report);
    }
}
