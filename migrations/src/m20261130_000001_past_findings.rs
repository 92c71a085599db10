//! Findings that were closed before the same thing was found wrong again: an incident does not hide the one before it.
//!
//! `consistency_findings` has the newest life of each; what it held before comes here when that begins.

use crate::schema::{NewTables, Table};

/// The migration.
pub(crate) const MIGRATION: NewTables = NewTables { name: "m20261130_000001_past_findings", tables: TABLES };

const TABLES: &[Table] = &[Table {
    name: "past_findings",
    // As in `consistency_findings`; two lives of one thing begin at different times.
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
            PRIMARY KEY (kind, resource_type, resource_id, user_id, opened_at)",
    options: "{clustered}",
    indexes: &[("past_findings_closed", "closed_at"), ("past_findings_seen", "seen_at")],
}];
