//! How events become a row: the rule that makes duplicates, reordering and month-old replays harmless.
//!
//! Invariant: the state after any sequence of folds is that of the event with the highest `(version, action)` among
//! all events ever folded, so the order and the number of times they arrive cannot matter.

use crate::{Action, Version};

/// A pair's state as a store knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct PairState {
    /// Liked or not.
    pub liked: bool,
    /// Version of the change that led here; zero if there never was one.
    pub version: Version,
}

impl PairState {
    /// A pair that nobody ever touched.
    pub const UNTOUCHED: Self = Self { liked: false, version: Version::ZERO };

    /// Key of the total order of a pair's states.
    pub const fn order(self) -> (Version, Action) {
        (self.version, Action::from_liked(self.liked))
    }
}

/// What a fold did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Folded {
    /// State afterwards.
    pub state: PairState,
    /// Change of the number of likes: -1, 0 or 1. Comes from the row's own transition, never from a message.
    pub delta: i64,
    /// Whether the row must be written.
    pub changed: bool,
}

/// Folds events of one pair, in any order and with any duplicates, into its state.
pub fn fold(current: PairState, events: impl IntoIterator<Item = (Version, Action)>) -> Folded {
    let newest = events.into_iter().max();
    let state = match newest {
        Some((version, action)) if (version, action) > current.order() => PairState { liked: action.liked(), version },
        _ => current,
    };
    Folded { state, delta: i64::from(state.liked) - i64::from(current.liked), changed: state != current }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events() -> impl Strategy<Value = Vec<(Version, Action)>> {
        proptest::collection::vec(
            (1..40i64, any::<bool>()).prop_map(|(v, like)| (Version(v), Action::from_liked(like))),
            0..40,
        )
    }

    proptest! {
        /// Any interleaving, duplication, reordering and batching of the same events gives the same row and total delta.
        #[test]
        fn order_duplicates_and_batches_do_not_matter(
            events in events(),
            picks in proptest::collection::vec((any::<proptest::sample::Index>(), 1..5usize), 0..120),
            order in any::<u64>(),
        ) {
            let once = fold(PairState::UNTOUCHED, events.iter().copied());

            let mut deliveries = events.clone();
            if !events.is_empty() {
                deliveries.extend(picks.iter().map(|(pick, _)| *pick.get(&events)));
            }
            let mut seed = order;
            for i in (1..deliveries.len()).rev() {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                deliveries.swap(i, (seed >> 33) as usize % (i + 1));
            }

            let (mut state, mut total, mut rest) = (PairState::UNTOUCHED, 0, deliveries.as_slice());
            let mut sizes = picks.iter().map(|(_, size)| *size).chain(std::iter::repeat(3));
            while !rest.is_empty() {
                let (batch, later) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
                let folded = fold(state, batch.iter().copied());
                prop_assert_eq!(folded.changed, folded.state != state);
                state = folded.state;
                total += folded.delta;
                rest = later;
            }
            prop_assert_eq!(state, once.state);
            prop_assert_eq!(total, once.delta);
            prop_assert_eq!(total, i64::from(state.liked));
        }
    }

    #[test]
    fn an_older_event_changes_nothing() {
        let row = PairState { liked: true, version: Version(10) };
        let folded = fold(row, [(Version(9), Action::Unlike)]);
        assert_eq!(folded, Folded { state: row, delta: 0, changed: false });
    }

    #[test]
    fn a_newer_event_of_the_same_action_moves_the_version_only() {
        let folded = fold(PairState { liked: true, version: Version(10) }, [(Version(11), Action::Like)]);
        assert_eq!(folded, Folded { state: PairState { liked: true, version: Version(11) }, delta: 0, changed: true });
    }

    #[test]
    fn at_equal_versions_a_like_wins_in_either_order() {
        let both = [(Version(5), Action::Like), (Version(5), Action::Unlike)];
        let forward = fold(PairState::UNTOUCHED, both);
        let backward = fold(PairState::UNTOUCHED, both.into_iter().rev());
        assert_eq!(forward, backward);
        assert!(forward.state.liked);
    }
}
