//! The cache of the model: what `LikeCache` promises, in the fewest lines.

use super::Bug;
use domain::cache::{AcceptOutcome, Answer, CachedCount, MissingCount, Settlement};
use domain::{Action, Pair, PairState, Resource, StoredCount, Version};
use std::collections::BTreeMap;

/// A cached pair: accepted here, or only seen in the database. What was filled is unconfirmed, and lives for seconds only,
/// until somebody compares it with the database afterwards.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeldPair {
    pub(super) state: PairState,
    pub(super) accepted: bool,
    pub(super) confirmed: bool,
}

/// A cached counter.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeldCount {
    pub(super) count: CachedCount,
    pub(super) confirmed: bool,
}

#[derive(Default)]
pub(super) struct ModelCache {
    pub(super) bug: Option<Bug>,
    pub(super) pairs: BTreeMap<Pair, HeldPair>,
    pub(super) counters: BTreeMap<Resource, HeldCount>,
    pub(super) journal: BTreeMap<Version, (Pair, Action)>,
    pub(super) last: Version,
    pub(super) accepted: u64,
    pub(super) settled: u64,
    pub(super) settled_up_to: Version,
}

impl ModelCache {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    pub(super) fn flush(&mut self) {
        *self = Self { bug: self.bug, ..Self::default() };
    }

    pub(super) fn accept(&mut self, pair: Pair, action: Action, missing: MissingCount, now: Version) -> AcceptOutcome {
        let resource = pair.resource;
        if !self.counters.contains_key(&resource) {
            match missing {
                MissingCount::Report => return AcceptOutcome::CountMissing,
                MissingCount::Fill(stored) => self.fill_count(resource, stored),
                MissingCount::Without => {}
            }
        }
        let wanted = action.liked();
        let held = self.pairs.get(&pair).copied();
        let sure = held.is_some_and(|held| held.accepted || self.has(Bug::FilledPairTrusted));
        let served = |cache: &Self| cache.counters.get(&resource).map(|held| held.count.served);
        if let Some(held) = held
            && sure
            && held.state.liked == wanted
        {
            return AcceptOutcome::Unchanged(Answer { count: served(self), version: held.state.version });
        }
        let version = now.max(Version(self.last.0 + 1));
        self.last = version;
        self.journal.insert(version, (pair, action));
        self.accepted += 1;
        let now_held = HeldPair { state: PairState { liked: wanted, version }, accepted: true, confirmed: true };
        self.pairs.insert(pair, now_held);
        let step = match held {
            Some(held) if held.state.liked == wanted => 0,
            _ => i64::from(wanted) * 2 - 1,
        };
        if let Some(counter) = self.counters.get_mut(&resource) {
            counter.count.served = (counter.count.served + step).max(0);
            counter.count.pending += 1;
            counter.count.last_version = version;
        }
        AcceptOutcome::Accepted(Answer { count: served(self), version })
    }

    pub(super) fn settle(&mut self, settlement: &Settlement) {
        for settled in &settlement.resources {
            let mut removed = 0;
            for version in &settled.entries {
                let was_there = self.journal.remove(version).is_some();
                self.settled += u64::from(was_there);
                removed += i64::from(was_there || self.has(Bug::SettleCountsAbsentEntries));
                self.settled_up_to = self.settled_up_to.max(*version);
            }
            let (guarded, careful) = (!self.has(Bug::NoRevisionGuard), !self.has(Bug::ServedOverwrittenWhilePending));
            if let Some(held) = self.counters.get_mut(&settled.resource) {
                let count = &mut held.count;
                count.pending = (count.pending - removed).max(0);
                if let Some(stored) = settled.stored {
                    if stored.revision > count.stored_revision || !guarded {
                        (count.stored, count.stored_revision) = (stored.count, stored.revision);
                    }
                    held.confirmed |= stored.revision >= count.stored_revision;
                }
                if count.pending == 0 || !careful {
                    count.served = count.stored;
                }
            }
            if let Some(stored) = settled.stored {
                self.raise(stored.last_version);
            }
        }
        for (pair, row) in &settlement.pairs {
            let backwards = self.has(Bug::RefreshWithOlderRow);
            if let Some(held) = self.pairs.get_mut(pair)
                && (held.state.order() <= row.order() || backwards)
            {
                held.state = *row;
                held.confirmed = true;
            }
            self.raise(row.version);
        }
    }

    /// Gives up a pair that is still as this version left it.
    pub(super) fn forget(&mut self, pair: Pair, version: Version) {
        if self.pairs.get(&pair).is_some_and(|held| held.state.version == version) {
            self.pairs.remove(&pair);
        }
    }

    pub(super) fn fill_count(&mut self, resource: Resource, stored: StoredCount) {
        if !self.counters.contains_key(&resource) || self.has(Bug::FillOverwrites) {
            let count = CachedCount {
                served: stored.count,
                stored: stored.count,
                stored_revision: stored.revision,
                ..CachedCount::default()
            };
            self.counters.insert(resource, HeldCount { count, confirmed: self.has(Bug::CountFillTrusted) });
        }
        self.raise(stored.last_version);
    }

    pub(super) fn fill_state(&mut self, pair: Pair, row: PairState) {
        match self.pairs.get_mut(&pair) {
            Some(held) if held.state.order() >= row.order() => {}
            Some(held) => held.state = row,
            None => {
                let confirmed = self.has(Bug::StateFillTrusted);
                self.pairs.insert(pair, HeldPair { state: row, accepted: false, confirmed });
            }
        }
    }

    /// The clock must not fall behind what the database holds.
    fn raise(&mut self, version: Version) {
        if !self.has(Bug::ClockNotRaised) {
            self.last = self.last.max(version);
        }
    }
}
