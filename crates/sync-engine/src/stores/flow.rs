//! How likes get on, as far as this process sees: whether somebody takes them up, and whether bounds turn them away.
//!
//! A circuit says that a store does not answer. This says that likes do not arrive although every store does; what waits for too
//! long is for all processes to [see](super::standing).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a bound turned away matters for so long.
const RECENT: Duration = Duration::from_secs(60);

/// Written by the rescuer and by those who accept; read by health.
#[derive(Debug)]
pub struct Flow {
    start: Instant,
    journal: AtomicU64,
    /// One more than the consumers of the queue; 0: not known here.
    consumers: AtomicU64,
    overloaded: AtomicU64,
    /// Milliseconds since `start`, plus one; 0: never.
    overloaded_at: AtomicU64,
}

impl Default for Flow {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        let start = Instant::now();
        Self { start, journal: zero(), consumers: zero(), overloaded: zero(), overloaded_at: zero() }
    }
}

impl Flow {
    /// The journals as they are now.
    pub fn saw_journals(&self, entries: u64) {
        self.journal.store(entries, Ordering::Relaxed);
    }

    /// The queue as it is now; none: somebody else looks.
    pub fn saw_consumers(&self, consumers: Option<u32>) {
        self.consumers.store(consumers.map_or(0, |count| u64::from(count) + 1), Ordering::Relaxed);
    }

    /// A like was turned away by one of our own bounds.
    pub fn turned_away(&self) {
        let since = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.overloaded.fetch_add(1, Ordering::Relaxed);
        self.overloaded_at.store(since + 1, Ordering::Relaxed);
    }

    /// Unsettled entries of all journals, as they were seen last.
    pub fn pending(&self) -> u64 {
        self.journal.load(Ordering::Relaxed)
    }

    /// What is wrong with it, in words for an operator.
    pub fn trouble(&self) -> Option<String> {
        let mut words = Vec::new();
        if self.consumers.load(Ordering::Relaxed) == 1 {
            words.push("nobody consumes the queue".to_owned());
        }
        let at = self.overloaded_at.load(Ordering::Relaxed);
        let now = self.start.elapsed();
        if at > 0 && now.saturating_sub(Duration::from_millis(at - 1)) < RECENT {
            let count = self.overloaded.load(Ordering::Relaxed);
            words.push(format!(
                "likes were turned away within a minute because a bound was reached ({count} since the start)"
            ));
        }
        (!words.is_empty()).then(|| words.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_what_is_not_consumed_or_turned_away() {
        let flow = Flow::default();
        assert_eq!(flow.trouble(), None);
        flow.saw_journals(5);
        flow.saw_consumers(Some(1));
        assert_eq!((flow.trouble(), flow.pending()), (None, 5));
        flow.saw_consumers(Some(0));
        assert_eq!(flow.trouble().as_deref(), Some("nobody consumes the queue"));
        flow.saw_consumers(None);
        flow.turned_away();
        assert!(flow.trouble().is_some_and(|words| words.contains("turned away")));
    }
}
