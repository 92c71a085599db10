//! Schema of the interaction database, for MySQL 8, MariaDB 10.6 and SQLite, and later ones of each.
//!
//! Migrations only get added. MySQL commits every DDL statement on its own, so each one is `IF NOT EXISTS` and a run
//! that stopped half way is simply run again. [`run`] holds a lock, so processes that start together all come up.

mod m20260101_000001_create_tables;
mod m20260201_000001_operators;
mod m20260301_000001_archive;
mod m20261126_000001_idempotency_keys;
mod m20261127_000001_writers;
mod m20261128_000001_findings;
mod m20261129_000001_page;
mod m20261130_000001_past_findings;
mod m20261202_000001_changes;
mod m20261202_000002_most_liked;
mod m20261203_000001_erasures;
mod m20261204_000001_deleted_resources;
mod m20261205_000001_partitions;
#[cfg(feature = "mysql")]
mod mysql;
pub mod partitions;
mod schema;

use sea_orm_migration::MigratorTrait;
use sea_orm_migration::prelude::{MigrationTrait, SchemaManager};
use sea_orm_migration::sea_orm::{
    ConnectionTrait, DatabaseConnection, DbErr, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
};
use std::time::Duration;

/// Longest wait for another process that migrates the same database.
pub const LOCK_WAIT: Duration = Duration::from_secs(60);

/// All migrations in order.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20260101_000001_create_tables::MIGRATION),
            Box::new(m20260201_000001_operators::MIGRATION),
            Box::new(m20260301_000001_archive::MIGRATION),
            Box::new(m20261126_000001_idempotency_keys::MIGRATION),
            Box::new(m20261127_000001_writers::MIGRATION),
            Box::new(m20261128_000001_findings::MIGRATION),
            Box::new(m20261129_000001_page::MIGRATION),
            Box::new(m20261130_000001_past_findings::MIGRATION),
            Box::new(m20261202_000001_changes::MIGRATION),
            Box::new(m20261202_000002_most_liked::MIGRATION),
            Box::new(m20261203_000001_erasures::MIGRATION),
            Box::new(m20261204_000001_deleted_resources::MIGRATION),
            Box::new(m20261205_000001_partitions::MIGRATION),
        ]
    }
}

/// Applies what is pending, under a lock on the database; waits at most [`LOCK_WAIT`] for another process.
pub async fn run(db: &DatabaseConnection) -> Result<(), DbErr> {
    #[cfg(feature = "mysql")]
    if db.get_database_backend() == sea_orm_migration::sea_orm::DbBackend::MySql {
        return mysql::run(db.get_mysql_connection_pool()).await;
    }
    // One transaction is both the lock and the promise of all or nothing.
    let transaction = db
        .begin_with_options(TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        })
        .await?;
    Migrator::up(&transaction, None).await?;
    transaction.commit().await
}

/// Name in `sync_meta` of the migration that a program must know, if it is to run. Who adds a migration that takes something
/// away, or changes what something means, writes its name there; the others only add, and older programs run beside them.
pub const MINIMUM_COMPATIBLE: &str = "minimum_compatible";

/// Who does not know it knows no fences of erased users: the first fence makes it the [minimum](MINIMUM_COMPATIBLE).
pub const ERASURES: &str = m20261203_000001_erasures::NAME;

/// Likewise of deleted resources.
pub const DELETIONS: &str = m20261204_000001_deleted_resources::NAME;

/// A database's migrations, as this program sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// What [`run`] would apply.
    pub pending: Vec<String>,
    /// What a newer program has applied.
    pub newer: Vec<String>,
}

/// Compares the migrations that are applied with those of this program; reads only.
pub async fn standing(db: &DatabaseConnection) -> Result<Standing, DbErr> {
    let table = "seaql_migrations";
    let applied: Vec<String> = if SchemaManager::new(db).has_table(table).await? {
        let all = Statement::from_string(db.get_database_backend(), format!("SELECT version FROM {table}"));
        let rows = db.query_all_raw(all).await?;
        rows.iter().map(|row| row.try_get("", "version")).collect::<Result<_, _>>()?
    } else {
        Vec::new()
    };
    let known = known();
    let pending = known.iter().filter(|name| !applied.contains(name)).cloned().collect();
    let newer = applied.into_iter().filter(|name| !known.contains(name)).collect();
    Ok(Standing { pending, newer })
}

/// Names of the migrations that this program knows.
pub fn known() -> Vec<String> {
    Migrator::migrations().iter().map(|migration| migration.name().to_owned()).collect()
}
