//! What the checkers found wrong, one row for each thing and subject: opened, seen again, closed.
//!
//! `data_consistency_checks` has a row for every look. Here is what became of it: the rows that are not closed are what is
//! wrong now.

use crate::schema::{NewTables, Table};

/// The migration.
pub(crate) const MIGRATION: NewTables = NewTables { name: "m20261128_000001_findings", tables: TABLES };

const TABLES: &[Table] = &[Table {
    name: "consistency_findings",
    // Of a resource or a shard `user_id` is 0: a key has no NULL.
    columns: "kind {word} NOT NULL,
            resource_type {word} NOT NULL,
            resource_id BIGINT NOT NULL,
            user_id BIGINT NOT NULL,
            verdict {word} NOT NULL,
            cache_value BIGINT NULL,
            stored_value BIGINT NULL,
            details {long_text} NULL,
            sightings BIGINT NOT NULL,
            opened_at {time} NOT NULL,
            seen_at {time} NOT NULL,
            outcome {word} NULL,
            closed_at {time} NULL,
            PRIMARY KEY (kind, resource_type, resource_id, user_id)",
    options: "{clustered}",
    indexes: &[
        ("consistency_findings_closed", "closed_at, resource_type, resource_id"),
        ("consistency_findings_seen", "seen_at"),
    ],
}];
