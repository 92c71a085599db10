//! The `database` section of the configuration.

use crate::sql::place::Place;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// Where the database is and how much of it to use. The url is a secret and never printed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseConfig {
    /// `mysql://user:password@host:port/database` or `sqlite:path`. Without a user it is root.
    pub url: SecretString,
    /// The file that the url came from, if it came from one: it is read again when it changes.
    pub url_file: Option<PathBuf>,
    /// `host:port` of every server, one of which writes; user, password, database and TLS are those of the url, whose own address
    /// is not used. MySQL and MariaDB only.
    pub hosts: Vec<String>,
    /// `host:port` of replicas that lists, audits, reports and rankings are read from; user, password, database and TLS are those of
    /// the url. MySQL and MariaDB only.
    pub replicas: Vec<String>,
    /// How old what is read from a replica may be: one that is further behind is not read from.
    #[serde(with = "humantime_serde")]
    pub replica_max_lag: Duration,
    /// Whether a program that starts applies pending migrations. If not, it waits until somebody else has.
    pub auto_migrate: bool,
    /// Most connections, at least 1.
    pub max_connections: u32,
    /// Connections kept open when idle.
    pub min_connections: u32,
    /// Longest wait for an answer to a ping, connecting included.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Longest wait for a connection, whether free or new.
    #[serde(with = "humantime_serde")]
    pub acquire_timeout: Duration,
    /// Longest time for one attempt at one call, waiting for a connection included.
    #[serde(with = "humantime_serde")]
    pub query_timeout: Duration,
    /// Longest wait for a row that another transaction holds.
    #[serde(with = "humantime_serde")]
    pub lock_timeout: Duration,
    /// A connection that says nothing for so long is closed by the database, and its transaction with it: a process that is
    /// stopped, or cut off, in the middle of one must not keep rows locked.
    #[serde(with = "humantime_serde")]
    pub silence_limit: Duration,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            url: "mysql://root@127.0.0.1:3306/interaction".into(),
            url_file: None,
            hosts: Vec::new(),
            replicas: Vec::new(),
            replica_max_lag: Duration::from_secs(5),
            auto_migrate: true,
            max_connections: 16,
            min_connections: 0,
            connect_timeout: Duration::from_secs(3),
            acquire_timeout: Duration::from_secs(5),
            query_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(5),
            silence_limit: Duration::from_secs(30),
        }
    }
}

impl DatabaseConfig {
    /// Checks what deserializing cannot; the error names the key.
    pub fn validate(&self) -> Result<(), String> {
        let place = Place::read(self.url.expose_secret());
        place.and_then(|place| place.is_written_to()).map_err(|reason| format!("database.url: {reason}"))
    }

    /// Checks the lists of servers; the error names the key.
    pub fn validate_hosts(&self) -> Result<(), String> {
        for (key, hosts) in [("database.hosts", &self.hosts), ("database.replicas", &self.replicas)] {
            let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
            domain::addresses::check(key, &hosts)?;
            if !hosts.is_empty() && self.url.expose_secret().starts_with("sqlite:") {
                return Err(format!("{key}: are of no use with a sqlite: url"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_right_or_name_their_key() {
        let checked = |url: &str, hosts: &[&str]| {
            let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
            DatabaseConfig { url: url.into(), hosts, ..DatabaseConfig::default() }.validate_hosts()
        };
        checked("mysql://h/d", &["a:1", "[::1]:2"]).unwrap();
        checked("sqlite:x", &[]).unwrap();
        for (url, hosts) in [("mysql://h/d", &["a"][..]), ("sqlite:x", &["a:1"])] {
            assert!(checked(url, hosts).unwrap_err().starts_with("database.hosts: "));
            let replicas = hosts.iter().map(|host| (*host).to_owned()).collect();
            let config = DatabaseConfig { url: url.into(), replicas, ..DatabaseConfig::default() };
            assert!(config.validate_hosts().unwrap_err().starts_with("database.replicas: "));
        }
    }
}
