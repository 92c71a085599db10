//! Idempotency keys with what their first call was told, for the paths that no cache serves.
//!
//! The unique key answers a repetition; `idempotency_keys_by_time` serves retention.

use crate::schema::{NewTables, Table};

/// The migration.
pub(crate) const MIGRATION: NewTables = NewTables { name: "m20261126_000001_idempotency_keys", tables: TABLES };

const TABLES: &[Table] = &[Table {
    name: "idempotency_keys",
    columns: "id {serial},
            user_id BIGINT NOT NULL,
            resource_type {word} NOT NULL,
            resource_id BIGINT NOT NULL,
            idempotency_key {key} NOT NULL,
            liked BIGINT NOT NULL,
            version BIGINT NOT NULL,
            changed BIGINT NOT NULL,
            created_at {time} NOT NULL,
            UNIQUE (user_id, resource_type, resource_id, idempotency_key)",
    options: "{heap}",
    indexes: &[("idempotency_keys_by_time", "created_at")],
}];
