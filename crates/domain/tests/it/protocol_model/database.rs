//! The database of the model, and the apply transaction.

use super::Bug;
use domain::cache::{SettledResource, Settlement};
use domain::{Action, Pair, PairState, Resource, StoredCount, Version, fold};
use std::collections::{BTreeMap, BTreeSet};

/// An event on its way to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) pair: Pair,
    pub(super) action: Action,
    pub(super) version: Version,
}

impl Event {
    pub(super) fn id(&self) -> (Pair, Version) {
        (self.pair, self.version)
    }
}

#[derive(Default)]
pub(super) struct Database {
    pub(super) bug: Option<Bug>,
    pub(super) rows: BTreeMap<Pair, PairState>,
    pub(super) counts: BTreeMap<Resource, StoredCount>,
    /// Failed events of the ledger: the next retry applies them.
    pub(super) parked: Vec<Event>,
    /// Versions that were applied, in the ledger.
    pub(super) completed: BTreeSet<(Pair, Version)>,
    /// Versions that an operator gave up, in the ledger.
    pub(super) discarded: BTreeSet<(Pair, Version)>,
    /// Pairs that the cache must hear of, written directly or discarded in this version.
    pub(super) dirty: BTreeSet<(Pair, Version)>,
}

impl Database {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    pub(super) fn row(&self, pair: Pair) -> PairState {
        self.rows.get(&pair).copied().unwrap_or(PairState::UNTOUCHED)
    }

    pub(super) fn count(&self, resource: Resource) -> StoredCount {
        self.counts.get(&resource).copied().unwrap_or_default()
    }

    /// One transaction; the settlement is what it read before it committed.
    pub(super) fn apply(&mut self, events: &[Event]) -> Settlement {
        let mut by_pair: BTreeMap<Pair, Vec<(Version, Action)>> = BTreeMap::new();
        let mut settlement = Settlement::default();
        let mut settled: BTreeMap<Resource, Vec<Version>> = BTreeMap::new();
        for event in events {
            if self.discarded.contains(&event.id()) && !self.has(Bug::DiscardedApplied) {
                settled.entry(event.pair.resource).or_default().push(event.version);
                continue;
            }
            self.completed.insert(event.id());
            by_pair.entry(event.pair).or_default().push((event.version, event.action));
        }
        let mut transitions = BTreeSet::new();
        for (pair, changes) in by_pair {
            let row = self.row(pair);
            let versions = changes.iter().map(|(version, _)| *version);
            settled.entry(pair.resource).or_default().extend(versions.clone());
            let start = if self.has(Bug::NoVersionCheck) { PairState { version: Version::ZERO, ..row } } else { row };
            let folded = fold(start, changes.iter().copied());
            let delta = if self.has(Bug::DeltaFromMessage) {
                changes.iter().map(|(_, action)| i64::from(action.liked()) * 2 - 1).sum()
            } else {
                folded.delta
            };
            let stored = self.counts.entry(pair.resource).or_default();
            stored.last_version = stored.last_version.max(versions.max().unwrap_or_default());
            if folded.changed && !folded.state.liked && self.bug == Some(Bug::NoTombstone) {
                self.rows.remove(&pair);
            } else if folded.changed {
                self.rows.insert(pair, folded.state);
            }
            if delta != 0 {
                stored.count += delta;
                stored.revision += 1;
                transitions.insert(pair.resource);
            }
            settlement.pairs.push((pair, self.row(pair)));
        }
        let readback = |resource: &Resource| !self.has(Bug::NoReadback) || transitions.contains(resource);
        settlement.resources = settled
            .into_iter()
            .map(|(resource, entries)| SettledResource {
                resource,
                entries,
                stored: readback(&resource).then(|| self.count(resource)),
            })
            .collect();
        settlement
    }

    /// The event failed for a reason of its own: the ledger has it now, so the journal need not.
    pub(super) fn park(&mut self, event: Event) -> Settlement {
        if !self.discarded.contains(&event.id()) {
            self.parked.push(event);
        }
        let settled = SettledResource { resource: event.pair.resource, entries: vec![event.version], stored: None };
        Settlement { resources: vec![settled], pairs: Vec::new(), commit: None }
    }

    /// An operator gives a failed event up; one that was applied meanwhile stays.
    pub(super) fn discard(&mut self, pick: usize) -> Event {
        let event = self.parked.swap_remove(pick);
        self.parked.retain(|other| *other != event);
        if !self.completed.contains(&event.id()) {
            self.discarded.insert(event.id());
            self.dirty.insert(event.id());
        }
        event
    }

    /// What the cache is told of one resource outside of any batch.
    pub(super) fn reread(&self, resource: Resource, pairs: &[Pair]) -> Settlement {
        let settled = SettledResource { resource, entries: Vec::new(), stored: Some(self.count(resource)) };
        Settlement {
            resources: vec![settled],
            pairs: pairs.iter().map(|pair| (*pair, self.row(*pair))).collect(),
            commit: None,
        }
    }
}
