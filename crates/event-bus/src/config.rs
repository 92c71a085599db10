//! Section `rabbitmq` of the configuration.

use crate::{BusError, Said};
use amq_protocol_uri::{AMQPScheme, AMQPUri};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// Where the broker is, what is declared there, and how long to wait for it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BusConfig {
    /// `amqp://user:password@host:port/vhost` or `amqps://...`; `%2f` is the default vhost.
    pub url: SecretString,
    /// Authority of the broker's certificate, in PEM, for `amqps://`; beside the public ones.
    pub ca_file: Option<PathBuf>,
    /// All exchanges and queues are named from it, so that installations can share a broker.
    pub prefix: String,
    /// Most messages that a queue holds; beyond it the broker refuses to take more.
    pub queue_max_length: u32,
    /// Deliveries of one message before the broker dead-letters it: far above what restarts cause, because failures
    /// of single events are counted in the database.
    pub delivery_limit: u32,
    /// Longest wait for the confirm of one message, and for any other answer of the broker.
    #[serde(with = "humantime_serde")]
    pub confirm_timeout: Duration,
    /// Longest wait for TCP, TLS, login and topology together.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Most messages that one consumer holds unacknowledged.
    pub prefetch: u16,
    /// The connection counts as dead after two of these without a sign of life; whole seconds.
    #[serde(with = "humantime_serde")]
    pub heartbeat: Duration,
    /// No key: what was said to the log already, by all that connect with this configuration.
    #[serde(skip)]
    pub said: Said,
}

impl Default for BusConfig {
    fn default() -> Self {
        Self {
            url: SecretString::from("amqp://guest:guest@127.0.0.1:5672/%2f"),
            ca_file: None,
            prefix: "interaction".to_owned(),
            queue_max_length: 1_000_000,
            delivery_limit: 100,
            confirm_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            prefetch: 32,
            heartbeat: Duration::from_secs(10),
            said: Said::default(),
        }
    }
}

impl BusConfig {
    const MAX_PREFIX_LEN: usize = 100;

    /// Checks what deserializing cannot; the error names the key below `rabbitmq`.
    pub fn validate(&self) -> Result<(), BusError> {
        let uri = self.uri()?;
        let wrong = |key, reason: &str| Err(BusError::Config { key, reason: reason.to_owned() });
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if self.ca_file.is_some() && uri.scheme != AMQPScheme::AMQPS {
            return wrong("ca_file", "is of use only with an amqps:// url");
        }
        self.authority()?;
        if self.prefix.is_empty() || self.prefix.len() > Self::MAX_PREFIX_LEN || !self.prefix.chars().all(named) {
            return wrong("prefix", "must be 1 to 100 letters, digits, dots, hyphens or underscores");
        }
        if self.queue_max_length == 0 {
            return wrong("queue_max_length", "must be at least 1");
        }
        if self.delivery_limit == 0 {
            return wrong("delivery_limit", "must be at least 1");
        }
        if self.prefetch == 0 {
            return wrong("prefetch", "must be at least 1: 0 would mean no bound");
        }
        if self.confirm_timeout.is_zero() {
            return wrong("confirm_timeout", "must be longer than 0");
        }
        if self.connect_timeout.is_zero() {
            return wrong("connect_timeout", "must be longer than 0");
        }
        if !(1..=u64::from(u16::MAX)).contains(&self.heartbeat.as_secs()) {
            return wrong("heartbeat", "must be at least 1s and at most 65535s");
        }
        Ok(())
    }

    /// The authority that is configured, in PEM.
    pub(crate) fn authority(&self) -> Result<Option<String>, BusError> {
        let Some(file) = &self.ca_file else { return Ok(None) };
        let named = |error| BusError::Config { key: "ca_file", reason: format!("{}: {error}", file.display()) };
        std::fs::read_to_string(file).map(Some).map_err(named)
    }

    /// The parsed URL with the heartbeat in it. Parse errors do not repeat the URL, which holds a password.
    pub(crate) fn uri(&self) -> Result<AMQPUri, BusError> {
        let mut uri: AMQPUri = self.url.expose_secret().parse().map_err(|_| BusError::Config {
            key: "url",
            reason: "is not a valid amqp:// or amqps:// url".to_owned(),
        })?;
        uri.query.heartbeat = Some(u16::try_from(self.heartbeat.as_secs()).unwrap_or(u16::MAX));
        Ok(uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        BusConfig::default().validate().unwrap();
    }

    #[test]
    fn bad_values_name_their_key_and_no_secret() {
        let bad = BusConfig { url: SecretString::from("http://user:hunter2@nowhere"), ..Default::default() };
        let error = bad.validate().unwrap_err().to_string();
        assert!(error.starts_with("url: ") && !error.contains("hunter2"), "{error}");
        assert!(!format!("{bad:?}").contains("hunter2"));

        let bad = BusConfig { prefetch: 0, ..Default::default() };
        assert!(bad.validate().unwrap_err().to_string().starts_with("prefetch: "));
        let bad = BusConfig { prefix: "a b".to_owned(), ..Default::default() };
        assert!(bad.validate().unwrap_err().to_string().starts_with("prefix: "));
        let bad = BusConfig { heartbeat: Duration::from_millis(10), ..Default::default() };
        assert!(bad.validate().unwrap_err().to_string().starts_with("heartbeat: "));
    }
}
