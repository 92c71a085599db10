//! Where retention puts the tombstones that it takes out of the tables of likes.
//!
//! A row is what an older event must be compared with, and nothing else: no times, no second index. Nothing deletes it, so
//! an event of any age finds out that it comes too late. `user_behaviors` holds at least one row more for each of them.

use crate::schema::{NewTables, Table};

/// The migration.
pub(crate) const MIGRATION: NewTables = NewTables { name: "m20260301_000001_archive", tables: TABLES };

const TABLES: &[Table] = &[Table {
    name: "archived_tombstones",
    columns: "resource_type {word} NOT NULL,
        user_id BIGINT NOT NULL,
        resource_id BIGINT NOT NULL,
        version BIGINT NOT NULL,
        PRIMARY KEY (resource_type, user_id, resource_id)",
    options: "{clustered}",
    indexes: &[],
}];
