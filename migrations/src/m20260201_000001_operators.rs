//! What operators did with events: one row per call, and which events it touched.
//!
//! `operator_events (event_id, action_id)`: an event's story is read by its id.

use crate::schema::Table;
use sea_orm_migration::prelude::{DbErr, MigrationName, MigrationTrait, SchemaManager};

/// The migration.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20260201_000001_operators"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in TABLES {
            table.create(manager).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in TABLES {
            table.drop(manager).await?;
        }
        Ok(())
    }
}

const TABLES: &[Table] = &[
    Table {
        name: "operator_actions",
        columns: "id {uuid} NOT NULL,
            action {word} NOT NULL,
            actor VARCHAR(128) NOT NULL,
            reason {long_text} NULL,
            selection {long_text} NULL,
            events BIGINT NOT NULL,
            created_at {time} NOT NULL,
            PRIMARY KEY (id)",
        options: "{clustered}",
        indexes: &[],
    },
    Table {
        name: "operator_events",
        columns: "event_id {uuid} NOT NULL,
            action_id {uuid} NOT NULL,
            PRIMARY KEY (event_id, action_id)",
        options: "{clustered}",
        indexes: &[("operator_events_action", "action_id")],
    },
];
