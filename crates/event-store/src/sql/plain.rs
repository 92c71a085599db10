//! Connections for who reads tables that this store does not know, or wants to see them without it.

use crate::sql::error::StoreError;
#[cfg(feature = "mysql")]
use crate::sql::mysql;
use crate::sql::place::Place;
use sea_orm::{ConnectOptions, Database, DatabaseConnection};
use std::time::Duration;
#[cfg(feature = "mysql")]
use {
    sea_orm::SqlxMySqlConnector,
    sea_orm::sqlx::{self, ConnectOptions as _, Executor as _, mysql::MySqlPoolOptions},
};

const PATIENCE: Duration = Duration::from_secs(10);

/// Whether the url of a database can be used to read it; the error does not repeat it.
pub fn check_database_url(url: &str) -> Result<(), String> {
    Place::read(url).map(drop)
}

/// Connects to a database that is only read: nothing is created.
pub async fn connect_plain(url: &str, connections: u32) -> Result<DatabaseConnection, StoreError> {
    let place = Place::read(url).map_err(|reason| StoreError::Config(format!("url: {reason}")))?;
    #[cfg(feature = "mysql")]
    if let Place::MySql(url) = &place {
        let options = mysql::connect_options(url).map_err(StoreError::Config)?.disable_statement_logging();
        // In a transaction that the server begins (init_connect) nothing new would be seen; and by its settings not all rows.
        let settings = format!("ROLLBACK; SET SESSION {}", mysql::OURS);
        let pool = MySqlPoolOptions::new().max_connections(connections).acquire_timeout(PATIENCE).after_connect(
            move |connection, _| {
                let settings = settings.clone();
                Box::pin(
                    async move { connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(settings))).await.map(drop) },
                )
            },
        );
        return Ok(SqlxMySqlConnector::from_sqlx_mysql_pool(pool.connect_with(options).await?));
    }
    let mut options = ConnectOptions::new(url.trim());
    options.max_connections(connections).sqlx_logging(false).connect_timeout(PATIENCE);
    drop(place);
    Ok(Database::connect(options).await?)
}
