//! Deleted resources: what was said of them up to that version changes nothing, and nobody can like one that is not restored.
//!
//! `changed_at` is when one was last deleted or restored, in microseconds since 1970: a cache and the redo log know it, too, and the
//! newest word counts. No row ever goes: the fence of a restored one stays.

use crate::schema::{NewTables, Table};

/// Its name.
pub(crate) const NAME: &str = "m20261204_000001_deleted_resources";

/// The migration.
pub(crate) const MIGRATION: NewTables = NewTables { name: NAME, tables: TABLES };

const TABLES: &[Table] = &[Table {
    name: "deleted_resources",
    columns: "resource_type {word} NOT NULL,
            resource_id BIGINT NOT NULL,
            up_to BIGINT NOT NULL,
            fenced_at {time} NOT NULL,
            cleaned_at {time} NULL,
            restored_at {time} NULL,
            changed_at BIGINT NOT NULL,
            action_id {uuid} NULL,
            removed BIGINT NOT NULL DEFAULT 0,
            PRIMARY KEY (resource_type, resource_id)",
    options: "{clustered}",
    // Whoever writes a fence asks for the newest time while all writers wait.
    indexes: &[
        ("deleted_resources_cleaned", "cleaned_at, fenced_at"),
        ("deleted_resources_fenced", "fenced_at"),
        ("deleted_resources_changed", "changed_at"),
    ],
}];
