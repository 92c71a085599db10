//! What operators did with events: one row per call, and which events it touched.
//!
//! `operator_events (event_id, action_id)`: an event's story is read by its id.

use crate::schema::{NewTables, Table};

/// The migration.
pub(crate) const MIGRATION: NewTables = NewTables { name: "m20260201_000001_operators", tables: TABLES };

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
