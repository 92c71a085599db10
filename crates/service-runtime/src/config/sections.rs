//! Sections `service` and `monitoring` of the configuration.

use super::networks::TrustedProxies;
use super::origin::PublicOrigin;
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Where the processes listen and how they stop.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceConfig {
    /// gRPC of interaction-server; the one address that other hosts may be meant to reach. Like every listener it
    /// refuses to be reached by them as long as nobody needs a token.
    pub grpc_addr: SocketAddr,
    /// Ops HTTP of interaction-server.
    pub http_addr: SocketAddr,
    /// Ops HTTP of sync-consumer.
    pub consumer_http_addr: SocketAddr,
    /// Ops HTTP of consistency-checker.
    pub checker_http_addr: SocketAddr,
    /// Certificates of all listeners.
    pub tls: TlsConfig,
    /// Who may do what, at all listeners.
    pub access: AccessConfig,
    /// Proxies whose word about a caller's address is believed, by `forwarded` or `x-forwarded-for`.
    pub trusted_proxies: TrustedProxies,
    /// Where browsers find the page if a proxy passes requests on under another name; absent: where they come to.
    pub public_origin: Option<PublicOrigin>,
    /// Sites whose pages may ask what callers ask, by HTTP and gRPC-Web; none: no other site's page may.
    pub cors_origins: Vec<PublicOrigin>,
    /// Most connections of one listener; for one more one of strangers or the oldest idle one gives way.
    pub max_connections: usize,
    /// Most of them from one client address, or from one /64 of IPv6; if absent a quarter of all, or 16 where that is more.
    pub max_connections_per_address: Option<usize>,
    /// The same of one token: half of them if absent, or 16 where that is more.
    pub max_connections_per_token: Option<usize>,
    /// Calls of one connection of gRPC at a time, streams included; more wait at the client.
    pub max_calls_per_connection: u32,
    /// Bytes of all requests that have not come completely; for more the oldest of them gives way.
    pub max_unfinished_bytes: usize,
    /// Bytes of a listener's answers that their callers do not take; for more the one ends that has waited for longest.
    pub max_untaken_bytes: usize,
    /// When a connection of gRPC is asked to come again, so that clients spread over new servers.
    #[serde(with = "humantime_serde")]
    pub max_connection_age: Duration,
    /// How long a stopping process may finish what it has in hand.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
    /// Threads of the runtime; one per core if absent.
    pub worker_threads: Option<usize>,
    /// Name of this process in leases and logs; `<host>-<pid>` if absent.
    pub instance: Option<String>,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            grpc_addr: local(50051),
            http_addr: local(8893),
            consumer_http_addr: local(8894),
            checker_http_addr: local(8895),
            tls: TlsConfig::default(),
            access: AccessConfig::default(),
            trusted_proxies: TrustedProxies::default(),
            public_origin: None,
            cors_origins: Vec::new(),
            max_connections: 4_096,
            max_connections_per_address: None,
            max_connections_per_token: None,
            max_calls_per_connection: 256,
            max_unfinished_bytes: 64 << 20,
            max_untaken_bytes: 64 << 20,
            max_connection_age: Duration::from_secs(600),
            drain_timeout: Duration::from_secs(20),
            worker_threads: None,
            instance: None,
        }
    }
}

impl ServiceConfig {
    /// Where ops HTTP of a program listens.
    pub fn ops_addr(&self, program: &str) -> SocketAddr {
        match program {
            "sync-consumer" => self.consumer_http_addr,
            "consistency-checker" => self.checker_http_addr,
            _ => self.http_addr,
        }
    }

    /// Most connections from one address.
    pub fn connections_per_address(&self) -> usize {
        self.max_connections_per_address.unwrap_or_else(|| (self.max_connections / 4).max(16)).min(self.max_connections)
    }

    /// Most connections of one token.
    pub fn connections_per_token(&self) -> usize {
        self.max_connections_per_token.unwrap_or_else(|| (self.max_connections / 2).max(16)).min(self.max_connections)
    }
}

/// Section `service.tls`: files in PEM. All absent: connections are plain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// The server's certificate, then those between it and its authority.
    pub cert_file: Option<PathBuf>,
    /// Its private key.
    pub key_file: Option<PathBuf>,
    /// Authorities of clients, who then need a certificate.
    pub client_ca_file: Option<PathBuf>,
    /// What of this ops HTTP does otherwise.
    pub ops: OpsTls,
}

/// TLS of ops HTTP. Where the authorities of clients are named, whoever shows no certificate is told at most how the process
/// is, and with a token its metrics: what probes and Prometheus ask.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OpsTls {
    /// The same as gRPC: without a certificate nobody is let in.
    #[default]
    Same,
    /// TLS, and probes need no certificate.
    Probes,
    /// No TLS.
    Plain,
}

impl OpsTls {
    /// Whether there is TLS, where it is configured at all.
    pub const fn is_encrypted(self) -> bool {
        !matches!(self, Self::Plain)
    }
}

/// Section `service.access`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessConfig {
    /// Tokens and their roles. Absent: nobody needs one.
    pub tokens_file: Option<PathBuf>,
    /// Other hosts may connect although nobody needs a token.
    pub insecure: bool,
}

/// What the processes say about themselves.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MonitoringConfig {
    /// A level, or directives such as `info,sync_engine=debug`; `RUST_LOG` overrides it.
    pub log_level: String,
    /// For people or for machines.
    pub log_format: LogFormat,
    /// Whether metrics are recorded and `/metrics` is served.
    pub metrics: bool,
    /// Whether `/metrics` has the names of 0.1.0, too. For this release only.
    pub old_metric_names: bool,
    /// Traces of single likes.
    pub tracing: TracingConfig,
    /// What is too much.
    pub alerts: AlertsConfig,
}

impl Default for MonitoringConfig {
    fn default() -> Self {
        Self {
            log_level: "info".to_owned(),
            log_format: LogFormat::Human,
            metrics: true,
            old_metric_names: true,
            tracing: TracingConfig::default(),
            alerts: AlertsConfig::default(),
        }
    }
}

/// Section `monitoring.alerts`: limits that health, the page and the rules of Prometheus share.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertsConfig {
    /// Whether the process judges itself.
    pub enabled: bool,
    /// Percent of comparisons that must end well.
    pub consistency_rate_threshold: f64,
    /// Percent of likes that may fail.
    pub error_rate_threshold: f64,
    /// What 99 of 100 likes take at most.
    #[serde(with = "humantime_serde")]
    pub latency_threshold: Duration,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            consistency_rate_threshold: 95.0,
            error_rate_threshold: 5.0,
            latency_threshold: Duration::from_secs(1),
        }
    }
}

/// Section `monitoring.tracing`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TracingConfig {
    /// A collector's OTLP over gRPC, such as `http://127.0.0.1:4317`; empty: nothing is traced.
    pub endpoint: String,
    /// Of so many likes one is traced; the same one by every process.
    pub one_in: u32,
}

impl Default for TracingConfig {
    fn default() -> Self {
        Self { endpoint: String::new(), one_in: 1_000 }
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line.
    Human,
    /// One JSON object a line.
    Json,
}
