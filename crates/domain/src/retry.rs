//! When a failed event is tried again, and when it is given up.

use std::time::Duration;

/// Backoff `base_delay × factor^n`, capped, with jitter; after `max_retries` the event is dead.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Retries after the first failure.
    pub max_retries: u32,
    /// Delay before the first retry.
    pub base_delay: Duration,
    /// Longest delay.
    pub max_delay: Duration,
    /// Growth from one retry to the next, at least 1.
    pub backoff_factor: f64,
}

impl RetryPolicy {
    /// Delay before retry number `retry` (0 is the first), or `None` when the event is dead.
    ///
    /// `jitter` in `0.0..=1.0` spreads the delay over its upper half, so that events that failed together do not
    /// return together.
    pub fn delay(&self, retry: u32, jitter: f64) -> Option<Duration> {
        if retry >= self.max_retries {
            return None;
        }
        let factor = self.backoff_factor.max(1.0).powi(retry.min(1_000).cast_signed());
        let full = (self.base_delay.as_secs_f64() * factor).min(self.max_delay.as_secs_f64());
        Some(Duration::from_secs_f64(full * (0.5 + 0.5 * jitter.clamp(0.0, 1.0))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        max_retries: 5,
        base_delay: Duration::from_millis(100),
        max_delay: Duration::from_secs(1),
        backoff_factor: 2.0,
    };

    #[test]
    fn grows_to_the_cap_and_ends() {
        let delays: Vec<_> = (0..6).map(|n| POLICY.delay(n, 1.0).map(|d| d.as_millis())).collect();
        assert_eq!(delays, [Some(100), Some(200), Some(400), Some(800), Some(1000), None]);
    }

    #[test]
    fn jitter_takes_at_most_half_away() {
        assert_eq!(POLICY.delay(1, 0.0), Some(Duration::from_millis(100)));
        assert_eq!(POLICY.delay(1, 0.5), Some(Duration::from_millis(150)));
    }

    #[test]
    fn absurd_numbers_stay_bounded() {
        let wild = RetryPolicy { max_retries: u32::MAX, backoff_factor: 1e300, ..POLICY };
        assert_eq!(wild.delay(4_000_000_000, 1.0), Some(POLICY.max_delay));
    }
}
