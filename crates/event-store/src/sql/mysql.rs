//! Connections to MySQL and MariaDB, and what each of them is told first.

use crate::sql::config::DatabaseConfig;
use crate::sql::error::StoreError;
use crate::sql::pool::bounded;
use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sea_orm::sqlx::pool::{PoolConnectionMetadata, PoolOptions};
use sea_orm::sqlx::{self, ConnectOptions, Connection, Executor, MySql, MySqlPool};
use secrecy::ExposeSecret;
use std::str::FromStr;
use std::time::Duration;

/// A connection that rested longer than this is asked whether it lives before it is used.
const TRUSTED_IDLE_TIME: Duration = Duration::from_secs(1);

/// A pool that connects when it is used. Messages of url errors are left out: they may quote the url.
pub(crate) fn pool(config: &DatabaseConfig) -> Result<MySqlPool, StoreError> {
    let connect = MySqlConnectOptions::from_str(config.url.expose_secret())
        .map_err(|_| StoreError::Config("url: not a mysql url".into()))?
        .disable_statement_logging();
    Ok(options(config).connect_lazy_with(connect))
}

fn options(config: &DatabaseConfig) -> PoolOptions<MySql> {
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
    use crate::sql::pool::Pool;
    use crate::sql::script::Script;
    use test_support::{Proxy, eventually, execute_sql, fresh_database, shared};

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

    #[tokio::test]
    async fn a_caller_that_goes_while_its_transaction_begins_leaves_none_open() {
        let server = shared::mariadb().await.unwrap();
        let url = fresh_database(server.url()).await.unwrap();
        execute_sql(&url, "CREATE TABLE held (id INT PRIMARY KEY); INSERT INTO held VALUES (1)").await.unwrap();
        let link = Proxy::start(server.addr().unwrap()).await.unwrap();
        let config = DatabaseConfig { url: link.url_of(&url).into(), max_connections: 1, ..DatabaseConfig::default() };
        let pool = Pool::new(&config).unwrap();
        let mut lock = Script::new(pool.dialect());
        lock.begin("SELECT id FROM held WHERE id = 1 FOR UPDATE");
        // Connects, and comes back.
        pool.read(&lock).await.unwrap();
        let Pool::MySql(connections) = &pool else { panic!("another database") };
        eventually(Duration::from_secs(10), "a connection that rests", async || connections.num_idle() == 1).await;

        link.hold_answers();
        let gone = tokio::time::timeout(Duration::from_millis(200), pool.begin()).await;
        assert!(gone.is_err(), "it began without an answer");
        link.restore().await.unwrap();

        // On the same connection, and outside any transaction: the lock goes with the statement.
        pool.read(&lock).await.unwrap();
        execute_sql(&url, "SET innodb_lock_wait_timeout = 2; UPDATE held SET id = 2").await.unwrap();
    }
}
