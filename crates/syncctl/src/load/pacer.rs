//! Open loop: calls start when they are due, however slow the answers are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Longest time between two looks at the clock: a call starts at most this late because of the pacer.
const TICK: Duration = Duration::from_micros(250);

/// Releases call number `i` at `start + i × interval`.
///
/// It looks at the clock from a thread of its own, because the runtime's timers only know milliseconds.
#[derive(Debug)]
pub struct Pacer {
    due: Semaphore,
    taken: AtomicU64,
    start: Instant,
    interval_ns: f64,
}

impl Pacer {
    /// Starts now. `calls_per_second` is above 0.
    pub fn start(calls_per_second: f64) -> std::io::Result<Arc<Self>> {
        let interval_ns = 1e9 / calls_per_second;
        let pacer =
            Arc::new(Self { due: Semaphore::new(0), taken: AtomicU64::new(0), start: Instant::now(), interval_ns });
        let weak = Arc::downgrade(&pacer);
        std::thread::Builder::new().name("pacer".into()).spawn(move || {
            let mut released = 0;
            while let Some(pacer) = weak.upgrade().filter(|pacer| !pacer.due.is_closed()) {
                let due = (pacer.start.elapsed().as_nanos() as f64 / pacer.interval_ns) as u64 + 1;
                if due > released {
                    pacer.due.add_permits((due - released) as usize);
                    released = due;
                }
                let next = Duration::from_nanos((released as f64 * pacer.interval_ns) as u64);
                let pause = next.saturating_sub(pacer.start.elapsed()).max(TICK).min(Duration::from_millis(50));
                drop(pacer);
                std::thread::sleep(pause);
            }
        })?;
        Ok(pacer)
    }

    /// Waits for the next call to be due and returns when it was meant to start; none after [`stop`](Self::stop).
    pub async fn next(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        Some(self.start + Duration::from_nanos((number as f64 * self.interval_ns) as u64))
    }

    /// Ends it; waiters are told.
    pub fn stop(&self) {
        self.due.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_are_due_evenly_and_never_early() {
        let pacer = Pacer::start(2_000.0).unwrap();
        let mut previous = None;
        for number in 0..200u32 {
            let intended = pacer.next().await.unwrap();
            assert!(intended <= Instant::now(), "call {number} is early");
            if let Some(previous) = previous {
                assert_eq!(intended - previous, Duration::from_micros(500));
            }
            previous = Some(intended);
        }
        pacer.stop();
        assert!(pacer.next().await.is_none());
    }
}
