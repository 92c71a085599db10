//! Fences of erased users.
//!
//! Invariant: **an event of an erased user that was accepted before the erasure changes nothing, whatever brings it**: queue,
//! journal, retry, dead letter, replay by an operator, import, redo log, recovery, a repair, a write around the cache.
//!
//! Why it holds. Every transaction that writes what a user did begins by holding the row of user 0, shared, and keeps it to its
//! end; a fence is written by a transaction that holds that row alone. So they come one after the other: what began before the
//! fence has committed when the fence is written, and whoever deletes after it sees all of it; what begins later reads the
//! fence. Nobody who waits for that row holds anything else, so nobody waits in a circle.
//!
//! What it costs. The row has the highest version of all fences: a batch of newer events, as nearly all are, reads one number
//! more, in the round trip that it makes anyway. Only what is older asks for the fences of its users.
//!
//! Deliberately absent: fences by the hash of a user. Who erases has to find the user's rows in a copy from before, too, and the
//! number is all that is left.

use crate::sql::error::StoreError;
use crate::sql::pool::{Results, Tx};
use crate::sql::script::{CHUNK, Script, utc};
use crate::sql::store::{EventStore, get, row, rows};
use chrono::{DateTime, NaiveDateTime, Utc};
use domain::{Fence, UserId, Version};
use planted_bugs::planted;
use std::collections::HashMap;
use std::ops::Range;

pub(crate) const TABLE: &str = "erased_users";

/// What became of an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erasure {
    /// Who, and up to where.
    pub fence: Fence,
    /// When the fence was written, or written again.
    pub fenced_at: DateTime<Utc>,
    /// When everything was gone; none while it is under way.
    pub cleaned_at: Option<DateTime<Utc>>,
    /// Likes, tombstones and keys that were deleted so far, about.
    pub removed: i64,
}

impl EventStore {
    /// Whether an event of this user and version is left out; in the order of the question.
    pub async fn fenced(&self, asked: &[(UserId, Version)]) -> Result<Vec<bool>, StoreError> {
        let mut script = self.script();
        let statements = read_fences(&mut script, asked.iter().map(|(user, _)| *user));
        let fences = fences_of(&self.read(&script).await?, statements)?;
        Ok(asked.iter().map(|(user, version)| fences.get(user).is_some_and(|up_to| version <= up_to)).collect())
    }

    /// Fences of users after this one, in the order of users.
    pub async fn fences_after(&self, after: i64, limit: u32) -> Result<Vec<Fence>, StoreError> {
        let mut script = self.script();
        script.begin("SELECT user_id, up_to FROM erased_users WHERE user_id > ").int(after.max(0));
        script.words(" ORDER BY user_id LIMIT ").int(i64::from(limit));
        rows(&self.read(&script).await?, 0).iter().map(fence_of).collect()
    }

    /// When the newest fence was written; 1970 if there is none.
    pub async fn newest_fence(&self) -> Result<DateTime<Utc>, StoreError> {
        let mut script = self.script();
        script.begin("SELECT MAX(fenced_at) FROM erased_users");
        let results = self.read(&script).await?;
        Ok(get::<Option<NaiveDateTime>>(row(&results, 0, TABLE)?, 0, TABLE)?.map(utc).unwrap_or_default())
    }

    /// What became of the erasure of a user, if there was one.
    pub async fn erasure_of(&self, user: UserId) -> Result<Option<Erasure>, StoreError> {
        let mut script = self.script();
        select_erasures(&mut script).words(" WHERE user_id = ").int(user.get());
        rows(&self.read(&script).await?, 0).first().map(erasure_of).transpose()
    }

    /// Erasures that are under way: those that were fenced first, at most `limit`.
    pub async fn erasures_under_way(&self, limit: u32) -> Result<Vec<Erasure>, StoreError> {
        let mut script = self.script();
        select_erasures(&mut script)
            .words(" WHERE cleaned_at IS NULL AND user_id > 0 ORDER BY fenced_at, user_id LIMIT ");
        script.int(i64::from(limit));
        rows(&self.read(&script).await?, 0).iter().map(erasure_of).collect()
    }

    /// The same of all that were fenced by then.
    pub async fn erasures_fenced_by(&self, until: DateTime<Utc>) -> Result<Vec<Erasure>, StoreError> {
        let mut script = self.script();
        select_erasures(&mut script).words(" WHERE cleaned_at IS NULL AND user_id > 0 AND fenced_at <= ").time(until);
        script.words(" ORDER BY fenced_at, user_id");
        rows(&self.read(&script).await?, 0).iter().map(erasure_of).collect()
    }
}

/// Begins a script that writes what users did; gives its statement for [`Held::of`].
pub(crate) fn hold(script: &mut Script) -> usize {
    debug_assert!(script.is_empty(), "before anything else is locked");
    let (statement, lock) = (script.statements(), script.dialect().for_share());
    script.begin("SELECT up_to FROM erased_users WHERE user_id = 0").words(lock);
    statement
}

/// What a transaction knows of fences from its first statement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    highest: Version,
}

impl Held {
    /// By the results of a script that began with [`hold`].
    pub(crate) async fn of(
        tx: &mut Tx,
        script: Script,
        results: &Results,
        statement: usize,
    ) -> Result<Self, StoreError> {
        if let Some(row) = rows(results, statement).first() {
            return Ok(Self { highest: Version(get(row, 0, TABLE)?) });
        }
        // Somebody deleted it.
        let mut highest = script.clone();
        highest.begin("SELECT COALESCE(MAX(up_to), 0) FROM erased_users");
        let highest: i64 = get(row(&tx.run(&highest).await?, 0, TABLE)?, 0, TABLE)?;
        let mut script = script;
        let (keep, lock) = (script.dialect().keep_existing("user_id"), script.dialect().for_share());
        script.begin("INSERT INTO erased_users (user_id, up_to, fenced_at, cleaned_at) VALUES (0,").int(highest);
        script.words(",").time(DateTime::UNIX_EPOCH).words(",").time(DateTime::UNIX_EPOCH).words(")").words(&keep);
        script.begin("SELECT up_to FROM erased_users WHERE user_id = 0").words(lock);
        let results = tx.run(&script).await?;
        Ok(Self { highest: Version(get(row(&results, 1, TABLE)?, 0, TABLE)?) })
    }

    /// The fences of those users who said something that old.
    pub(crate) async fn fences(
        self,
        tx: &mut Tx,
        mut script: Script,
        said: impl Iterator<Item = (UserId, Version)>,
    ) -> Result<HashMap<UserId, Version>, StoreError> {
        planted!("fence_ignored" => Ok(HashMap::new()));
        let mut users: Vec<UserId> =
            said.filter(|(_, version)| *version <= self.highest).map(|(user, _)| user).collect();
        if users.is_empty() {
            return Ok(HashMap::new());
        }
        users.sort_unstable();
        users.dedup();
        let statements = read_fences(&mut script, users.into_iter());
        fences_of(&tx.run(&script).await?, statements)
    }
}

/// Reads the fences of users; the result is for [`fences_of`].
pub(crate) fn read_fences(script: &mut Script, users: impl Iterator<Item = UserId>) -> Range<usize> {
    let first = script.statements();
    let users: Vec<UserId> = users.collect();
    for chunk in users.chunks(CHUNK) {
        script.begin("SELECT user_id, up_to FROM erased_users WHERE user_id IN (");
        script.list(chunk, |script, user| {
            script.int(user.get());
        });
        script.words(")");
    }
    first..script.statements()
}

pub(crate) fn fences_of(results: &Results, statements: Range<usize>) -> Result<HashMap<UserId, Version>, StoreError> {
    statements
        .flat_map(|statement| rows(results, statement))
        .map(|row| fence_of(row).map(|fence| (fence.user, fence.up_to)))
        .collect()
}

fn fence_of(row: &sea_orm::QueryResult) -> Result<Fence, StoreError> {
    let user = UserId::new(get(row, 0, TABLE)?).map_err(|error| StoreError::corrupt(TABLE, error))?;
    Ok(Fence { user, up_to: Version(get(row, 1, TABLE)?) })
}

fn select_erasures(script: &mut Script) -> &mut Script {
    script.begin("SELECT user_id, up_to, fenced_at, cleaned_at, removed FROM erased_users")
}

fn erasure_of(row: &sea_orm::QueryResult) -> Result<Erasure, StoreError> {
    Ok(Erasure {
        fence: fence_of(row)?,
        fenced_at: utc(get::<NaiveDateTime>(row, 2, TABLE)?),
        cleaned_at: get::<Option<NaiveDateTime>>(row, 3, TABLE)?.map(utc),
        removed: get(row, 4, TABLE)?,
    })
}
