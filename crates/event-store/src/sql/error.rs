//! Why a call failed, sorted by what the caller should do about it.
//!
//! Policy: only what is proven to be the fault of this data (constraint, bad value, a trigger's SIGNAL) is
//! [`StoreError::Rejected`]: find the event that is to blame. Whatever else the server says (no connection, server
//! stopping, read-only, disk full, storage engine failing, schema missing, access denied, and all that is in no table
//! here) concerns everybody and is [`StoreError::Unavailable`]: wait, and try the same again. Blaming an event for it would
//! park good ones, and in the end give them up. Deadlocks and lock waits are retried inside and seen as [`StoreError::Conflict`] when that did not help.

#[cfg(feature = "mysql")]
use sea_orm::sqlx::mysql::MySqlDatabaseError;
use sea_orm::{DbErr, RuntimeErr, sqlx};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why the store did not do what it was asked. Unless it is a read, whether an unavailable store did it is unknown:
/// calls are safe to repeat.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is unreachable, or useless to everybody: wait and repeat.
    #[error("database is unavailable: {0}")]
    Unavailable(#[source] Cause),
    /// The database refuses this data: repeating does not help.
    #[error("database refused: {0}")]
    Rejected(#[source] Cause),
    /// Deadlock or lock wait, also after several attempts: repeat later.
    #[error("database is contended: {0}")]
    Conflict(#[source] Cause),
    /// The call's own time was over before it could be committed; it was taken back.
    #[error("the call came too late")]
    TooLate,
    /// The data was written with another number of shards.
    #[error("database holds data of {stored} shards, configured are {configured}")]
    ShardMismatch {
        /// Found in the database.
        stored: u16,
        /// In the configuration.
        configured: u16,
    },
    /// A row holds what this code never writes.
    #[error("corrupt row in {table}: {reason}")]
    Corrupt {
        /// Where.
        table: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The configuration cannot work; never contains the url.
    #[error("database configuration: {0}")]
    Config(String),
}

impl StoreError {
    /// Whether the database is unreachable (or useless to everybody), as opposed to unhappy with this call.
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// Whether another transaction was in the way.
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }

    pub(crate) fn corrupt(table: &'static str, reason: impl ToString) -> Self {
        Self::Corrupt { table, reason: reason.to_string() }
    }
}

/// An attempt took longer than `query_timeout`.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}")]
pub(crate) struct TimedOut(pub(crate) std::time::Duration);

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match kind_of(&error) {
            Kind::Unavailable => Self::Unavailable(error.into()),
            Kind::Rejected => Self::Rejected(error.into()),
            Kind::Conflict => Self::Conflict(error.into()),
        }
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        let kind = match &error {
            DbErr::Conn(RuntimeErr::SqlxError(cause))
            | DbErr::Exec(RuntimeErr::SqlxError(cause))
            | DbErr::Query(RuntimeErr::SqlxError(cause)) => kind_of(cause),
            DbErr::Conn(_) | DbErr::ConnectionAcquire(_) => Kind::Unavailable,
            _ => Kind::Rejected,
        };
        match kind {
            Kind::Unavailable => Self::Unavailable(error.into()),
            Kind::Rejected => Self::Rejected(error.into()),
            Kind::Conflict => Self::Conflict(error.into()),
        }
    }
}

enum Kind {
    Unavailable,
    Rejected,
    Conflict,
}

fn kind_of(error: &sqlx::Error) -> Kind {
    let Some(database) = error.as_database_error() else {
        return match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::Encode(_) => Kind::Rejected,
            _ => Kind::Unavailable,
        };
    };
    #[cfg(feature = "mysql")]
    if let Some(mysql) = database.try_downcast_ref::<MySqlDatabaseError>() {
        return mysql_kind(mysql.number(), mysql.code());
    }
    sqlite_kind(database.code().as_deref())
}

#[cfg(feature = "mysql")]
fn mysql_kind(number: u16, state: Option<&str>) -> Kind {
    match (number, state) {
        // deadlock; lock wait timeout; NOWAIT failed; record changed since last read (MariaDB snapshot isolation)
        (1213 | 1205 | 3572 | 1020, _) | (_, Some("40001")) => Kind::Conflict,
        // no default value; bad text; check constraint of MariaDB, of MySQL
        (1364 | 1366 | 4025 | 3819, _) => Kind::Rejected,
        // data exception; integrity constraint violation; SIGNAL of a trigger
        (_, Some(state)) if state.starts_with("22") || state.starts_with("23") || state == "45000" => Kind::Rejected,
        _ => Kind::Unavailable,
    }
}

/// Primary result codes are the low byte of the extended code.
fn sqlite_kind(code: Option<&str>) -> Kind {
    let primary = code.and_then(|code| code.parse::<u32>().ok()).map_or(0, |code| code & 0xFF);
    match primary {
        // busy, locked
        5 | 6 => Kind::Conflict,
        // generic (schema missing), perm, nomem, read-only, interrupt, I/O, corrupt, full, cannot open, schema, not a database
        1 | 3 | 7 | 8 | 9 | 10 | 11 | 13 | 14 | 17 | 26 => Kind::Unavailable,
        _ => Kind::Rejected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "mysql")]
    #[test]
    fn errors_of_mysql_are_sorted_by_what_to_do() {
        assert!(matches!(mysql_kind(1213, Some("40001")), Kind::Conflict));
        assert!(matches!(mysql_kind(1290, Some("HY000")), Kind::Unavailable));
        assert!(matches!(mysql_kind(1146, Some("42S02")), Kind::Unavailable));
        assert!(matches!(mysql_kind(1644, Some("45000")), Kind::Rejected));
        assert!(matches!(mysql_kind(1406, Some("22001")), Kind::Rejected));
        assert!(matches!(mysql_kind(1062, Some("23000")), Kind::Rejected));
        // Storage engine, error during commit, unknown, binary log format, full disk, read-only; and what nobody knows.
        for number in [1030, 1180, 1105, 1665, 1021, 1290, 1792, 1836, 1142, 1044, 1153, 3101, 65_000] {
            assert!(matches!(mysql_kind(number, Some("HY000")), Kind::Unavailable), "{number}");
        }
    }

    #[test]
    fn errors_of_sqlite_are_sorted_by_what_to_do() {
        assert!(matches!(sqlite_kind(Some("517")), Kind::Conflict));
        assert!(matches!(sqlite_kind(Some("1555")), Kind::Rejected));
        assert!(matches!(sqlite_kind(Some("13")), Kind::Unavailable));
    }
}
