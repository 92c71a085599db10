//! Places effects on attempts: each effect on an attempt of its own, in the order of versions.
//!
//! The attempt whose time ends first is taken first, which nearly always succeeds at once. Where it does not, all ways are
//! tried, within a bound.

use crate::history::Record;
use domain::Version;

/// Steps after which the search for another way ends, and what was not placed counts as not explained.
const STEPS: usize = 100_000;

/// Effects of one pair beyond which no other way is searched.
const SEARCHED: usize = 200;

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

/// Which candidate made which effect.
pub(super) enum Placed {
    /// All of them.
    All(Vec<usize>),
    /// Not all.
    Some(Vec<Option<usize>>),
}

/// Places effects, which stand in the order of their versions; `ordered`: the items of a call in their order, too.
pub(super) fn place(effects: &[Effect<'_>], candidates: &[Candidate<'_>], ordered: bool) -> Placed {
    let mut search = Search { effects, candidates, ordered, used: Vec::new(), steps: STEPS };
    let greedy = search.greedily();
    if let Some(all) = greedy.iter().copied().collect() {
        return Placed::All(all);
    }
    search.used.clear();
    if effects.len() <= SEARCHED && effects.len() <= candidates.len() && search.from(0) {
        return Placed::All(search.used);
    }
    Placed::Some(greedy)
}

struct Search<'a> {
    effects: &'a [Effect<'a>],
    candidates: &'a [Candidate<'a>],
    ordered: bool,
    /// Candidates of the first effects.
    used: Vec<usize>,
    steps: usize,
}

impl Search<'_> {
    fn greedily(&mut self) -> Vec<Option<usize>> {
        let mut by_begin: Vec<usize> = (0..self.candidates.len()).collect();
        by_begin.sort_unstable_by_key(|at| self.candidates[*at].begin);
        let mut coming = by_begin.into_iter().peekable();
        // Those that have begun, and can still be in time for the next effect.
        let mut open: Vec<usize> = Vec::new();
        let mut now = 0;
        let mut placed = Vec::with_capacity(self.effects.len());
        for effect in self.effects {
            while let Some(at) = coming.next_if(|at| self.candidates[*at].begin <= effect.to) {
                open.push(at);
            }
            now = now.max(effect.from);
            open.retain(|at| self.candidates[*at].latest >= now);
            let fitting = open.iter().copied().filter(|at| self.candidates[*at].fits(effect) && self.may(*at, effect));
            // Of those that end together, the one of the earliest item: its call's others must come later.
            let best = fitting.min_by_key(|at| {
                let candidate = &self.candidates[*at];
                (candidate.latest, candidate.begin, candidate.record.call, candidate.record.item)
            });
            if let Some(best) = best {
                now = now.max(self.candidates[best].begin);
                open.retain(|at| *at != best);
                self.used.push(best);
            }
            placed.push(best);
        }
        placed
    }

    /// Places all effects from one on, if that is possible after what was placed.
    fn from(&mut self, now: u64) -> bool {
        let Some(effect) = self.effects.get(self.used.len()) else { return true };
        let now = now.max(effect.from);
        for at in 0..self.candidates.len() {
            if self.steps == 0 {
                return false;
            }
            self.steps -= 1;
            let candidate = &self.candidates[at];
            let in_time = candidate.latest >= now && now.max(candidate.begin) <= effect.to;
            if !in_time || !candidate.fits(effect) || self.used.contains(&at) || !self.may(at, effect) {
                continue;
            }
            let begin = candidate.begin;
            self.used.push(at);
            if self.from(now.max(begin)) {
                return true;
            }
            self.used.pop();
        }
        false
    }

    /// Whether the items of this candidate's call stay in their order.
    fn may(&self, at: usize, effect: &Effect<'_>) -> bool {
        let record = self.candidates[at].record;
        let after = |other: &usize| {
            let other = self.candidates[*other].record;
            other.call != record.call || other.item < record.item
        };
        !self.ordered || (self.candidates[at].is_in_order(effect) && self.used.iter().all(after))
    }
}
