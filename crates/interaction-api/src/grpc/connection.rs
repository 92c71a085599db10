//! Connections of the gate, as tonic wants them, and so that they can be cut.
//!
//! A stream of live counts whose caller has stopped reading cannot be told that the server stops: HTTP/2 does not take
//! anything more for it, not even its end. Such a connection would hold up the drain until its deadline.

use service_runtime::Connection;
use service_runtime::listen::Link;
use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use sync_engine::read::live::LiveCounts;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// How long streams may take to end after they were told to; those that read do so at once.
const LAST_READ: Duration = Duration::from_secs(3);

/// A connection that can be cut.
pub(crate) struct GrpcConnection {
    connection: Connection,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl GrpcConnection {
    /// Those that came in; all of them end when `cut` says so.
    pub(crate) fn stream(
        incoming: mpsc::Receiver<Connection>,
        cut: CancellationToken,
    ) -> impl Stream<Item = Result<Self, Infallible>> {
        let cuttable = move |connection| Self { connection, cut: Box::pin(cut.clone().cancelled_owned()) };
        ReceiverStream::new(incoming).map(move |connection| Ok(cuttable(connection)))
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

/// Who is at the other end of a connection, for each of its calls.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(super) link: Link,
    pub(super) address: TcpConnectInfo,
}

impl Connected for GrpcConnection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        let address = TcpConnectInfo { local_addr: self.connection.local(), remote_addr: Some(self.connection.peer()) };
        Peer { link: self.connection.link(), address }
    }
}

impl AsyncRead for GrpcConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.connection).poll_read(cx, buffer)
    }
}

impl AsyncWrite for GrpcConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}
