//! How long a call may take, and when it is repeated.

use crate::Error;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Deadlines and retries of every call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// A call with all its attempts.
    pub deadline: Duration,
    /// One attempt; the server gives a like at most 3 s.
    pub attempt: Duration,
    /// Most attempts; 1: nothing is repeated.
    pub max_attempts: u32,
    /// First pause where the server names none; it doubles.
    pub first_pause: Duration,
    /// Longest such pause.
    pub longest_pause: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            attempt: Duration::from_secs(3),
            max_attempts: 6,
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(2),
        }
    }
}

impl Policy {
    /// How long to wait after this attempt, the first is 1; none if the call has failed. `luck` is of 0 to 1.
    fn pause(&self, error: &Error, attempt: u32, luck: f64) -> Option<Duration> {
        if !error.is_temporary() || attempt >= self.max_attempts {
            return None;
        }
        match error.retry_after {
            // Not earlier, and not all who were told the same at once.
            Some(wait) => Some(wait.mul_f64(1.0 + luck / 10.0)),
            None => {
                let doubled = self.first_pause.saturating_mul(1 << (attempt - 1).min(16));
                Some(doubled.min(self.longest_pause).mul_f64(0.5 + luck / 2.0))
            }
        }
    }
}

/// The attempts of one call.
pub(crate) struct Attempts {
    policy: Policy,
    end: Instant,
    number: u32,
}

impl Attempts {
    pub(crate) fn begin(policy: Policy) -> Self {
        Self { policy, end: Instant::now() + policy.deadline, number: 1 }
    }

    /// How long this attempt may take.
    pub(crate) fn patience(&self) -> Duration {
        self.policy.attempt.min(self.end.saturating_duration_since(Instant::now()))
    }

    /// Waits until the next attempt.
    ///
    /// # Errors
    /// The same error if there is none: then it is the answer.
    pub(crate) async fn wait_after(&mut self, error: Error) -> Result<(), Error> {
        let Some(pause) = self.policy.pause(&error, self.number, luck()) else { return Err(error) };
        if Instant::now() + pause >= self.end {
            return Err(error);
        }
        self.number += 1;
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// Of 0 to 1.
fn luck() -> f64 {
    let [.., one, two] = Uuid::now_v7().into_bytes();
    f64::from(u16::from_be_bytes([one, two])) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Status;

    #[test]
    fn the_word_of_the_server_comes_before_the_doubling_one() {
        let policy = Policy::default();
        let unavailable = Error::from(Status::unavailable("x"));
        for (attempt, luck, expected) in [(1, 1.0, Some(50)), (1, 0.0, Some(25)), (3, 1.0, Some(200)), (6, 1.0, None)] {
            assert_eq!(policy.pause(&unavailable, attempt, luck), expected.map(Duration::from_millis), "{attempt}");
        }
        let patient = Policy { max_attempts: u32::MAX, ..policy };
        assert_eq!(patient.pause(&unavailable, 1_000, 1.0), Some(policy.longest_pause));
        let mut limited = Error::from(Status::resource_exhausted("x"));
        assert_eq!(policy.pause(&limited, 1, 1.0), None, "nobody knows when");
        limited.retry_after = Some(Duration::from_secs(7));
        assert_eq!(policy.pause(&limited, 1, 0.0), Some(Duration::from_secs(7)));
        assert_eq!(policy.pause(&limited, 1, 1.0), Some(Duration::from_millis(7_700)));
        // What is not found is deleted: it does not come again by itself.
        let others = [Status::invalid_argument("x"), Status::internal("x"), Status::not_found("x")];
        for status in others.into_iter().chain([Status::unauthenticated("x")]) {
            assert_eq!(policy.pause(&Error::from(status), 1, 1.0), None);
        }
    }

    #[test]
    fn luck_is_of_all_kinds() {
        let (mut least, mut most) = (1.0_f64, 0.0_f64);
        for _ in 0..1_000 {
            (least, most) = (least.min(luck()), most.max(luck()));
        }
        assert!((0.0..0.2).contains(&least) && (0.8..=1.0).contains(&most), "{least} {most}");
    }
}
