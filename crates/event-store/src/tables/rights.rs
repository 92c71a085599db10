//! What the account of each program may do: no more than it does.
//!
//! All read everything. Rows are written where likes, their accounting and reports are; only who does it for good deletes
//! some: consumers what is over and what is erased, checkers old reports. Nobody here deletes counters or fences, and
//! nobody changes a table: that is the owner's alone. One exception: consumers, who drop what is old with its partition, may
//! change the two tables that are cut, and lock tables.

use crate::sql::error::StoreError;
use crate::sql::store::{EventStore, get, row, rows};
use domain::ResourceType;
use std::fmt;
use std::str::FromStr;

/// Whose account it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// interaction-server.
    Serve,
    /// sync-consumer.
    Consume,
    /// consistency-checker.
    Check,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Serve, Self::Consume, Self::Check];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Consume => "consume",
            Self::Check => "check",
        }
    }

    /// On the tables of likes.
    const fn of_likes(self) -> &'static str {
        match self {
            Self::Consume => "INSERT, UPDATE, DELETE",
            Self::Serve | Self::Check => "INSERT, UPDATE",
        }
    }

    /// On the whole database, besides reading.
    const fn of_all(self) -> &'static str {
        match self {
            Self::Consume => "LOCK TABLES",
            Self::Serve | Self::Check => "",
        }
    }

    const fn rights(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Serve => &[("INSERT", "operator_actions"), ("INSERT", "operator_events")],
            Self::Consume => &[
                ("INSERT, UPDATE", "archived_tombstones"),
                ("DELETE", "sync_events"),
                ("DELETE", "idempotency_keys"),
                ("UPDATE, DELETE", "unpublished_changes"),
                ("DELETE", "liked_slices"),
                ("DELETE", "sync_writers"),
                ("UPDATE, DELETE", "operator_actions"),
                ("DELETE", "operator_events"),
                // Of erased users and deleted resources.
                ("DELETE", "user_behaviors"),
                // Whose old partitions are exchanged for tables, which are dropped.
                (OF_CUT, "sync_events"),
                (OF_CUT, "sync_events_leaving"),
                (OF_CUT, "user_behaviors"),
                (OF_CUT, "user_behaviors_leaving"),
                ("DELETE", "archived_tombstones"),
                ("DELETE", "data_consistency_checks"),
                ("DELETE", "consistency_findings"),
                ("DELETE", "past_findings"),
            ],
            Self::Check => &[
                ("DELETE", "consistency_runs"),
                ("DELETE", "data_consistency_checks"),
                ("DELETE", "consistency_findings"),
                ("DELETE", "past_findings"),
            ],
        }
    }
}

/// What it takes to drop a partition, and to make another one.
const OF_CUT: &str = "INSERT, CREATE, DROP, ALTER";

/// What each of them does, beside likes.
const EVERYBODY: &[(&str, &str)] = &[
    ("INSERT, UPDATE", "sync_events"),
    ("INSERT, UPDATE", "user_behaviors"),
    ("INSERT, UPDATE", "like_counts"),
    ("INSERT, UPDATE", "idempotency_keys"),
    ("INSERT, UPDATE", "sync_writers"),
    ("INSERT, UPDATE", "erased_users"),
    ("INSERT, UPDATE", "deleted_resources"),
    ("INSERT, UPDATE", "consistency_runs"),
    ("INSERT, UPDATE", "data_consistency_checks"),
    ("INSERT, UPDATE", "consistency_findings"),
    ("INSERT, UPDATE", "past_findings"),
    ("INSERT", "unpublished_changes"),
    ("INSERT, UPDATE", "liked_slices"),
    ("INSERT, UPDATE, DELETE", "cache_refreshes"),
    ("INSERT, UPDATE, DELETE", "sync_meta"),
    ("INSERT, UPDATE, DELETE", "sync_processes"),
    ("INSERT, UPDATE, DELETE", "sync_samples"),
];

const TABLES: &str = "information_schema.tables";

/// What can be granted on a table, but reading.
const OF_TABLES: [&str; 12] = [
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "DROP",
    "REFERENCES",
    "INDEX",
    "ALTER",
    "CREATE VIEW",
    "SHOW VIEW",
    "TRIGGER",
    "GRANT OPTION",
];

/// The same on a whole database.
const OF_DATABASES: [&str; 18] = [
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "DROP",
    "REFERENCES",
    "INDEX",
    "ALTER",
    "CREATE TEMPORARY TABLES",
    "LOCK TABLES",
    "EXECUTE",
    "CREATE VIEW",
    "SHOW VIEW",
    "CREATE ROUTINE",
    "ALTER ROUTINE",
    "EVENT",
    "TRIGGER",
    "GRANT OPTION",
];

/// An account that a role is given to, written `role=user` or `role=user@host`; without a host it is `%`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// What it may do.
    pub role: Role,
    user: String,
    host: String,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'@'{}'", self.user, self.host)
    }
}

impl FromStr for Account {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (role, account) = text.split_once('=').ok_or("must be role=user or role=user@host")?;
        let roles = || "the role must be serve, consume or check".to_owned();
        let role = Role::ALL.into_iter().find(|known| known.name() == role).ok_or_else(roles)?;
        let (user, host) = account.split_once('@').unwrap_or((account, "%"));
        // They are written into a statement.
        let plain = |text: &str, also: &[char]| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || also.contains(&c))
        };
        if !plain(user, &['-', '.']) || !plain(host, &['-', '.', '%', ':', '/']) {
            return Err("user and host must be letters, digits, _ - and ., of hosts also % : and /".to_owned());
        }
        Ok(Self { role, user: user.to_owned(), host: host.to_owned() })
    }
}

impl EventStore {
    /// Gives an account the rights of its role, and takes away what else it had of this database. Who calls owns the schema and may
    /// grant (`WITH GRANT OPTION`), and is another account. What the account needs it has all the time meanwhile.
    pub async fn grant(&self, account: &Account) -> Result<(), StoreError> {
        let mut script = self.script();
        if script.dialect().is_sqlite() {
            return Err(StoreError::Config("accounts: SQLite has none".into()));
        }
        script.begin("SELECT CURRENT_USER()");
        script.begin("SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()");
        script.words(" AND table_type = 'BASE TABLE'");
        let results = self.read(&script).await?;
        let own: String = get(row(&results, 0, TABLES)?, 0, TABLES)?;
        if own == format!("{}@{}", account.user, account.host) {
            let why = "it is the one that owns the schema: it would lose what the next migration needs";
            return Err(StoreError::Config(format!("{account}: {why}")));
        }
        let (to, from) = (format!(" TO {account}"), format!(" FROM {account}"));
        let mut script = self.script();
        // All of this database; what is revoked would be refused where there is nothing to take away.
        script.begin("GRANT SELECT, INSERT, UPDATE, DELETE ON *").words(&to);
        let of_all = account.role.of_all();
        if !of_all.is_empty() {
            script.begin("GRANT ").words(of_all).words(" ON *").words(&to);
        }
        let of_likes = account.role.of_likes();
        let likes = ResourceType::ALL.map(|kind| (of_likes, kind.likes_table()));
        let given: Vec<(&str, &str)> = EVERYBODY.iter().chain(account.role.rights()).chain(&likes).copied().collect();
        for (rights, table) in &given {
            script.begin("GRANT ").words(rights).words(" ON ").words(table).words(&to);
        }
        for row in rows(&results, 1) {
            let table: String = get(row, 0, TABLES)?;
            let has = |right: &str| {
                given.iter().any(|(rights, of)| *of == table && rights.split(", ").any(|given| given == right))
            };
            let never = OF_TABLES.iter().filter(|right| !has(right)).copied().collect::<Vec<_>>().join(", ");
            script.begin("GRANT INSERT ON `").words(&table).words("`").words(&to);
            script.begin("REVOKE ").words(&never).words(" ON `").words(&table).words("`").words(&from);
        }
        let never = OF_DATABASES.iter().filter(|right| **right != of_all).copied().collect::<Vec<_>>().join(", ");
        script.begin("REVOKE ").words(&never).words(" ON *").words(&from);
        self.read(&script).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_plain_words_or_refused() {
        let account: Account = "serve=likes_serve".parse().unwrap();
        assert_eq!((account.role, account.to_string()), (Role::Serve, "'likes_serve'@'%'".to_owned()));
        assert_eq!("check=a@10.0.0.0/255.0.0.0".parse::<Account>().unwrap().to_string(), "'a'@'10.0.0.0/255.0.0.0'");
        for wrong in ["likes", "own=a", "serve=", "serve=a@", "serve=a'b", "serve=a@h'", "serve=a b", "serve=a`"] {
            assert!(wrong.parse::<Account>().is_err(), "{wrong}");
        }
    }
}
