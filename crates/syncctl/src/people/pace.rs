//! How fast people act in all.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A call with more words takes no more of the rate than this, or everybody would wait for seconds after it.
const MOST: usize = 32;

/// Gives turns so that words come at a rate.
pub(super) struct Pace {
    /// Per word; none: no limit.
    interval: Option<Duration>,
    next: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(rate: Option<f64>) -> Self {
        let interval = rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
        Self { interval, next: Mutex::new(Instant::now()) }
    }

    /// Waits for the turn of so many words.
    pub(super) async fn turn(&self, words: usize) {
        let Some(interval) = self.interval else { return tokio::task::yield_now().await };
        tokio::time::sleep_until(self.reserve(interval, words, Instant::now())).await;
    }

    fn reserve(&self, interval: Duration, words: usize, now: Instant) -> Instant {
        let words = u32::try_from(words.min(MOST)).unwrap_or(u32::MAX);
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        // What was missed is not made up for: that would be a burst after every fault.
        let at = (*next).max(now);
        *next = at + interval * words;
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_at_the_rate_and_none_are_made_up_for() {
        let start = Instant::now();
        let pace = Pace { interval: None, next: Mutex::new(start) };
        let turn = |words, now| pace.reserve(Duration::from_millis(100), words, now);
        let turns: Vec<u128> = [1, 3, 500, 1].map(|words| (turn(words, start) - start).as_millis()).into();
        assert_eq!(turns, [0, 100, 400, 3_600]);
        let late = start + Duration::from_secs(60);
        assert_eq!([turn(1, late), turn(1, late)], [late, late + Duration::from_millis(100)]);
    }
}
