//! Waiting for a condition instead of for time.

use std::fmt::{Debug, Display};
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// What one look at a condition gives: the value waited for, or what was seen instead.
pub trait Observed {
    /// The value waited for.
    type Value;

    /// The value, or a description of what was seen.
    fn observed(self) -> Result<Self::Value, String>;
}

impl Observed for bool {
    type Value = ();

    fn observed(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("false".to_owned()) }
    }
}

impl<T> Observed for Option<T> {
    type Value = T;

    fn observed(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".to_owned())
    }
}

impl<T, E: Display> Observed for Result<T, E> {
    type Value = T;

    fn observed(self) -> Result<T, String> {
        self.map_err(|error| format!("{error:#}"))
    }
}

/// Looks again and again (at first every 5 ms, later every 100 ms) until `probe` gives the value.
///
/// # Panics
/// After `limit`, naming `what` was waited for and what was seen last.
pub async fn eventually<F, Fut, R>(limit: Duration, what: impl Display, probe: F) -> R::Value
where
    F: FnMut() -> Fut,
    Fut: Future<Output = R>,
    R: Observed,
{
    match try_eventually(limit, what, probe).await {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

/// The same as [`eventually`], with an error instead of a panic.
pub async fn try_eventually<F, Fut, R>(limit: Duration, what: impl Display, mut probe: F) -> anyhow::Result<R::Value>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = R>,
    R: Observed,
{
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(5);
    let mut seen = "nothing yet".to_owned();
    loop {
        match timeout_at(deadline, probe()).await {
            Ok(result) => match result.observed() {
                Ok(value) => return Ok(value),
                Err(description) => seen = description,
            },
            Err(_) => anyhow::bail!("{what}: not within {limit:?}; the last look hangs, before it: {seen}"),
        }
        if Instant::now() + pause >= deadline {
            anyhow::bail!("{what}: not within {limit:?}; last seen: {seen}");
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// `Err` naming both when `seen` is not `wanted`: for the last line of a probe.
///
/// # Errors
/// The two values differ.
pub fn expect_eq<T: PartialEq + Debug>(seen: T, wanted: T) -> Result<T, String> {
    if seen == wanted { Ok(seen) } else { Err(format!("{seen:?} instead of {wanted:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn returns_the_first_value() {
        let looks = Cell::new(0);
        let value = eventually(Duration::from_secs(5), "three looks", || {
            looks.set(looks.get() + 1);
            let count = looks.get();
            async move { (count >= 3).then_some(count) }
        })
        .await;
        assert_eq!(value, 3);
    }

    #[tokio::test]
    async fn says_what_it_saw_last() {
        let error = try_eventually(Duration::from_millis(30), "five rows", async || expect_eq(4, 5)).await.unwrap_err();
        assert_eq!(error.to_string(), "five rows: not within 30ms; last seen: 4 instead of 5");
    }

    #[tokio::test]
    async fn a_probe_that_hangs_is_bounded() {
        let probe = async || std::future::pending::<bool>().await;
        let error = try_eventually(Duration::from_millis(30), "an answer", probe).await.unwrap_err();
        assert!(error.to_string().contains("hangs"), "{error}");
    }
}
