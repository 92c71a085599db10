//! All that differs between MySQL (and MariaDB) and SQLite.

/// Which SQL is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    #[cfg_attr(not(feature = "mysql"), expect(dead_code, reason = "nobody speaks it without its client"))]
    MySql,
    Sqlite,
}

impl Dialect {
    pub(crate) const fn is_sqlite(self) -> bool {
        matches!(self, Self::Sqlite)
    }

    /// After `INSERT ... VALUES ...`: an existing row stays as it is, and on MySQL is locked.
    ///
    /// Never `INSERT IGNORE`: that would also swallow errors of the data.
    pub(crate) fn keep_existing(self, key: &str) -> String {
        match self {
            Self::MySql => {
                let column = key.split(',').next().unwrap_or(key);
                format!(" ON DUPLICATE KEY UPDATE {column} = {column}")
            }
            Self::Sqlite => format!(" ON CONFLICT ({key}) DO NOTHING"),
        }
    }

    /// After `INSERT ... VALUES ...`: an existing row gets the new values of `columns`, unless `keep_when` holds of it.
    ///
    /// A column that `keep_when` reads comes last, because MySQL assigns from left to right.
    pub(crate) fn overwrite(self, key: &str, columns: &[&str], keep_when: Option<&str>) -> String {
        let assign = |column: &&str| match (self, keep_when) {
            (Self::MySql, Some(keep)) => format!("{column} = IF({keep}, {column}, {})", self.new_value(column)),
            _ => format!("{column} = {}", self.new_value(column)),
        };
        let set = columns.iter().map(assign).collect::<Vec<_>>().join(", ");
        match (self, keep_when) {
            (Self::MySql, _) => format!(" ON DUPLICATE KEY UPDATE {set}"),
            (Self::Sqlite, None) => format!(" ON CONFLICT ({key}) DO UPDATE SET {set}"),
            (Self::Sqlite, Some(keep)) => format!(" ON CONFLICT ({key}) DO UPDATE SET {set} WHERE NOT ({keep})"),
        }
    }

    /// Has an [`Self::overwrite`] that keeps final rows set `next_retry_at` of completed ones first. On SQLite it does not, where
    /// there is no broker.
    pub(crate) fn mark_completed(self, overwrite: &str) -> String {
        match self {
            Self::MySql => {
                let update = "ON DUPLICATE KEY UPDATE ";
                let (mark, new) = ("next_retry_at", self.new_value("next_retry_at"));
                let marked = format!("{update}{mark} = IF(status = 'discarded', {mark}, {new}), ");
                overwrite.replacen(update, &marked, 1)
            }
            Self::Sqlite => overwrite.to_owned(),
        }
    }

    /// After `INSERT ... VALUES ...`: what is assigned to an existing row, in MySQL's order: a column that others are made of comes
    /// after them.
    pub(crate) fn update_existing(self, key: &str, assignments: &str) -> String {
        match self {
            Self::MySql => format!(" ON DUPLICATE KEY UPDATE {assignments}"),
            Self::Sqlite => format!(" ON CONFLICT ({key}) DO UPDATE SET {assignments}"),
        }
    }

    /// In [`Self::overwrite`]: the value that the insert brings.
    pub(crate) fn new_value(self, column: &str) -> String {
        match self {
            Self::MySql => format!("VALUES({column})"),
            Self::Sqlite => format!("excluded.{column}"),
        }
    }

    /// The server's clock: UTC, to the microsecond (SQLite's: to the millisecond).
    pub(crate) const fn now(self) -> &'static str {
        match self {
            Self::MySql => "UTC_TIMESTAMP(6)",
            Self::Sqlite => "strftime('%Y-%m-%d %H:%M:%f', 'now')",
        }
    }

    /// The server's clock so many seconds ago, as [`Self::now`] writes it.
    pub(crate) fn earlier(self, seconds: u64) -> String {
        match self {
            Self::MySql => format!("UTC_TIMESTAMP(6) - INTERVAL {seconds} SECOND"),
            Self::Sqlite => format!("strftime('%Y-%m-%d %H:%M:%f', 'now', '-{seconds} seconds')"),
        }
    }

    /// How old a time in `column` is by the server's clock, in microseconds (SQLite: whole seconds).
    pub(crate) fn age_us(self, column: &str) -> String {
        match self {
            Self::MySql => format!("TIMESTAMPDIFF(MICROSECOND, {column}, UTC_TIMESTAMP(6))"),
            Self::Sqlite => {
                format!(
                    "(CAST(strftime('%s', 'now') AS INTEGER) - CAST(strftime('%s', {column}) AS INTEGER)) * 1000000"
                )
            }
        }
    }

    /// What stands between `(a, b) IN (` and the list of rows.
    pub(crate) const fn row_list(self) -> &'static str {
        match self {
            Self::MySql => "",
            Self::Sqlite => "VALUES ",
        }
    }

    /// After a table's name: long lists of keys must not make the optimizer prefer a scan.
    pub(crate) const fn by_primary_key(self) -> &'static str {
        match self {
            Self::MySql => " FORCE INDEX (PRIMARY)",
            Self::Sqlite => "",
        }
    }

    /// The same for the index that begins with the resource.
    pub(crate) const fn by_resource(self, kind: domain::ResourceType) -> &'static str {
        match self {
            Self::MySql => kind.forced_index(),
            Self::Sqlite => "",
        }
    }

    /// After a SELECT: lock the rows. A SQLite write transaction holds the whole database anyway.
    pub(crate) const fn for_update(self) -> &'static str {
        match self {
            Self::MySql => " FOR UPDATE",
            Self::Sqlite => "",
        }
    }

    /// The same, beside others who only read. MariaDB does not know `FOR SHARE`.
    pub(crate) const fn for_share(self) -> &'static str {
        match self {
            Self::MySql => " LOCK IN SHARE MODE",
            Self::Sqlite => "",
        }
    }

    /// The same, leaving out what another transaction holds.
    pub(crate) const fn skip_locked(self) -> &'static str {
        match self {
            Self::MySql => " FOR UPDATE SKIP LOCKED",
            Self::Sqlite => "",
        }
    }

    /// The same, failing at once where another transaction holds something.
    pub(crate) const fn no_wait(self) -> &'static str {
        match self {
            Self::MySql => " FOR UPDATE NOWAIT",
            Self::Sqlite => "",
        }
    }

    /// Before and after a hexadecimal literal that is text.
    pub(crate) const fn text_literal(self) -> (&'static str, &'static str) {
        match self {
            Self::MySql => ("_utf8mb4 X'", "'"),
            Self::Sqlite => ("CAST(X'", "' AS TEXT)"),
        }
    }
}
