//! Keeps the bodies of messages within a bound while they come in.
//!
//! The client library hands out a message when all of it is there, and keeps as many as the prefetch allows: of messages that a
//! broker takes, 128 MiB or more each. None of ours is as long as a hundredth of that. So the library is shown only the
//! beginning of a longer body, as if that were all, and the rest is left out as it comes. The message itself stays with the
//! broker, which can still be told to move it.
//!
//! It looks at the frames of AMQP 0-9-1, whose heads say all that is needed: kind, channel, length, and of a content header the
//! length of the body.

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, TokioRuntime};
use futures::ready;
use futures::{AsyncRead, AsyncWrite, Stream};
use lapin::tcp::AsyncTcpStream;
use std::collections::HashMap;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// What is read at once.
const CHUNK: usize = 64 << 10;

/// A connection as the runtime makes it, plain or by TLS.
pub(crate) type Made = AsyncTcpStream<<TokioRuntime as Reactor>::TcpStream>;

/// The runtime of the client library, all of whose connections come through a sieve.
pub(crate) type SievingRuntime = Runtime<RuntimeParts<TokioRuntime, Sieving>>;

/// With this longest body.
pub(crate) fn runtime(runtime: TokioRuntime, longest: usize) -> SievingRuntime {
    Runtime::new(RuntimeParts::new(runtime.clone(), Sieving { runtime, longest }))
}

/// See [`SievingRuntime`].
#[derive(Debug, Clone)]
pub(crate) struct Sieving {
    runtime: TokioRuntime,
    longest: usize,
}

impl Reactor for Sieving {
    type TcpStream = Sieve;
    type Sleep = <TokioRuntime as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.runtime.register(socket)
    }

    fn sleep(&self, dur: Duration) -> Self::Sleep {
        self.runtime.sleep(dur)
    }

    fn interval(&self, dur: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.runtime.interval(dur)
    }

    fn tcp_connect_addr(&self, addr: SocketAddr) -> impl Future<Output = io::Result<Sieve>> + Send + 'static {
        let (connecting, longest) = (self.runtime.tcp_connect_addr(addr), self.longest);
        async move { Ok(Sieve::new(AsyncTcpStream::Plain(connecting.await?), longest)) }
    }
}

/// A connection to a broker; what is written passes as it is.
pub(crate) struct Sieve {
    stream: Made,
    raw: Box<[u8]>,
    sifter: Sifter,
    sifted: Vec<u8>,
    /// How much of `sifted` was handed out.
    given: usize,
}

impl Sieve {
    pub(crate) fn new(stream: Made, longest: usize) -> Self {
        let raw = vec![0; CHUNK].into_boxed_slice();
        Self { stream, raw, sifter: Sifter::new(longest), sifted: Vec::with_capacity(CHUNK), given: 0 }
    }
}

impl AsyncRead for Sieve {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        while this.given == this.sifted.len() {
            let read = ready!(Pin::new(&mut this.stream).poll_read(cx, &mut this.raw))?;
            if read == 0 {
                return Poll::Ready(Ok(0));
            }
            this.given = 0;
            this.sifted.clear();
            this.sifter.sift(this.raw.get(..read).unwrap_or_default(), &mut this.sifted);
        }
        let left = this.sifted.get(this.given..).unwrap_or_default();
        let given = left.len().min(buffer.len());
        let (now, _) = left.split_at(given);
        buffer.split_at_mut(given).0.copy_from_slice(now);
        this.given += given;
        Poll::Ready(Ok(given))
    }
}

impl AsyncWrite for Sieve {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// Kind, channel, length of the payload.
const FRAME_HEAD: usize = 7;
const HEADER: u8 = 2;
const BODY: u8 = 3;
/// Of the payload of a content header: class, weight, length of the body.
const BEFORE_LENGTH: usize = FRAME_HEAD + 4;
const WITH_LENGTH: usize = BEFORE_LENGTH + 8;
/// The byte that ends every frame.
const END: u64 = 1;

/// Leaves out what is too long. Knows the frames by their heads alone, in whatever pieces they come.
#[derive(Debug)]
struct Sifter {
    /// What comes through of a longer body.
    longest: u64,
    /// Of the next frame, as long as it is not complete.
    head: Vec<u8>,
    /// Of the frame under way: so many bytes pass, then so many are left out, then so many pass.
    pass: u64,
    skip: u64,
    end: u64,
    /// By channel: how much more of a body that is cut comes through.
    cut: HashMap<u16, u64>,
}

impl Sifter {
    /// One byte more than `longest` says that there was more.
    fn new(longest: usize) -> Self {
        let longest = u64::try_from(longest).unwrap_or(u64::MAX).saturating_add(1);
        let head = Vec::with_capacity(WITH_LENGTH);
        Self { longest, head, pass: 0, skip: 0, end: 0, cut: HashMap::new() }
    }

    fn sift(&mut self, mut bytes: &[u8], to: &mut Vec<u8>) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.pass > 0 {
                to.extend_from_slice(take(&mut bytes, &mut self.pass));
            } else if self.skip > 0 {
                take(&mut bytes, &mut self.skip);
            } else if self.end > 0 {
                to.extend_from_slice(take(&mut bytes, &mut self.end));
            } else {
                self.head.push(*first);
                bytes = rest;
                self.begin(to);
            }
        }
    }

    /// Decides about a frame, once enough of its head is there.
    fn begin(&mut self, to: &mut Vec<u8>) {
        let Some(&[kind, high, low, a, b, c, d]) = self.head.first_chunk::<FRAME_HEAD>() else { return };
        let (channel, size) = (u16::from_be_bytes([high, low]), u64::from(u32::from_be_bytes([a, b, c, d])));
        let (mut pass, mut skip) = (size, 0);
        if kind == HEADER && size >= (WITH_LENGTH - FRAME_HEAD) as u64 {
            let Some(length) = self.head.get_mut(BEFORE_LENGTH..).and_then(|rest| rest.first_chunk_mut()) else {
                return;
            };
            if u64::from_be_bytes(*length) > self.longest {
                *length = self.longest.to_be_bytes();
                self.cut.insert(channel, self.longest);
            } else {
                self.cut.remove(&channel);
            }
            pass = size - (WITH_LENGTH - FRAME_HEAD) as u64;
        } else if kind == BODY
            && let Some(left) = self.cut.get_mut(&channel)
        {
            let comes = size.min(*left);
            *left -= comes;
            if comes == 0 {
                self.head.clear();
                self.skip = size + END;
                return;
            }
            (pass, skip) = (comes, size - comes);
            // It was the length of a frame, and is less now.
            let comes = u32::try_from(comes).unwrap_or(u32::MAX).to_be_bytes();
            for (to, from) in self.head.iter_mut().skip(3).zip(comes) {
                *to = from;
            }
        }
        to.append(&mut self.head);
        (self.pass, self.skip, self.end) = (pass, skip, END);
    }
}

/// As much of it as is there and left.
fn take<'a>(bytes: &mut &'a [u8], left: &mut u64) -> &'a [u8] {
    let (now, later) = bytes.split_at(usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len()));
    *left -= now.len() as u64;
    *bytes = later;
    now
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind][..], &channel.to_be_bytes(), &len, payload, &[0xce]].concat()
    }

    /// The header of a message with a body of so many bytes, and one property.
    fn header(channel: u16, len: u64) -> Vec<u8> {
        let payload = [&[0, 60, 0, 0][..], &len.to_be_bytes(), &[0x80, 0, 3, b'a', b'/', b'b']].concat();
        frame(HEADER, channel, &payload)
    }

    fn sifted(bytes: &[u8], longest: usize, piece: usize) -> Vec<u8> {
        let (mut sifter, mut out) = (Sifter::new(longest), Vec::new());
        for piece in bytes.chunks(piece) {
            sifter.sift(piece, &mut out);
        }
        out
    }

    const PIECES: [usize; 5] = [1, 2, 7, 19, 4_000];

    #[test]
    fn what_is_short_enough_passes_as_it_is() {
        let deliver = frame(1, 1, b"a method");
        let bodies = [frame(BODY, 1, b"12345"), frame(BODY, 1, b"678")].concat();
        let heartbeat = frame(8, 0, b"");
        let odd = frame(HEADER, 1, b"short");
        let whole = [deliver.clone(), header(1, 8), bodies, heartbeat, header(2, 0), odd, deliver];
        for piece in PIECES {
            assert_eq!(sifted(&whole.concat(), 8, piece), whole.concat(), "in pieces of {piece}");
        }
        assert_eq!(sifted(b"AMQP\x00\x00\x09\x01", 8, 3), b"AMQP\x00\x00\x09\x01");
    }

    #[test]
    fn of_what_is_longer_the_beginning_passes_and_what_follows_is_untouched() {
        let deliver = frame(1, 1, b"a method");
        let (next, other) = ([header(1, 4), frame(BODY, 1, b"next")].concat(), frame(BODY, 2, b"other"));
        let long = [
            &deliver[..],
            &header(1, 20),
            &frame(BODY, 1, b"01234"),
            &header(2, 5),
            &frame(BODY, 1, b"56789"),
            &other,
            &frame(BODY, 1, b"01234"),
            &frame(BODY, 1, b"56789"),
            &deliver,
            &next,
        ];
        let expected = [
            &deliver[..],
            &header(1, 9),
            &frame(BODY, 1, b"01234"),
            &header(2, 5),
            &frame(BODY, 1, b"5678"),
            &other,
            &deliver,
            &next,
        ];
        for piece in PIECES {
            assert_eq!(sifted(&long.concat(), 8, piece), expected.concat(), "in pieces of {piece}");
        }
        // As long as the longest, and by one byte more.
        let exact = [header(1, 8), frame(BODY, 1, b"01234567")].concat();
        assert_eq!(sifted(&exact, 8, 5), exact);
        let more = [header(1, 9), frame(BODY, 1, b"012345678")].concat();
        assert_eq!(sifted(&more, 8, 5), more, "which the reader sees by its length");
        assert_eq!(sifted(&header(1, u64::MAX), usize::MAX, 5), header(1, u64::MAX));
    }
}
