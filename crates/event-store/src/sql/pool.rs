//! Connections and transactions of either database, with results as rows that both can give.

use crate::sql::config::DatabaseConfig;
use crate::sql::dialect::Dialect;
use crate::sql::error::StoreError;
use crate::sql::script::Script;
use futures::StreamExt;
use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sea_orm::sqlx::pool::{PoolConnectionMetadata, PoolOptions};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sea_orm::sqlx::{self, ConnectOptions, Connection, Either, Executor, MySql, MySqlPool, Sqlite, SqlitePool};
use sea_orm::{DatabaseConnection, QueryResult, SqlxMySqlConnector, SqlxSqliteConnector};
use secrecy::ExposeSecret;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A connection that rested longer than this is asked whether it lives before it is used.
const TRUSTED_IDLE_TIME: Duration = Duration::from_secs(1);

/// Rows of each statement of a script, in order.
pub(crate) type Results = Vec<Vec<QueryResult>>;

/// A pool that has not connected yet, or has.
#[derive(Debug, Clone)]
pub(crate) enum Pool {
    MySql(MySqlPool),
    Sqlite(SqlitePools),
}

/// SQLite has one writer at a time: a fair queue here instead of polling there, and always the same connection,
/// because a commit by another one would empty its page cache.
#[derive(Debug, Clone)]
pub(crate) struct SqlitePools {
    readers: SqlitePool,
    writer: SqlitePool,
    turn: Arc<Semaphore>,
}

impl Pool {
    /// Checks the configuration; connects when first used.
    pub(crate) fn new(config: &DatabaseConfig) -> Result<Self, StoreError> {
        let url = config.url.expose_secret();
        if config.max_connections == 0 {
            return Err(StoreError::Config("max_connections: must be at least 1".into()));
        }
        // Messages of url errors are left out: they may quote the url.
        if url.starts_with("mysql:") || url.starts_with("mariadb:") {
            let options = MySqlConnectOptions::from_str(url)
                .map_err(|_| StoreError::Config("url: not a mysql url".into()))?
                .disable_statement_logging();
            Ok(Self::MySql(mysql_pool(config).connect_lazy_with(options)))
        } else if url.starts_with("sqlite:") {
            let options = SqliteConnectOptions::from_str(url)
                .map_err(|_| StoreError::Config("url: not a sqlite url".into()))?
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                // A commit that was answered survives power loss: after it the journal forgets the events.
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(config.lock_timeout)
                .disable_statement_logging();
            // After a full disk SQLite has rolled back by itself, which the driver takes for a transaction that is still open:
            // such a connection would never begin another one.
            let pool = || {
                bounded::<Sqlite>(SqlitePoolOptions::new(), config).before_acquire(|connection, _| {
                    let usable = !connection.is_in_transaction();
                    Box::pin(async move { Ok(usable) })
                })
            };
            Ok(Self::Sqlite(SqlitePools {
                writer: pool().max_connections(1).connect_lazy_with(
                    options.clone().pragma("cache_size", "-32768").pragma("wal_autocheckpoint", "8192"),
                ),
                readers: pool().connect_lazy_with(options),
                turn: Arc::new(Semaphore::new(1)),
            }))
        } else {
            Err(StoreError::Config("url: must begin with mysql: or sqlite:".into()))
        }
    }

    pub(crate) const fn dialect(&self) -> Dialect {
        match self {
            Self::MySql(_) => Dialect::MySql,
            Self::Sqlite(..) => Dialect::Sqlite,
        }
    }

    /// The same pool for sea-orm; it writes.
    pub(crate) fn orm(&self) -> DatabaseConnection {
        match self {
            Self::MySql(pool) => SqlxMySqlConnector::from_sqlx_mysql_pool(pool.clone()),
            Self::Sqlite(pools) => SqlxSqliteConnector::from_sqlx_sqlite_pool(pools.writer.clone()),
        }
    }

    /// Runs statements that read, outside a transaction.
    pub(crate) async fn read(&self, script: &Script) -> Result<Results, StoreError> {
        match self {
            Self::MySql(pool) => run::<MySql, _>(&mut *pool.acquire().await?, script.as_str()).await,
            Self::Sqlite(pools) => run::<Sqlite, _>(&mut *pools.readers.acquire().await?, script.as_str()).await,
        }
    }

    /// Begins a transaction that writes. Dropped, it rolls back.
    pub(crate) async fn begin(&self) -> Result<Tx, StoreError> {
        match self {
            Self::MySql(pool) => Ok(Tx::MySql(pool.begin().await?)),
            Self::Sqlite(pools) => {
                let turn =
                    pools.turn.clone().acquire_owned().await.map_err(|error| StoreError::Unavailable(error.into()))?;
                Ok(Tx::Sqlite(pools.writer.begin_with("BEGIN IMMEDIATE").await?, turn))
            }
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::MySql(pool) => pool.close().await,
            Self::Sqlite(pools) => {
                pools.readers.close().await;
                pools.writer.close().await;
            }
        }
    }
}

/// An open transaction.
pub(crate) enum Tx {
    MySql(sqlx::Transaction<'static, MySql>),
    Sqlite(sqlx::Transaction<'static, Sqlite>, OwnedSemaphorePermit),
}

impl Tx {
    /// Runs statements in one round trip; the first that fails ends it.
    pub(crate) async fn run(&mut self, script: &Script) -> Result<Results, StoreError> {
        if script.is_empty() {
            return Ok(Results::new());
        }
        match self {
            Self::MySql(tx) => run::<MySql, _>(&mut **tx, script.as_str()).await,
            Self::Sqlite(tx, _) => run::<Sqlite, _>(&mut **tx, script.as_str()).await,
        }
    }

    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::MySql(tx) => tx.commit().await?,
            Self::Sqlite(tx, turn) => {
                tx.commit().await?;
                drop(turn);
            }
        }
        Ok(())
    }

    /// Takes everything back, and says when that is done.
    pub(crate) async fn roll_back(self) -> Result<(), StoreError> {
        match self {
            Self::MySql(tx) => tx.rollback().await?,
            Self::Sqlite(tx, turn) => {
                tx.rollback().await?;
                drop(turn);
            }
        }
        Ok(())
    }
}

async fn run<'c, DB, E>(executor: E, sql: &str) -> Result<Results, StoreError>
where
    DB: sqlx::Database,
    E: Executor<'c, Database = DB>,
    QueryResult: From<DB::Row>,
{
    let mut results = Results::new();
    let mut rows = Vec::new();
    let mut stream = executor.fetch_many(sqlx::raw_sql(sqlx::AssertSqlSafe(sql)));
    while let Some(next) = stream.next().await {
        match next? {
            Either::Right(row) => rows.push(row.into()),
            Either::Left(_) => results.push(std::mem::take(&mut rows)),
        }
    }
    Ok(results)
}

fn bounded<DB: sqlx::Database>(pool: PoolOptions<DB>, config: &DatabaseConfig) -> PoolOptions<DB> {
    pool.max_connections(config.max_connections)
        .min_connections(config.min_connections.min(config.max_connections))
        .acquire_timeout(config.acquire_timeout)
        .test_before_acquire(false)
}

fn mysql_pool(config: &DatabaseConfig) -> PoolOptions<MySql> {
    // InnoDB counts lock waits in whole seconds. The driver itself sets the time zone to UTC.
    let lock_seconds = config.lock_timeout.as_secs().max(1);
    // Longer than a resting connection is trusted.
    let silent_seconds = config.silence_limit.as_secs().max(2 * TRUSTED_IDLE_TIME.as_secs());
    let settings = format!(
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
         SET SESSION innodb_lock_wait_timeout = {lock_seconds}, wait_timeout = {silent_seconds}, \
         sql_mode = CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES')"
    );
    bounded::<MySql>(MySqlPoolOptions::new(), config)
        // Resting ones are closed by us, in good order.
        .idle_timeout(Duration::from_secs(silent_seconds) / 2)
        .after_connect(move |connection, _| {
            let settings = settings.clone();
            Box::pin(async move {
                connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(settings))).await?;
                Ok(())
            })
        })
        .before_acquire(|connection, meta: PoolConnectionMetadata| {
            Box::pin(async move { Ok(meta.idle_for < TRUSTED_IDLE_TIME || connection.ping().await.is_ok()) })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_support::{execute_sql, fresh_database, shared};

    #[tokio::test]
    async fn a_transaction_that_says_nothing_loses_its_locks() {
        let url = fresh_database(shared::mariadb().await.unwrap().url()).await.unwrap();
        execute_sql(&url, "CREATE TABLE held (id INT PRIMARY KEY); INSERT INTO held VALUES (1)").await.unwrap();
        let silence_limit = Duration::from_secs(2);
        let config = DatabaseConfig { url: url.clone().into(), silence_limit, ..DatabaseConfig::default() };
        let pool = Pool::new(&config).unwrap();
        let mut silent = pool.begin().await.unwrap();
        let mut script = Script::new(pool.dialect());
        script.begin("SELECT id FROM held WHERE id = 1 FOR UPDATE");
        assert_eq!(silent.run(&script).await.unwrap().len(), 1);
        // Waits as a process would whose rows a stopped one holds.
        execute_sql(&url, "SET innodb_lock_wait_timeout = 20; UPDATE held SET id = 2").await.unwrap();
        assert!(silent.commit().await.is_err(), "committed without its lock");
    }
}
