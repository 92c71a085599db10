//! Why a call failed, sorted by what the caller should do about it: the one table of what an error of the database means.
//!
//! Policy: only what is proven to be the fault of this data (constraint, bad value, a trigger's SIGNAL) is
//! [`StoreError::Rejected`]: find the event that is to blame. Whatever else the server says (no connection, server
//! stopping, read-only, disk full, storage engine failing, schema missing, access denied, and all that is in no table
//! here) concerns everybody and is [`StoreError::Unavailable`]: wait, and try the same again. Blaming an event for it would
//! park good ones, and in the end give them up. Deadlocks and lock waits are retried inside and seen as
//! [`StoreError::Conflict`] when that did not help. What is rejected is still nobody's fault if every other row of its kind is
//! rejected, too ([`EventStore::takes_others`](crate::EventStore::takes_others)).
//!
//! | meaning | what becomes of it | errors of MySQL and MariaDB |
//! |---|---|---|
//! | `Conflict` | repeated | 1205, 1213, 1020, 3101, 3572, SQLSTATE 40001 |
//! | `Rejected` | somebody is to blame | 1364, 1366, 3819, 4025, SQLSTATE 22…, 23…, 45000 |
//! | `TooLarge` | fewer at once | 1153, 1197 |
//! | `Elsewhere`: not the one that writes, or not any more | wait; no connection of before is used again | 1036, 1290, 1792, 1836, 1047, 1053, 1927 |
//! | `Settings`: somebody must change something, which the error names | the same: settings and rights belong to connections | 1044, 1045, 1049, 1104, 1142, 1143, 1146, 1175, 1227, 1665, 1969, 3024 |
//! | `Later` | wait | 1021, 1026, 1030, 1040, 1105, 1114, 1180, 1203, 1226, and all others |

#[cfg(feature = "mysql")]
use crate::sql::account;
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
    /// More at once than the server takes: nothing is wrong with it, repeat with less. If it cannot be less, the server is of
    /// no use as it is.
    #[error("database does not take so much at once (max_allowed_packet, max_binlog_cache_size): {0}")]
    TooLarge(#[source] Cause),
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
    /// A newer release has changed the schema so that this one would do harm.
    #[error("the database is of a newer release: programs must know its migration {needed}, and this one does not")]
    TooOld {
        /// The migration.
        needed: String,
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
        matches!(self, Self::Unavailable(_) | Self::TooLarge(_))
    }

    /// Whether less at once would do.
    pub const fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLarge(_))
    }

    /// Whether another transaction was in the way.
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }

    /// Whether connections of before are of no use any more: they lead to a server that does not write, or were told other
    /// settings and rights than hold now.
    pub(crate) fn ends_connections(&self) -> bool {
        match self {
            Self::TooLarge(_) => true,
            Self::Unavailable(cause) => cause
                .downcast_ref::<Fault>()
                .is_some_and(|fault| matches!(fault.meaning, Meaning::Elsewhere | Meaning::Settings)),
            _ => false,
        }
    }

    /// Whether the server only reads: it is a replica, or a primary that was demoted.
    pub fn only_reads_there(&self) -> bool {
        let Self::Unavailable(cause) = self else { return false };
        cause.downcast_ref::<Fault>().is_some_and(|fault| fault.advice == ONLY_READS)
    }

    /// Whether the account of `database.url` may not do it.
    pub fn is_denied(&self) -> bool {
        let Self::Unavailable(cause) = self else { return false };
        cause.downcast_ref::<Fault>().is_some_and(|fault| fault.advice.starts_with("it is granted by"))
    }

    /// Somebody else has to apply these.
    pub(crate) fn lacks_schema(pending: &[String]) -> Self {
        let error = format!("the schema lacks {}", pending.join(", "));
        let advice = "applied by: syncctl migrate, with a user who may create tables (database.auto_migrate is false)";
        Self::of(Meaning::Later, error.into(), advice.to_owned())
    }

    /// The server said so when it was asked.
    pub(crate) fn only_reads() -> Self {
        Self::of(Meaning::Elsewhere, "read_only is set".into(), ONLY_READS.to_owned())
    }

    /// What the probe waited for in vain. Others wait as long as it takes.
    pub(crate) fn or_locked(self) -> Self {
        match self {
            Self::Conflict(error) => Self::of(Meaning::Later, error, LOCKED.to_owned()),
            other => other,
        }
    }

    /// Two servers say that they write.
    #[cfg(feature = "mysql")]
    pub(crate) fn two_write(first: &str, second: &str) -> Self {
        let error = format!("{first} and {second} both say that they write");
        Self::of(Meaning::Elsewhere, error.into(), "the one that is to be a replica needs read_only".to_owned())
    }

    /// The pool has tried for as long as it may.
    #[cfg(feature = "mysql")]
    pub(crate) fn nobody_answers(why: String) -> Self {
        Self::of(Meaning::Later, why.into(), String::new())
    }

    #[cfg(all(test, feature = "mysql"))]
    pub(crate) fn denied(advice: String) -> Self {
        Self::of(Meaning::Settings, "denied".into(), advice)
    }

    /// With another advice, where it has one.
    #[cfg(feature = "mysql")]
    pub(crate) fn advise(mut self, advice: impl FnOnce(&str) -> String) -> Self {
        if let Self::Unavailable(cause) = &mut self
            && let Some(fault) = cause.downcast_mut::<Fault>()
        {
            fault.advice = advice(&fault.advice);
        }
        self
    }

    pub(crate) fn corrupt(table: &'static str, reason: impl ToString) -> Self {
        Self::Corrupt { table, reason: reason.to_string() }
    }

    fn of(meaning: Meaning, error: Cause, advice: String) -> Self {
        match meaning {
            Meaning::Conflict => Self::Conflict(error),
            Meaning::Rejected => Self::Rejected(error),
            Meaning::TooLarge => Self::TooLarge(error),
            Meaning::Elsewhere | Meaning::Settings | Meaning::Later => {
                Self::Unavailable(Fault { meaning, error, advice }.into())
            }
        }
    }
}

/// An attempt took longer than `query_timeout`.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {limit:?}{}{}", if why.is_some() { "; " } else { "" }, why.as_deref().unwrap_or_default())]
pub(crate) struct TimedOut {
    pub(crate) limit: std::time::Duration,
    /// Where that is known.
    pub(crate) why: Option<String>,
}

/// A script is longer than the server said it takes; it was not sent.
#[cfg_attr(not(feature = "mysql"), expect(dead_code, reason = "only MySQL says so"))]
#[derive(Debug, thiserror::Error)]
#[error("{length} bytes, at most {limit}")]
pub(crate) struct TooLong {
    pub(crate) length: usize,
    pub(crate) limit: usize,
}

/// What makes the database useless, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{error}{}{advice}", if advice.is_empty() { "" } else { "; " })]
struct Fault {
    meaning: Meaning,
    #[source]
    error: Cause,
    advice: String,
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let (meaning, advice) = judge(&error);
        Self::of(meaning, error.into(), advice)
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        let (meaning, advice) = match &error {
            DbErr::Conn(RuntimeErr::SqlxError(cause))
            | DbErr::Exec(RuntimeErr::SqlxError(cause))
            | DbErr::Query(RuntimeErr::SqlxError(cause)) => judge(cause),
            // A schema of a newer release.
            DbErr::Custom(_) | DbErr::Migration(_) => (Meaning::Rejected, String::new()),
            _ => (Meaning::Later, String::new()),
        };
        Self::of(meaning, error.into(), advice)
    }
}

/// See the head of the module.
#[cfg_attr(not(feature = "mysql"), expect(dead_code, reason = "only MySQL says so"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Conflict,
    Rejected,
    TooLarge,
    Elsewhere,
    Settings,
    Later,
}

const TLS: &str = "this user logs in by caching_sha2_password or sha256_password, which needs TLS: use ssl-mode=REQUIRED in \
                   database.url (PREFERRED, the default, also uses it where the server has it)";

fn judge(error: &sqlx::Error) -> (Meaning, String) {
    let Some(database) = error.as_database_error() else {
        return match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::Encode(_) => {
                (Meaning::Rejected, String::new())
            }
            // The driver would have to encrypt the password by itself, by a library that has a known weakness.
            sqlx::Error::Configuration(cause) if cause.to_string().contains("RSA") => {
                (Meaning::Settings, TLS.to_owned())
            }
            _ => (Meaning::Later, String::new()),
        };
    };
    #[cfg(feature = "mysql")]
    if let Some(mysql) = database.try_downcast_ref::<MySqlDatabaseError>() {
        let (meaning, advice) = of_mysql(mysql.number(), mysql.code());
        return (meaning, if advice == GRANT { account::grant(mysql.message()) } else { advice.to_owned() });
    }
    (of_sqlite(database.code().as_deref()), String::new())
}

const ONLY_READS: &str =
    "it only reads: database.url must lead to the server that writes, or database.hosts name all servers";

/// We set them when we connect, so somebody sets them after that, or for one kind of statement.
#[cfg(feature = "mysql")]
const SESSION: &str = "the session has settings that are not ours (sql_safe_updates, max_join_size, max_statement_time, \
                       max_execution_time): look for a proxy that sets them";

/// The error of the probe, which touches no row that somebody else may hold.
const LOCKED: &str = "somebody locks a table, or the whole server (LOCK TABLES, FLUSH TABLES WITH READ LOCK, an ALTER TABLE that \
                      goes on): SHOW PROCESSLIST tells who, UNLOCK TABLES or KILL ends it";

#[cfg(feature = "mysql")]
const USER_LIMIT: &str = "a limit of this user is reached, max_user_connections or the one that the error names: ALTER USER \
                          <user of database.url> WITH MAX_USER_CONNECTIONS, MAX_QUERIES_PER_HOUR, MAX_UPDATES_PER_HOUR or \
                          MAX_CONNECTIONS_PER_HOUR sets it; fewer connections: database.max_connections";

/// Stands for the statement that grants what the message says is denied.
#[cfg(feature = "mysql")]
const GRANT: &str = "GRANT";

#[cfg(feature = "mysql")]
fn of_mysql(number: u16, state: Option<&str>) -> (Meaning, &'static str) {
    use Meaning::*;
    match (number, state) {
        // deadlock; lock wait timeout; NOWAIT failed; record changed since last read (MariaDB snapshot isolation); rolled back by
        // a group whose other member came first; partitions changed meanwhile, which a transaction or a name that is gone shows
        (1213 | 1205 | 3572 | 1020 | 3101 | 1412 | 1735, _) | (_, Some("40001")) => (Conflict, ""),
        // no default value; bad text; check constraint of MariaDB, of MySQL
        (1364 | 1366 | 4025 | 3819, _) => (Rejected, ""),
        (1153 | 1197, _) => (TooLarge, ""),
        (1036 | 1290 | 1792 | 1836, _) => (Elsewhere, ONLY_READS),
        (1047, _) => (Elsewhere, "this node is not part of the cluster now"),
        // shutting down; killed
        (1053 | 1927, _) => (Elsewhere, ""),
        (1104 | 1175 | 1969 | 3024, _) => (Settings, SESSION),
        (1665, _) => (Settings, "the server's binlog_format must be ROW or MIXED"),
        (1044 | 1142 | 1143 | 1227, _) => (Settings, GRANT),
        (1045, _) => (Settings, "user or password in database.url is wrong"),
        (1049, _) => (Settings, "the database is created by: CREATE DATABASE <database>"),
        (1146, _) => (Settings, "the tables are created by: syncctl migrate"),
        (1021 | 1114, _) => (Later, "its disk is full"),
        (1026, _) => (Later, "its disk takes no writes"),
        (1040, _) => (Later, "more connections are needed than it allows (max_connections)"),
        (1203 | 1226, _) => (Later, USER_LIMIT),
        // data exception; integrity constraint violation; SIGNAL of a trigger
        (_, Some(state)) if state.starts_with("22") || state.starts_with("23") || state == "45000" => (Rejected, ""),
        _ => (Later, ""),
    }
}

/// Primary result codes are the low byte of the extended code.
fn of_sqlite(code: Option<&str>) -> Meaning {
    let primary = code.and_then(|code| code.parse::<u32>().ok()).map_or(0, |code| code & 0xFF);
    match primary {
        // busy, locked
        5 | 6 => Meaning::Conflict,
        // too big, constraint (RAISE of a trigger is one), type mismatch, bad parameter
        18 | 19 | 20 | 25 => Meaning::Rejected,
        // generic (schema missing), perm, nomem, read-only, interrupt, I/O, corrupt, full, cannot open, schema, not a database, ...
        _ => Meaning::Later,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "mysql")]
    #[test]
    fn errors_of_mysql_are_sorted_by_what_to_do() {
        let of = |number, state| of_mysql(number, Some(state)).0;
        assert_eq!(of(1213, "40001"), Meaning::Conflict);
        assert_eq!(of(3101, "HY000"), Meaning::Conflict);
        assert_eq!((of(1412, "HY000"), of(1735, "HY000")), (Meaning::Conflict, Meaning::Conflict));
        assert_eq!(of(1290, "HY000"), Meaning::Elsewhere);
        assert_eq!(of(1146, "42S02"), Meaning::Settings);
        assert_eq!(of(1969, "70100"), Meaning::Settings);
        assert_eq!(of(1153, "08S01"), Meaning::TooLarge);
        assert_eq!(of(1644, "45000"), Meaning::Rejected);
        assert_eq!(of(1406, "22001"), Meaning::Rejected);
        assert_eq!(of(1062, "23000"), Meaning::Rejected);
        // Storage engine, error during commit, unknown, binary log format, full disk, read-only; and what nobody knows.
        for number in [1030, 1180, 1105, 1665, 1021, 1290, 1792, 1836, 1142, 1044, 65_000] {
            let (meaning, advice) = of_mysql(number, Some("HY000"));
            assert!(StoreError::of(meaning, "x".into(), advice.to_owned()).is_unavailable(), "{number}");
        }
    }

    /// As the driver says it, built without a library of its own.
    #[test]
    fn a_login_that_needs_tls_says_so() {
        let driver =
            "RSA auth backend disabled; enable feature `mysql-rsa` (or `rsa` if using sqlx-mysql directly) or use TLS.";
        let error = StoreError::from(sqlx::Error::Configuration(driver.into()));
        assert!(error.is_unavailable(), "{error}");
        let StoreError::Unavailable(cause) = error else { panic!("sorted otherwise") };
        assert!(cause.to_string().ends_with(TLS), "{cause}");
    }

    #[test]
    fn errors_of_sqlite_are_sorted_by_what_to_do() {
        assert_eq!(of_sqlite(Some("517")), Meaning::Conflict);
        assert_eq!(of_sqlite(Some("1555")), Meaning::Rejected);
        assert_eq!(of_sqlite(Some("1811")), Meaning::Rejected);
        assert_eq!(of_sqlite(Some("13")), Meaning::Later);
        assert_eq!(of_sqlite(Some("250")), Meaning::Later);
    }
}
