//! Whom the server takes us for, and the statements that give him what he lacks.

use crate::sql::error::StoreError;
use std::sync::{Mutex, PoisonError};

/// Stands for the account that rights are granted to. Messages about a statement name the host that the connection comes from
/// instead, which may be no account.
const ACCOUNT: &str = "<what SELECT CURRENT_USER() says to this user>";

/// Stands for the database of `database.url`.
const DATABASE: &str = "<database>";

/// `INSERT command denied to user 'a'@'host' for table ...`, `Access denied for user 'a'@'%' to database 'other'`: of a whole
/// database it names the account.
pub(crate) fn grant(message: &str) -> String {
    if let Some((rights, _)) = message.split_once(" command denied") {
        return format!("it is granted by: GRANT {rights} ON {DATABASE}.* TO {ACCOUNT}");
    }
    let account = message.split_once("user ").and_then(|(_, rest)| rest.split(' ').next()).unwrap_or(ACCOUNT);
    let named = message.split_once("to database '").and_then(|(_, rest)| rest.split('\'').next());
    let database = named.map_or_else(|| DATABASE.to_owned(), |name| format!("`{name}`"));
    format!("it is granted by: GRANT SELECT, INSERT, UPDATE, DELETE ON {database}.* TO {account}")
}

/// The account as `GRANT` names it; none before the server has said so.
#[derive(Debug, Default)]
pub(crate) struct Account(Mutex<Option<String>>);

impl Account {
    /// `app@%`, as the server says it, is `'app'@'%'` for who grants something.
    pub(crate) fn is(&self, account: &str) {
        let (user, host) = account.rsplit_once('@').unwrap_or((account, "%"));
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{}@{}", quoted(user), quoted(host)));
    }

    /// As it is named; none before the server has said so.
    pub(crate) fn name(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An error whose advice names account and database.
    pub(crate) fn naming(&self, error: StoreError, database: Option<&str>) -> StoreError {
        let account = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        error.advise(|advice| {
            let advice = advice.replace(ACCOUNT, account.as_deref().unwrap_or(ACCOUNT));
            database.map_or(advice.clone(), |name| advice.replace(DATABASE, &format!("`{name}`")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_is_granted_to_the_account_and_not_to_where_the_connection_comes_from() {
        let said = grant("INSERT command denied to user 'few'@'localhost' for table `test`.`video_likes`");
        assert!(!said.contains("localhost"), "{said}");
        let account = Account::default();
        let named = |account: &Account| account.naming(StoreError::denied(said.clone()), Some("likes")).to_string();
        assert!(named(&account).contains("GRANT INSERT ON `likes`.* TO <what SELECT CURRENT_USER() says"));
        account.is("few@%");
        assert!(named(&account).ends_with("; it is granted by: GRANT INSERT ON `likes`.* TO 'few'@'%'"));
        let said = grant("Access denied for user 'app'@'%' to database 'other'");
        assert_eq!(said, "it is granted by: GRANT SELECT, INSERT, UPDATE, DELETE ON `other`.* TO 'app'@'%'");
    }
}
