//! Erased users: what they did before that version changes nothing, whatever brings it.
//!
//! The row of user 0, who is nobody, has the highest version of all. Every transaction that writes likes holds it, shared, from
//! its first statement on; an erasure holds it alone. So it must be there.
//!
//! No index on users in ledger and history, which would serve an erasure: with one on `user_behaviors` a batch of 500 likes took
//! 14 to 16 % more of MariaDB's time (10.11, tables of 600,000 events, 400 batches; 722 and 730 against 821 and 846 ticks). They
//! are gone through instead, once for all users whose erasure waits.

use crate::schema::{NewTables, Table};
use sea_orm_migration::prelude::{MigrationName, MigrationTrait, SchemaManager};
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend, DbErr};

/// Its name.
pub(crate) const NAME: &str = "m20261203_000001_erasures";

/// The migration.
pub(crate) const MIGRATION: Erasures = Erasures(NewTables { name: NAME, tables: TABLES });

const TABLES: &[Table] = &[Table {
    name: "erased_users",
    columns: "user_id BIGINT NOT NULL,
            up_to BIGINT NOT NULL,
            fenced_at {time} NOT NULL,
            cleaned_at {time} NULL,
            action_id {uuid} NULL,
            removed BIGINT NOT NULL DEFAULT 0,
            PRIMARY KEY (user_id)",
    options: "{clustered}",
    indexes: &[("erased_users_cleaned", "cleaned_at"), ("erased_users_fenced", "fenced_at")],
}];

/// The table, and the row that all wait for.
pub(crate) struct Erasures(NewTables);

impl MigrationName for Erasures {
    fn name(&self) -> &str {
        self.0.name()
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Erasures {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        self.0.up(manager).await?;
        let keep = match manager.get_database_backend() {
            DbBackend::MySql => "ON DUPLICATE KEY UPDATE user_id = user_id",
            _ => "ON CONFLICT (user_id) DO NOTHING",
        };
        let never = "'1970-01-01 00:00:00.000000'";
        let nobody = format!(
            "INSERT INTO erased_users (user_id, up_to, fenced_at, cleaned_at) VALUES (0, 0, {never}, {never}) {keep}"
        );
        manager.get_connection().execute_unprepared(&nobody).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        self.0.down(manager).await
    }
}
