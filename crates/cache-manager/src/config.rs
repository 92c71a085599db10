//! How to reach Redis.

use secrecy::{ExposeSecret, SecretString};
use std::path::PathBuf;
use std::time::Duration;

#[cfg(feature = "redis")]
use {
    crate::RedisCache,
    deadpool_redis::redis::{Client, RedisError, TlsCertificates},
    domain::cache::{CacheError, CacheRules},
};

/// Section `redis` of the configuration.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedisConfig {
    /// `redis://[user:password@]host:port/db`, or `rediss://` for TLS.
    pub url: SecretString,
    /// Authority of the server's certificate, in PEM, for `rediss://`; if absent, the public ones.
    pub ca_file: Option<PathBuf>,
    /// Put before every key, so that several systems can share one Redis.
    pub key_prefix: String,
    /// Connections for background work; likes use one of their own.
    pub pool_size: usize,
    /// Longest wait for a connection.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Longest wait for an answer.
    #[serde(with = "humantime_serde")]
    pub response_timeout: Duration,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: SecretString::from("redis://127.0.0.1:6379"),
            ca_file: None,
            key_prefix: String::new(),
            pool_size: 8,
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(2),
        }
    }
}

impl RedisConfig {
    /// Builds the cache; connects on first use.
    #[cfg(feature = "redis")]
    pub fn build(&self, rules: CacheRules) -> Result<RedisCache, CacheError> {
        RedisCache::new(self, rules)
    }

    /// Checks what deserializing cannot; the error names the key.
    pub fn validate(&self) -> Result<(), String> {
        let Some(file) = &self.ca_file else { return Ok(()) };
        if !self.exposed_url().starts_with("rediss://") {
            return Err("redis.ca_file: is of use only with a rediss:// url".to_owned());
        }
        std::fs::File::open(file).map_err(|error| format!("redis.ca_file: {}: {error}", file.display()))?;
        Ok(())
    }

    /// A client with the authority that is configured.
    #[cfg(feature = "redis")]
    pub(crate) fn client(&self) -> Result<Client, RedisError> {
        let Some(file) = &self.ca_file else { return Client::open(self.exposed_url()) };
        let certificates = TlsCertificates { client_tls: None, root_cert: Some(std::fs::read(file)?) };
        Client::build_with_tls(self.exposed_url(), certificates)
    }

    fn exposed_url(&self) -> &str {
        self.url.expose_secret()
    }
}
