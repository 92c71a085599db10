//! The bytes of a connection, plain or by TLS; and its end, when its [`Link`] is cut.

use crate::listen::frames::Frames;
use crate::listen::leaving::Leaving;
use crate::listen::link::Link;
use crate::listen::places::Place;
use crate::listen::socket::Socket;
use crate::listen::strangers::Heads;
use crate::listen::tls::Protocol;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;

/// A connection; its place is free again when it is dropped.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    local: Option<SocketAddr>,
    peer: SocketAddr,
    /// What is not yet there of what precedes a call.
    greeting: Option<Greeting>,
    /// What HTTP/2 sends beside calls.
    frames: Option<Frames>,
    /// When what was read last came.
    came: Instant,
    /// The first byte came then of a head that is not whole; by HTTP/1, of all since the last answer.
    head_since: Option<Instant>,
    heads: Heads,
    pause: Option<Pause>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    place: Place,
}

/// It is not read before this is over.
#[derive(Debug)]
struct Pause {
    over: Pin<Box<Sleep>>,
    of_stranger: bool,
}

#[derive(Debug)]
pub(crate) enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl Connection {
    pub(crate) fn new(
        stream: Stream,
        protocol: Protocol,
        local: Option<SocketAddr>,
        peer: SocketAddr,
        place: Place,
    ) -> Self {
        let greeting = (protocol == Protocol::Http2).then(Greeting::default);
        let frames = (protocol == Protocol::Http2).then(Frames::default);
        if greeting.is_none() {
            // The head of the first request has a deadline of its own.
            place.link().greets();
        }
        let cut = Box::pin(place.link().until_cut());
        let came = place.link().came().take_read().unwrap_or_else(Instant::now);
        Self {
            stream,
            local,
            peer,
            greeting,
            frames,
            came,
            head_since: None,
            heads: Heads::default(),
            pause: None,
            cut,
            place,
        }
    }

    /// The other side.
    pub const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// This side.
    pub const fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// What its calls know of it.
    pub fn link(&self) -> Link {
        self.place.link().clone()
    }

    /// See [`Leaving`].
    pub(crate) fn leaving(&self) -> io::Result<Leaving> {
        Leaving::of(&self.stream)
    }

    /// Since when the head may be there that is whole now, or begins.
    fn note_arrival(&mut self, reads: bool) -> Option<Instant> {
        if reads {
            let came = self.place.link().came();
            self.came = came.take_read().unwrap_or(self.came);
            let since = self.head_since.map_or(self.came, |since| since.min(self.came));
            came.set_head(since);
            self.head_since = Some(since);
        }
        self.head_since
    }

    /// What HTTP/1 reads after an answer is of another request.
    const fn answers(&mut self) {
        if self.frames.is_none() {
            self.head_since = None;
        }
    }

    fn stream(&mut self, cx: &mut Context<'_>) -> io::Result<&mut Stream> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Err(io::Error::new(ErrorKind::TimedOut, "made room, or took too long"));
        }
        Ok(&mut self.stream)
    }
}

/// The beginning of HTTP/2: the preface, and a frame with the client's settings.
#[derive(Debug, Default)]
struct Greeting {
    seen: usize,
    settings_len: [u8; 3],
}

impl Greeting {
    const PREFACE: usize = 24;
    const FRAME_HEAD: usize = 9;

    /// Whether it is all there with these bytes. Whether they make sense is for HTTP/2 to say.
    fn is_whole_with(&mut self, bytes: &[u8]) -> bool {
        for (at, byte) in (self.seen..).zip(bytes) {
            if let Some(digit) = at.checked_sub(Self::PREFACE).and_then(|at| self.settings_len.get_mut(at)) {
                *digit = *byte;
            }
        }
        self.seen += bytes.len();
        let [high, middle, low] = self.settings_len.map(usize::from);
        self.seen >= Self::PREFACE + Self::FRAME_HEAD + ((high << 16) | (middle << 8) | low)
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(Pause { over, of_stranger }) = &mut self.pause {
            let (over, of_stranger) = (over.as_mut().poll(cx), *of_stranger);
            self.stream(cx)?;
            // A caller whose first calls were let in meanwhile does not wait for strangers.
            if over.is_pending() && !(of_stranger && self.place.link().known().is_for(cx)) {
                return Poll::Pending;
            }
            self.pause = None;
        }
        if self.frames.as_mut().is_some_and(Frames::gives_turn) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = match self.stream(cx)? {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        if let Some(greeting) = &mut self.greeting
            && greeting.is_whole_with(buffer.filled().get(before..).unwrap_or_default())
        {
            self.greeting = None;
            self.place.link().greets();
        }
        let read_now = buffer.filled().get(before..).unwrap_or_default();
        let this = &mut *self;
        let head_since = this.note_arrival(!read_now.is_empty());
        if let Some(frames) = &mut this.frames
            && !frames.may_send(read_now, || this.place.link().earned())
        {
            this.frames = None;
            this.place.count("frames");
            this.place.link().cut();
            return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, "too many frames that carry nothing")));
        }
        if let Some(frames) = &mut this.frames {
            let heads = frames.take_head_bytes();
            let known = this.place.link().known().is();
            if let Some((wait, first)) = this.heads.read(heads, known, this.place.strangers()) {
                if first {
                    this.place.count("long_heads");
                }
                this.pause = Some(Pause { over: Box::pin(tokio::time::sleep(wait)), of_stranger: !known });
            }
            // What began after the end of another head came with these bytes.
            let since = if frames.ended_head() { Some(this.came) } else { head_since };
            this.head_since = since.filter(|_| frames.has_open_head());
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.answers();
        match self.stream(cx)? {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.answers();
        match self.stream(cx)? {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream(cx)? {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream(cx)? {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http2_has_begun_when_preface_and_settings_are_there() {
        let mut begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x0c\x04\0\0\0\0\0".to_vec();
        begin.extend([0; 12]);
        for step in [1, 7, begin.len()] {
            let mut greeting = Greeting::default();
            let mut sent = 0;
            for bytes in begin.chunks(step) {
                sent += bytes.len();
                assert_eq!(greeting.is_whole_with(bytes), sent == begin.len(), "after {sent} bytes");
            }
        }
    }
}
