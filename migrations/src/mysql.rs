//! The lock of a server, which belongs to a connection.

use crate::{LOCK_WAIT, Migrator};
use sea_orm_migration::MigratorTrait;
use sea_orm_migration::sea_orm::sqlx::mysql::{MySqlPool, MySqlPoolOptions};
use sea_orm_migration::sea_orm::sqlx::{self, Executor, Row};
use sea_orm_migration::sea_orm::{DbErr, SqlxMySqlConnector};
use std::time::Duration;

/// Applies what is pending, on a connection that holds the lock.
pub(crate) async fn run(of: &MySqlPool) -> Result<(), DbErr> {
    let pool = locking_pool(of);
    let done = Migrator::up(&SqlxMySqlConnector::from_sqlx_mysql_pool(pool.clone()), None).await;
    pool.close().await;
    done
}

/// A pool of one connection that takes the lock when it connects: also after a reconnect nothing runs without it.
/// The server releases the lock with the connection, however the process ends.
fn locking_pool(of: &MySqlPool) -> MySqlPool {
    MySqlPoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .acquire_timeout(LOCK_WAIT + Duration::from_secs(15))
        .after_connect(|connection, _| {
            Box::pin(async move {
                let seconds = LOCK_WAIT.as_secs();
                let take = format!(
                    "SELECT COALESCE(GET_LOCK(CONCAT('migrate:', LEFT(SHA2(DATABASE(), 256), 32)), {seconds}), 0)"
                );
                let row = connection.fetch_one(sqlx::raw_sql(sqlx::AssertSqlSafe(take))).await?;
                if row.try_get::<i64, _>(0)? == 1 {
                    Ok(())
                } else {
                    Err(sqlx::Error::Configuration("another process holds the migration lock".into()))
                }
            })
        })
        .connect_lazy_with((*of.connect_options()).clone())
}
