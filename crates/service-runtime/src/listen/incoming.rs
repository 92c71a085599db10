//! Connections of a listener: counted, of bounded age, with TLS if it is configured. gRPC and ops HTTP are both served
//! from this.

use crate::listen::tls::{Protocol, Tls};
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// Longest time for the handshake of TLS.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections accepted, and not yet taken by the server.
const WAITING: usize = 16;
/// After an error that another try would meet again: no descriptors left, for example.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two complaints about the same.
const QUIET: Duration = Duration::from_secs(30);

/// How connections of one listener are made.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionAcceptor {
    pub(crate) tls: Option<Tls>,
    pub(crate) protocol: Protocol,
    pub(crate) max_connections: usize,
    /// After it a connection is cut, whatever it is doing.
    pub(crate) lifetime: Option<Duration>,
}

impl ConnectionAcceptor {
    /// Accepts until `stop` or until nobody wants connections any more; then the listener is closed.
    pub(crate) fn start(self, listener: TcpListener, stop: CancellationToken) -> mpsc::Receiver<Connection> {
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = sender.closed() => {}
                () = self.accept(&listener, &sender) => {}
            }
        });
        receiver
    }

    async fn accept(&self, listener: &TcpListener, sender: &mpsc::Sender<Connection>) {
        let places = Arc::new(Semaphore::new(self.max_connections));
        let mut handshakes = JoinSet::new();
        let (mut full, mut failed) = (Complaint::default(), Complaint::default());
        loop {
            while handshakes.try_join_next().is_some() {}
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    failed.say(|| tracing::error!("cannot accept connections: {error}"));
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            // Refused at once: waiting connections would be taken for a server that does not answer.
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                let most = self.max_connections;
                full.say(|| tracing::warn!("service.max_connections: {most} are open, more are refused"));
                continue;
            };
            // Answers are small, and waiting for more to send would only delay them.
            if stream.set_nodelay(true).is_err() {
                continue;
            }
            let (lifetime, local) = (self.lifetime, stream.local_addr().ok());
            let connection = move |stream| Connection {
                stream,
                local,
                peer,
                end: lifetime.map(|lifetime| Box::pin(tokio::time::sleep(lifetime))),
                _place: place,
            };
            let Some(tls) = &self.tls else {
                if sender.send(connection(Stream::Plain(stream))).await.is_err() {
                    return;
                }
                continue;
            };
            // Beside the others: who is slow here must not hold them up.
            let (handshake, sender) = (tls.acceptor(self.protocol).accept(stream), sender.clone());
            handshakes.spawn(async move {
                match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
                    Ok(Ok(stream)) => {
                        // Nobody wants it if the server has stopped.
                        let _ = sender.send(connection(Stream::Tls(Box::new(stream)))).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%peer, "no TLS: {error}"),
                    Err(_) => tracing::debug!(%peer, "no TLS within {HANDSHAKE_TIMEOUT:?}"),
                }
            });
        }
    }
}

/// Somebody changed his mind; the next connection may be well.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
    )
}

/// Says the same thing only now and then.
#[derive(Default)]
struct Complaint(Option<Instant>);

impl Complaint {
    fn say(&mut self, say: impl FnOnce()) {
        if self.0.is_none_or(|last| last.elapsed() >= QUIET) {
            self.0 = Some(Instant::now());
            say();
        }
    }
}

/// A connection; its place is free again when it is dropped.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    local: Option<SocketAddr>,
    peer: SocketAddr,
    end: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// The other side.
    pub const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// This side.
    pub const fn local(&self) -> Option<SocketAddr> {
        self.local
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Servers read all the time, so it is enough to look here.
        if let Some(end) = &mut self.end
            && end.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "older than a connection may be")));
        }
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
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
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn a_connection_is_cut_when_it_is_too_old() {
        let lifetime = Some(Duration::from_millis(200));
        let acceptor = ConnectionAcceptor { tls: None, protocol: Protocol::Http2, max_connections: 1, lifetime };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut incoming = acceptor.start(listener, CancellationToken::new());
        let (_client, started) = (TcpStream::connect(addr).await.unwrap(), std::time::Instant::now());
        let mut connection = incoming.recv().await.unwrap();
        let error = tokio::time::timeout(Duration::from_secs(10), connection.read_u8()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(started.elapsed() >= Duration::from_millis(190));
    }

    #[tokio::test]
    async fn the_listener_is_closed_at_the_end() {
        let acceptor = ConnectionAcceptor { tls: None, protocol: Protocol::Http1, max_connections: 1, lifetime: None };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let mut incoming = acceptor.start(listener, stop.clone());
        stop.cancel();
        assert!(incoming.recv().await.is_none());
        assert!(TcpStream::connect(addr).await.is_err());
    }
}
