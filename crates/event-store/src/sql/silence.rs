//! Why a server says nothing: the pool tries again and again where nobody listens, and forgets what it was told.

use crate::sql::error::StoreError;
use sea_orm::sqlx::{self, MySqlPool};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A refusal comes at once; what takes longer is no answer either.
const PATIENCE: Duration = Duration::from_millis(300);

/// A server that takes connections and says nothing is not asked again for so long: it counts those that end without a word.
const TOOK_ONE: Duration = Duration::from_secs(30);

/// What is known of the server's address.
#[derive(Debug)]
pub(crate) struct Silence {
    start: Instant,
    /// When a connection to it was last taken; milliseconds since `start`, none: 0.
    took_one_at: AtomicU64,
}

impl Silence {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), took_one_at: AtomicU64::new(0) }
    }

    /// Of a pool that has tried for as long as it may.
    pub(crate) async fn error(&self, pool: &MySqlPool) -> StoreError {
        self.why(pool).await.map_or_else(|| sqlx::Error::PoolTimedOut.into(), StoreError::nobody_answers)
    }

    /// What the network says at once of where the pool connects to; none where it takes a connection, or says nothing either.
    pub(crate) async fn why(&self, pool: &MySqlPool) -> Option<String> {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        let took_one_at = self.took_one_at.load(Ordering::Relaxed);
        if took_one_at > 0 && u128::from(now - took_one_at.min(now)) < TOOK_ONE.as_millis() {
            return None;
        }
        let options = pool.connect_options();
        let (host, port) = (options.get_host(), options.get_port());
        match timeout(PATIENCE, TcpStream::connect((host, port))).await {
            Ok(Ok(_)) => {
                self.took_one_at.store(now, Ordering::Relaxed);
                None
            }
            Ok(Err(error)) => Some(format!("{}: {error}", domain::addresses::join(host, port))),
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::EventStore;
    use crate::sql::config::DatabaseConfig;
    use std::net::TcpListener;
    use std::time::Duration;

    #[tokio::test]
    async fn where_nobody_listens_that_is_said_and_where_somebody_says_nothing_only_that() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let store = || {
            let url = format!("mysql://few@127.0.0.1:{port}/likes").into();
            let connect_timeout = Duration::from_millis(400);
            DatabaseConfig { url, connect_timeout, ..DatabaseConfig::default() }
        };
        let frozen = EventStore::connect(&store()).await.unwrap();
        let said = frozen.ping().await.unwrap_err().to_string();
        assert_eq!(said, "database is unavailable: no answer within 400ms");
        drop(listener);
        let away = EventStore::connect(&store()).await.unwrap();
        for said in [away.ping().await.unwrap_err(), away.probe().await.unwrap_err()].map(|error| error.to_string()) {
            let begin =
                format!("database is unavailable: no answer within 400ms; 127.0.0.1:{port}: Connection refused");
            assert!(said.starts_with(&begin), "{said}");
        }
    }
}
