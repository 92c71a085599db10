//! What is known of one connection, and the end that others can give it.

mod call;

pub use call::{Call, Stage};

use crate::listen::came::Came;
use crate::listen::let_in::LetIn;
use crate::listen::places::Places;
use crate::listen::slots::Arrived;
use crate::listen::unsent::Unsent;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// One connection, as its calls see it: an extension of every request. Clones are the same connection.
#[derive(Debug, Clone)]
pub struct Link(Arc<State>);

#[derive(Debug)]
struct State {
    /// Where its place is, and which.
    places: Weak<Places>,
    number: u64,
    /// Let in although this had no place left, since then: only to be asked whether the process lives.
    reserve: OnceLock<(&'static str, Instant)>,
    accepted: Instant,
    /// Has sent a first byte.
    spoke: AtomicBool,
    /// Has said all that precedes a call.
    greeted: AtomicBool,
    /// Has shown a certificate that is good.
    certified: AtomicBool,
    calls: AtomicUsize,
    open_calls: AtomicUsize,
    /// Those that are whole, of callers that were let in.
    own_calls: AtomicUsize,
    known: LetIn,
    /// Small frames that the other side may send because of what it asked for.
    earned: AtomicU32,
    /// When the last of `own_calls` ended, in milliseconds after `accepted`, and 1 more; 0: there was none.
    last_call: AtomicU64,
    /// Since when the socket has no room, in the same way; 0: it has.
    full: AtomicU64,
    unsent: Unsent,
    came: Came,
    cut: CancellationToken,
}

impl Default for Link {
    /// Of no listener.
    fn default() -> Self {
        Self::at(Weak::new(), 0, None)
    }
}

impl Link {
    /// At this place; or on reserve, because that bound was full.
    pub(crate) fn at(places: Weak<Places>, number: u64, reserve: Option<&'static str>) -> Self {
        let accepted = Instant::now();
        Self(Arc::new(State {
            places,
            number,
            reserve: reserve.map(|key| (key, accepted)).map_or_else(OnceLock::new, OnceLock::from),
            accepted,
            spoke: AtomicBool::new(false),
            greeted: AtomicBool::new(false),
            certified: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            open_calls: AtomicUsize::new(0),
            own_calls: AtomicUsize::new(0),
            known: LetIn::default(),
            earned: AtomicU32::new(0),
            last_call: AtomicU64::new(0),
            full: AtomicU64::new(0),
            unsent: Unsent::default(),
            came: Came::default(),
            cut: CancellationToken::new(),
        }))
    }

    /// Begins a call; it ends with the value. `open`: without a token.
    pub fn call(&self, open: bool) -> Call {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        let open_calls = if open { self.0.open_calls.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
        Call { stage: Stage { link: self.clone(), reached: Arc::default() }, open, open_calls }
    }

    /// Whether the listener has no place for it: then it may ask for nothing but health.
    pub fn is_reserve(&self) -> bool {
        self.0.reserve.get().is_some()
    }

    /// The bound that it found full, by its key.
    pub fn lacks_place(&self) -> Option<&'static str> {
        self.0.reserve.get().map(|(key, _)| *key)
    }

    /// From now on it has no place, because of this bound.
    pub(super) fn restrict(&self, key: &'static str) {
        let _ = self.0.reserve.set((key, Instant::now()));
    }

    pub(super) fn on_reserve_for(&self) -> Option<Duration> {
        self.0.reserve.get().map(|(_, since)| since.elapsed())
    }

    /// None: a whole call of a known caller is in flight. What is not complete is no reason to be kept, nor is what needs no
    /// token.
    pub(super) fn idle(&self) -> Option<Idle> {
        let State { own_calls, calls, open_calls, known, last_call, accepted, .. } = &*self.0;
        if own_calls.load(Ordering::Acquire) > 0 {
            return None;
        }
        if !known.is() {
            return Some(Idle { known: false, begins: false, since: *accepted });
        }
        let begins = calls.load(Ordering::Relaxed) > open_calls.load(Ordering::Relaxed);
        let last = Duration::from_millis(last_call.load(Ordering::Relaxed).saturating_sub(1));
        Some(Idle { known: true, begins, since: *accepted + last })
    }

    /// Whether a caller of it was let in.
    pub(super) fn known(&self) -> &LetIn {
        &self.0.known
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

    pub(crate) fn came(&self) -> &Came {
        &self.0.came
    }

    /// When a request whose head is seen now had come at the latest: it may have waited in its socket, or begun long before its
    /// head was whole.
    pub fn arrived(&self) -> Arrived {
        Arrived(self.0.came.head())
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

/// What a connection does that keeps no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Idle {
    /// A caller was let in.
    pub(super) known: bool,
    /// It has begun calls, and none of them is whole.
    pub(super) begins: bool,
    /// When its last whole call ended, or it came. Of strangers always the latter.
    pub(super) since: Instant,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::access::Caller;
    use crate::listen::access::{Access, Role};
    use axum::http::HeaderMap;

    /// Without tokens everybody is let in.
    fn anyone() -> Caller {
        Access::default().check(&HeaderMap::new(), Role::Read, false).unwrap()
    }

    fn own_call(link: &Link) -> Call {
        let call = link.call(false);
        call.stage().let_in(&anyone()).unwrap();
        call.stage().whole();
        call
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_between_its_calls() {
        let (silent, link) = (Link::default(), Link::default());
        let (first, second) = (own_call(&link), own_call(&link));
        drop(first);
        assert_eq!(link.idle(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(second);
        assert!(
            link.is_idle() && silent.idle() == Some(Idle { known: false, begins: false, since: silent.0.accepted })
        );
        let since = link.0.accepted + Duration::from_secs(1);
        assert_eq!(link.idle(), Some(Idle { known: true, begins: false, since }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_keeps_the_place_while_it_is_whole_and_its_caller_known() {
        let link = Link::default();
        drop(own_call(&link));
        let begins = Idle { known: true, begins: true, since: link.0.accepted };
        assert_eq!(link.idle(), Some(Idle { begins: false, ..begins }));
        tokio::time::advance(Duration::from_secs(1)).await;
        let (unfinished, refused, late) = (link.call(false), link.call(false), link.call(false));
        unfinished.stage().let_in(&anyone()).unwrap();
        refused.stage().whole();
        assert_eq!(link.idle(), Some(begins), "neither of them is both");
        // In both orders, and each said more than once.
        for _ in 0..2 {
            unfinished.stage().whole();
            refused.stage().let_in(&anyone()).unwrap();
        }
        assert_eq!((link.idle(), link.0.own_calls.load(Ordering::Relaxed)), (None, 2));
        let after_its_end = late.stage();
        after_its_end.whole();
        drop((unfinished, refused, late));
        after_its_end.let_in(&anyone()).unwrap();
        assert_eq!(link.0.own_calls.load(Ordering::Relaxed), 0);
        let since = link.0.accepted + Duration::from_secs(1);
        let idle = Some(Idle { known: true, begins: false, since });
        assert_eq!(link.idle(), idle, "the last whole call ended then");
        tokio::time::advance(Duration::from_secs(1)).await;
        let given_up = link.call(false);
        given_up.stage().let_in(&anyone()).unwrap();
        drop(given_up);
        assert_eq!(link.idle(), idle, "one that never was whole is none");
    }

    #[tokio::test(start_paused = true)]
    async fn who_shows_no_token_always_gives_way() {
        let link = Link::default();
        let (first, second) = (link.call(true), link.call(true));
        assert_eq!((first.open_calls(), second.open_calls(), link.call(false).open_calls()), (1, 2, 0));
        let stranger = Some(Idle { known: false, begins: false, since: link.0.accepted });
        tokio::time::advance(Duration::from_secs(1)).await;
        for call in [&first, &second] {
            call.stage().whole();
        }
        assert!(link.idle() == stranger && !link.is_idle(), "calls of health keep no place");
        let refused = link.call(false);
        refused.stage().whole();
        assert_eq!(link.idle(), stranger, "nobody let it in");
        drop((refused, first, second));
        assert!(link.idle() == stranger && link.is_idle());
        assert_eq!(link.call(true).open_calls(), 1);
    }
}
