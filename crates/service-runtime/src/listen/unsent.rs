//! Answers that the other side has not taken: each has an end in time, and all together one in bytes.
//!
//! What asks for more is the window of HTTP/2, or room in the buffers of the connection. So an answer owes nothing as long as
//! it has nothing to say: a stream of live counts may be silent for hours.

use crate::listen::frames::FRAMES_PER_PART;
use crate::listen::link::Call;
use hyper::body::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Longest time that a part of an answer waits for the other side; then the connection ends.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(20);
/// What an answer costs besides the bytes that are framed: its message, stream, task.
const OVERHEAD: usize = 16 << 10;

/// The answers of one connection that are under way.
#[derive(Debug, Default)]
pub(crate) struct Unsent(Mutex<Answers>);

#[derive(Debug, Default)]
struct Answers {
    next: u64,
    all: BTreeMap<u64, Arc<Mutex<Owed>>>,
}

/// What is there of an answer, and not taken.
#[derive(Debug)]
struct Owed {
    /// Whether the next part waits until somebody wants it.
    waits: bool,
    /// Framed.
    parts: usize,
    bytes: usize,
    /// When a part was last taken, or wanted.
    moved: Instant,
}

impl Owed {
    const fn is_any(&self) -> bool {
        self.waits || self.parts > 0
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Unsent {
    fn enter(&self) -> (u64, Arc<Mutex<Owed>>) {
        let owed = Arc::new(Mutex::new(Owed { waits: true, parts: 0, bytes: 0, moved: Instant::now() }));
        let mut answers = lock(&self.0);
        answers.next += 1;
        let number = answers.next;
        answers.all.insert(number, Arc::clone(&owed));
        (number, owed)
    }

    /// Since when the other side has taken nothing of an answer that has something for it, and what all such answers hold.
    pub(crate) fn look(&self) -> Option<(Instant, usize)> {
        let answers = lock(&self.0);
        answers.all.values().fold(None, |looked, owed| {
            let owed = lock(owed);
            if !owed.is_any() {
                return looked;
            }
            let bytes = OVERHEAD + owed.bytes;
            Some(looked.map_or((owed.moved, bytes), |(since, all)| (owed.moved.min(since), all + bytes)))
        })
    }
}

/// An answer and its call, from its head until all of it was taken.
#[derive(Debug)]
pub(crate) struct Sending {
    call: Call,
    number: u64,
    owed: Arc<Mutex<Owed>>,
}

impl Sending {
    pub(crate) fn new(call: Call) -> Arc<Self> {
        let (number, owed) = call.link().unsent().enter();
        Arc::new(Self { call, number, owed })
    }

    /// The other side wants more.
    pub(crate) fn wanted(&self) {
        let mut owed = lock(&self.owed);
        owed.waits = false;
        owed.moved = Instant::now();
    }

    /// There may be more than was taken so far.
    pub(crate) fn waits(&self) {
        lock(&self.owed).waits = true;
    }

    /// The same bytes; they are taken when they are dropped.
    pub(crate) fn part(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        let mut owed = lock(&self.owed);
        owed.parts += 1;
        owed.bytes += bytes.len();
        drop(owed);
        self.call.link().earns(FRAMES_PER_PART);
        Bytes::from_owner(Part { bytes, of: Arc::clone(self) })
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        lock(&self.call.link().unsent().0).all.remove(&self.number);
    }
}

struct Part {
    bytes: Bytes,
    of: Arc<Sending>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut owed = lock(&self.of.owed);
        owed.parts -= 1;
        owed.bytes -= self.bytes.len();
        owed.moved = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::Link;

    #[tokio::test(start_paused = true)]
    async fn an_answer_owes_what_is_there_and_not_taken() {
        let (link, began) = (Link::default(), Instant::now());
        let owes = || link.unsent().look().map(|(since, bytes)| (since - began, bytes - OVERHEAD));
        let after = async |millis| tokio::time::advance(Duration::from_millis(millis)).await;
        let answer = Sending::new(link.call(false));
        after(10).await;
        assert_eq!(owes(), Some((Duration::ZERO, 0)), "nobody wants its beginning");
        answer.wanted();
        assert_eq!(owes(), None, "it has nothing to say");
        let (one, two) = (answer.part(Bytes::from_static(b"1234")), answer.part(Bytes::from_static(b"56")));
        answer.waits();
        after(10).await;
        assert_eq!(owes(), Some((Duration::from_millis(10), 6)));
        let half = one.slice(2..);
        drop(one);
        assert_eq!(owes(), Some((Duration::from_millis(10), 6)), "half of it is not taken");
        drop(half);
        assert_eq!(owes(), Some((Duration::from_millis(20), 2)), "a part was taken");
        // All was handed over, and is not yet taken: the call is still in flight.
        drop(answer);
        assert!(owes().is_some() && !link.is_idle());
        drop(two);
        assert!(owes().is_none() && link.is_idle());
    }
}
