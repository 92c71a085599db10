//! Turns of calls that write to the database themselves: few at a time, and the others wait for theirs.
//!
//! Who comes a moment too early would come again only after its retry pause, which is far longer than a transaction. So it
//! waits, but not for long, and not with any number of others: a database that hangs gets no longer queue than one that is slow.

use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

/// Longest wait.
const LONGEST: Duration = Duration::from_secs(2);

/// Calls that wait, for each that may write.
const WAITING: usize = 16;

#[derive(Debug)]
pub(super) struct WriteTurns {
    turns: Semaphore,
    /// For those who wait and those who write.
    places: Semaphore,
}

/// Until it is dropped.
#[derive(Debug)]
pub(super) struct WriteTurn<'a> {
    _turn: SemaphorePermit<'a>,
    _place: SemaphorePermit<'a>,
}

impl WriteTurns {
    pub(super) fn new(at_once: usize) -> Self {
        Self { turns: Semaphore::new(at_once), places: Semaphore::new(at_once.saturating_mul(WAITING + 1)) }
    }

    /// None: too many wait, or it takes too long for a call that ends `until` then.
    pub(super) async fn take(&self, until: Instant) -> Option<WriteTurn<'_>> {
        let place = self.places.try_acquire().ok()?;
        let latest = until.min(Instant::now() + LONGEST);
        let turn = timeout_at(latest, self.turns.acquire()).await.ok()?.ok()?;
        Some(WriteTurn { _turn: turn, _place: place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_next_one_waits_and_does_not_wait_for_ever() {
        let turns = WriteTurns::new(1);
        let late = || Instant::now() + Duration::from_secs(60);
        let first = turns.take(late()).await.unwrap();
        assert!(turns.take(Instant::now()).await.is_none(), "waits longer than its call");
        let (second, ()) = tokio::join!(turns.take(late()), async {
            tokio::task::yield_now().await;
            drop(first);
        });
        let began = Instant::now();
        assert!(second.is_some() && turns.take(late()).await.is_none());
        assert!(began.elapsed() <= LONGEST + Duration::from_millis(10), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_wait() {
        let turns = WriteTurns::new(1);
        let late = Instant::now() + Duration::from_secs(60);
        let began = Instant::now();
        let (_first, taken) = (turns.take(late).await.unwrap(), async || turns.take(late).await.is_some());
        let beyond = async {
            tokio::task::yield_now().await;
            assert!(!taken().await);
            began.elapsed()
        };
        let waiting = futures::future::join_all((0..WAITING).map(|_| taken()));
        let (waited, refused_after) = tokio::join!(waiting, beyond);
        assert!(waited.iter().all(|taken| !taken), "there is one turn");
        assert_eq!(refused_after, Duration::ZERO, "one too many waits, too");
    }
}
