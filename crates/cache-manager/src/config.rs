//! How to reach Redis.

use crate::addresses;
use domain::{Login, StoreUrl};
use secrecy::{ExposeSecret, SecretString};
use std::path::PathBuf;
use std::time::Duration;

#[cfg(feature = "redis")]
use {
    crate::RedisCache,
    deadpool_redis::redis::{
        Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo, RedisError,
        TlsCertificates,
    },
    domain::addresses::join,
    domain::cache::{CacheError, CacheRules},
};

/// Where Redis listens if the url does not say it.
#[cfg(feature = "redis")]
const PORT: u16 = 6379;

/// Section `redis` of the configuration.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedisConfig {
    /// `redis://user:password@host:port/number`, or `rediss://` for TLS.
    pub url: SecretString,
    /// The file that the url came from, if it came from one: it is read again when it changes.
    pub url_file: Option<PathBuf>,
    /// `host:port` of every node, one of which is the primary; user, password, database and TLS are those of the url, whose own
    /// address is not used.
    pub nodes: Vec<String>,
    /// The nodes are those of a Redis Cluster: any of them lead to all primaries, each of which has some of the shards. Without
    /// nodes the url leads there.
    pub cluster: bool,
    /// Instead: Sentinels that know the primary, each as `host:port` or `user:password@host:port`.
    pub sentinels: Vec<SecretString>,
    /// What Sentinels call the primary.
    pub master: String,
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
    /// A like is answered when so many replicas have it, too.
    pub confirm_replicas: u32,
    /// Longest wait for them; a call whose time is over earlier waits no longer.
    #[serde(with = "humantime_serde")]
    pub confirm_timeout: Duration,
    /// What becomes of an answer that they did not confirm in time.
    pub unconfirmed: Unconfirmed,
    /// No key: user and password that are valid instead of those of the url; shared by all clones.
    #[serde(skip)]
    pub login: Login,
}

/// See [`RedisConfig::unconfirmed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unconfirmed {
    /// The caller is told to repeat the call; the like may take effect.
    Refuse,
    /// It is given, and counted.
    Answer,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: SecretString::from("redis://127.0.0.1:6379"),
            url_file: None,
            nodes: Vec::new(),
            cluster: false,
            sentinels: Vec::new(),
            master: "mymaster".to_owned(),
            ca_file: None,
            key_prefix: String::new(),
            pool_size: 8,
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(2),
            confirm_replicas: 0,
            confirm_timeout: Duration::from_millis(500),
            unconfirmed: Unconfirmed::Refuse,
            login: Login::default(),
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
        addresses::validate(self)?;
        let place = self.place().map_err(|reason| format!("redis.url: {reason}"))?;
        if self.cluster && place.database != 0 {
            return Err("redis.url: a Redis Cluster has database 0 only".to_owned());
        }
        if self.confirm_replicas > 0 && self.confirm_timeout > self.response_timeout / 2 {
            // What waits behind it on the same connection has an answer in time, too.
            return Err("redis.confirm_timeout: must not be longer than half of redis.response_timeout".to_owned());
        }
        let Some(file) = &self.ca_file else { return Ok(()) };
        if !place.tls {
            return Err("redis.ca_file: is of use only with a rediss:// url".to_owned());
        }
        std::fs::File::open(file).map_err(|error| format!("redis.ca_file: {}: {error}", file.display()))?;
        Ok(())
    }

    /// A client with the authority that is configured; it looks the host's name up whenever it connects.
    #[cfg(feature = "redis")]
    pub fn client(&self) -> Result<Client, RedisError> {
        let unusable = |reason| RedisError::from((ErrorKind::InvalidClientConfig, "redis.url", reason));
        let place = self.place().map_err(unusable)?;
        let (login, tls) = (place.login(), place.tls);
        let (host, port) = (place.url.host, place.url.port.unwrap_or(PORT));
        let address = if tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let place = address.into_connection_info()?.set_redis_settings(login);
        let Some(file) = &self.ca_file else { return Client::open(place) };
        let certificates = TlsCertificates { client_tls: None, root_cert: Some(std::fs::read(file)?) };
        Client::build_with_tls(place, certificates)
    }

    /// The same for another node, `host:port`.
    #[cfg(feature = "redis")]
    pub fn client_at(&self, address: &str) -> Result<Client, RedisError> {
        crate::primary::client_at(self.client()?.get_connection_info(), address)
    }

    /// With whom connections are opened now.
    #[cfg(feature = "redis")]
    pub(crate) fn settings(&self) -> Result<RedisConnectionInfo, RedisError> {
        let unusable = |reason| RedisError::from((ErrorKind::InvalidClientConfig, "redis.url", reason));
        self.place().map(|place| place.login()).map_err(unusable)
    }

    /// The same with another url, which may differ in user and password only, and that url.
    #[cfg(feature = "redis")]
    pub(crate) fn with_url(&self, url: SecretString) -> Result<(Self, StoreUrl), String> {
        let next = Self { url, login: Login::default(), ..self.clone() };
        next.validate()?;
        let url = next.place()?.url;
        if !self.place()?.url.is_same_place(&url) {
            let reason = "leads to another place: only user and password can change without a restart";
            return Err(format!("redis.url: {reason}"));
        }
        Ok((next, url))
    }

    /// Nodes of the cluster that are known from here.
    #[cfg(feature = "redis")]
    pub(crate) fn members(&self) -> Vec<String> {
        if !self.nodes.is_empty() {
            return self.nodes.clone();
        }
        let place = self.place().ok();
        place.map(|place| join(&place.url.host, place.url.port.unwrap_or(PORT))).into_iter().collect()
    }

    fn place(&self) -> Result<Place, String> {
        let mut url = StoreUrl::parse(self.url.expose_secret(), &["redis", "rediss", "valkey", "valkeys"])?;
        self.login.put_into(&mut url);
        let ssl = "TLS is the scheme rediss://, and its authority is redis.ca_file";
        let elsewhere = [
            ("db", "the database is the path, redis://host:6379/1"),
            ("ssl", ssl),
            ("tls", ssl),
            ("ssl_cert_reqs", ssl),
            ("ssl_ca_certs", ssl),
            ("timeout", "see redis.connect_timeout and redis.response_timeout"),
            ("socket_timeout", "see redis.response_timeout"),
            ("password", "redis://user:password@host"),
        ];
        url.allow_options(&["protocol"], &elsewhere)?;
        let resp3 = match url.option(&["protocol"]) {
            None | Some("2" | "resp2") => false,
            Some("3" | "resp3") => true,
            Some(_) => return Err("option protocol: must be resp2 or resp3".to_owned()),
        };
        let database = match url.path.as_deref().map(|path| path.trim_end_matches('/')) {
            None | Some("") => 0,
            Some(number) => match number.parse::<u16>() {
                Ok(number) => number.into(),
                Err(_) => return Err("has a path that is no number of a database, such as /0".to_owned()),
            },
        };
        if url.user.is_some() && url.password.is_none() {
            return Err("has a user and no password: a password alone is written redis://:password@host".to_owned());
        }
        Ok(Place { tls: matches!(url.scheme.as_str(), "rediss" | "valkeys"), url, database, resp3 })
    }
}

/// What a url says.
#[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "without a client it is only checked"))]
struct Place {
    url: StoreUrl,
    tls: bool,
    database: i64,
    resp3: bool,
}

#[cfg(feature = "redis")]
impl Place {
    fn login(&self) -> RedisConnectionInfo {
        let mut login = RedisConnectionInfo::default().set_db(self.database);
        if let Some(user) = &self.url.user {
            login = login.set_username(user);
        }
        if let Some(password) = &self.url.password {
            login = login.set_password(password);
        }
        if self.resp3 {
            login = login.set_protocol(ProtocolVersion::RESP3);
        }
        login
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(url: &str) -> Result<(), String> {
        RedisConfig { url: SecretString::from(url), ..RedisConfig::default() }.validate()
    }

    #[test]
    fn addresses_of_redis_are_right_or_name_the_key() {
        for url in [
            "redis://127.0.0.1:6379",
            "redis://h/",
            "redis://h/15",
            "rediss://me:p%40ss@[::1]:1/2?protocol=resp3",
            "valkeys://:p%2Fw@h",
        ] {
            checked(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        }
        for (url, said) in [
            ("127.0.0.1:6379", "must begin with redis://"),
            ("redis:///0", "names no host"),
            ("redis://sesame@h", "a user and no password"),
            ("redis://:sesame@h/zero", "no number of a database"),
            ("redis://:sesame@h/-1", "no number of a database"),
            ("redis://:sesame@h/99999", "no number of a database"),
            ("redis://:sesame@h/0?protocol=1", "option protocol: must be"),
            ("redis://:sesame@h?db=1", "the database is the path"),
            ("redis://:sesame@h?tls=true", "rediss://"),
            ("redis://:sesame@h?retries=1", "has unknown option retries: there are protocol"),
            ("rediss://:sesame@h/#insecure", "has a #"),
            ("unix:///run/redis.sock", "must begin with"),
        ] {
            let error = checked(url).unwrap_err();
            assert!(error.starts_with("redis.url: ") && error.contains(said), "{url}: {error}");
            assert!(!error.contains("sesame"), "{error}");
        }
    }

    #[test]
    fn a_wait_for_replicas_leaves_time_for_the_answer() {
        let of = |confirm_replicas, millis| {
            let confirm_timeout = Duration::from_millis(millis);
            RedisConfig { confirm_replicas, confirm_timeout, ..RedisConfig::default() }.validate()
        };
        of(1, 1_000).unwrap();
        of(0, 1_001).unwrap();
        assert!(of(1, 1_001).unwrap_err().starts_with("redis.confirm_timeout: "));
    }

    #[test]
    fn a_cluster_has_one_database_and_no_sentinels() {
        let of = |url: &str, sentinels: &[&str]| {
            let sentinels = sentinels.iter().map(|sentinel| (*sentinel).into()).collect();
            RedisConfig { url: url.into(), cluster: true, sentinels, ..RedisConfig::default() }.validate()
        };
        of("redis://h", &[]).unwrap();
        assert!(of("redis://h/1", &[]).unwrap_err().starts_with("redis.url: "));
        assert!(of("redis://h", &["s:1"]).unwrap_err().starts_with("redis.sentinels: "));
    }

    #[cfg(feature = "redis")]
    #[test]
    fn the_client_is_given_what_the_url_says() {
        let url = SecretString::from("rediss://me:p%40s:s@[::1]/3");
        let client = RedisConfig { url, ..RedisConfig::default() }.client().unwrap();
        let told = client.get_connection_info();
        let ConnectionAddr::TcpTls { host, port, insecure, .. } = told.addr() else { panic!("no TLS") };
        assert_eq!((host.as_str(), *port, *insecure), ("::1", 6379, false));
        let login = told.redis_settings();
        assert_eq!((login.username(), login.password(), login.db()), (Some("me"), Some("p@s:s"), 3));
    }
}
