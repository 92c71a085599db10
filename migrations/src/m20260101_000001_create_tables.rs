//! All tables of the first release.
//!
//! Secondary indexes cost every insert, so there is one only where a query needs it:
//!
//! - `sync_events (status, next_retry_at)`: what is due; and, ids being UUID v7, each status in order of time, which
//!   serves listing and retention. Completed rows have no `next_retry_at`.
//! - `*_likes`: latest likes of a user and latest likers of a resource. `deleted_at` stands before `version`, so that
//!   tombstones are skipped without being read.

use crate::schema::{NewTables, Table, likes_table};

/// The migration.
pub(crate) const MIGRATION: NewTables = NewTables { name: "m20260101_000001_create_tables", tables: TABLES };

const TABLES: &[Table] = &[
    Table {
        name: "sync_events",
        columns: "id {uuid} NOT NULL,
            event_type {word} NOT NULL,
            resource_type {word} NOT NULL,
            resource_id BIGINT NOT NULL,
            user_id BIGINT NOT NULL,
            action_type {word} NOT NULL,
            version BIGINT NOT NULL,
            status {word} NOT NULL,
            origin {word} NOT NULL,
            retry_count INT NOT NULL DEFAULT 0,
            max_retries INT NOT NULL DEFAULT 0,
            next_retry_at {time} NULL,
            priority TINYINT NOT NULL DEFAULT 0,
            idempotency_key VARCHAR(128) NULL,
            error_message {long_text} NULL,
            created_at {time} NOT NULL,
            processed_at {time} NULL,
            updated_at {time} NOT NULL,
            PRIMARY KEY (id)",
        options: "{clustered}",
        indexes: &[("sync_events_status_due", "status, next_retry_at")],
    },
    Table {
        name: "user_behaviors",
        columns: "event_id {uuid} NOT NULL,
            user_id BIGINT NOT NULL,
            video_id BIGINT NOT NULL,
            behavior_type {word} NOT NULL,
            behavior_time {time} NOT NULL,
            version BIGINT NOT NULL,
            PRIMARY KEY (event_id)",
        options: "{clustered}",
        indexes: &[],
    },
    likes_table!("video"),
    likes_table!("comment"),
    Table {
        name: "like_counts",
        columns: "resource_type {word} NOT NULL,
            resource_id BIGINT NOT NULL,
            like_count BIGINT NOT NULL,
            revision BIGINT NOT NULL,
            last_version BIGINT NOT NULL,
            updated_at {time} NOT NULL,
            PRIMARY KEY (resource_type, resource_id)",
        options: "{clustered}",
        indexes: &[],
    },
    Table {
        name: "cache_refreshes",
        columns: "id {serial},
            resource_type {word} NOT NULL,
            resource_id BIGINT NOT NULL,
            user_id BIGINT NOT NULL,
            version BIGINT NOT NULL,
            created_at {time} NOT NULL",
        options: "{heap}",
        indexes: &[],
    },
    Table {
        name: "consistency_runs",
        columns: "id {uuid} NOT NULL,
            kind {word} NOT NULL,
            strategy {word} NOT NULL,
            status {word} NOT NULL,
            started_at {time} NOT NULL,
            finished_at {time} NULL,
            checked BIGINT NOT NULL DEFAULT 0,
            inconsistent BIGINT NOT NULL DEFAULT 0,
            repaired BIGINT NOT NULL DEFAULT 0,
            coverage DOUBLE NULL,
            PRIMARY KEY (id)",
        options: "{clustered}",
        indexes: &[("consistency_runs_started", "started_at")],
    },
    Table {
        name: "data_consistency_checks",
        columns: "id {serial},
            run_id {uuid} NOT NULL,
            resource_type {word} NOT NULL,
            resource_id BIGINT NOT NULL,
            user_id BIGINT NULL,
            kind {word} NOT NULL,
            verdict {word} NOT NULL,
            cache_value BIGINT NULL,
            stored_value BIGINT NULL,
            details {long_text} NULL,
            repaired_at {time} NULL,
            created_at {time} NOT NULL",
        options: "{heap}",
        indexes: &[("data_consistency_checks_run", "run_id"), ("data_consistency_checks_created", "created_at")],
    },
    Table {
        name: "sync_meta",
        columns: "name VARCHAR(64) NOT NULL,
            value VARCHAR(255) NOT NULL,
            PRIMARY KEY (name)",
        options: "{clustered}",
        indexes: &[],
    },
];
