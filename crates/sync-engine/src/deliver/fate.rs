//! What becomes of accepted events in the memory of this process: a line of the log for each change, off unless the target
//! `event_fate` is at `trace`. With the lines of all processes it is known of every event where it was at any moment.

use domain::codec::EncodedEvent;
use std::fmt::Write;

const TARGET: &str = "event_fate";

/// Accepted, and nowhere but in the journal and here.
pub(super) const IN_MEMORY: &str = "in_memory";
/// The broker has confirmed it.
pub(super) const PUBLISHED: &str = "published";
/// Committed from here.
pub(super) const APPLIED: &str = "applied";

/// This became of them.
pub(super) fn tell(fate: &str, events: &[EncodedEvent]) {
    if tracing::enabled!(target: TARGET, tracing::Level::TRACE) {
        say(fate, events);
    }
}

/// This process gives them up: from here on the journal alone has them.
pub(super) fn left(reason: &str, events: &[EncodedEvent]) {
    if tracing::enabled!(target: TARGET, tracing::Level::TRACE) {
        say(&format!("left {reason}"), events);
    }
}

#[cold]
fn say(fate: &str, events: &[EncodedEvent]) {
    let mut names = String::new();
    for event in events.iter().filter_map(|encoded| encoded.decode().ok()) {
        let (pair, version) = (event.pair(), event.version);
        let _ = write!(names, " {},{},{},{version}", pair.user, pair.resource.kind.letter(), pair.resource.id);
    }
    tracing::trace!(target: TARGET, "event_fate {fate}:{names}");
}
