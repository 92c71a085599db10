//! Waiting, aloud, for a store that is not there yet.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How eagerly [`wait_for`] tries.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// Pause after the first failure; doubles.
    pub min: Duration,
    /// Longest pause.
    pub max: Duration,
    /// Longest single attempt.
    pub attempt_timeout: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { min: Duration::from_millis(100), max: Duration::from_secs(2), attempt_timeout: Duration::from_secs(30) }
    }
}

/// Shortest time between two log lines about the same wait.
const QUIET: Duration = Duration::from_secs(5);
/// A wait that stays the same is mentioned again after this.
const REMINDER: Duration = Duration::from_secs(60);

/// Tries a step of the start until it succeeds, or `shutdown` is cancelled (`None`).
///
/// Says what it waits for when that changes, at most every five seconds, and when it is over.
pub async fn wait_for<T, E, F, R>(
    what: &str,
    shutdown: &CancellationToken,
    backoff: Backoff,
    mut attempt: F,
) -> Option<T>
where
    E: Display,
    F: FnMut() -> R,
    R: Future<Output = Result<T, E>>,
{
    let started = Instant::now();
    let mut pause = backoff.min;
    let mut said: Option<(Instant, String)> = None;
    loop {
        let answer = tokio::select! {
            biased;
            () = shutdown.cancelled() => return None,
            answer = tokio::time::timeout(backoff.attempt_timeout, attempt()) => answer,
        };
        let problem = match answer {
            Ok(Ok(value)) => {
                if said.is_some() {
                    tracing::info!(waited = ?started.elapsed(), "{what} is there");
                }
                return Some(value);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {:?}", backoff.attempt_timeout),
        };
        let worth_saying = said.as_ref().is_none_or(|(at, last)| {
            let silence = at.elapsed();
            silence >= REMINDER || (silence >= QUIET && *last != problem)
        });
        if worth_saying {
            tracing::warn!("waiting for {what}: {problem}");
            said = Some((Instant::now(), problem));
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(backoff.max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Backoff = Backoff {
        min: Duration::from_millis(1),
        max: Duration::from_millis(4),
        attempt_timeout: Duration::from_millis(50),
    };

    #[tokio::test]
    async fn tries_until_it_works_with_growing_pauses() {
        let (token, mut tries, started) = (CancellationToken::new(), 0, Instant::now());
        let value = wait_for("test", &token, FAST, || {
            tries += 1;
            let tries = tries;
            async move { if tries < 6 { Err("not yet") } else { Ok(tries) } }
        });
        assert_eq!(value.await, Some(6));
        // 1 + 2 + 4 + 4 + 4
        assert!(started.elapsed() >= Duration::from_millis(15), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn ends_with_the_shutdown_even_within_an_attempt() {
        let token = CancellationToken::new();
        let stop = token.clone();
        let value = wait_for("test", &token, Backoff::default(), || {
            stop.cancel();
            std::future::pending::<Result<(), &str>>()
        });
        assert_eq!(value.await, None);
    }

    #[tokio::test]
    async fn an_attempt_that_hangs_is_given_up() {
        let (token, mut tries) = (CancellationToken::new(), 0);
        let value = wait_for("test", &token, FAST, || {
            tries += 1;
            let tries = tries;
            async move {
                if tries == 1 {
                    std::future::pending::<()>().await;
                }
                Ok::<_, String>(tries)
            }
        });
        assert_eq!(value.await, Some(2));
    }
}
