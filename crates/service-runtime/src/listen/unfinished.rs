//! Request bodies that are not yet complete, of the whole process: each is bounded in length and time, and all together in
//! bytes. Where they would be more, the oldest gives way: an honest body is complete after a round trip or two.
//!
//! A body that comes whole with its head, as a like's does, passes without being counted: also where its end is a frame of its
//! own, as it is by many clients.

use crate::listen::link::Stage;
use crate::listen::reason::Reason;
use axum::http::HeaderMap;
use hyper::body::{Body, Buf, Frame, SizeHint};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Longest time from a request's head to the end of its body.
pub const RECEIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What a request costs besides the bytes of its body: head, stream, task.
const OVERHEAD: usize = 16 << 10;

/// Why a body is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Longer than a request of its kind can be.
    #[error("the request is longer than {0} bytes")]
    Long(usize),
    /// Not complete in time.
    #[error("the request was not complete within {RECEIVE_TIMEOUT:?}")]
    Late,
    /// The oldest of too many.
    #[error("too many requests are not complete (service.max_unfinished_bytes), and this was the oldest")]
    Crowded,
}

impl Refused {
    /// For the caller's program.
    pub const fn because(self) -> Reason {
        match self {
            Self::Long(_) => Reason::MessageTooLong,
            Self::Late => Reason::IncompleteRequest,
            Self::Crowded => Reason::CrowdedOut,
        }
    }

    /// A word for metrics.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Long(_) => "long",
            Self::Late => "late",
            Self::Crowded => "crowded",
        }
    }
}

/// What the head of a request takes, roughly.
pub fn head_len(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

/// The bytes that unfinished bodies of the process may have. Clones are the same.
#[derive(Debug, Clone)]
pub struct Unfinished(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    next: u64,
    /// By age.
    bodies: BTreeMap<u64, (usize, CancellationToken)>,
}

impl Unfinished {
    /// At most so many bytes.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Shared { most, held: Mutex::default() }))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds so many bytes until they have to give way.
    pub(crate) async fn crowded(&self, bytes: usize) -> Refused {
        let mut share = self.enter(OVERHEAD + bytes);
        share.gives_way.as_mut().await;
        Refused::Crowded
    }

    fn enter(&self, bytes: usize) -> Share {
        let gives_way = CancellationToken::new();
        let mut held = self.held();
        held.next += 1;
        let number = held.next;
        held.bodies.insert(number, (0, gives_way.clone()));
        drop(held);
        let share = Share { unfinished: self.clone(), number, gives_way: Box::pin(gives_way.cancelled_owned()) };
        share.grow(bytes);
        share
    }
}

/// What one body has of it.
#[derive(Debug)]
struct Share {
    unfinished: Unfinished,
    number: u64,
    gives_way: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Share {
    fn grow(&self, by: usize) {
        let mut held = self.unfinished.held();
        let Some((bytes, _)) = held.bodies.get_mut(&self.number) else { return };
        *bytes += by;
        held.bytes += by;
        while held.bytes > self.unfinished.0.most
            && let Some((_, (bytes, gives_way))) = held.bodies.pop_first()
        {
            held.bytes -= bytes;
            gives_way.cancel();
        }
        metrics::gauge!("interaction_unfinished_request_bytes").set(held.bytes as f64);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.unfinished.held();
        if let Some((bytes, _)) = held.bodies.remove(&self.number) {
            held.bytes -= bytes;
        }
        metrics::gauge!("interaction_unfinished_request_bytes").set(held.bytes as f64);
    }
}

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A request's body within its bounds.
#[derive(Debug)]
pub struct Bounded<B, F> {
    body: B,
    longest: usize,
    left: usize,
    /// Bytes that came before it let us wait, its head's among them.
    came: usize,
    arrived: Instant,
    unfinished: Unfinished,
    waiting: Option<Waiting>,
    /// Of its call, until it is whole.
    stage: Option<Stage>,
    refuse: F,
    refused: bool,
}

/// A body that has let us wait.
#[derive(Debug)]
struct Waiting {
    deadline: Pin<Box<Sleep>>,
    share: Share,
}

impl<B: Body, F: Fn(Refused) -> Error> Bounded<B, F> {
    /// At most `longest` bytes of body after a head of `head` bytes; an error is what `refuse` makes of the refusal. `stage`
    /// learns when the body is there.
    pub fn new(body: B, longest: usize, head: usize, unfinished: Unfinished, stage: Option<Stage>, refuse: F) -> Self {
        let (arrived, left) = (Instant::now(), longest);
        let mut new =
            Self { body, longest, left, came: head, arrived, unfinished, waiting: None, stage, refuse, refused: false };
        if new.body.is_end_stream() {
            new.whole();
        }
        new
    }

    fn whole(&mut self) {
        self.waiting = None;
        if let Some(stage) = self.stage.take() {
            stage.whole();
        }
    }

    fn waiting(&mut self) -> &mut Waiting {
        self.waiting.get_or_insert_with(|| Waiting {
            deadline: Box::pin(sleep_until(self.arrived + RECEIVE_TIMEOUT)),
            share: self.unfinished.enter(OVERHEAD + self.came),
        })
    }

    /// Why not to wait any longer; else whoever polls is woken then.
    fn over(&mut self, cx: &mut Context<'_>) -> Option<Refused> {
        let waiting = self.waiting();
        if waiting.share.gives_way.as_mut().poll(cx).is_ready() {
            return Some(Refused::Crowded);
        }
        waiting.deadline.as_mut().poll(cx).is_ready().then_some(Refused::Late)
    }

    fn refuse(&mut self, why: Refused) -> Error {
        self.refused = true;
        self.waiting = None;
        (self.refuse)(why)
    }
}

impl<B, F> Body for Bounded<B, F>
where
    B: Body + Unpin,
    B::Error: Into<Error>,
    F: Fn(Refused) -> Error + Unpin,
{
    type Data = B::Data;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, Error>>> {
        let this = &mut *self;
        if this.refused {
            return Poll::Ready(None);
        }
        if this.waiting.is_some()
            && let Some(why) = this.over(cx)
        {
            return Poll::Ready(Some(Err(this.refuse(why))));
        }
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let len = frame.data_ref().map_or(0, Buf::remaining);
                let Some(left) = this.left.checked_sub(len) else {
                    return Poll::Ready(Some(Err(this.refuse(Refused::Long(this.longest)))));
                };
                this.left = left;
                if this.body.is_end_stream() {
                    this.whole();
                } else if let Some(waiting) = &this.waiting {
                    waiting.share.grow(len);
                } else {
                    this.came += len;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.waiting = None;
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                this.whole();
                Poll::Ready(None)
            }
            Poll::Pending => match this.over(cx) {
                Some(why) => Poll::Ready(Some(Err(this.refuse(why)))),
                None => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.refused || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::access::{Access, Role};
    use crate::listen::link::{Call, Link};
    use std::collections::VecDeque;

    /// These parts, and then silence.
    struct Parts(VecDeque<&'static [u8]>);

    impl Body for Parts {
        type Data = &'static [u8];
        type Error = Error;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Error>>> {
            self.0.pop_front().map_or(Poll::Pending, |part| Poll::Ready(Some(Ok(Frame::data(part)))))
        }
    }

    type Body8 = Bounded<Parts, fn(Refused) -> Error>;

    fn body(parts: &[&'static [u8]], unfinished: &Unfinished) -> Body8 {
        let parts = Parts(parts.iter().copied().collect());
        Bounded::new(parts, 8, 0, unfinished.clone(), None, |why| Box::new(why))
    }

    async fn next(body: &mut Body8) -> Result<usize, Refused> {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await.unwrap();
        frame.map(|frame| frame.data_ref().unwrap().len()).map_err(|error| *error.downcast().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_an_end_in_bytes_and_in_time() {
        let unfinished = Unfinished::new(1 << 20);
        let mut long = body(&[b"1234", b"12345"], &unfinished);
        assert_eq!((next(&mut long).await, next(&mut long).await), (Ok(4), Err(Refused::Long(8))));
        let began = Instant::now();
        let mut late = body(&[b"1234"], &unfinished);
        assert_eq!(next(&mut late).await, Ok(4));
        let end = tokio::time::timeout(2 * RECEIVE_TIMEOUT, next(&mut late)).await;
        assert_eq!(end, Ok(Err(Refused::Late)));
        assert_eq!(began.elapsed().as_secs(), RECEIVE_TIMEOUT.as_secs());
        assert_eq!(unfinished.held().bytes, 0, "a refused body holds nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_let_us_wait_is_not_counted_until_it_does() {
        let unfinished = Unfinished::new(1 << 20);
        let mut late = body(&[b"12", b"34"], &unfinished);
        assert_eq!((next(&mut late).await, next(&mut late).await), (Ok(2), Ok(2)));
        assert_eq!(unfinished.held().next, 0, "all of it was there");
        let soon = tokio::time::timeout(Duration::from_millis(1), next(&mut late)).await;
        assert_eq!((soon.is_err(), unfinished.held().bytes), (true, OVERHEAD + 4), "what came before counts, too");
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_the_budget_the_oldest_gives_way() {
        let unfinished = Unfinished::new(2 * (OVERHEAD + 4));
        let mut bodies: Vec<_> = (0..3).map(|_| body(&[b"1234"], &unfinished)).collect();
        for body in &mut bodies {
            assert_eq!(next(body).await, Ok(4));
            tokio::time::timeout(Duration::ZERO, next(body)).await.unwrap_err();
        }
        assert_eq!(unfinished.held().bytes, 2 * (OVERHEAD + 4));
        assert_eq!(next(&mut bodies[0]).await, Err(Refused::Crowded));
        assert_eq!(next(&mut bodies[1]).await, Err(Refused::Late));
        drop(bodies);
        assert!(unfinished.held().bodies.is_empty() && unfinished.held().bytes == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn its_call_learns_when_a_body_is_there() {
        let unfinished = Unfinished::new(1 << 20);
        let caller = Access::default().check(&HeaderMap::new(), Role::Read, false).unwrap();
        let begin = || {
            let link = Link::default();
            let call = link.call(false);
            call.stage().let_in(&caller).unwrap();
            (link, call)
        };
        let bounded = |body: axum::body::Body, call: &Call| {
            let refuse = |why: Refused| Error::from(why);
            Bounded::new(body, 8, 0, unfinished.clone(), Some(call.stage()), refuse)
        };
        let (link, call) = begin();
        let _empty = bounded(axum::body::Body::empty(), &call);
        assert_eq!(link.idle(), None, "there is nothing to wait for");
        let (link, call) = begin();
        let mut short = bounded(axum::body::Body::from("1234"), &call);
        assert!(link.idle().is_some());
        std::future::poll_fn(|cx| Pin::new(&mut short).poll_frame(cx)).await.unwrap().unwrap();
        assert_eq!(link.idle(), None);
        let (link, call) = begin();
        let mut long = bounded(axum::body::Body::from("123456789"), &call);
        std::future::poll_fn(|cx| Pin::new(&mut long).poll_frame(cx)).await.unwrap().unwrap_err();
        assert!(link.idle().is_some(), "it was refused");
    }
}
