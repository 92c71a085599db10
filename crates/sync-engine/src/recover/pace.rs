//! So much a second, at most.

use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// What was not used counts for so long.
const CREDIT: Duration = Duration::from_secs(1);

/// Bounds what is done a second. The work itself takes its part of the time: who is slower than that never waits.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: u32,
    due: Instant,
}

impl Pace {
    pub(crate) fn new(rate: u32) -> Self {
        Self { rate: rate.max(1), due: Instant::now() }
    }

    /// So many more are done, or begun; waits as long as that is too many.
    pub(crate) async fn passed(&mut self, number: usize) {
        let now = Instant::now();
        let credit = now.checked_sub(CREDIT).unwrap_or(now);
        self.due = self.due.max(credit) + Duration::from_secs(number as u64) / self.rate;
        sleep_until(self.due).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_take_their_time_and_work_counts() {
        let began = Instant::now();
        let mut pace = Pace::new(1_000);
        for _ in 0..10 {
            pace.passed(500).await;
        }
        assert_eq!(began.elapsed().as_secs(), 5);
        // Somebody worked for longer than it takes.
        tokio::time::advance(Duration::from_millis(600)).await;
        let before = began.elapsed();
        pace.passed(500).await;
        assert_eq!(began.elapsed(), before);
        // An hour without work is no reason for a rush.
        tokio::time::advance(Duration::from_secs(3600)).await;
        let before = Instant::now();
        pace.passed(3_000).await;
        assert!(before.elapsed() >= Duration::from_secs(2), "{:?}", before.elapsed());
    }
}
