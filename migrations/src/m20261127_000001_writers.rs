//! How far each writer has come, by which a database is noticed that has become what it once was.
//!
//! A row for each lane of a writer: as many as commit at a time. No index by age, because every commit changes the age; there
//! are few rows.

use crate::schema::{NewTables, Table};

/// The migration.
pub(crate) const MIGRATION: NewTables = NewTables { name: "m20261127_000001_writers", tables: TABLES };

const TABLES: &[Table] = &[Table {
    name: "sync_writers",
    columns: "writer {uuid} NOT NULL,
            lane BIGINT NOT NULL,
            seq BIGINT NOT NULL,
            at {time} NOT NULL,
            PRIMARY KEY (writer, lane)",
    options: "{clustered}",
    indexes: &[],
}];
