//! Section `rabbitmq` of the configuration.

use crate::{BusError, LogConfig, LogState, LogStatus, Said, Turn};
use amq_protocol_uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use domain::codec::MAX_BODY_LEN;
use domain::{Login, StoreUrl};
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
    /// The file that the url came from, if it came from one: it is read again when it changes.
    pub url_file: Option<PathBuf>,
    /// `host:port` of the nodes of a cluster, in the order in which they are tried; user, password, virtual host and TLS are
    /// those of the url, whose own address is not used.
    pub hosts: Vec<String>,
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
    /// The redo log.
    pub log: LogConfig,
    /// What others are told of committed likes.
    pub changes: ChangesConfig,
    /// No key: of a longer body only the beginning is taken in.
    #[serde(skip)]
    pub longest_body: usize,
    /// No key: what this process knows of the log.
    #[serde(skip)]
    pub log_status: LogStatus,
    /// No key: what was said to the log already, by all that connect with this configuration.
    #[serde(skip)]
    pub said: Said,
    /// No key: user and password that are valid instead of those of the url; shared by all clones.
    #[serde(skip)]
    pub login: Login,
    /// No key: which of `hosts` answered last.
    #[serde(skip)]
    pub turn: Turn,
}

/// `rabbitmq.changes`: an exchange where others hear of what was committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChangesConfig {
    /// Whether changes are published, and noted where they cannot be: the same for all programs.
    pub enabled: bool,
}

impl Default for BusConfig {
    fn default() -> Self {
        Self {
            url: SecretString::from("amqp://guest:guest@127.0.0.1:5672/%2f"),
            url_file: None,
            hosts: Vec::new(),
            ca_file: None,
            prefix: "interaction".to_owned(),
            queue_max_length: 1_000_000,
            delivery_limit: 100,
            confirm_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            prefetch: 32,
            heartbeat: Duration::from_secs(10),
            log: LogConfig::default(),
            changes: ChangesConfig::default(),
            longest_body: MAX_BODY_LEN,
            log_status: LogStatus::default(),
            said: Said::default(),
            login: Login::default(),
            turn: Turn::default(),
        }
    }
}

impl BusConfig {
    const MAX_PREFIX_LEN: usize = 100;

    /// Checks what deserializing cannot; the error names the key below `rabbitmq`.
    pub fn validate(&self) -> Result<(), BusError> {
        let uri = self.uri()?;
        let hosts: Vec<&str> = self.hosts.iter().map(String::as_str).collect();
        domain::addresses::check("hosts", &hosts).map_err(|error| BusError::Config {
            key: "hosts",
            reason: error.trim_start_matches("hosts: ").to_owned(),
        })?;
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
        self.log.check().map_err(|(key, reason)| BusError::Config { key, reason: reason.to_owned() })
    }

    /// From now on connections are opened with user and password of this url, if the broker takes them; those that are open stay.
    /// It must lead to the same place as before.
    #[cfg(feature = "amqp")]
    pub async fn renew_login(&self, url: SecretString) -> Result<(), BusError> {
        let next = Self { url, login: Login::default(), ..self.clone() };
        next.validate()?;
        let wrong = |reason: String| BusError::Config { key: "url", reason };
        let (before, after) = (self.address().map_err(wrong)?, next.address().map_err(wrong)?);
        if !before.is_same_place(&after) {
            return Err(wrong(
                "leads to another place: only user and password can change without a restart".to_owned(),
            ));
        }
        crate::connection::Link::prove(&next).await?;
        self.login.renew(&after);
        Ok(())
    }

    /// How the redo log is, as far as this process knows.
    pub fn log_state(&self) -> LogState {
        if self.log.enabled { self.log_status.get() } else { LogState::Off }
    }

    /// Longest wait for a confirm that the redo log has a part in.
    #[cfg(feature = "amqp")]
    pub(crate) fn log_confirm_timeout(&self) -> Duration {
        self.log.confirm_timeout.min(self.confirm_timeout / 2)
    }

    /// Where to connect: what the URL says, at each of the hosts.
    #[cfg(feature = "amqp")]
    pub(crate) fn uris(&self) -> Result<Vec<AMQPUri>, BusError> {
        let uri = self.uri()?;
        if self.hosts.is_empty() {
            return Ok(vec![uri]);
        }
        let at = |address: &String| {
            let (host, port) = domain::addresses::split(address)?;
            let mut uri = uri.clone();
            (uri.authority.host, uri.authority.port) = (host.to_owned(), port);
            Some(uri)
        };
        Ok(self.hosts.iter().filter_map(at).collect())
    }

    /// The authority that is configured, in PEM.
    pub(crate) fn authority(&self) -> Result<Option<String>, BusError> {
        let Some(file) = &self.ca_file else { return Ok(None) };
        let named = |error| BusError::Config { key: "ca_file", reason: format!("{}: {error}", file.display()) };
        std::fs::read_to_string(file).map(Some).map_err(named)
    }

    /// What the URL says, with the heartbeat. Read here: the client library goes to localhost where it understands no host.
    pub(crate) fn uri(&self) -> Result<AMQPUri, BusError> {
        self.read_url().map_err(|reason| BusError::Config { key: "url", reason })
    }

    fn address(&self) -> Result<StoreUrl, String> {
        let mut url = StoreUrl::parse(self.url.expose_secret(), &["amqp", "amqps"])?;
        self.login.put_into(&mut url);
        Ok(url)
    }

    fn read_url(&self) -> Result<AMQPUri, String> {
        let url = self.address()?;
        let authority = "the authority is rabbitmq.ca_file, and amqps:// always verifies";
        let elsewhere = [
            ("heartbeat", "see rabbitmq.heartbeat"),
            ("connection_timeout", "see rabbitmq.connect_timeout"),
            ("cacertfile", authority),
            ("verify", authority),
            ("certfile", "certificates of clients are not supported"),
            ("keyfile", "certificates of clients are not supported"),
        ];
        url.allow_options(&["frame_max", "channel_max", "auth_mechanism"], &elsewhere)?;
        let text = self.url.expose_secret();
        let behind = text.split_once("://").map_or("", |(_, rest)| rest).split('?').next().unwrap_or_default();
        let path = behind.split_once('/').map_or("", |(_, path)| path);
        // One alone is the default vhost, and can be nothing else.
        if path != "/" && path.contains('/') {
            return Err("has a slash in its vhost: there it is written %2F".to_owned());
        }
        let vhost = match url.path.as_deref() {
            None => "/".to_owned(),
            Some("") => return Err("ends in a slash, which names the empty vhost: did you mean /%2f?".to_owned()),
            Some(vhost) => vhost.to_owned(),
        };
        let userinfo = match (url.user.clone(), url.password.clone()) {
            (None, None) => AMQPUserInfo::default(),
            (Some(username), Some(password)) => AMQPUserInfo { username, password },
            (Some(_), None) => return Err("has a user and no password".to_owned()),
            (None, Some(_)) => return Err("has a password and no user".to_owned()),
        };
        let scheme = if url.scheme == "amqps" { AMQPScheme::AMQPS } else { AMQPScheme::AMQP };
        let mechanism = url.option(&["auth_mechanism"]).map(|name| {
            name.parse().map_err(|_| "option auth_mechanism: must be plain, amqplain, external or anonymous".to_owned())
        });
        let query = AMQPQueryString {
            frame_max: number(&url, "frame_max", 4_096)?,
            channel_max: number(&url, "channel_max", 1)?.and_then(|most| u16::try_from(most).ok()),
            heartbeat: Some(u16::try_from(self.heartbeat.as_secs()).unwrap_or(u16::MAX)),
            connection_timeout: None,
            auth_mechanism: mechanism.transpose()?,
        };
        let port = url.port.unwrap_or_else(|| scheme.default_port());
        Ok(AMQPUri { authority: AMQPAuthority { userinfo, host: url.host, port }, scheme, vhost, query })
    }
}

/// The number that an option says.
fn number(url: &StoreUrl, name: &str, least: u32) -> Result<Option<u32>, String> {
    let most = if name == "channel_max" { u16::MAX.into() } else { 1 << 20 };
    match url.option(&[name]).map(|text| text.parse::<u32>().ok().filter(|n| (least..=most).contains(n))) {
        Some(None) => Err(format!("option {name}: must be {least} to {most}")),
        found => Ok(found.flatten()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        BusConfig::default().validate().unwrap();
    }

    fn read(url: &str) -> Result<AMQPUri, String> {
        let config = BusConfig { url: SecretString::from(url), ..BusConfig::default() };
        config.uri().map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_of_brokers_are_right_or_name_the_key() {
        for (url, host, port, user, password, vhost) in [
            ("amqp://h", "h", 5672, "guest", "guest", "/"),
            ("amqp://h/%2f", "h", 5672, "guest", "guest", "/"),
            ("amqp://h/%2F", "h", 5672, "guest", "guest", "/"),
            ("amqp://h//", "h", 5672, "guest", "guest", "/"),
            ("amqps://me:p%40s%2Fs@[::1]/likes", "::1", 5671, "me", "p@s/s", "likes"),
            ("amqp://me:p@ss:word@[2001:db8::1]:1/a%2Fb", "2001:db8::1", 1, "me", "p@ss:word", "a/b"),
            ("amqp://me:@h/x?frame_max=131072&channel_max=2047&auth_mechanism=amqplain", "h", 5672, "me", "", "x"),
        ] {
            let uri = read(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            let AMQPAuthority { userinfo: AMQPUserInfo { username, password: secret }, host: at, port: number } =
                uri.authority;
            let found = (at.as_str(), number, username.as_str(), secret.as_str(), uri.vhost.as_str());
            assert_eq!(found, (host, port, user, password, vhost), "{url}");
            assert_eq!(uri.query.heartbeat, Some(10), "{url}");
        }
        for (url, said) in [
            ("amqp://", "names no host"),
            ("amqp:///%2f", "names no host"),
            ("amqp://me:sesame@/%2f", "names no host"),
            ("amqp://me:sesame@h/", "did you mean /%2f?"),
            ("amqp://me:sesame@h/?frame_max=5000", "did you mean /%2f?"),
            ("amqp://sesame@h/%2f", "a user and no password"),
            ("amqp://:sesame@h/%2f", "a password and no user"),
            ("h:5672", "must begin with amqp:// or amqps://"),
            ("rabbitmq://h", "must begin with amqp:// or amqps://"),
            ("amqp://me:sesame@h:5672000/%2f", "port: must be"),
            ("amqp://me:sesame@h/%2f?heartbeat=5", "see rabbitmq.heartbeat"),
            ("amqps://me:sesame@h/%2f?cacertfile=x", "rabbitmq.ca_file"),
            ("amqp://me:sesame@h/%2f?frame=5", "has unknown option frame"),
            ("amqp://me:sesame@h/%2f?frame_max=5", "option frame_max: must be 4096 to 1048576"),
            ("amqp://me:sesame@h/%2f?channel_max=70000", "option channel_max: must be 1 to 65535"),
            ("amqp://me:sesame@h/%2f?auth_mechanism=guess", "option auth_mechanism"),
        ] {
            let error = read(url).map(|uri| format!("accepted: {}", uri.authority.host)).unwrap_err();
            assert!(error.starts_with("url: ") && error.contains(said), "{url}: {error}");
            assert!(!error.contains("sesame"), "{error}");
        }
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
