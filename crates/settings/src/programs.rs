//! Which programs a configuration starts: by the same checks that each of them makes.

use crate::Settings;
use service_runtime::{ConfigError, ServiceConfig, admit};
use std::net::SocketAddr;

/// What is started with a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// interaction-server.
    Server,
    /// sync-consumer.
    Consumer,
    /// consistency-checker.
    Checker,
    /// standalone.
    Standalone,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Server, Self::Consumer, Self::Checker, Self::Standalone];

    /// The name of its binary.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "interaction-server",
            Self::Consumer => "sync-consumer",
            Self::Checker => "consistency-checker",
            Self::Standalone => "standalone",
        }
    }

    /// Where it listens, by key.
    pub fn listeners(self, service: &ServiceConfig) -> Vec<(&'static str, SocketAddr)> {
        match self {
            Self::Server | Self::Standalone => {
                vec![("service.grpc_addr", service.grpc_addr), ("service.http_addr", service.http_addr)]
            }
            Self::Consumer => vec![("service.consumer_http_addr", service.consumer_http_addr)],
            Self::Checker => vec![("service.checker_http_addr", service.checker_http_addr)],
        }
    }

    /// Whether a file that gives these keys is for it: one with stores of its own is for the three programs of a deployment,
    /// one with `embedded_cache` for standalone, any other for all.
    pub fn is_meant(self, keys: &[String]) -> bool {
        let gives = |section: &str| keys.iter().any(|key| key.starts_with(section));
        let embedded = gives("embedded_cache.");
        let stores = gives("redis.") || gives("rabbitmq.") || gives("database.");
        match self {
            Self::Standalone => embedded || !stores,
            _ => stores || !embedded,
        }
    }
}

/// Whether only one of two can listen. Port 0 is any that is free.
fn same_place(one: SocketAddr, other: SocketAddr) -> bool {
    let all = |address: SocketAddr| address.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && (one.ip() == other.ip() || all(one) || all(other))
}

impl Settings {
    /// Whether a program gets past its configuration. Needs a runtime around it.
    pub async fn starts(&self, program: Program, rust_log: Option<&str>) -> Result<(), ConfigError> {
        let mut settings = self.clone();
        if cfg!(not(feature = "distributed")) && program != Program::Standalone {
            // They have an exporter, whatever is built in here.
            settings.monitoring.tracing.endpoint.clear();
        }
        let gate = admit(&settings, rust_log)?;
        let listeners = program.listeners(&self.service);
        for (at, (key, address)) in listeners.iter().enumerate() {
            gate.may_listen(key, *address)?;
            if let Some((other, _)) = listeners[..at].iter().find(|(_, other)| same_place(*address, *other)) {
                return Err(ConfigError::key(*key, format!("{address} is the address of {other}, too")));
            }
        }
        #[cfg(feature = "distributed")]
        if program != Program::Standalone {
            // Connects to nobody.
            self.stores().await.map_err(|error| ConfigError::key("configuration", format!("{error:#}")))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_listeners_at_one_address_do_not_start() {
        let mut settings = Settings::default();
        settings.service.http_addr = settings.service.grpc_addr;
        let refused = settings.starts(Program::Standalone, None).await.map_err(|error| error.to_string());
        assert_eq!(
            refused,
            Err("service.http_addr: 127.0.0.1:50051 is the address of service.grpc_addr, too".to_owned())
        );
        for any in ["127.0.0.1:0", "127.0.0.1:8893"] {
            let Ok(any) = any.parse() else { unreachable!("it is an address") };
            settings.service.http_addr = any;
            settings.service.grpc_addr.set_port(if settings.service.http_addr.port() == 0 { 0 } else { 50_051 });
            assert!(settings.starts(Program::Standalone, None).await.is_ok(), "{any}");
        }
    }
}
