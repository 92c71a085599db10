//! Marks what the stores hold on the operations of the logs, and judges pair by pair.

use super::oracle::{self, Expected, Oracle, flag};
use super::report::{Kind, VerifyReport};
use super::served::Cached;
use super::sql::{EventRow, LikeRow, Sql};
use super::{CACHED_PAIRS, VerifyOptions};
use crate::hash::IdMap;
use domain::{Action, Pair, Resource, Version};
use std::collections::BTreeMap;
use std::ops::Range;

pub(super) struct Check<'a> {
    pub(super) options: &'a VerifyOptions,
    pub(super) oracle: Oracle,
    pub(super) report: VerifyReport,
    /// Live rows of pairs outside the logs, where that is allowed.
    pub(super) outside_live: IdMap<Resource, i64>,
    /// State of rows whose version is in no log, by first record of the pair.
    pub(super) strange_rows: BTreeMap<usize, (Version, Action)>,
    /// Latest behaviour whose version is in no log, by first record of the pair.
    pub(super) strange_behaviours: BTreeMap<usize, (Version, Action)>,
    /// Losses that are still allowed.
    pub(super) allowance: u64,
}

impl Check<'_> {
    pub(super) fn see_row(&mut self, row: LikeRow) {
        self.report.rows += 1;
        let Some(range) = self.oracle.find(row.pair) else {
            if row.live && self.options.shared {
                *self.outside_live.entry(row.pair.resource).or_default() += 1;
            } else if row.live {
                self.report.add(Kind::Extra, format_args!("{}: row of version {}", row.pair, row.version));
            }
            return;
        };
        let first = range.start;
        let mut facts = flag::PAIR_ROW | if row.live { flag::PAIR_LIVE } else { 0 };
        match row.version.cmp(&self.oracle.expected(range.clone()).version) {
            std::cmp::Ordering::Less => facts |= flag::PAIR_OLDER,
            std::cmp::Ordering::Greater => facts |= flag::PAIR_NEWER,
            std::cmp::Ordering::Equal => {}
        }
        self.oracle.mark(first, facts);
        let state = (row.version, Action::from_liked(row.live));
        match self.find_record(range, state, flag::ACKNOWLEDGED) {
            Some(at) => self.oracle.mark(at, flag::ROW),
            None => {
                self.strange_rows.insert(first, state);
            }
        }
    }

    pub(super) fn see_behaviour(&mut self, row: &EventRow) {
        self.report.behaviours += 1;
        let Some(range) = self.oracle.find(row.pair) else {
            if !self.options.shared {
                self.report.add(Kind::ExtraBehaviour, describe(row));
            }
            return;
        };
        let state = (row.version, row.action);
        if let Some(at) = self.find_change(range.clone(), state) {
            if self.oracle.records(at..at + 1)[0].has(flag::BEHAVIOUR) {
                self.report.add(Kind::DuplicateBehaviour, describe(row));
            }
            self.oracle.mark(at, flag::BEHAVIOUR);
            return;
        }
        let expected = self.oracle.expected(range.clone());
        // In shared stores others may have had a later word about it.
        let of_others = self.options.shared && row.version > expected.version;
        if !expected.doubtful && !of_others {
            self.report.add(Kind::ExtraBehaviour, describe(row));
        }
        let latest = self.strange_behaviours.entry(range.start).or_insert(state);
        *latest = (*latest).max(state);
    }

    pub(super) fn see_ledger(&mut self, row: &EventRow) {
        self.report.ledger += 1;
        if self.options.shared && self.oracle.find(row.pair).is_none() {
            return;
        }
        match row.status.as_str() {
            "completed" | "dead" | "discarded" => {}
            status => self.report.add(Kind::UnfinishedLedger, format_args!("{}: {status}", describe(row))),
        }
        // Either was accepted and is not in the rows.
        let dead = row.status == "dead" || row.status == "discarded";
        if dead && !self.options.allow_dead {
            self.report.add(Kind::DeadLedger, describe(row));
        }
        let Some(at) = self.oracle.find(row.pair).and_then(|range| self.find_change(range, (row.version, row.action)))
        else {
            return;
        };
        if dead {
            self.oracle.mark(at, flag::DEAD);
        } else if row.status == "completed" {
            if self.oracle.records(at..at + 1)[0].has(flag::LEDGER) {
                self.report.add(Kind::DuplicateLedger, describe(row));
            }
            self.oracle.mark(at, flag::LEDGER);
        }
    }

    /// The operation that made a change: one answered with "changed", or one of which an unanswered call may have done it.
    fn find_change(&self, range: Range<usize>, state: (Version, Action)) -> Option<usize> {
        self.find_record(range.clone(), state, flag::CHANGED)
            .or_else(|| self.find_record(range, state, flag::ACKNOWLEDGED | flag::DOUBTFUL))
    }

    fn find_record(&self, range: Range<usize>, (version, action): (Version, Action), flags: u16) -> Option<usize> {
        let start = range.start;
        let matches =
            |record: &oracle::Record| record.version == version && record.action() == action && record.has(flags);
        self.oracle.records(range).iter().position(matches).map(|at| start + at)
    }

    /// Judges every pair by its marks; returns the number of liking users per resource of the logs.
    pub(super) fn judge_pairs(&mut self) -> Vec<i64> {
        let mut live = vec![0; self.oracle.resources().len()];
        let ranges: Vec<Range<usize>> = self.oracle.pairs().collect();
        for range in ranges {
            let expected = self.oracle.expected(range.clone());
            let given_up = self.options.allow_dead
                && self.oracle.records(range.clone()).iter().any(|record| record.has(flag::DEAD));
            let lost = if given_up { None } else { self.is_lost(range.clone(), expected) };
            if given_up {
                self.oracle.mark(range.start, flag::PAIR_ALLOWED);
            } else if let Some(reason) = lost {
                let pair = self.oracle.pair(&range);
                self.report.lost_pairs.push(pair);
                if self.is_allowed(pair) {
                    self.report.allowed_lost += 1;
                    self.oracle.mark(range.start, flag::PAIR_ALLOWED);
                } else {
                    self.report.add(Kind::Lost, format_args!("{pair}: {reason}"));
                }
            }
            let first = self.oracle.records(range.clone())[0];
            if !first.has(flag::PAIR_ALLOWED) {
                self.judge_row(&range, expected, lost.is_some());
                self.judge_changes(range.clone());
            }
            self.judge_fold(&range);
            let liked = match expected.liked {
                Some(liked) if !first.has(flag::PAIR_ALLOWED) && !self.is_overtaken(first) => liked,
                _ => first.has(flag::PAIR_LIVE),
            };
            live[self.oracle.resource_of(&range)] += i64::from(liked);
            self.report.liked += u64::from(liked);
        }
        live
    }

    /// Whether somebody else had a later word about this pair, which decides.
    fn is_overtaken(&self, first: oracle::Record) -> bool {
        self.options.shared && first.has(flag::PAIR_NEWER)
    }

    /// Why the database misses something of this pair.
    fn is_lost(&self, range: Range<usize>, expected: Expected) -> Option<&'static str> {
        let records = self.oracle.records(range);
        let first = records[0];
        if !first.has(flag::PAIR_ROW) {
            if expected.liked == Some(true) {
                return Some("liked, but there is no row");
            }
        } else if first.has(flag::PAIR_OLDER) {
            return Some("the row is older than the last answer");
        } else if !first.has(flag::PAIR_NEWER) && expected.liked.is_some_and(|l| l != first.has(flag::PAIR_LIVE)) {
            return Some("the row says the opposite");
        }
        let nowhere = |record: &&oracle::Record| {
            record.has(flag::CHANGED)
                && !record.has(flag::BEHAVIOUR)
                && !record.has(flag::LEDGER)
                && !record.has(flag::DEAD)
        };
        records.iter().find(nowhere).map(|_| "a change is in neither behaviours nor ledger")
    }

    fn is_allowed(&mut self, pair: Pair) -> bool {
        if self.options.allowed_loss.pairs.contains(&pair) {
            return true;
        }
        let allowed = self.allowance > 0;
        self.allowance = self.allowance.saturating_sub(1);
        allowed
    }

    /// A row that is newer than everything the logs know of, or in a state they do not allow.
    fn judge_row(&mut self, range: &Range<usize>, expected: Expected, lost: bool) {
        let first = self.oracle.records(range.clone())[0];
        if lost || self.options.shared || !first.has(flag::PAIR_NEWER) {
            return;
        }
        let contradicts = expected.liked.is_some_and(|liked| liked != first.has(flag::PAIR_LIVE));
        // A twin's age is looked at together with its behaviours.
        if contradicts || !(expected.doubtful || expected.twin) {
            let pair = self.oracle.pair(range);
            self.report.add(Kind::Extra, format_args!("{pair}: the row is newer than the last answer"));
        }
    }

    fn judge_changes(&mut self, range: Range<usize>) {
        for at in range.clone() {
            let record = self.oracle.records(at..at + 1)[0];
            if !record.has(flag::CHANGED) || record.has(flag::DEAD) {
                continue;
            }
            for (mark, kind) in [(flag::BEHAVIOUR, Kind::MissingBehaviour), (flag::LEDGER, Kind::MissingLedger)] {
                if !record.has(mark) {
                    let pair = self.oracle.pair(&range);
                    self.report.add(kind, format_args!("{pair}: {} {}", record.action().name(), record.version));
                }
            }
        }
    }

    /// The row must be the latest of the pair's behaviours.
    fn judge_fold(&mut self, range: &Range<usize>) {
        let of_marked = |mark| {
            let records = self.oracle.records(range.clone()).iter();
            records.filter(|record| record.has(mark)).map(|record| (record.version, record.action())).max()
        };
        let folded = of_marked(flag::BEHAVIOUR).max(self.strange_behaviours.get(&range.start).copied());
        let row = of_marked(flag::ROW).or_else(|| self.strange_rows.get(&range.start).copied());
        // A tombstone may have been removed for its age.
        let removed = row.is_none() && folded.is_some_and(|(_, action)| !action.liked());
        let expected = self.oracle.expected(range.clone());
        let twice = folded.zip(row).is_some_and(|(folded, row)| row.1 == folded.1 && expected.may_be_twin(row.0));
        if folded != row && !removed && !twice {
            let show = |state: Option<(Version, Action)>| {
                state.map_or_else(|| "nothing".into(), |(version, action)| format!("{} {version}", action.name()))
            };
            let pair = self.oracle.pair(range);
            let example = format!("{pair}: behaviours end with {}, the row with {}", show(folded), show(row));
            self.report.add(Kind::WrongFold, example);
        }
    }

    pub(super) async fn check_counts(&mut self, sql: &Sql, live: &[i64]) -> anyhow::Result<()> {
        let mut missing: Vec<bool> = live.iter().map(|count| *count != 0).collect();
        let Self { oracle, report, outside_live, options, .. } = self;
        sql.counts(|resource, count| {
            let inside = oracle.resource(resource);
            if inside.is_none() && options.shared {
                return;
            }
            let expected = inside.map_or(0, |at| live[at]) + outside_live.get(&resource).copied().unwrap_or(0);
            if let Some(at) = inside {
                missing[at] = false;
            } else {
                report.add(Kind::WrongCount, format_args!("{resource}: {count}, but it is in no log"));
                return;
            }
            if count != expected {
                report.add(Kind::WrongCount, format_args!("{resource}: {count} instead of {expected}"));
            }
        })
        .await?;
        for (at, _) in missing.iter().enumerate().filter(|(_, missing)| **missing) {
            let resource = oracle.resources()[at];
            report.add(Kind::WrongCount, format_args!("{resource}: no row, instead of {}", live[at]));
        }
        Ok(())
    }

    pub(super) async fn check_cached_counts(&mut self, cache: &mut Cached, live: &[i64]) -> anyhow::Result<()> {
        let Self { oracle, report, outside_live, .. } = self;
        cache
            .counters(oracle.resources(), |at, counter| {
                report.cached_counts += 1;
                let resource = oracle.resources()[at];
                let expected = live[at] + outside_live.get(&resource).copied().unwrap_or(0);
                if counter.served != expected || counter.pending != 0 {
                    let example = format!(
                        "{resource}: {} with {} pending, instead of {expected} with none",
                        counter.served, counter.pending
                    );
                    report.add(Kind::WrongCachedCount, example);
                }
            })
            .await
    }

    pub(super) async fn check_cached_pairs(&mut self, cache: &mut Cached) -> anyhow::Result<()> {
        let ranges: Vec<Range<usize>> = self.oracle.pairs().collect();
        for chunk in ranges.chunks(CACHED_PAIRS) {
            let pairs: Vec<Pair> = chunk.iter().map(|range| self.oracle.pair(range)).collect();
            for ((range, pair), state) in chunk.iter().zip(&pairs).zip(cache.pairs(&pairs).await?) {
                let Some(state) = state else { continue };
                self.report.cached_pairs += 1;
                let expected = self.oracle.expected(range.clone());
                let first = self.oracle.records(range.clone())[0];
                let allowed = first.has(flag::PAIR_ALLOWED);
                let liked = match expected.liked {
                    Some(liked) if !allowed && !self.is_overtaken(first) => liked,
                    _ => first.has(flag::PAIR_LIVE),
                };
                let exact = !expected.doubtful && !allowed && !self.options.shared;
                if state.liked != liked
                    || (exact && state.version != expected.version && !expected.may_be_twin(state.version))
                {
                    let name = |liked| if liked { "liked" } else { "not liked" };
                    let example = format!(
                        "{pair}: {} {}, instead of {} {}",
                        name(state.liked),
                        state.version,
                        name(liked),
                        expected.version
                    );
                    self.report.add(Kind::WrongCachedPair, example);
                }
            }
        }
        Ok(())
    }
}

fn describe(row: &EventRow) -> String {
    format!("{}: {} {}", row.pair, row.action.name(), row.version)
}
