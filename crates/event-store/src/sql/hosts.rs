//! Several servers of MySQL or MariaDB, one of which writes.
//!
//! All are asked at once. The one that says that it does not only read is where new connections go, until something fails; then
//! all are asked again. Two that write are none: which one the others follow nobody here can tell. So replicas, and servers
//! that come back, must start with `read_only`.

use crate::sql::config::DatabaseConfig;
use crate::sql::error::StoreError;
use domain::addresses::split;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use sea_orm::sqlx::mysql::MySqlConnectOptions;
use sea_orm::sqlx::{self, ConnectOptions, Connection, Executor, MySqlPool, Row};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

/// What a server says of itself: `0` or `OFF` twice if it writes. With `super_read_only` there is `read_only`, too; replicas of
/// Aurora have the other one. It counts whatever our user may do: who is privileged could write to a replica.
pub(crate) const ROLE: &str = "CAST(CONCAT(@@GLOBAL.read_only, ',', @@GLOBAL.innodb_read_only) AS CHAR)";

/// After one server has said that it writes, the others have this long to say the same.
const GRACE: Duration = Duration::from_millis(200);

/// Whether this is what a server says that writes.
pub(crate) fn writes(role: &str) -> bool {
    role.split(',').all(|part| matches!(part, "0" | "OFF"))
}

/// Where the one that writes is looked for.
#[derive(Debug)]
pub(crate) struct Hosts {
    all: RwLock<Arc<[(String, MySqlConnectOptions)]>>,
    limit: Duration,
    /// Something failed so often; the servers are asked when this differs from what it was when they were asked last.
    losses: AtomicU64,
    asked: AtomicU64,
    /// Where connections go.
    current: Mutex<Option<String>>,
}

impl Hosts {
    /// None if the url is all that there is.
    pub(crate) fn of(config: &DatabaseConfig, url: &MySqlConnectOptions) -> Result<Option<Self>, StoreError> {
        let all = RwLock::new(Self::all(config.hosts.iter(), url)?);
        let (losses, asked) = (AtomicU64::new(1), AtomicU64::new(0));
        let hosts = Self { all, limit: config.connect_timeout, losses, asked, current: Mutex::new(None) };
        Ok((!config.hosts.is_empty()).then_some(hosts))
    }

    fn all<'a>(
        hosts: impl Iterator<Item = &'a String>,
        url: &MySqlConnectOptions,
    ) -> Result<Arc<[(String, MySqlConnectOptions)]>, StoreError> {
        let at = |address: &'a String| {
            let wrong = || StoreError::Config(format!("hosts: {address:?} is not host:port"));
            let (host, port) = split(address).ok_or_else(wrong)?;
            Ok((address.clone(), url.clone().host(host).port(port)))
        };
        hosts.map(at).collect()
    }

    /// From now on all are connected to like this, if the one that writes lets us in; returns how that is connected to.
    pub(crate) async fn renew(&self, url: &MySqlConnectOptions) -> Result<MySqlConnectOptions, StoreError> {
        let next = Self::all(self.known().iter().map(|(address, _)| address), url)?;
        let (_, options) = self.find(&next).await?;
        *self.all.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&next);
        Ok(options)
    }

    fn known(&self) -> Arc<[(String, MySqlConnectOptions)]> {
        Arc::clone(&self.all.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Something failed: the one that writes may be another one now.
    pub(crate) fn lost(&self) {
        self.losses.fetch_add(1, Ordering::AcqRel);
    }

    /// Leads the pool to the server that writes, if something has failed since that was asked last; true if it is another one
    /// than before.
    pub(crate) async fn lead(&self, pool: &MySqlPool) -> Result<bool, StoreError> {
        if self.is_known() {
            return Ok(false);
        }
        // One at a time asks; the others go where it was led.
        let mut current = self.current.lock().await;
        if self.is_known() {
            return Ok(false);
        }
        let losses = self.losses.load(Ordering::Acquire);
        let (address, options) = self.find(&self.known()).await?;
        pool.set_connect_options(options);
        self.asked.store(losses, Ordering::Release);
        let moved = current.as_deref().is_some_and(|before| before != address);
        if current.as_deref() != Some(address.as_str()) {
            tracing::info!(address, "found the database that writes");
            *current = Some(address);
        }
        Ok(moved)
    }

    fn is_known(&self) -> bool {
        self.losses.load(Ordering::Acquire) == self.asked.load(Ordering::Acquire)
    }

    async fn find(&self, among: &[(String, MySqlConnectOptions)]) -> Result<(String, MySqlConnectOptions), StoreError> {
        let mut limit = Instant::now() + self.limit;
        let ask = |(address, options)| async move { (address, options, ask(options).await) };
        let all = among.iter().map(|(address, options)| (address, options));
        let mut asked: FuturesUnordered<_> = all.map(ask).collect();
        let mut found: Option<(&String, &MySqlConnectOptions)> = None;
        let mut failure = None;
        while let Ok(Some((address, options, role))) = timeout_at(limit, asked.next()).await {
            match role {
                Ok(true) if let Some((first, _)) = found => {
                    return Err(StoreError::two_write(first, address));
                }
                Ok(true) => {
                    found = Some((address, options));
                    limit = limit.min(Instant::now() + GRACE);
                }
                // What a server says is worth more than that another one is silent.
                Ok(false) => failure = Some(StoreError::only_reads()),
                Err(error) => failure = failure.or_else(|| Some(error.into())),
            }
        }
        let none = || StoreError::Unavailable("none of database.hosts answers".into());
        found.map(|(address, options)| (address.clone(), options.clone())).ok_or_else(|| failure.unwrap_or_else(none))
    }
}

async fn ask(options: &MySqlConnectOptions) -> Result<bool, sqlx::Error> {
    let mut connection = options.connect().await?;
    let row = connection.fetch_one(sqlx::raw_sql(sqlx::AssertSqlSafe(format!("SELECT {ROLE}")))).await?;
    let role = row.try_get::<String, _>(0)?;
    // A goodbye is a courtesy; nobody waits for it in vain.
    let _ended = connection.close().await;
    Ok(writes(&role))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_only_reads_in_any_way_does_not_write() {
        for role in ["0,0", "OFF,OFF", "0,OFF"] {
            assert!(writes(role), "{role}");
        }
        for role in ["1,0", "0,1", "ON,OFF", "NO_LOCK,OFF", "NO_LOCK_NO_ADMIN,OFF", ""] {
            assert!(!writes(role), "{role}");
        }
    }
}
