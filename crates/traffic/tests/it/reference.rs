//! What the checker must find, the slow way: every order of the operations of a pair is tried.
//!
//! An order is right if a register with versions, which takes one operation after the other at moments within their
//! times, would have given exactly these answers, and in the end holds exactly this row and has written exactly this
//! ledger. (A missing row is a tombstone that was removed.) That is R1 to R5 together.

use domain::{Action, PairState, Version};
use traffic::check::{Entry, Stores};
use traffic::history::{Answer, Kind, Record};

/// When an operation may run.
type Windows = Vec<(u64, u64)>;

struct Operation<'a> {
    record: &'a Record,
    /// Call and item of every answer that it gave.
    items: Vec<(u64, u32)>,
    runs: Runs,
    windows: Windows,
    /// Operations of the same call that must have run before, if they run.
    after: Vec<usize>,
}

#[derive(Clone, Copy)]
enum Runs {
    /// Writes this version.
    Writes(Version, Action),
    /// Finds this state.
    Finds(PairState),
    /// Writes some version, or nothing.
    MayWrite(Action),
}

/// Whether some order of a pair's operations explains everything.
pub(crate) fn has_order(records: &[&Record], stores: &Stores) -> bool {
    let Some(pair) = records.first().and_then(|record| record.pair()) else { return true };
    let mut ledger: Vec<&Entry> = stores.ledger.iter().flatten().filter(|entry| entry.pair == pair).collect();
    ledger.sort_by_key(|entry| entry.version);
    let row = stores.rows.iter().flatten().find(|row| row.pair == pair).map(|row| row.state);
    if records.iter().any(|record| answers_opposite(record)) || key_made_two(records, &ledger) {
        return false;
    }
    let operations = operations(records);
    let search = Search { operations: &operations, ledger: &ledger, row };
    search.from(0, 0, 0, PairState::UNTOUCHED)
}

fn answers_opposite(record: &Record) -> bool {
    matches!((record.kind, record.answer()), (Kind::Word(action), Some(answer)) if answer.liked != action.liked())
}

fn key_made_two(records: &[&Record], ledger: &[&Entry]) -> bool {
    let told = records.iter().filter_map(|record| match (record.kind, record.answer()) {
        (Kind::Word(action), Some(answer)) if answer.changed => Some((record.key.as_deref()?, action, answer.version)),
        _ => None,
    });
    let written = ledger.iter().filter_map(|entry| Some((entry.key.as_deref()?, entry.action, entry.version)));
    let all: Vec<_> = told.chain(written).collect();
    all.iter().any(|one| all.iter().any(|other| (one.0, one.1) == (other.0, other.1) && one.2 != other.2))
}

fn operations<'a>(records: &[&'a Record]) -> Vec<Operation<'a>> {
    let mut operations: Vec<Operation<'a>> = Vec::new();
    for record in records {
        let runs = match (record.kind, record.answer()) {
            (Kind::Word(action), Some(Answer { changed: true, version, .. })) => Runs::Writes(*version, action),
            (Kind::Word(_) | Kind::State, Some(answer)) => {
                Runs::Finds(PairState { liked: answer.liked, version: answer.version })
            }
            (Kind::Word(action), None) if record.is_unanswered() => Runs::MayWrite(action),
            _ => continue,
        };
        let windows = match record.kind {
            // Reads may be behind: only what they cannot have seen yet is wrong.
            Kind::State => vec![(0, record.end)],
            _ => windows(record, records),
        };
        let items = vec![(record.call, record.item)];
        operations.push(Operation { record, items, runs, windows, after: Vec::new() });
    }
    let repeats: Vec<u64> = operations.iter().filter(|operation| operation.windows.len() > 1).map(id).collect();
    // A write whose answer was given more than once is one write: it fits all of its answers.
    let mut at = 0;
    while at < operations.len() {
        let first = (0..at).find(|first| is_same_write(&operations[*first], &operations[at]));
        if let Some(first) = first {
            let again = operations.remove(at);
            operations[first].items.extend(again.items);
            operations[first].windows = common(&operations[first].windows, &again.windows);
        } else {
            at += 1;
        }
    }
    for at in 0..operations.len() {
        // An answer that may be an earlier call's has no place in its own.
        if repeats.contains(&id(&operations[at])) {
            continue;
        }
        let record = operations[at].record;
        let earlier = |(call, item): &(u64, u32)| *call == record.call && *item < record.item;
        let after = (0..operations.len()).filter(|other| *other != at && operations[*other].items.iter().any(earlier));
        operations[at].after = after.collect();
    }
    operations
}

fn id(operation: &Operation<'_>) -> u64 {
    operation.record.call << 32 | u64::from(operation.record.item)
}

fn is_same_write(one: &Operation<'_>, other: &Operation<'_>) -> bool {
    let version = |operation: &Operation<'_>| match operation.runs {
        Runs::Writes(version, action) => Some((version, action)),
        _ => None,
    };
    version(one).is_some()
        && version(one) == version(other)
        && one.record.key.is_some()
        && one.record.key == other.record.key
}

fn common(one: &Windows, other: &Windows) -> Windows {
    let meet = |a: &(u64, u64), b: &(u64, u64)| (a.0.max(b.0), a.1.min(b.1));
    let all = one.iter().flat_map(|a| other.iter().map(move |b| meet(a, b)));
    all.filter(|(begin, end)| begin <= end).collect()
}

/// A word's own time; with a key, also that of other attempts whose answer this may be.
pub(crate) fn windows(record: &Record, records: &[&Record]) -> Windows {
    let Some(answer) = record.answer() else { return vec![(record.begin, record.begin + record.limit)] };
    let may_be_its = |other: &&&Record| {
        let same = other.key.is_some() && other.key == record.key && other.kind == record.kind;
        let earlier = (other.call, other.item) != (record.call, record.item) && other.begin <= record.end;
        let fits = other.answer().map_or(other.is_unanswered(), |first| first.version == answer.version);
        same && earlier && fits
    };
    let earlier = records.iter().filter(may_be_its).map(|other| {
        let end = if other.answer().is_some() { other.end } else { other.begin + other.limit };
        (other.begin, end.min(record.end))
    });
    earlier.chain([(record.begin, record.end)]).collect()
}

struct Search<'a> {
    operations: &'a [Operation<'a>],
    ledger: &'a [&'a Entry],
    row: Option<PairState>,
}

impl Search<'_> {
    /// Whether the rest can run after the operations in `done`, the first `written` entries of the ledger being written.
    fn from(&self, done: u32, written: usize, now: u64, state: PairState) -> bool {
        let must = |at: usize| !matches!(self.operations[at].runs, Runs::MayWrite(_));
        let all_done = (0..self.operations.len()).all(|at| done & 1 << at != 0 || !must(at));
        if all_done && written == self.ledger.len() && self.row.map_or(!state.liked, |row| row == state) {
            return true;
        }
        for (at, operation) in self.operations.iter().enumerate().filter(|(at, _)| done & 1 << at == 0) {
            // An earlier item that ran not yet must not run later; one that may never run is then taken as such.
            let Some(done) = self.with_earlier_items(done, operation, must) else { continue };
            let Some((written, next)) = self.run(operation, written, state) else { continue };
            let moments = operation.windows.iter().map(|(begin, end)| (now.max(*begin), *end));
            // The earliest moment leaves most to the others.
            let earliest = moments.filter(|(moment, end)| moment <= end).map(|(moment, _)| moment).min();
            if earliest.is_some_and(|moment| self.from(done | 1 << at, written, moment, next)) {
                return true;
            }
        }
        false
    }

    /// The register takes an operation: entries written then, and the state then.
    fn run(&self, operation: &Operation<'_>, written: usize, state: PairState) -> Option<(usize, PairState)> {
        let write = match operation.runs {
            Runs::Finds(found) => return (found == state).then_some((written, state)),
            Runs::Writes(version, action) => {
                self.ledger.get(written).filter(|entry| (entry.version, entry.action) == (version, action))
            }
            Runs::MayWrite(action) => {
                self.ledger.get(written).filter(|entry| entry.action == action && entry.key == operation.record.key)
            }
        };
        let next = write.map(|entry| PairState { liked: entry.action.liked(), version: entry.version });
        next.filter(|next| next.version > state.version).map(|next| (written + 1, next))
    }

    fn with_earlier_items(&self, done: u32, operation: &Operation<'_>, must: impl Fn(usize) -> bool) -> Option<u32> {
        operation.after.iter().try_fold(done, |done, earlier| {
            let ran = done & 1 << earlier != 0;
            if ran { Some(done) } else { (!must(*earlier)).then_some(done | 1 << earlier) }
        })
    }
}
