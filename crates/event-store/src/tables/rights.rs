//! What the account of each program may do: no more than it does.
//!
//! All read everything. Rows are written where likes, their accounting and reports are; only who does it for good deletes
//! some: consumers what is over and what erased users did, checkers old reports. Nobody here deletes counters or fences, and
//! nobody changes a table: that is the owner's alone.

use crate::sql::error::StoreError;
use crate::sql::store::EventStore;
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
                // Of erased users.
                ("DELETE", "user_behaviors"),
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

/// What each of them does, beside likes.
const EVERYBODY: &[(&str, &str)] = &[
    ("INSERT, UPDATE", "sync_events"),
    ("INSERT, UPDATE", "user_behaviors"),
    ("INSERT, UPDATE", "like_counts"),
    ("INSERT, UPDATE", "idempotency_keys"),
    ("INSERT, UPDATE", "sync_writers"),
    ("INSERT, UPDATE", "erased_users"),
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
    /// Gives an account the rights of its role, and takes away others that it had on all rows. Who calls owns the schema and may
    /// grant (`WITH GRANT OPTION`). What the account needs it has all the time meanwhile.
    pub async fn grant(&self, account: &Account) -> Result<(), StoreError> {
        let mut script = self.script();
        if script.dialect().is_sqlite() {
            return Err(StoreError::Config("accounts: SQLite has none".into()));
        }
        let to = format!(" TO {account}");
        // All of this database; the last one would be refused where there is nothing to take away.
        script.begin("GRANT SELECT, INSERT, UPDATE, DELETE ON *").words(&to);
        let of_likes = account.role.of_likes();
        let likes = ResourceType::ALL.map(|kind| (of_likes, kind.likes_table()));
        for (rights, table) in EVERYBODY.iter().chain(account.role.rights()).chain(&likes) {
            script.begin("GRANT ").words(rights).words(" ON ").words(table).words(&to);
        }
        script.begin("REVOKE INSERT, UPDATE, DELETE ON * FROM ").words(&account.to_string());
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
