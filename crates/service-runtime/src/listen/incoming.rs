//! Connections of a listener: each has its place, spoke before it was let in, and TLS if it is configured. gRPC and ops HTTP
//! are both served from this.

use crate::listen::connection::{Connection, Stream};
use crate::listen::places::{Place, Places};
use crate::listen::socket::Socket;
use crate::listen::tls::{Protocol, Tls};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Connections accepted, and not yet taken by the server.
const WAITING: usize = 16;
/// After an error that another try would meet again.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two complaints about the same.
const QUIET: Duration = Duration::from_secs(30);

/// How connections of one listener are made.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionAcceptor {
    pub(crate) tls: Option<Tls>,
    pub(crate) protocol: Protocol,
    pub(crate) places: Arc<Places>,
}

impl ConnectionAcceptor {
    /// Accepts until `stop` or until nobody wants connections any more; then the listener is closed.
    pub(crate) fn start(self, listener: TcpListener, stop: CancellationToken) -> mpsc::Receiver<Connection> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let places = Arc::clone(&self.places);
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = sender.closed() => {}
                () = places.sweep() => {}
                () = self.accept(&listener, &sender) => {}
            }
            drop(listener);
            // The server ends when nobody can bring it a connection any more, whatever those that it has still do.
            drop(sender);
            places.wind_up().await;
        });
        receiver
    }

    async fn accept(&self, listener: &TcpListener, sender: &mpsc::Sender<Connection>) {
        let mut beginning = JoinSet::new();
        let mut complained: Option<Instant> = None;
        loop {
            while beginning.try_join_next().is_some() {}
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    if complained.is_none_or(|last| last.elapsed() >= QUIET) {
                        complained = Some(Instant::now());
                        tracing::error!("cannot accept connections: {error}");
                    }
                    // Most likely no descriptors are left.
                    self.places.make_room();
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let place = self.places.enter(peer.ip());
            let (tls, protocol, sender) = (self.tls.clone(), self.protocol, sender.clone());
            // Beside the others: who is slow here must not hold them up.
            beginning.spawn(async move {
                let cut = place.link().until_cut();
                tokio::select! {
                    () = cut => tracing::debug!(%peer, "made room, or took too long to begin"),
                    begun = begin(stream, peer, tls, protocol, place) => match begun {
                        // Nobody wants it if the server has stopped.
                        Ok(connection) => drop(sender.send(connection).await),
                        Err(error) => tracing::debug!(%peer, "no connection: {error}"),
                    }
                }
            });
        }
    }
}

/// Waits for what the other side says first: silence costs a server nothing that is made only then.
async fn begin(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Tls>,
    protocol: Protocol,
    place: Place,
) -> io::Result<Connection> {
    let local = stream.local_addr().ok();
    if stream.peek(&mut [0]).await? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    place.link().speaks();
    let socket = Socket::new(stream, place.link().clone())?;
    let stream = match tls {
        None => Stream::Plain(socket),
        Some(tls) => {
            let stream = tls.acceptor(protocol).accept(socket).await?;
            if stream.get_ref().1.peer_certificates().is_some() {
                place.link().certifies();
            }
            Stream::Tls(Box::new(stream))
        }
    };
    Ok(Connection::new(stream, protocol, local, peer, place))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::{Limits, Pressure};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn acceptor(lifetime: Option<Duration>) -> ConnectionAcceptor {
        let limits = Limits { connections: 1, per_address: 1, per_token: 1, lifetime, unsent: usize::MAX };
        let places = Places::new("grpc", limits, Pressure::default());
        ConnectionAcceptor { tls: None, protocol: Protocol::Http2, places }
    }

    #[tokio::test]
    async fn a_connection_is_cut_when_it_is_too_old() {
        let lifetime = Duration::from_millis(200);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut incoming = acceptor(Some(lifetime)).start(listener, CancellationToken::new());
        let (mut client, started) = (TcpStream::connect(addr).await.unwrap(), std::time::Instant::now());
        client.write_u8(b'P').await.unwrap();
        let mut connection = incoming.recv().await.unwrap();
        assert_eq!(connection.read_u8().await.unwrap(), b'P');
        let error = tokio::time::timeout(Duration::from_secs(10), connection.read_u8()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(started.elapsed() >= lifetime);
    }

    /// Most bytes that are read before anybody else has a turn, of calls whose heads are so long. All of them are there to be read
    /// at once, and somebody else has something to do.
    async fn most_in_a_row(len: usize, calls: usize, at_once: usize) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut incoming = acceptor(None).start(listener, CancellationToken::new());
        let client = TcpStream::connect(addr).await.unwrap();
        let frame = |kind: u8, len: usize| {
            let [.., high, middle, low] = len.to_be_bytes();
            [&[high, middle, low, kind, 0, 0, 0, 0, 1][..], &vec![0; len]].concat()
        };
        let sent = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0), &frame(1, len).repeat(calls)].concat();
        let mut left = sent.len();
        tokio::spawn(async move {
            let mut client = client;
            client.write_all(&sent).await.unwrap();
            std::future::pending::<()>().await;
        });
        let mut connection = incoming.recv().await.unwrap();
        let turns = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let turn = Arc::clone(&turns);
        tokio::spawn(async move {
            loop {
                turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let (mut some, mut since, mut most) = (vec![0; at_once], 0, 0);
        while left > 0 {
            let before = turns.load(std::sync::atomic::Ordering::Relaxed);
            let read = connection.read(&mut some).await.unwrap();
            since = if turns.load(std::sync::atomic::Ordering::Relaxed) == before { since + read } else { read };
            most = most.max(since);
            left -= read;
        }
        most
    }

    #[tokio::test]
    async fn others_have_their_turn_between_calls_that_were_sent_ahead() {
        let most = most_in_a_row(40, 1_000, 490).await;
        assert!(most <= 80 * 49, "{} calls before anybody else's turn", most / 49);
    }

    #[tokio::test]
    async fn others_have_their_turn_between_long_heads_that_were_sent_ahead() {
        let (at_once, budget) = (4 << 10, 32 << 10);
        let most = most_in_a_row(14 << 10, 32, at_once).await;
        assert!(most <= budget + at_once, "{most} bytes before anybody else's turn");
    }

    #[tokio::test]
    async fn the_listener_is_closed_at_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let mut incoming = acceptor(None).start(listener, stop.clone());
        stop.cancel();
        assert!(incoming.recv().await.is_none());
        assert!(TcpStream::connect(addr).await.is_err());
    }
}
