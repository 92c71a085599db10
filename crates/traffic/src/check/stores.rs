//! What the stores hold at the end, as the caller read it.

use domain::{Action, Pair, PairState, Resource, Version};
use std::cell::Cell;

/// A pair's state in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairRow {
    /// Which pair.
    pub pair: Pair,
    /// Its state.
    pub state: PairState,
}

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which pair.
    pub pair: Pair,
    /// What was wanted.
    pub action: Action,
    /// Version of the change.
    pub version: Version,
    /// Idempotency key of the call, if it had one.
    pub key: Option<Box<str>>,
    /// Whether it was written around the cache.
    pub direct: bool,
    /// Whether it was given up, or still fails: it is not lost, and not in the row. An operator decides.
    pub dead: bool,
}

/// What servers say of themselves and no client can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Observed {
    /// Calls that a server sent to the cache a second time.
    pub asked_again: u64,
    /// "Unchanged" answers that a server did not believe, and wrote.
    pub confirm_rewrites: u64,
}

/// Everything that the stores hold; what was not read is not judged.
#[derive(Debug, Clone, Default)]
pub struct Stores {
    /// Rows before the history began.
    pub before: Vec<PairRow>,
    /// Rows, tombstones too.
    pub rows: Option<Vec<PairRow>>,
    /// The ledger.
    pub ledger: Option<Vec<Entry>>,
    /// Cached pairs; none is missed.
    pub cached: Vec<PairRow>,
    /// Likes of others, who are in no record; constant during the history.
    pub others: Vec<(Resource, i64)>,
    /// Counts at rest: stored ones, cached ones, or both.
    pub counts: Vec<(Resource, i64)>,
    /// What servers say of themselves.
    pub observed: Observed,
}

/// What the stores hold of one pair.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored<'a> {
    pub(super) before: PairState,
    /// None: rows were not read. Some(None): there is none.
    pub(super) row: Option<Option<PairState>>,
    /// Ascending versions; none if the ledger was not read.
    pub(super) ledger: Option<&'a [&'a Entry]>,
    pub(super) cached: Option<PairState>,
}

/// The same, sorted, with a place up to which it was taken.
pub(super) struct Sorted<'a> {
    stores: &'a Stores,
    before: Taken<&'a PairRow>,
    rows: Taken<&'a PairRow>,
    ledger: Taken<&'a Entry>,
    cached: Taken<&'a PairRow>,
    others: Vec<(Resource, i64)>,
    counts: Vec<(Resource, i64)>,
}

struct Taken<T> {
    sorted: Vec<T>,
    at: Cell<usize>,
}

impl<T: Copy> Taken<T> {
    fn new(mut sorted: Vec<T>, key: impl Fn(&T) -> (Pair, Version)) -> Self {
        sorted.sort_by_key(key);
        Self { sorted, at: Cell::new(0) }
    }

    fn next(&self, pair: impl Fn(&T) -> Pair) -> Option<Pair> {
        self.sorted.get(self.at.get()).map(pair)
    }

    fn take(&self, wanted: Pair, pair: impl Fn(&T) -> Pair) -> &[T] {
        let first = self.at.get();
        // A pair has few: a search over all the rest would cost more.
        let taken = self.sorted[first..].iter().take_while(|value| pair(value) <= wanted).count();
        self.at.set(first + taken);
        &self.sorted[first..first + taken]
    }
}

impl<'a> Sorted<'a> {
    pub(super) fn new(stores: &'a Stores) -> Self {
        let row = |row: &&PairRow| (row.pair, row.state.version);
        Self {
            stores,
            before: Taken::new(stores.before.iter().collect(), row),
            rows: Taken::new(stores.rows.iter().flatten().collect(), row),
            ledger: Taken::new(stores.ledger.iter().flatten().collect(), |entry| (entry.pair, entry.version)),
            cached: Taken::new(stores.cached.iter().collect(), row),
            others: by_resource(&stores.others),
            counts: by_resource(&stores.counts),
        }
    }

    pub(super) const fn observed(&self) -> Observed {
        self.stores.observed
    }

    pub(super) const fn has_ledger(&self) -> bool {
        self.stores.ledger.is_some()
    }

    /// First pair that was not taken.
    pub(super) fn next_pair(&self) -> Option<Pair> {
        let rows = [&self.before, &self.rows, &self.cached].map(|rows| rows.next(|row| row.pair));
        rows.into_iter().chain([self.ledger.next(|entry| entry.pair)]).flatten().min()
    }

    pub(super) fn next_resource(&self) -> Option<Resource> {
        self.next_pair().map(|pair| pair.resource)
    }

    /// Likes of others.
    pub(super) fn others(&self, resource: Resource) -> i64 {
        of(&self.others, resource).iter().map(|(_, count)| *count).sum()
    }

    /// Counts at rest.
    pub(super) fn counts(&self, resource: Resource) -> &[(Resource, i64)] {
        of(&self.counts, resource)
    }

    /// What is stored of a pair; pairs must be taken in ascending order.
    pub(super) fn take(&self, pair: Pair) -> Stored<'_> {
        let [before, row, cached] = [&self.before, &self.rows, &self.cached]
            .map(|rows| rows.take(pair, |row| row.pair).last().map(|row| row.state));
        let entries = self.ledger.take(pair, |entry| entry.pair);
        Stored {
            before: before.unwrap_or(PairState::UNTOUCHED),
            row: self.stores.rows.is_some().then_some(row),
            ledger: self.stores.ledger.is_some().then_some(entries),
            cached,
        }
    }
}

fn by_resource(counts: &[(Resource, i64)]) -> Vec<(Resource, i64)> {
    let mut counts = counts.to_vec();
    counts.sort_unstable();
    counts
}

fn of(counts: &[(Resource, i64)], resource: Resource) -> &[(Resource, i64)] {
    let first = counts.partition_point(|(counted, _)| *counted < resource);
    let length = counts[first..].partition_point(|(counted, _)| *counted == resource);
    &counts[first..first + length]
}
