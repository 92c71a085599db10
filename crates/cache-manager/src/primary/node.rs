//! One node, one Sentinel: where it is, and with whose name it is connected to.

use crate::addresses::login;
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{
    Client, ConnectionAddr, ConnectionInfo, ErrorKind, RedisConnectionInfo, RedisError, RedisResult,
};
use domain::addresses::split;
use tokio::sync::Mutex;

#[derive(Clone)]
pub(super) struct Node {
    pub(super) address: String,
    pub(super) client: Client,
}

pub(super) struct Sentinel {
    pub(super) client: Client,
    pub(super) connection: Mutex<Option<MultiplexedConnection>>,
}

impl Node {
    pub(super) fn at(like: &ConnectionInfo, address: &str) -> RedisResult<Self> {
        Ok(Self { address: address.to_owned(), client: client_at(like, address)? })
    }

    /// A client that logs in so.
    pub(super) fn as_whom(&self, login: RedisConnectionInfo) -> RedisResult<Client> {
        Client::open(self.client.get_connection_info().clone().set_redis_settings(login))
    }
}

impl Sentinel {
    /// `[user:password@]host:port`; its TLS is that of the nodes.
    pub(super) fn at(like: &ConnectionInfo, entry: &str) -> RedisResult<Self> {
        let (login, address) = login(entry);
        let mut settings = RedisConnectionInfo::default();
        if let Some((user, password)) = login {
            if !user.is_empty() {
                settings = settings.set_username(user);
            }
            settings = settings.set_password(password);
        }
        let info = like.clone().set_addr(moved(like.addr(), address)?).set_redis_settings(settings);
        Ok(Self { client: Client::open(info)?, connection: Mutex::new(None) })
    }
}

/// A client with the same login and TLS, elsewhere.
pub(crate) fn client_at(like: &ConnectionInfo, address: &str) -> RedisResult<Client> {
    Client::open(like.clone().set_addr(moved(like.addr(), address)?))
}

/// The same kind of address, elsewhere.
fn moved(like: &ConnectionAddr, address: &str) -> RedisResult<ConnectionAddr> {
    let wrong = || RedisError::from((ErrorKind::InvalidClientConfig, "not host:port", address.to_owned()));
    let (host, port) = split(address).map(|(host, port)| (host.to_owned(), port)).ok_or_else(wrong)?;
    Ok(match like {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        _ => ConnectionAddr::Tcp(host, port),
    })
}
