//! A running system looked at from outside: by gRPC through `syncctl`, by HTTP, and in both stores with their own clients.

mod grpc_health;
mod resource;
mod smoke;
mod walk;

pub(crate) use smoke::verify;
pub(crate) use walk::walk;

use crate::command::{Environment, is_installed, outcome, output, said};
use crate::http;
use crate::workspace::{Profile, root};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::env;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

const ADDRESSES: &[&str] =
    &["GRPC_ADDR", "HTTP_ADDR", "CONSUMER_HTTP_ADDR", "CHECKER_HTTP_ADDR", "DATABASE_URL", "REDIS_URL"];

pub(crate) struct System {
    addresses: BTreeMap<String, String>,
    environment: Environment,
    syncctl: PathBuf,
    redis_prefix: String,
    /// `TOKEN`, which `syncctl` takes by itself.
    token: Option<String>,
    database: Database,
    /// How long an event may take to arrive.
    patience: Duration,
}

impl System {
    /// Finds it by `RUN_DIR`, where `scripts/up.sh` wrote down the addresses; or, where `GRPC_ADDR` is set, by the
    /// environment alone.
    ///
    /// # Errors
    ///
    /// If an address is missing, or a program that the probes need.
    pub(crate) fn find() -> Result<Self> {
        let mut addresses = BTreeMap::new();
        if variable("GRPC_ADDR").is_none() {
            let run_dir = env::var_os("RUN_DIR").map_or_else(|| root().join(".run"), PathBuf::from);
            let known = std::fs::read_to_string(run_dir.join("env")).ok().with_context(|| {
                let run_dir = run_dir.display();
                format!("nothing runs in {run_dir}: scripts/up.sh first, or set GRPC_ADDR and the other addresses")
            })?;
            let lines = known.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
            addresses.extend(lines.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        for name in ADDRESSES {
            if !addresses.contains_key(*name) {
                let address = variable(name);
                let address =
                    address.with_context(|| format!("{name} is not known: is only a part of the system running?"))?;
                addresses.insert((*name).to_owned(), address);
            }
        }
        let syncctl = match env::var_os("SYNCCTL") {
            Some(program) => program.into(),
            None => Profile::from_environment(Profile::Release)?.program("syncctl"),
        };
        ensure!(syncctl.is_file(), "{} is missing: cargo build --release -p syncctl", syncctl.display());
        ensure!(is_installed("redis-cli"), "redis-cli is missing: apt-get install redis-tools");
        let mut environment = Environment::default();
        environment.set("LC_ALL", "C");
        environment.set("GRPC_ADDR", addresses["GRPC_ADDR"].clone());
        let patience = variable("PATIENCE").map_or(Ok(20), |seconds| seconds.parse()).context("PATIENCE")?;
        Ok(Self {
            database: Database::from_url(&addresses["DATABASE_URL"])?,
            addresses,
            environment,
            syncctl,
            redis_prefix: variable("REDIS_PREFIX").unwrap_or_default(),
            token: variable("TOKEN"),
            patience: Duration::from_secs(patience),
        })
    }

    fn address(&self, name: &str) -> &str {
        self.addresses.get(name).map_or("", String::as_str)
    }

    fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    fn syncctl(&self, arguments: &[&str]) -> Command {
        let mut command = self.environment.command(&self.syncctl);
        command.args(arguments);
        command
    }

    /// What `syncctl` says, and whether it succeeded.
    fn ask(&self, arguments: &[&str]) -> (bool, String) {
        match outcome(&mut self.syncctl(arguments)) {
            Ok(output) => (output.status.success(), said(&output)),
            Err(error) => (false, format!("{error:#}")),
        }
    }

    fn redis(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.environment.command("timeout");
        // redis-cli takes the user of `:password@` for one without a name.
        let url = self.address("REDIS_URL").replacen("://:", "://default:", 1);
        command.args(["10", "redis-cli", "--no-auth-warning", "-u", &url]).args(arguments);
        output(&mut command)
    }

    /// Rows of tab-separated columns, without headings.
    fn sql(&self, query: &str) -> Result<String> {
        output(&mut self.database.client(&self.environment, query)?)
    }

    /// The command's output becomes this, soon; otherwise what it was last.
    fn becomes(&self, expected: &str, mut look: impl FnMut() -> Result<String>) -> Result<(), String> {
        let started = Instant::now();
        loop {
            let seen = look().unwrap_or_else(|error| format!("{error:#}"));
            if seen == expected {
                return Ok(());
            }
            if started.elapsed() >= self.patience {
                return Err(seen);
            }
            sleep(Duration::from_millis(100));
        }
    }

    /// `GET /health`, also when it says that something is wrong.
    fn health(&self, address: &str) -> Result<Value> {
        let answer = http::get(self.address(address), "/health")?;
        serde_json::from_str(&answer.body).with_context(|| format!("no JSON: {}", answer.body))
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// An id that nobody has used: large, and random.
fn fresh_id() -> u64 {
    1_000_000_000_000_000 + (RandomState::new().build_hasher().finish() >> 19)
}

/// The parts of `mysql://user:password@host:port/name`.
#[derive(Debug, PartialEq, Eq)]
struct Database {
    user: String,
    password: String,
    host: String,
    port: String,
    name: String,
}

impl Database {
    fn from_url(url: &str) -> Result<Self> {
        let parse = || {
            let (credentials, rest) = url.strip_prefix("mysql://")?.rsplit_once('@')?;
            let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
            let (server, name) = rest.split_once('/')?;
            let (host, port) = server.split_once(':').unwrap_or((server, "3306"));
            let name = name.split('?').next().filter(|name| !name.is_empty())?;
            let [user, host, port, name] = [user, host, port, name].map(str::to_owned);
            Some(Self { user, password: decoded(password)?, host, port, name }).filter(|found| !found.user.is_empty())
        };
        // The URL may hold a password.
        parse().context("DATABASE_URL: expected mysql://user:password@host:port/name")
    }

    fn client(&self, environment: &Environment, query: &str) -> Result<Command> {
        let mut command = environment.command("timeout");
        command.arg("30");
        if is_installed("mariadb") {
            command.args(["mariadb", "--no-defaults", "--skip-ssl"]);
        } else if is_installed("mysql") {
            command.args(["mysql", "--no-defaults"]);
        } else {
            bail!("mariadb is missing: apt-get install mariadb-client");
        }
        command.args(["--protocol=TCP", "--connect-timeout=5", "--batch", "--skip-column-names"]);
        command.arg(format!("--host={}", self.host)).arg(format!("--port={}", self.port));
        command.arg(format!("--user={}", self.user)).arg(format!("--database={}", self.name));
        // Arguments are seen by others.
        command.env("MYSQL_PWD", &self.password).arg("--execute").arg(query);
        Ok(command)
    }
}

/// Without its percent signs.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = vec![];
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                u8::try_from(digit(rest.next()?)? * 16 + digit(rest.next()?)?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_found_by_its_url() -> Result<()> {
        let found = Database::from_url("mysql://me:p%40ss%2Fw@db.example:3307/likes?ssl-mode=disabled")?;
        let [user, password, host, port, name] = ["me", "p@ss/w", "db.example", "3307", "likes"].map(str::to_owned);
        assert_eq!(found, Database { user, password, host, port, name });
        let found = Database::from_url("mysql://root@localhost/x")?;
        assert_eq!((found.port.as_str(), found.password.as_str()), ("3306", ""));
        for wrong in
            ["sqlite:x.db", "mysql://root@localhost/", "mysql://localhost/x", "mysql://a:%4@b/c", "mysql://a:%zz@b/c"]
        {
            assert!(Database::from_url(wrong).is_err(), "{wrong}");
        }
        Ok(())
    }

    #[test]
    fn ids_are_fresh_and_fit_a_signed_number() {
        let (one, other) = (fresh_id(), fresh_id());
        assert_ne!(one, other);
        assert!(one >= 1_000_000_000_000_000 && i64::try_from(one).is_ok());
    }
}
