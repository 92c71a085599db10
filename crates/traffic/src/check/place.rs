//! Places effects on attempts: each effect on an attempt of its own, in the order of versions.
//!
//! Effects between which answers put a border are placed apart. The attempt whose time ends first is tried first, which
//! nearly always succeeds at once; where it does not, the other ways are tried, within a bound.

use crate::history::Record;
use domain::Version;
use std::ops::Range;

/// Attempts tried for one group of effects; what is not placed by then counts as not explained.
const STEPS: usize = 200_000;

/// Effects in one group beyond which no other way is tried.
const SEARCHED: usize = 500;

/// A change that needs an attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effect<'a> {
    pub(super) version: Version,
    pub(super) liked: bool,
    pub(super) key: Option<&'a str>,
    /// It took effect between these moments.
    pub(super) from: u64,
    pub(super) to: u64,
}

/// An attempt that may have made a change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) record: &'a Record,
    pub(super) liked: bool,
    pub(super) begin: u64,
    pub(super) latest: u64,
    /// Versions of answered items of the same call: earlier and later ones.
    pub(super) above: Version,
    pub(super) below: Version,
    /// No other item of its call is about this pair.
    pub(super) alone: bool,
}

impl Candidate<'_> {
    /// Whether it wants that at all.
    pub(super) fn asks_for(&self, effect: &Effect<'_>) -> bool {
        self.liked == effect.liked && self.record.key.as_deref() == effect.key
    }

    /// Whether it wants that at a fitting time.
    pub(super) fn fits(&self, effect: &Effect<'_>) -> bool {
        self.asks_for(effect) && self.begin <= effect.to && self.latest >= effect.from
    }

    fn is_in_order(&self, effect: &Effect<'_>) -> bool {
        self.above < effect.version && effect.version <= self.below
    }
}

/// Which candidate made which effect. Effects stand in the order of their versions; `ordered`: the items of a call take
/// effect in their order, too.
pub(super) fn place(effects: &[Effect<'_>], candidates: &[Candidate<'_>], ordered: bool) -> Vec<Option<usize>> {
    let mut by_end: Vec<usize> = (0..candidates.len()).collect();
    by_end.sort_by_key(|at| {
        let Candidate { record, begin, latest, .. } = candidates[*at];
        (latest, begin, record.call, record.item)
    });
    let mut search = Search {
        effects,
        candidates,
        by_end,
        ordered,
        taken: vec![false; candidates.len()],
        placed: Vec::new(),
        steps: 0,
    };
    let mut now = 0;
    for group in groups(effects) {
        now = search.place_group(group, now);
    }
    let groups_failed = search.placed.iter().any(Option::is_none);
    if groups_failed && effects.len() <= SEARCHED {
        // An attempt may be taken by one group that another one needs.
        let apart = std::mem::take(&mut search.placed);
        search.taken.fill(false);
        search.steps = STEPS;
        if search.place_all(effects.len(), 0).is_none() {
            return apart;
        }
    }
    search.placed
}

/// Runs of effects whose times overlap.
fn groups(effects: &[Effect<'_>]) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let mut start = 0;
    for next in 1..=effects.len() {
        if effects.get(next).is_none_or(|effect| effects[next - 1].to < effect.from) {
            groups.push(start..next);
            start = next;
        }
    }
    groups
}

struct Search<'a> {
    effects: &'a [Effect<'a>],
    candidates: &'a [Candidate<'a>],
    /// Candidates in the order of their ends.
    by_end: Vec<usize>,
    ordered: bool,
    taken: Vec<bool>,
    /// Candidates of the first effects.
    placed: Vec<Option<usize>>,
    steps: usize,
}

impl Search<'_> {
    /// Places a group, if not all of it, then what can be; returns when its last effect took effect, at the earliest.
    fn place_group(&mut self, group: Range<usize>, now: u64) -> u64 {
        self.steps = STEPS;
        if group.len() <= SEARCHED
            && let Some(now) = self.place_all(group.end, now)
        {
            return now;
        }
        let mut now = now;
        for effect in &self.effects[group] {
            now = now.max(effect.from);
            let found = self.open_at(now).find(|at| self.may_make(*at, effect, now));
            if let Some(at) = found {
                self.taken[at] = true;
                now = now.max(self.candidates[at].begin);
            }
            self.placed.push(found);
        }
        now
    }

    /// Places all effects up to `end`, or none.
    fn place_all(&mut self, end: usize, now: u64) -> Option<u64> {
        let next = self.placed.len();
        if next == end {
            return Some(now);
        }
        let effect = self.effects[next];
        let now = now.max(effect.from);
        let first = self.by_end.partition_point(|at| self.candidates[*at].latest < now);
        for place in first..self.by_end.len() {
            self.steps = self.steps.checked_sub(1)?;
            let at = self.by_end[place];
            if !self.may_make(at, &effect, now) {
                continue;
            }
            self.taken[at] = true;
            self.placed.push(Some(at));
            if let Some(now) = self.place_all(end, now.max(self.candidates[at].begin)) {
                return Some(now);
            }
            self.placed.pop();
            self.taken[at] = false;
        }
        None
    }

    /// Candidates that can still take effect then, those first that end first.
    fn open_at(&self, now: u64) -> impl Iterator<Item = usize> {
        let first = self.by_end.partition_point(|at| self.candidates[*at].latest < now);
        self.by_end[first..].iter().copied()
    }

    fn may_make(&self, at: usize, effect: &Effect<'_>, now: u64) -> bool {
        let candidate = &self.candidates[at];
        // Effects before this one had to be over by its end, too, so it is not too late for it.
        candidate.latest >= now && !self.taken[at] && candidate.fits(effect) && self.keeps_order(candidate, effect)
    }

    /// Whether the items of this candidate's call stay in their order.
    fn keeps_order(&self, candidate: &Candidate<'_>, effect: &Effect<'_>) -> bool {
        if !self.ordered || candidate.alone {
            return true;
        }
        let is_before = |other: &usize| {
            let (other, record) = (self.candidates[*other].record, candidate.record);
            other.call != record.call || other.item < record.item
        };
        candidate.is_in_order(effect) && self.placed.iter().flatten().all(is_before)
    }
}
