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
        let words = u32::try_from(words.min(MOST)).unwrap_or(u32::MAX);
        let at = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            // What was missed is not made up for: that would be a burst after every fault.
            let at = (*next).max(Instant::now());
            *next = at + interval * words;
            at
        };
        tokio::time::sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn words_come_at_the_rate_and_none_are_made_up_for() {
        let pace = Pace::new(Some(10.0));
        let start = Instant::now();
        for words in [1, 3, 500, 1] {
            pace.turn(words).await;
        }
        assert_eq!(start.elapsed().as_millis(), 100 + 300 + 3_200);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let late = Instant::now();
        pace.turn(1).await;
        pace.turn(1).await;
        assert_eq!(late.elapsed().as_millis(), 100);
    }
}
