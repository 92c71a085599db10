//! What a batch of events makes of the rows that were read.

use crate::planted;
use crate::sql::gains::Change;
use crate::tables::likes::Snapshot;
use domain::{Action, Folded, LikeEvent, Pair, PairState, Resource, StoredCount, Version, fold};

/// One accepted change, as far as rows are concerned.
pub(crate) type PairEvent = (Pair, Version, Action);

/// What is folded: sorted by pair, then by version; each once.
pub(crate) fn pair_events(events: &[LikeEvent]) -> Vec<PairEvent> {
    let mut pair_events: Vec<PairEvent> =
        events.iter().map(|event| (event.pair(), event.version, event.intent.action)).collect();
    pair_events.sort_unstable();
    pair_events.dedup();
    pair_events
}

/// A row to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PairChange {
    pub(crate) pair: Pair,
    pub(crate) state: PairState,
    /// Version of the first of the changes, which a new row was created by.
    pub(crate) first: Version,
    /// What the counter changes by.
    pub(crate) delta: i64,
}

/// What a batch makes of a snapshot.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Every touched resource, with its count afterwards.
    pub(crate) counts: Vec<(Resource, StoredCount)>,
    /// Those of them that must be written.
    pub(crate) changed_counts: Vec<(Resource, StoredCount)>,
    /// Every touched pair, with its state afterwards.
    pub(crate) pairs: Vec<(Pair, PairState)>,
    /// Those of them that must be written.
    pub(crate) changed_pairs: Vec<PairChange>,
}

impl PairChange {
    /// What its resource gains.
    pub(crate) const fn gain(&self) -> Change {
        (self.pair.resource, self.state.version, self.delta)
    }
}

fn fold_pair(row: PairState, events: &[PairEvent]) -> Folded {
    let events = events.iter().map(|&(_, version, action)| (version, action));
    planted::folded(row, events.clone()).unwrap_or_else(|| fold(row, events))
}

/// Folds events, sorted by pair, into a snapshot, at a time in microseconds.
///
/// The revision of a counter is that time, or one more than before: so a database that has become what it once was, and is
/// written again, is believed by caches that had heard of the revisions which it has lost.
pub(crate) fn fold_events(snapshot: &Snapshot, events: &[PairEvent], now: i64) -> Outcome {
    debug_assert!(events.is_sorted_by_key(|(pair, ..)| *pair));
    let mut outcome = Outcome::default();
    for of_resource in events.chunk_by(|(a, ..), (b, ..)| a.resource == b.resource) {
        let Some(&(Pair { resource, .. }, ..)) = of_resource.first() else { continue };
        let before = snapshot.count(resource);
        let mut after = before;
        let mut changed = false;
        for of_pair in of_resource.chunk_by(|(a, ..), (b, ..)| a == b) {
            let Some(&(pair, ..)) = of_pair.first() else { continue };
            let folded = fold_pair(snapshot.state(pair), of_pair);
            outcome.pairs.push((pair, folded.state));
            if folded.changed {
                changed = true;
                after.count += folded.delta;
                after.last_version = after.last_version.max(folded.state.version);
                let first = of_pair.iter().map(|&(_, version, _)| version).min().unwrap_or(folded.state.version);
                outcome.changed_pairs.push(PairChange { pair, state: folded.state, first, delta: folded.delta });
            }
        }
        if changed {
            after.revision = now.max(after.revision + 1);
            outcome.changed_counts.push((resource, after));
        }
        outcome.counts.push((resource, after));
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ResourceType;

    fn pair(user: i64, id: i64) -> Pair {
        Pair::new(user, ResourceType::Video, id).unwrap()
    }

    #[test]
    fn deltas_come_from_transitions_and_only_changes_are_written() {
        let mut snapshot = Snapshot::default();
        snapshot.states.insert(pair(1, 7), PairState { liked: true, version: Version(50) });
        let stored = StoredCount { count: 1, revision: 4, last_version: Version(50) };
        snapshot.counts.insert(pair(1, 7).resource, stored);
        snapshot.counts.insert(pair(1, 8).resource, StoredCount { count: 9, revision: 2, last_version: Version(3) });
        snapshot.states.insert(pair(1, 8), PairState { liked: true, version: Version(3) });

        let outcome = fold_events(
            &snapshot,
            &[
                (pair(1, 7), Version(40), Action::Unlike),
                (pair(2, 7), Version(60), Action::Unlike),
                (pair(2, 7), Version(55), Action::Like),
                (pair(3, 7), Version(61), Action::Like),
                (pair(1, 8), Version(3), Action::Like),
            ],
            0,
        );
        let after = StoredCount { count: 2, revision: 5, last_version: Version(61) };
        assert_eq!(outcome.changed_counts, [(pair(1, 7).resource, after)]);
        assert_eq!(outcome.counts.len(), 2);
        assert_eq!(outcome.pairs.len(), 4);
        let written: Vec<_> = outcome.changed_pairs.iter().map(|change| (change.pair, change.first)).collect();
        assert_eq!(written, [(pair(2, 7), Version(55)), (pair(3, 7), Version(61))]);
    }
}
