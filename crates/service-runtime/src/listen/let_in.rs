//! Whether a caller of a connection was let in, and who waits for that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

/// Happens once.
#[derive(Debug, Default)]
pub(super) struct LetIn {
    happened: AtomicBool,
    waits: Mutex<Option<Waker>>,
}

impl LetIn {
    pub(super) fn is(&self) -> bool {
        self.happened.load(Ordering::Acquire)
    }

    /// The same; whoever asks last before it happens is woken by it.
    pub(super) fn is_for(&self, cx: &Context<'_>) -> bool {
        // First, so that it cannot happen unheard between the two.
        *self.waits() = Some(cx.waker().clone());
        self.is()
    }

    pub(super) fn happens(&self) {
        self.happened.store(true, Ordering::Release);
        if let Some(waits) = self.waits().take() {
            waits.wake();
        }
    }

    fn waits(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::task::Poll;
    use std::time::Duration;

    #[tokio::test]
    async fn whoever_waits_is_woken() {
        let let_in = Arc::new(LetIn::default());
        let other = Arc::clone(&let_in);
        let waits = tokio::spawn(poll_fn(move |cx| if other.is_for(cx) { Poll::Ready(()) } else { Poll::Pending }));
        tokio::task::yield_now().await;
        assert!(!let_in.is() && !waits.is_finished());
        let_in.happens();
        tokio::time::timeout(Duration::from_secs(10), waits).await.expect("it still waits").unwrap();
        assert!(let_in.is());
    }
}
