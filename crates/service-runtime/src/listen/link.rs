//! What is known of one connection, and the end that others can give it.

use crate::listen::unsent::Unsent;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// One connection, as its calls see it: an extension of every request. Clones are the same connection.
#[derive(Debug, Clone)]
pub struct Link(Arc<State>);

#[derive(Debug)]
struct State {
    /// Let in although this had no place left: only to be asked whether the process lives.
    reserve: Option<&'static str>,
    accepted: Instant,
    /// Has sent a first byte.
    spoke: AtomicBool,
    /// Has said all that precedes a call.
    greeted: AtomicBool,
    /// Has shown a certificate that is good.
    certified: AtomicBool,
    calls: AtomicUsize,
    open_calls: AtomicUsize,
    /// Those that need a token, and were not refused for want of one.
    own_calls: AtomicUsize,
    /// Whether such a call was let in.
    known: AtomicBool,
    /// Small frames that the other side may send because of what it asked for.
    earned: AtomicU32,
    /// When the last of these ended, in milliseconds after `accepted`, and 1 more; 0: there was none.
    last_call: AtomicU64,
    /// Since when the socket has no room, in the same way; 0: it has.
    full: AtomicU64,
    unsent: Unsent,
    cut: CancellationToken,
}

impl Default for Link {
    /// Of no listener.
    fn default() -> Self {
        Self::new(None)
    }
}

impl Link {
    pub(crate) fn new(reserve: Option<&'static str>) -> Self {
        Self(Arc::new(State {
            reserve,
            accepted: Instant::now(),
            spoke: AtomicBool::new(false),
            greeted: AtomicBool::new(false),
            certified: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            open_calls: AtomicUsize::new(0),
            own_calls: AtomicUsize::new(0),
            known: AtomicBool::new(false),
            earned: AtomicU32::new(0),
            last_call: AtomicU64::new(0),
            full: AtomicU64::new(0),
            unsent: Unsent::default(),
            cut: CancellationToken::new(),
        }))
    }

    /// Begins a call; it ends with the value. `open`: without a token.
    pub fn call(&self, open: bool) -> Call {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        let open_calls = if open {
            self.0.open_calls.fetch_add(1, Ordering::Relaxed) + 1
        } else {
            self.0.own_calls.fetch_add(1, Ordering::Relaxed);
            0
        };
        Call { link: self.clone(), open, own: !open, open_calls }
    }

    /// Whether the listener has no place for it: then it may ask for nothing but health.
    pub fn is_reserve(&self) -> bool {
        self.0.reserve.is_some()
    }

    /// The bound that it found full, by its key.
    pub fn lacks_place(&self) -> Option<&'static str> {
        self.0.reserve
    }

    /// Without a call of its own since when; strangers, whatever they ask, come before all others, by age. None: such a call
    /// is in flight.
    pub(crate) fn gives_way(&self) -> Option<(bool, Instant)> {
        if self.0.own_calls.load(Ordering::Acquire) > 0 {
            return None;
        }
        if !self.0.known.load(Ordering::Relaxed) {
            return Some((false, self.0.accepted));
        }
        let last = self.0.last_call.load(Ordering::Relaxed);
        Some((true, self.0.accepted + Duration::from_millis(last.saturating_sub(1))))
    }

    /// Whether no call is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.0.calls.load(Ordering::Acquire) == 0
    }

    /// Something was answered, to which clients of HTTP/2 react with so many frames.
    pub(crate) fn earns(&self, frames: u32) {
        self.0.earned.fetch_add(frames, Ordering::Relaxed);
    }

    /// What was earned since the last question.
    pub(crate) fn earned(&self) -> u32 {
        self.0.earned.swap(0, Ordering::Relaxed)
    }

    /// Whether its socket has room for more.
    pub(crate) fn takes(&self, room: bool) {
        self.0.full.store(if room { 0 } else { self.now() }, Ordering::Relaxed);
    }

    /// Since when the other side takes nothing of what is there for it, and how many bytes that is, roughly.
    pub(crate) fn untaken(&self) -> Option<(Instant, usize)> {
        let full = match self.0.full.load(Ordering::Relaxed) {
            0 => None,
            since => Some((self.0.accepted + Duration::from_millis(since - 1), 0)),
        };
        match (full, self.0.unsent.look()) {
            (Some((full, _)), Some((since, bytes))) => Some((full.min(since), bytes)),
            (full, unsent) => full.or(unsent),
        }
    }

    pub(crate) fn unsent(&self) -> &Unsent {
        &self.0.unsent
    }

    /// Milliseconds after it was accepted, and 1 more.
    fn now(&self) -> u64 {
        u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    pub(crate) fn age(&self) -> Duration {
        self.0.accepted.elapsed()
    }

    pub(crate) fn speaks(&self) {
        self.0.spoke.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_spoken(&self) -> bool {
        self.0.spoke.load(Ordering::Relaxed)
    }

    pub(crate) fn greets(&self) {
        self.0.greeted.store(true, Ordering::Relaxed);
    }

    pub(crate) fn certifies(&self) {
        self.0.certified.store(true, Ordering::Relaxed);
    }

    /// Whether it has shown a certificate of an authority of clients.
    pub(crate) fn is_certified(&self) -> bool {
        self.0.certified.load(Ordering::Relaxed)
    }

    pub(crate) fn has_greeted(&self) -> bool {
        self.0.greeted.load(Ordering::Relaxed)
    }

    pub(crate) fn cut(&self) {
        self.0.cut.cancel();
    }

    pub(crate) fn until_cut(&self) -> WaitForCancellationFutureOwned {
        self.0.cut.clone().cancelled_owned()
    }
}

/// A call from its head to the end of its answer.
#[derive(Debug)]
pub struct Call {
    link: Link,
    open: bool,
    own: bool,
    open_calls: usize,
}

impl Call {
    /// Open calls of the connection when this one began, itself included; 0 if it is none.
    pub const fn open_calls(&self) -> usize {
        self.open_calls
    }

    /// Its caller was let in: the connection is no longer one of strangers.
    pub fn welcome(&self) {
        self.link.0.known.store(true, Ordering::Relaxed);
    }

    /// It was refused for want of a token: until its answer is taken it counts like one that needs none.
    pub fn turn_away(&mut self) {
        if std::mem::take(&mut self.own) {
            self.link.0.own_calls.fetch_sub(1, Ordering::Release);
        }
    }

    pub(crate) const fn link(&self) -> &Link {
        &self.link
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let state = &self.link.0;
        // Before it counts as idle, so that it does not seem to have been so for long.
        if self.own {
            state.last_call.store(self.link.now(), Ordering::Relaxed);
        }
        if self.open {
            state.open_calls.fetch_sub(1, Ordering::Relaxed);
        }
        self.turn_away();
        self.link.0.calls.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_between_its_calls() {
        let (silent, link) = (Link::new(None), Link::new(None));
        let (first, second) = (link.call(false), link.call(false));
        first.welcome();
        drop(first);
        assert_eq!(link.gives_way(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(second);
        assert!(link.is_idle() && link.gives_way() > silent.gives_way(), "{link:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_shows_no_token_always_gives_way() {
        let link = Link::new(None);
        let (first, second) = (link.call(true), link.call(true));
        assert_eq!((first.open_calls(), second.open_calls(), link.call(false).open_calls()), (1, 2, 0));
        let stranger = Some((false, link.0.accepted));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(link.gives_way() == stranger && !link.is_idle(), "calls of health keep no place");
        let mut refused = link.call(false);
        assert_eq!(link.gives_way(), None, "nobody knows yet");
        refused.turn_away();
        assert_eq!(link.gives_way(), stranger);
        drop((refused, first, second));
        assert!(link.gives_way() == stranger && link.is_idle());
        assert_eq!(link.call(true).open_calls(), 1);
    }
}
