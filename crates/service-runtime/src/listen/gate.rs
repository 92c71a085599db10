//! What stands before every listener: tokens, TLS, bounds; and the refusal to be reached without tokens.

use crate::config::reload::Refusal;
use crate::config::{ConfigError, PublicOrigin, ServiceConfig, TrustedProxies};
use crate::listen::access::Access;
use crate::listen::expiry::Validity;
use crate::listen::incoming::ConnectionAcceptor;
use crate::listen::tls::{Protocol, Tls};
use crate::listen::{Connection, Limits, Places, Pressure, Unfinished};
use anyhow::Context as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The gate of a process. Clones are the same gate; the default lets everybody in, from this machine.
#[derive(Debug, Clone)]
pub struct Gate {
    /// Who may do what.
    pub access: Access,
    /// Whose word about a caller's address is believed.
    pub proxies: TrustedProxies,
    public_origin: Option<PublicOrigin>,
    cors_origins: Arc<[PublicOrigin]>,
    insecure: bool,
    tls: Option<Tls>,
    tokens: Refusal,
    certificates: Refusal,
    max_connections: usize,
    max_connections_per_address: usize,
    max_connections_per_token: usize,
    max_calls_per_connection: u32,
    max_connection_age: Duration,
    unfinished: Unfinished,
    max_untaken_bytes: usize,
    pressure: Pressure,
}

impl Default for Gate {
    fn default() -> Self {
        let config = ServiceConfig::default();
        Self {
            access: Access::default(),
            proxies: TrustedProxies::default(),
            public_origin: None,
            cors_origins: Arc::default(),
            insecure: false,
            tls: None,
            tokens: Refusal::of("tokens"),
            certificates: Refusal::of("certificates"),
            max_connections: config.max_connections,
            max_connections_per_address: config.connections_per_address(),
            max_connections_per_token: config.connections_per_token(),
            max_calls_per_connection: config.max_calls_per_connection,
            max_connection_age: config.max_connection_age,
            unfinished: Unfinished::new(config.max_unfinished_bytes),
            max_untaken_bytes: config.max_untaken_bytes,
            pressure: Pressure::default(),
        }
    }
}

impl Gate {
    /// After it was asked to come again, a connection may end its calls for this long; then it is cut.
    pub const CONNECTION_GRACE: Duration = Duration::from_secs(60);

    /// As configured; reads the files that are named there.
    pub fn open(config: &ServiceConfig) -> Result<Self, ConfigError> {
        for (key, value) in [
            ("service.max_connections", config.max_connections),
            ("service.max_connections_per_address", config.max_connections_per_address.unwrap_or(1)),
            ("service.max_connections_per_token", config.max_connections_per_token.unwrap_or(1)),
            ("service.max_calls_per_connection", config.max_calls_per_connection as usize),
        ] {
            if value == 0 {
                return Err(ConfigError::key(key, "must be at least 1"));
            }
        }
        if config.max_connection_age < Duration::from_secs(1) {
            return Err(ConfigError::key("service.max_connection_age", "must be at least 1s"));
        }
        Ok(Self {
            access: Access::open(&config.access)?,
            proxies: config.trusted_proxies.clone(),
            public_origin: config.public_origin.clone(),
            cors_origins: config.cors_origins.clone().into(),
            insecure: config.access.insecure,
            tls: Tls::open(&config.tls)?,
            tokens: Refusal::of("tokens"),
            certificates: Refusal::of("certificates"),
            max_connections: config.max_connections,
            max_connections_per_address: config.connections_per_address(),
            max_connections_per_token: config.connections_per_token(),
            max_calls_per_connection: config.max_calls_per_connection,
            max_connection_age: config.max_connection_age,
            unfinished: Unfinished::new(config.max_unfinished_bytes),
            max_untaken_bytes: config.max_untaken_bytes,
            pressure: Pressure::default(),
        })
    }

    /// Whether certificates are configured.
    pub const fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether connections of ops HTTP are encrypted.
    pub fn has_ops_tls(&self) -> bool {
        self.tls_of(Protocol::Http1).is_some()
    }

    /// Whether ops HTTP lets clients in without a certificate, for what probes and Prometheus ask; others need one.
    pub(crate) fn lets_probes_in(&self) -> bool {
        self.tls.as_ref().is_some_and(Tls::lets_probes_in)
    }

    fn tls_of(&self, protocol: Protocol) -> Option<&Tls> {
        self.tls.as_ref().filter(|tls| tls.is_of(protocol))
    }

    /// Whether only this machine can be at the other end.
    pub(crate) fn is_local(&self) -> bool {
        !self.insecure && !self.access.needs_token()
    }

    /// Where browsers find the page, if a proxy gives it another name.
    pub(crate) const fn public_origin(&self) -> Option<&PublicOrigin> {
        self.public_origin.as_ref()
    }

    /// Sites whose pages may ask what callers ask.
    pub(crate) const fn cors_origins(&self) -> &Arc<[PublicOrigin]> {
        &self.cors_origins
    }

    /// When a connection of gRPC is asked to come again.
    pub const fn max_connection_age(&self) -> Duration {
        self.max_connection_age
    }

    /// Calls of one connection of gRPC at a time, streams included.
    pub const fn max_calls_per_connection(&self) -> u32 {
        self.max_calls_per_connection
    }

    /// Request bodies that are not yet complete, at all listeners.
    pub const fn unfinished(&self) -> &Unfinished {
        &self.unfinished
    }

    /// What of connections there was too much of within the last minute.
    pub(crate) fn pressure(&self) -> Option<String> {
        self.pressure.recent()
    }

    /// # Errors
    /// If other hosts could connect to the address that `key` names although nobody needs a token.
    pub fn may_listen(&self, key: &'static str, address: SocketAddr) -> Result<(), ConfigError> {
        if address.ip().to_canonical().is_loopback() || !self.is_local() {
            return Ok(());
        }
        let reason = format!(
            "{address} can be reached by other hosts: set service.access.tokens_file, or service.access.insecure: true \
             if nobody shall need a token"
        );
        Err(ConfigError::key(key, reason))
    }

    /// Takes the address that `key` names.
    ///
    /// # Errors
    /// A [`ConfigError`] if other hosts could connect although nobody needs a token; else what the system says.
    pub async fn listen(&self, key: &'static str, address: SocketAddr) -> anyhow::Result<TcpListener> {
        self.may_listen(key, address)?;
        let local = address.ip().to_canonical().is_loopback();
        let protocol = if key == "service.grpc_addr" { Protocol::Http2 } else { Protocol::Http1 };
        if !local && self.access.needs_token() && self.tls_of(protocol).is_none() {
            tracing::warn!("{key}: without service.tls tokens come to {address} unencrypted");
        }
        TcpListener::bind(address).await.with_context(|| format!("{key}: cannot listen on {address}"))
    }

    /// Accepts connections until `stop`; the listener is closed then.
    pub fn accept(
        &self,
        listener: TcpListener,
        protocol: Protocol,
        stop: CancellationToken,
    ) -> mpsc::Receiver<Connection> {
        // Ops HTTP ends its connections itself when they are idle.
        let lifetime = (protocol == Protocol::Http2).then(|| self.max_connection_age + Self::CONNECTION_GRACE);
        let (connections, per_address) = (self.max_connections, self.max_connections_per_address);
        let per_token = self.max_connections_per_token;
        let limits = Limits { connections, per_address, per_token, lifetime, unsent: self.max_untaken_bytes };
        let places = Places::new(protocol.surface(), limits, self.pressure.clone());
        ConnectionAcceptor { tls: self.tls_of(protocol).cloned(), protocol, places }.start(listener, stop)
    }

    /// The files that are followed, by name, and whether what they hold is refused.
    pub(crate) fn files(&self) -> Vec<(&'static str, Refusal)> {
        let tokens = self.access.needs_token().then(|| ("tokens", self.tokens.clone()));
        let certificates = self.has_tls().then(|| ("certificates", self.certificates.clone()));
        tokens.into_iter().chain(certificates).collect()
    }

    /// How long the certificate is valid; none without TLS.
    pub(crate) fn validity(&self) -> Option<Validity> {
        self.tls.as_ref().map(Tls::validity)
    }

    /// Follows the files of tokens and certificates for as long as the runtime lives.
    pub(crate) fn watch(&self) {
        if self.access.needs_token() {
            tokio::spawn(self.access.clone().watch(self.tokens.clone()));
        }
        if let Some(tls) = self.tls.clone() {
            tokio::spawn(tls.clone().watch(self.certificates.clone()));
            tokio::spawn(show_validity(tls));
        }
    }
}

/// Shows the certificate's time as a gauge; never returns.
async fn show_validity(tls: Tls) {
    let mut minutes = tokio::time::interval(Duration::from_secs(60));
    loop {
        minutes.tick().await;
        if let Some(left) = tls.seconds_left() {
            metrics::gauge!("interaction_certificate_expires_seconds").set(left);
        }
    }
}
