//! What the page of operators remembers: the processes of an installation, and a day of samples of a minute each.
//!
//! Both are in the database because every process has it and it outlives them; a cache may be emptied. They are small: a row
//! for each process, 1,500 minutes.

use crate::schema::{NewTables, Table};

/// The migration.
pub(crate) const MIGRATION: NewTables = NewTables { name: "m20261129_000001_page", tables: TABLES };

const TABLES: &[Table] = &[
    Table {
        name: "sync_processes",
        columns: "service {word} NOT NULL,
            instance {key} NOT NULL,
            version {word} NOT NULL,
            status {word} NOT NULL,
            detail {long_text} NULL,
            started_at {time} NOT NULL,
            seen_at {time} NOT NULL,
            PRIMARY KEY (service, instance)",
        options: "{clustered}",
        indexes: &[],
    },
    Table {
        name: "sync_samples",
        // Minutes since 1970. What could not be asked is NULL.
        columns: "sampled_minute BIGINT NOT NULL,
            accepted BIGINT NULL,
            journal BIGINT NULL,
            queue BIGINT NULL,
            lag_p50_ms BIGINT NULL,
            lag_p99_ms BIGINT NULL,
            failed BIGINT NULL,
            dead BIGINT NULL,
            open_findings BIGINT NULL,
            consistent_ppm BIGINT NULL,
            PRIMARY KEY (sampled_minute)",
        options: "{clustered}",
        indexes: &[],
    },
];
