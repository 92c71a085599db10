//! What is liked most within an hour, a day and a week: likes gained by slices of time.

use crate::schema::{NewTables, Table};

/// The migration.
pub(crate) const MIGRATION: NewTables = NewTables { name: "m20261202_000002_most_liked", tables: TABLES };

const TABLES: &[Table] = &[Table {
    name: "liked_slices",
    // Times in seconds since 1970. Only of what gained most: a window of a type is one range of the key.
    columns: "slice_seconds BIGINT NOT NULL,
            resource_type {word} NOT NULL,
            slice_start BIGINT NOT NULL,
            resource_id BIGINT NOT NULL,
            gained BIGINT NOT NULL,
            PRIMARY KEY (slice_seconds, resource_type, slice_start, resource_id)",
    options: "{clustered}",
    indexes: &[],
}];
