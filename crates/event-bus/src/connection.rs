//! One connection with one channel, opened within a deadline and torn down at once.

use crate::sieve::{self, Sieve};
use crate::topology::{self, Names};
use crate::{BusConfig, BusError};
use lapin::tcp::{AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind};
use std::future::Future;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::lookup_host;
use tokio::time::Instant;

/// The broker says so when something is published to it, while the confirm is waited for: longer than nearly every one takes.
const BLOCKED_POLL: Duration = Duration::from_millis(20);

pub(crate) struct Link {
    pub(crate) channel: Channel,
    pub(crate) connection: Connection,
    /// Last, so that it falls after the connection.
    _socket: SocketGuard,
}

/// Closes the socket when it falls. The client library runs a thread per connection that would otherwise wait for a
/// broker that accepted the connection and then fell silent.
struct SocketGuard(std::net::TcpStream);

impl Drop for SocketGuard {
    fn drop(&mut self) {
        // Already closed is fine: that is what is wanted.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Link {
    /// Connects and declares the topology, all within `connect_timeout`: each host that is left has an equal share of what is
    /// left of it.
    pub(crate) async fn open(config: &BusConfig, names: &Names, role: &str) -> Result<Self, BusError> {
        Self::open_with(config, names, role, true).await
    }

    /// The same, where the topology was declared a moment ago.
    pub(crate) async fn open_again(config: &BusConfig, names: &Names, role: &str) -> Result<Self, BusError> {
        Self::open_with(config, names, role, false).await
    }

    /// That the broker lets us in.
    pub(crate) async fn prove(config: &BusConfig) -> Result<(), BusError> {
        let link = Self::open_with(config, &Names::of(config), "login", false).await?;
        link.close(config.connect_timeout).await;
        Ok(())
    }

    async fn open_with(config: &BusConfig, names: &Names, role: &str, declares: bool) -> Result<Self, BusError> {
        config.validate()?;
        let uris = config.uris()?;
        let limit = Instant::now() + config.connect_timeout;
        let mut left = u32::try_from(uris.len()).unwrap_or(u32::MAX);
        let mut failure = BusError::TimedOut { doing: "connecting", after: config.connect_timeout };
        for host in config.turn.order(uris.len()) {
            let tls = OwnedTLSConfig { cert_chain: config.authority()?, ..OwnedTLSConfig::default() };
            let share = limit.saturating_duration_since(Instant::now()) / left.max(1);
            left -= 1;
            let opened = within(share, "connecting", async {
                let link = Self::connect(uris[host].clone(), tls, config, role).await?;
                if declares {
                    topology::declare(&link.connection, config, names).await?;
                }
                Ok(link)
            });
            match opened.await {
                Ok(link) => {
                    config.turn.answered(host);
                    return Ok(link);
                }
                Err(error) => failure = error.naming(&config.prefix),
            }
        }
        Err(failure)
    }

    async fn connect(uri: AMQPUri, tls: OwnedTLSConfig, config: &BusConfig, role: &str) -> Result<Self, BusError> {
        let runtime = lapin::runtime::default_runtime().map_err(BusError::unavailable("connecting"))?;
        let host = uri.authority.host.clone();
        let failed = |error: std::io::Error| BusError::Unavailable { doing: "connecting", source: Box::new(error) };

        let addresses = lookup_host((host.as_str(), uri.authority.port)).await.map_err(failed)?;
        let stream = AsyncTcpStream::connect(&runtime, addresses.collect::<Vec<_>>()).await.map_err(failed)?;
        let AsyncTcpStream::Plain(plain) = &stream else {
            return Err(failed(std::io::ErrorKind::Unsupported.into()));
        };
        let socket = plain.get_ref().as_fd().try_clone_to_owned().map_err(failed)?;
        let socket = SocketGuard(socket.into());
        let stream = match uri.scheme {
            AMQPScheme::AMQP => stream,
            AMQPScheme::AMQPS => stream.into_tls(&host, tls.as_ref()).await.map_err(failed)?,
        };

        let stream = AsyncTcpStream::Plain(Sieve::new(stream, config.longest_body));
        let runtime = sieve::runtime(runtime, config.longest_body);

        // Given once: a second attempt of the client library must fail, since retrying is not its business.
        let stream = Mutex::new(Some(stream));
        let give = async move |_, _| {
            let taken = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            taken.ok_or_else(|| ErrorKind::IOError(Arc::new(std::io::ErrorKind::NotConnected.into())).into())
        };
        let properties =
            ConnectionProperties::default().with_connection_name(format!("{} {role}", config.prefix).into());
        let connection =
            Connection::connector(uri, runtime, give, properties).await.map_err(BusError::unavailable("logging in"))?;
        let channel = connection.create_channel().await.map_err(BusError::unavailable("opening a channel"))?;
        Ok(Self { channel, connection, _socket: socket })
    }

    /// Whether the broker holds back what is published here: a resource alarm.
    pub(crate) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Returns when [`is_blocked`](Self::is_blocked).
    pub(crate) async fn blocked(&self) {
        while !self.is_blocked() {
            tokio::time::sleep(BLOCKED_POLL).await;
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    /// Says goodbye, so that the broker need not find out; bounded.
    pub(crate) async fn close(self, deadline: Duration) {
        let goodbye = self.connection.close(200, "bye".into());
        let _ = tokio::time::timeout(deadline, goodbye).await;
    }
}

/// Runs one step with the broker under a deadline.
pub(crate) async fn within<T>(
    deadline: Duration,
    doing: &'static str,
    step: impl Future<Output = Result<T, BusError>>,
) -> Result<T, BusError> {
    // Boxed: the client library's futures are large, and are held inside the callers' own.
    match tokio::time::timeout(deadline, Box::pin(step)).await {
        Ok(result) => result,
        Err(_) => Err(BusError::TimedOut { doing, after: deadline }),
    }
}
