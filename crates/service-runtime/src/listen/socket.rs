//! The socket below a connection, which says when it takes nothing any more.

use crate::listen::came::Reading;
use crate::listen::link::Link;
use crate::listen::unsent::SEND_TIMEOUT;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A socket of a listener.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    link: Link,
    reading: Reading,
    /// Whether its buffer had no room when last asked.
    full: bool,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, link: Link) -> io::Result<Self> {
        // Answers are small, and waiting for more to send would only delay them.
        stream.set_nodelay(true)?;
        // What the system has taken of us, and the other side does not take of it.
        #[cfg(target_os = "linux")]
        socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(SEND_TIMEOUT))?;
        Ok(Self { stream, link, reading: Reading::new(), full: false })
    }

    fn noted(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_pending() != self.full {
            self.full = written.is_pending();
            self.link.takes(!self.full);
        }
        written
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, link, reading, .. } = &mut *self;
        reading.poll(link.came(), cx, |cx| Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
