//! Ledger and history in partitions, on MySQL and MariaDB.
//!
//! Cutting a table copies it, and nobody may write meanwhile: so this cuts those that are still empty, which takes no time.
//! Others stay as they are, and retention deletes their rows one by one, until `syncctl migrate --partition` cuts them without
//! copying. Older programs run beside it: for them nothing has changed.

use crate::partitions::{Cut, clause};
use sea_orm_migration::prelude::{MigrationName, MigrationTrait, SchemaManager};
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

/// The migration.
pub(crate) const MIGRATION: Partitions = Partitions;

/// See the head of the module.
pub(crate) struct Partitions;

impl MigrationName for Partitions {
    fn name(&self) -> &str {
        "m20261205_000001_partitions"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Partitions {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        if db.get_database_backend() != DbBackend::MySql {
            return Ok(());
        }
        for cut in Cut::ALL {
            let table = cut.table();
            let one = format!("SELECT 1 FROM {table} LIMIT 1");
            let cut_already = format!(
                "SELECT 1 FROM information_schema.partitions WHERE table_schema = DATABASE() AND table_name = '{table}' \
                 AND partition_name IS NOT NULL LIMIT 1"
            );
            let asks = [one, cut_already];
            let mut leave = false;
            for ask in asks {
                leave |= db.query_one_raw(Statement::from_string(DbBackend::MySql, ask)).await?.is_some();
            }
            if leave {
                continue;
            }
            let clock = "SELECT CAST(UNIX_TIMESTAMP() * 1000 AS SIGNED)";
            let now = db.query_one_raw(Statement::from_string(DbBackend::MySql, clock)).await?;
            let now: i64 =
                now.ok_or_else(|| DbErr::Custom("the server has no clock".to_owned()))?.try_get_by_index(0)?;
            db.execute_unprepared(&format!("ALTER TABLE {table} {}", clause(cut, now.unsigned_abs()))).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        if db.get_database_backend() == DbBackend::MySql {
            for cut in Cut::ALL {
                db.execute_unprepared(&format!("ALTER TABLE {} REMOVE PARTITIONING", cut.table())).await?;
            }
        }
        Ok(())
    }
}
