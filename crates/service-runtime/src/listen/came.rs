//! When the bytes of a connection came, which may be long before they are read: a server that has something to say to a client
//! that takes nothing reads nothing either. What a call may do is counted from then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// Times are microseconds after `began`, and 1 more; 0: none.
#[derive(Debug)]
pub(crate) struct Came {
    began: Instant,
    /// The first of what the socket gave and the connection has not yet passed on.
    read: AtomicU64,
    /// The first byte of the head that ended last, or of a later one.
    head: AtomicU64,
}

impl Default for Came {
    fn default() -> Self {
        Self { began: Instant::now(), read: AtomicU64::new(0), head: AtomicU64::new(0) }
    }
}

impl Came {
    /// The socket gave something that came then or later.
    fn reads(&self, at: Instant) {
        // Below TLS several reads may make one.
        let _first = self.read.compare_exchange(0, self.micros(at), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// When the first came of what was read since the last question; none: nothing was.
    pub(crate) fn take_read(&self) -> Option<Instant> {
        self.instant(self.read.swap(0, Ordering::Relaxed))
    }

    pub(crate) fn set_head(&self, at: Instant) {
        self.head.store(self.micros(at), Ordering::Relaxed);
    }

    /// When the head came that is seen now; now, if it came over no connection of a listener.
    pub(crate) fn head(&self) -> Instant {
        let now = Instant::now();
        self.instant(self.head.load(Ordering::Relaxed)).map_or(now, |head| head.min(now))
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_micros()).unwrap_or(u64::MAX - 1) + 1
    }

    fn instant(&self, at: u64) -> Option<Instant> {
        Some(self.began + Duration::from_micros(at.checked_sub(1)?))
    }
}

/// Looks on as a socket is read.
#[derive(Debug)]
pub(crate) struct Reading {
    /// There was nothing left when it was last read: what is there now came when it was told so.
    drained: bool,
    last: Instant,
    told: Arc<Told>,
}

impl Reading {
    pub(crate) fn new() -> Self {
        Self { drained: false, last: Instant::now(), told: Arc::default() }
    }

    /// Reads with `read`, whose result says whether there was something.
    pub(crate) fn poll<T>(
        &mut self,
        came: &Came,
        cx: &Context<'_>,
        read: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        // Before the read: what it is told while it reads is of the next one.
        let told = self.told.take(cx.waker());
        let waker = Waker::from(Arc::clone(&self.told));
        let polled = read(&mut Context::from_waker(&waker));
        if polled.is_pending() {
            self.drained = true;
            return polled;
        }
        let now = Instant::now();
        // What was not read to its end may have come at any time since.
        let at = if self.drained { told.unwrap_or(now) } else { self.last };
        came.reads(at);
        (self.drained, self.last) = (false, now);
        polled
    }
}

/// When the socket first said that there is something to read, and who wants to know.
#[derive(Debug, Default)]
struct Told(Mutex<(Option<Instant>, Option<Waker>)>);

impl Told {
    fn lock(&self) -> MutexGuard<'_, (Option<Instant>, Option<Waker>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When it was told since the last question; the next time it wakes `waker`.
    fn take(&self, waker: &Waker) -> Option<Instant> {
        let (at, known) = &mut *self.lock();
        match known {
            Some(known) => known.clone_from(waker),
            None => *known = Some(waker.clone()),
        }
        at.take()
    }
}

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let waker = {
            let (at, waker) = &mut *self.lock();
            at.get_or_insert_with(Instant::now);
            waker.clone()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::thread::sleep;
    use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf, duplex};

    /// Reads what is there; none: nothing is.
    async fn read(reading: &mut Reading, came: &Came, stream: &mut tokio::io::DuplexStream) -> Option<Instant> {
        let mut bytes = [0; 4];
        let read = poll_fn(|cx| {
            Poll::Ready(
                reading.poll(came, cx, |cx| Pin::new(&mut *stream).poll_read(cx, &mut ReadBuf::new(&mut bytes))),
            )
        });
        read.await.is_ready().then(|| came.take_read().unwrap())
    }

    const WHILE: Duration = Duration::from_millis(30);

    #[tokio::test]
    async fn what_waits_unread_came_when_it_came() {
        let (mut client, mut stream) = duplex(64);
        let (mut reading, came) = (Reading::new(), Came::default());
        assert_eq!(read(&mut reading, &came, &mut stream).await, None);
        sleep(WHILE);
        // Nobody reads what came then.
        let before = Instant::now();
        client.write_all(b"12345678").await.unwrap();
        let written = Instant::now();
        sleep(WHILE);
        let first = read(&mut reading, &came, &mut stream).await.unwrap();
        assert!(first + Duration::from_micros(1) >= before && first <= written, "{:?} after", first - before);
        // The rest may have come since the last read; it did come before.
        let read_at = Instant::now();
        sleep(WHILE);
        assert!(read(&mut reading, &came, &mut stream).await.unwrap() <= read_at);
        // Somebody looked in vain, and was told of nothing since.
        assert_eq!(read(&mut reading, &came, &mut stream).await, None);
        sleep(WHILE);
        assert_eq!(read(&mut reading, &came, &mut stream).await, None);
        let before = Instant::now();
        client.write_all(b"9").await.unwrap();
        assert!(read(&mut reading, &came, &mut stream).await.unwrap() + Duration::from_micros(1) >= before);
    }

    #[test]
    fn the_first_of_several_reads_counts() {
        let came = Came::default();
        let (first, second) = (came.began + WHILE, came.began + 2 * WHILE);
        came.reads(first);
        came.reads(second);
        assert_eq!((came.take_read(), came.take_read()), (Some(first), None));
        came.set_head(first);
        assert!(came.head() <= first);
        came.set_head(came.began + Duration::from_secs(3600));
        assert!(came.head() <= Instant::now());
    }
}
