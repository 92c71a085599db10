//! R7: a count that somebody was told lies between the number of pairs that were liked at every moment of its interval
//! (surely) and of those that were liked at some moment of it (possibly).
//!
//! Whether a pair was liked at a moment follows from when its changes took effect. A message of a stream may be as old as
//! the stream's delay; a repeated answer is as old as the first. Two things widen the bounds, each for its own time only:
//! a change to the state which the pair had already, because a cache that did not know the pair counts it until it is
//! settled; and a pair that breaks another rule, which is liked or not.
//!
//! Degraded counts come from the database, which follows, and are not judged. A count that is out of its bounds while a
//! fault lasts or shortly after is excused and reported with the fault.

use super::case::Case;
use super::effects::Orphan;
use super::fenwick::count_in_corners;
use super::{Options, Report, Rule, Violation};
use crate::history::{Fault, Kind, Record};
use domain::{Resource, Version};

/// A count that somebody was told, both ends of its interval included.
#[derive(Clone, Copy)]
struct Told<'a> {
    begin: u64,
    end: u64,
    count: i64,
    /// None: a count at rest.
    record: Option<&'a Record>,
}

/// Intervals, both ends included.
type Intervals = Vec<(u64, u64)>;

/// The counts of one resource, and what its pairs allow.
pub(super) struct Counts<'a> {
    resource: Resource,
    faults: &'a [Fault],
    options: &'a Options,
    others: i64,
    told: Vec<Told<'a>>,
    /// A pair is surely liked.
    sure: Intervals,
    /// A pair is possibly liked; intervals of one pair do not touch.
    possible: Intervals,
    /// Between two of these of one pair: the later one's begin, and the end of the one before.
    gaps: Intervals,
    /// A pair may be counted once more, or once less.
    surplus: Intervals,
    deficit: Intervals,
}

/// A change of a pair, and when it took effect.
struct Change {
    liked: bool,
    from: u64,
    to: u64,
}

impl<'a> Counts<'a> {
    pub(super) fn new(resource: Resource, faults: &'a [Fault], options: &'a Options, others: i64) -> Self {
        Self {
            resource,
            faults,
            options,
            others,
            told: Vec::new(),
            sure: Vec::new(),
            possible: Vec::new(),
            gaps: Vec::new(),
            surplus: Vec::new(),
            deficit: Vec::new(),
        }
    }

    /// Takes the count of a read or a message.
    pub(super) fn see(&mut self, record: &'a Record) {
        let delay = match record.kind {
            Kind::Count => self.options.count_delay,
            Kind::Stream => self.options.stream_delay,
            Kind::Word(_) | Kind::State => return,
        };
        if let Some(answer) = record.answer().filter(|answer| !answer.degraded)
            && let Some(count) = answer.count
        {
            let begin = record.begin.saturating_sub(delay);
            self.told.push(Told { begin, end: record.end, count, record: Some(record) });
        }
    }

    pub(super) fn see_final(&mut self, count: i64) {
        self.told.push(Told { begin: u64::MAX, end: u64::MAX, count, record: None });
    }

    /// Takes the counts of a pair's words, and when it was liked; `spoiled`: it breaks a rule.
    pub(super) fn add_pair(&mut self, case: &Case<'a>, orphans: &[Orphan], spoiled: bool) {
        for (word, answer) in case.answered().filter(|(_, answer)| !answer.degraded) {
            if let Some(count) = answer.count {
                self.told.push(Told { begin: word.begin, end: word.record.end, count, record: Some(word.record) });
            }
        }
        match changes(case, orphans).filter(|_| !spoiled) {
            Some(changes) => self.add_changes(&changes),
            None => self.add_unknown(case),
        }
    }

    /// A pair of which nobody knows when it was liked, nor which of its changes were to the state that it had.
    fn add_unknown(&mut self, case: &Case<'a>) {
        self.possible.push((0, u64::MAX));
        for (word, answer) in case.answered().filter(|(_, answer)| answer.changed) {
            let guessed = if answer.liked { &mut self.surplus } else { &mut self.deficit };
            guessed.push((word.begin, word.record.end.saturating_add(self.options.settled_within)));
        }
    }

    fn add_changes(&mut self, changes: &[Change]) {
        for two in changes.windows(2) {
            let [before, change] = two else { continue };
            if before.liked == change.liked {
                let guessed = if change.liked { &mut self.surplus } else { &mut self.deficit };
                guessed.push((change.from, change.to.saturating_add(self.options.settled_within)));
            }
        }
        let mut last: Option<usize> = None;
        let mut runs = changes.chunk_by(|a, b| a.liked == b.liked).peekable();
        while let Some(run) = runs.next() {
            let next = runs.peek().and_then(|run| run.first());
            let first = &run[0];
            if !first.liked {
                continue;
            }
            let surely =
                first.to.checked_add(1).map(|begin| (begin, next.map_or(u64::MAX, |next| next.from.saturating_sub(1))));
            self.sure.extend(surely.filter(|(begin, end)| begin <= end));
            let possibly = (first.from, next.map_or(u64::MAX, |next| next.to));
            match last.map(|at| &mut self.possible[at]) {
                Some(before) if before.1 >= possibly.0 => before.1 = before.1.max(possibly.1),
                before => {
                    self.gaps.extend(before.map(|before| (possibly.0, before.1)));
                    last = Some(self.possible.len());
                    self.possible.push(possibly);
                }
            }
        }
    }

    /// Compares what was told with what the pairs allow.
    pub(super) fn judge(mut self, report: &mut Report) {
        if self.told.is_empty() {
            return;
        }
        let spans: Vec<(u64, u64)> = self.told.iter().map(|told| (told.begin, told.end)).collect();
        let surely = count_in_corners(&mut self.sure, &spans);
        // A pair with two intervals in one span is one pair.
        let crossed: Vec<(u64, u64)> = spans.iter().map(|(begin, end)| (*end, *begin)).collect();
        let twice = count_in_corners(&mut self.gaps, &crossed);
        let [possible, surplus, deficit] =
            [&self.possible, &self.surplus, &self.deficit].map(|intervals| meeting(intervals, &spans));
        for (at, told) in self.told.iter().enumerate() {
            let least = self.others + signed(surely[at]) - signed(deficit[at]);
            let most = self.others + signed(possible[at]) - signed(twice[at]) + signed(surplus[at]);
            if told.count < least.max(0) || told.count > most {
                self.report(told, least.max(0), most, report);
            }
        }
    }

    fn report(&self, told: &Told<'_>, least: i64, most: i64, report: &mut Report) {
        let at_rest = if told.record.is_none() { " at rest" } else { "" };
        let violation = Violation {
            rule: Rule::R7,
            resource: self.resource,
            pair: told.record.and_then(Record::pair),
            what: format!("count {}{at_rest}, but {least} to {most} pairs are liked", told.count),
            records: told.record.into_iter().cloned().collect(),
        };
        let during = |fault: &&Fault| {
            fault.begin <= told.end && told.begin <= fault.end.saturating_add(self.options.recovered_within)
        };
        match self.faults.iter().find(during).filter(|_| told.record.is_some()) {
            Some(fault) => {
                report.excuse(violation, &format!("of the fault {} [{}, {}]", fault.name, fault.begin, fault.end))
            }
            None => report.violate(violation),
        }
    }
}

/// The pair's changes in their order, the first one being what it was before; none if that is not known.
fn changes(case: &Case<'_>, orphans: &[Orphan]) -> Option<Vec<Change>> {
    let entries = case.stored.ledger?;
    let mut told: Vec<(Version, u64, u64)> = case
        .answered()
        .filter(|(_, answer)| answer.changed)
        .map(|(word, answer)| (answer.version, word.begin, word.record.end))
        .collect();
    told.sort_unstable();
    let mut changes = vec![Change { liked: case.stored.before.liked, from: 0, to: 0 }];
    for entry in entries.iter().filter(|entry| entry.version > case.stored.before.version) {
        if entry.dead {
            return None;
        }
        let first = told.partition_point(|(version, ..)| *version < entry.version);
        let same = told[first..].iter().take_while(|(version, ..)| *version == entry.version);
        let (from, to) =
            same.fold((u64::MAX, u64::MAX), |(from, to), (_, begin, end)| (from.min(*begin), to.min(*end)));
        let orphan = orphans.binary_search_by_key(&entry.version, |orphan| orphan.version);
        let (from, to) = orphan.map_or((from, to), |at| (orphans[at].from, orphans[at].to));
        changes.push(Change { liked: entry.action.liked(), from, to });
    }
    // Each took effect after those before it, and before those after it.
    for at in 1..changes.len() {
        changes[at].from = changes[at].from.max(changes[at - 1].from);
    }
    for at in (1..changes.len()).rev() {
        changes[at - 1].to = changes[at - 1].to.min(changes[at].to);
    }
    Some(changes)
}

/// How many intervals have a moment in common with each span.
fn meeting(intervals: &Intervals, spans: &[(u64, u64)]) -> Vec<u64> {
    let (mut begins, mut ends): (Vec<u64>, Vec<u64>) = intervals.iter().copied().unzip();
    begins.sort_unstable();
    ends.sort_unstable();
    let met = |(begin, end): &(u64, u64)| {
        let begun = begins.partition_point(|other| other <= end);
        let over = ends.partition_point(|other| other < begin);
        begun.saturating_sub(over) as u64
    };
    spans.iter().map(met).collect()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
