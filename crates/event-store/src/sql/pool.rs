//! Connections and transactions of either database, with results as rows that both can give.
//!
//! Without the feature `mysql` there is one database less: its variants, and nothing else, are not there.
//!
//! Futures are boxed here, where every call waits for a database anyway: otherwise each crate that awaits a call of the store
//! would compile the drivers again.

use crate::sql::config::DatabaseConfig;
use crate::sql::dialect::Dialect;
use crate::sql::error::StoreError;
#[cfg(feature = "mysql")]
use crate::sql::login;
#[cfg(feature = "mysql")]
use crate::sql::mysql::{self, Sessions};
use crate::sql::place::Place;
#[cfg(feature = "mysql")]
use crate::sql::replicas::Replicas;
use crate::sql::script::Script;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use sea_orm::sqlx::pool::PoolOptions;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sea_orm::sqlx::{self, ConnectOptions, Connection, Either, Executor, Sqlite, SqlitePool};
use sea_orm::{DatabaseConnection, QueryResult, SqlxSqliteConnector};
#[cfg(feature = "mysql")]
use sea_orm::{
    SqlxMySqlConnector,
    sqlx::{MySql, MySqlPool},
};
use secrecy::ExposeSecret;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Rows of each statement of a script, in order, and how many each of them wrote.
#[derive(Default)]
pub(crate) struct Results {
    rows: Vec<Vec<QueryResult>>,
    changed: Vec<u64>,
}

impl Results {
    /// Rows that a statement wrote.
    pub(crate) fn changed(&self, statement: usize) -> u64 {
        self.changed.get(statement).copied().unwrap_or(0)
    }

    /// Without those of the first statement.
    #[cfg(feature = "mysql")]
    pub(crate) fn behind_first(mut self) -> Self {
        self.rows.drain(..self.rows.len().min(1));
        self.changed.drain(..self.changed.len().min(1));
        self
    }
}

impl std::ops::Deref for Results {
    type Target = [Vec<QueryResult>];

    fn deref(&self) -> &Self::Target {
        &self.rows
    }
}

/// A pool that has not connected yet, or has.
#[derive(Debug, Clone)]
pub(crate) enum Pool {
    #[cfg(feature = "mysql")]
    MySql(MySqlPool, Arc<Sessions>),
    Sqlite(SqlitePools),
}

/// Rows of SQLite that are read ahead: those of a batch, so that it is not stopped after each few for someone to take them.
const ROWS_AHEAD: usize = 512;

/// Pages that each reader of SQLite keeps, in KiB. Few: it forgets them all at the next commit.
const READER_CACHE: &str = "-512";

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
        let url = config.url.expose_secret().trim();
        if config.max_connections == 0 {
            return Err(StoreError::Config("max_connections: must be at least 1".into()));
        }
        let unusable = |reason: String| StoreError::Config(format!("url: {reason}"));
        let place = Place::read(url).map_err(unusable)?;
        place.is_written_to().map_err(unusable)?;
        match place {
            #[cfg(feature = "mysql")]
            Place::MySql(url) => mysql::pool(&url, config).map(|(pool, sessions)| Self::MySql(pool, sessions)),
            #[cfg(not(feature = "mysql"))]
            Place::MySql(_) => Err(StoreError::Config(
                "url: this program was built without the feature `mysql`; only sqlite: is there".into(),
            )),
            Place::Sqlite => Self::sqlite(url, config),
        }
    }

    /// The replicas that the configuration names.
    #[cfg(feature = "mysql")]
    pub(crate) fn replicas(&self, config: &DatabaseConfig) -> Result<Option<Arc<Replicas>>, StoreError> {
        match self {
            Self::MySql(_, sessions) => Replicas::of(config, &sessions.url),
            Self::Sqlite(..) => Ok(None),
        }
    }

    fn sqlite(url: &str, config: &DatabaseConfig) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|_| StoreError::Config("url: not a sqlite url".into()))?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit that was answered survives power loss: after it the journal forgets the events.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(config.lock_timeout)
            .row_buffer_size(ROWS_AHEAD)
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
                options
                    .clone()
                    .pragma("cache_size", "-16384")
                    .pragma("wal_autocheckpoint", "8192")
                    // What a statement of many rows would take back if it failed: not in a file made and deleted for each.
                    .pragma("temp_store", "MEMORY"),
            ),
            readers: pool().connect_lazy_with(options.pragma("cache_size", READER_CACHE)),
            turn: Arc::new(Semaphore::new(1)),
        }))
    }

    /// From now on no connection of before is used again.
    pub(crate) fn renounce(&self) {
        match self {
            #[cfg(feature = "mysql")]
            Self::MySql(_, sessions) => sessions.renounce(),
            Self::Sqlite(..) => {}
        }
    }

    /// Logs in with user and password of this url from now on, if the database lets us in.
    #[cfg_attr(not(feature = "mysql"), expect(unused_variables, reason = "a file has no login"))]
    pub(crate) async fn renew_login(&self, url: &str, limit: Duration) -> Result<(), StoreError> {
        match (self, Place::read(url).map_err(|reason| StoreError::Config(format!("url: {reason}")))?) {
            #[cfg(feature = "mysql")]
            (Self::MySql(pool, sessions), Place::MySql(url)) => login::renew(pool, sessions, &url, limit).await,
            _ => Err(StoreError::Config("url: leads to another database: that needs a restart".into())),
        }
    }

    /// A call failed: the server that writes may be another one now.
    pub(crate) fn lost(&self) {
        match self {
            #[cfg(feature = "mysql")]
            Self::MySql(_, sessions) => sessions.lost(),
            Self::Sqlite(..) => {}
        }
    }

    /// Why it does not answer, where that is told at once.
    pub(crate) async fn why_silent(&self) -> Option<String> {
        match self {
            #[cfg(feature = "mysql")]
            Self::MySql(pool, sessions) => sessions.silence.why(pool).await,
            Self::Sqlite(..) => None,
        }
    }

    /// An error whose advice names what it is about.
    pub(crate) fn named(&self, error: StoreError) -> StoreError {
        match self {
            #[cfg(feature = "mysql")]
            Self::MySql(pool, sessions) => sessions.account.naming(error, pool.connect_options().get_database()),
            Self::Sqlite(..) => error,
        }
    }

    /// As whom it is asked; none before it has said so, or where there are no users.
    pub(crate) fn account(&self) -> Option<String> {
        match self {
            #[cfg(feature = "mysql")]
            Self::MySql(_, sessions) => sessions.account.name(),
            Self::Sqlite(..) => None,
        }
    }

    /// What was wrong with connections is over.
    pub(crate) fn proved(&self) {
        match self {
            #[cfg(feature = "mysql")]
            Self::MySql(_, sessions) => sessions.proved(),
            Self::Sqlite(..) => {}
        }
    }

    pub(crate) const fn dialect(&self) -> Dialect {
        match self {
            #[cfg(feature = "mysql")]
            Self::MySql(..) => Dialect::MySql,
            Self::Sqlite(..) => Dialect::Sqlite,
        }
    }

    /// The same pool for sea-orm; it writes.
    pub(crate) fn orm(&self) -> DatabaseConnection {
        match self {
            #[cfg(feature = "mysql")]
            Self::MySql(pool, _) => SqlxMySqlConnector::from_sqlx_mysql_pool(pool.clone()),
            Self::Sqlite(pools) => SqlxSqliteConnector::from_sqlx_sqlite_pool(pools.writer.clone()),
        }
    }

    /// Runs statements that read, outside a transaction.
    pub(crate) fn read<'a>(&'a self, script: &'a Script) -> BoxFuture<'a, Result<Results, StoreError>> {
        match self {
            #[cfg(feature = "mysql")]
            Self::MySql(pool, sessions) => async {
                let mut connection = sessions.acquire(pool).await?;
                sessions.check_length(script.as_str())?;
                run::<MySql, _>(&mut *connection, script.as_str(), |done| done.rows_affected()).await
            }
            .boxed(),
            Self::Sqlite(pools) => async {
                run::<Sqlite, _>(&mut *pools.readers.acquire().await?, script.as_str(), |done| done.rows_affected())
                    .await
            }
            .boxed(),
        }
    }

    /// Begins a transaction that writes. Dropped, it rolls back.
    pub(crate) fn begin(&self) -> BoxFuture<'_, Result<Tx, StoreError>> {
        self.begin_now().boxed()
    }

    async fn begin_now(&self) -> Result<Tx, StoreError> {
        match self {
            #[cfg(feature = "mysql")]
            Self::MySql(pool, sessions) => {
                let connection = sessions.acquire(pool).await?;
                // In a task of its own, because the caller may be dropped: of a BEGIN that was sent and not answered the
                // driver knows nothing, and would give back a connection with an open transaction that nobody ends. What
                // locks rows, or writes, on it afterwards would do so for good, or never.
                let begin = sqlx::Transaction::begin(connection, None);
                let begun = tokio::spawn(tokio::time::timeout(sessions.patience, begin));
                let late = |elapsed: tokio::time::error::Elapsed| StoreError::Unavailable(elapsed.into());
                let begun = begun.await.map_err(|error| StoreError::Unavailable(error.into()))?.map_err(late)??;
                Ok(Tx::MySql(begun, Arc::clone(sessions)))
            }
            Self::Sqlite(pools) => {
                let turn =
                    pools.turn.clone().acquire_owned().await.map_err(|error| StoreError::Unavailable(error.into()))?;
                Ok(Tx::Sqlite(pools.writer.begin_with("BEGIN IMMEDIATE").await?, turn))
            }
        }
    }

    pub(crate) fn close(&self) -> BoxFuture<'_, ()> {
        self.close_now().boxed()
    }

    async fn close_now(&self) {
        match self {
            #[cfg(feature = "mysql")]
            Self::MySql(pool, _) => pool.close().await,
            Self::Sqlite(pools) => {
                pools.readers.close().await;
                pools.writer.close().await;
            }
        }
    }
}

/// An open transaction.
pub(crate) enum Tx {
    #[cfg(feature = "mysql")]
    MySql(sqlx::Transaction<'static, MySql>, Arc<Sessions>),
    Sqlite(sqlx::Transaction<'static, Sqlite>, OwnedSemaphorePermit),
}

impl Tx {
    /// Runs statements in one round trip; the first that fails ends it.
    pub(crate) fn run<'a>(&'a mut self, script: &'a Script) -> BoxFuture<'a, Result<Results, StoreError>> {
        if script.is_empty() {
            return std::future::ready(Ok(Results::default())).boxed();
        }
        match self {
            #[cfg(feature = "mysql")]
            Self::MySql(tx, sessions) => async {
                sessions.check_length(script.as_str())?;
                run::<MySql, _>(&mut **tx, script.as_str(), |done| done.rows_affected()).await
            }
            .boxed(),
            Self::Sqlite(tx, _) => run::<Sqlite, _>(&mut **tx, script.as_str(), |done| done.rows_affected()).boxed(),
        }
    }

    pub(crate) fn commit(self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.commit_now().boxed()
    }

    async fn commit_now(self) -> Result<(), StoreError> {
        match self {
            #[cfg(feature = "mysql")]
            Self::MySql(tx, _) => tx.commit().await?,
            Self::Sqlite(tx, turn) => {
                tx.commit().await?;
                drop(turn);
            }
        }
        Ok(())
    }

    /// Takes everything back, and says when that is done.
    pub(crate) fn roll_back(self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.roll_back_now().boxed()
    }

    async fn roll_back_now(self) -> Result<(), StoreError> {
        match self {
            #[cfg(feature = "mysql")]
            Self::MySql(tx, _) => tx.rollback().await?,
            Self::Sqlite(tx, turn) => {
                tx.rollback().await?;
                drop(turn);
            }
        }
        Ok(())
    }
}

pub(crate) async fn run<'c, DB, E>(
    executor: E,
    sql: &str,
    changed: fn(&DB::QueryResult) -> u64,
) -> Result<Results, StoreError>
where
    DB: sqlx::Database,
    E: Executor<'c, Database = DB>,
    QueryResult: From<DB::Row>,
{
    let mut results = Results::default();
    let mut rows = Vec::new();
    let mut stream = executor.fetch_many(sqlx::raw_sql(sqlx::AssertSqlSafe(sql)));
    while let Some(next) = stream.next().await {
        match next? {
            Either::Right(row) => rows.push(row.into()),
            Either::Left(done) => {
                results.rows.push(std::mem::take(&mut rows));
                results.changed.push(changed(&done));
            }
        }
    }
    Ok(results)
}

pub(crate) fn bounded<DB: sqlx::Database>(pool: PoolOptions<DB>, config: &DatabaseConfig) -> PoolOptions<DB> {
    pool.max_connections(config.max_connections)
        .min_connections(config.min_connections.min(config.max_connections))
        .acquire_timeout(config.acquire_timeout)
        .test_before_acquire(false)
}
