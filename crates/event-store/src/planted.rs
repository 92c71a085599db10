//! Wrong versions, for tests that must find them (see [`planted_bugs`]).

use domain::{Action, Folded, PairState, Version, fold};
use planted_bugs::{is_planted, planted};

/// What a wrong version makes of a row and its events; none if no such bug is planted.
pub(crate) fn folded(row: PairState, events: impl Iterator<Item = (Version, Action)> + Clone) -> Option<Folded> {
    // What comes last wins.
    planted!("no_version_check" => Some(fold(PairState { version: Version::ZERO, ..row }, events)));
    // An unlike leaves nothing to compare with.
    if !row.liked {
        planted!("tombstone_ignored" => Some(fold(PairState::UNTOUCHED, events)));
    }
    // Every delivery counts, not the row's transition.
    is_planted("delta_from_message").then(|| {
        let delta = events.clone().map(|(_, action)| if action.liked() { 1 } else { -1 }).sum();
        Folded { delta, changed: true, ..fold(row, events) }
    })
}
