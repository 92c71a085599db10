//! How old journal entries are, also while versions do not tell.
//!
//! A version is a time only as long as the cache's clock is one. After a version from the future (a direct write of a
//! server whose own clock was wrong) the next ones follow it in steps of a microsecond until time has caught up, which
//! may take hours; measured by versions nothing grows old in that time, and what got lost would not be rescued. So the
//! rescuer remembers where the clock was when it looked, by its own steady clock. Whatever it says is a lower bound.

use domain::Version;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// At an eighth of `republish_after` each: four times as far back as is needed.
const MARKS: usize = 32;

/// One shard's marks, oldest first: instants and the clock then, which stood above every version accepted before.
#[derive(Debug, Default)]
pub(super) struct EntryAge(VecDeque<(Instant, Version)>);

impl EntryAge {
    /// The clock is `now`. Marks closer together than `step` say nothing new.
    pub(super) fn mark(&mut self, at: Instant, now: Version, step: Duration) {
        // The cache was emptied and begins anew.
        if self.is_behind(now) {
            self.0.clear();
        }
        if self.0.back().is_some_and(|(last, _)| at.saturating_duration_since(*last) < step) {
            return;
        }
        if self.0.len() == MARKS {
            self.0.pop_front();
        }
        self.0.push_back((at, now));
    }

    /// Whether this clock was seen to be further already.
    pub(super) fn is_behind(&self, now: Version) -> bool {
        self.0.back().is_some_and(|(_, last)| *last > now)
    }

    /// Age of a version, the clock being `now`.
    pub(super) fn age(&self, at: Instant, now: Version, version: Version) -> Duration {
        let known = self.known_since(version).map_or(Duration::ZERO, |since| at.saturating_duration_since(since));
        known.max(now.since(version))
    }

    /// How much later `later` was accepted.
    pub(super) fn between(&self, earlier: Version, later: Version) -> Duration {
        let not_yet = self.0.iter().rev().find(|(_, clock)| *clock < later).map(|(at, _)| *at);
        let known =
            not_yet.zip(self.known_since(earlier)).map(|(not_yet, since)| not_yet.saturating_duration_since(since));
        known.unwrap_or_default().max(later.since(earlier))
    }

    fn known_since(&self, version: Version) -> Option<Instant> {
        self.0.iter().find(|(_, clock)| *clock >= version).map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(100);

    #[test]
    fn by_versions_while_they_are_times() {
        let ages = EntryAge::default();
        let (at, now) = (Instant::now(), Version(5_000_000));
        assert_eq!(ages.age(at, now, Version(3_000_000)), Duration::from_secs(2));
        assert_eq!(ages.between(Version(3_000_000), Version(4_000_000)), Duration::from_secs(1));
        assert_eq!(ages.between(Version(4_000_000), Version(3_000_000)), Duration::ZERO);
    }

    #[test]
    fn by_marks_while_the_clock_stands_still() {
        let (mut ages, start) = (EntryAge::default(), Instant::now());
        for step in 0..10 {
            ages.mark(start + STEP * step, Version(1_000 + i64::from(step)), STEP);
        }
        let (at, now) = (start + STEP * 9, Version(1_009));
        assert_eq!(ages.age(at, now, Version(1_000)), STEP * 9);
        assert_eq!(ages.age(at, now, Version(1_004)), STEP * 5);
        assert_eq!(ages.age(at, now, Version(1_010)), Duration::ZERO);
        // Accepted after the mark at 1_007, and the other one before the one at 1_002.
        assert_eq!(ages.between(Version(1_002), Version(1_008)), STEP * 5);
        assert_eq!(ages.between(Version(1_008), Version(1_002)), Duration::ZERO);
    }

    #[test]
    fn bounded_and_not_fooled_by_an_emptied_cache() {
        let (mut ages, start) = (EntryAge::default(), Instant::now());
        for step in 0..1_000 {
            ages.mark(start + STEP * step / 4, Version(1_000), STEP);
        }
        assert_eq!(ages.0.len(), MARKS);
        ages.mark(start + STEP * 1_000, Version(10), STEP);
        assert_eq!(ages.age(start + STEP * 1_001, Version(11), Version(9)), STEP);
        assert_eq!(ages.age(start + STEP * 1_001, Version(11), Version(11)), Duration::ZERO);
    }
}
