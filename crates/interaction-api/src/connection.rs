//! Connections that can be cut.
//!
//! A stream of live counts whose caller has stopped reading cannot be told that the server stops: HTTP/2 does not take
//! anything more for it, not even its end. Such a connection would hold up the drain until its deadline.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use sync_engine::live::LiveCounts;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// How long streams may take to end after they were told to; those that read do so at once.
const LAST_READ: Duration = Duration::from_secs(3);

/// A connection that ends when its token says so.
pub(crate) struct Connection {
    stream: TcpStream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, cut: CancellationToken) -> Self {
        // Small messages go out at once. It fails only for a connection that is gone already, as its first read will say.
        let _ = stream.set_nodelay(true);
        Self { stream, cut: Box::pin(cut.cancelled_owned()) }
    }
}

/// After the soft token: cuts all connections if some stream does not end, and never returns.
pub(crate) async fn cut_stalled(soft: CancellationToken, live: LiveCounts, cut: CancellationToken) {
    soft.cancelled().await;
    tokio::time::sleep(LAST_READ).await;
    let streams = live.streams();
    if streams > 0 {
        tracing::warn!(streams, "streams of live counts are not read: cutting connections");
        cut.cancel();
    }
    std::future::pending().await
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
