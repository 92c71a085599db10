//! Changes that nobody was told of yet: written with what changes, where no message of the queue stands for it.

use crate::schema::{NewTables, Table};

/// The migration.
pub(crate) const MIGRATION: NewTables = NewTables { name: "m20261202_000001_changes", tables: TABLES };

const TABLES: &[Table] = &[Table {
    name: "unpublished_changes",
    // The user is 0 where only the resource's counter changed. Only rows are added and deleted, each by its own id: a change
    // that comes while another one of the same pair is published has a row of its own.
    columns: "id {serial},
            resource_type {word} NOT NULL,
            resource_id BIGINT NOT NULL,
            user_id BIGINT NOT NULL,
            created_at {time} NOT NULL",
    options: "{heap}",
    indexes: &[],
}];
