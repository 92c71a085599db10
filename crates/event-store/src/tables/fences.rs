//! Fences of erased users and [deleted resources](super::deleted).
//!
//! Invariant: **an event of an erased user, or of a deleted resource, that was accepted before the erasure changes nothing, whatever
//! brings it**: queue, journal, retry, dead letter, replay by an operator, import, redo log, recovery, a repair, a write around the
//! cache.
//!
//! Why it holds. Every transaction that writes what users did begins by holding the row of user 0, shared, and keeps it to its
//! end; a fence is written by a transaction that holds that row alone. So they come one after the other: what began before the
//! fence has committed when the fence is written, and whoever deletes after it sees all of it; what begins later reads the
//! fence. Nobody who waits for that row holds anything else, so nobody waits in a circle.
//!
//! What it costs. The row has the highest version of all fences: a batch of newer events, as nearly all are, reads one number
//! more, in the round trip that it makes anyway. Only what is older asks for the fences of its users and resources.
//!
//! Deliberately absent: fences by the hash of a user. Who erases has to find the user's rows in a copy from before, too, and the
//! number is all that is left.

use crate::sql::error::StoreError;
use crate::sql::pool::{Results, Tx};
use crate::sql::script::{CHUNK, Script, time_of, utc, version_of};
use crate::sql::store::{EventStore, get, row, rows};
use crate::tables::deleted::{self, deletion_of, read_marks, select_deletions, select_marks};
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use domain::{DeletedMark, Erased, Fence, Pair, Resource, UserId, Version};
use planted_bugs::planted;
use std::collections::HashMap;
use std::ops::Range;

pub(crate) const TABLE: &str = "erased_users";

/// What became of an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erasure {
    /// Who or what, and up to where.
    pub fence: Fence,
    /// When the fence was written, or written again.
    pub fenced_at: DateTime<Utc>,
    /// When everything was gone; none while it is under way.
    pub cleaned_at: Option<DateTime<Utc>>,
    /// Likes, tombstones and keys that were deleted so far, about.
    pub removed: i64,
    /// When the resource was restored, if that was the last word.
    pub restored_at: Option<DateTime<Utc>>,
    /// When the resource was last deleted or restored, by which the newest word wins; of a user, when the fence was written.
    pub changed_at: Version,
}

impl Erasure {
    /// As a cache and the redo log keep it, of a resource.
    pub fn mark(&self) -> Option<(Resource, DeletedMark)> {
        let Erased::Resource(resource) = self.fence.of else { return None };
        let deleted = self.restored_at.is_none();
        Some((resource, DeletedMark { up_to: self.fence.up_to, at: self.changed_at, deleted }))
    }
}

impl EventStore {
    /// Whether an event of this pair and version is left out; in the order of the question.
    pub async fn fenced(&self, asked: &[(Pair, Version)]) -> Result<Vec<bool>, StoreError> {
        let mut script = self.script();
        let reading = Reading::of(&mut script, asked.iter().map(|(pair, _)| *pair));
        let fences = reading.fences(&self.read(&script).await?)?;
        Ok(asked.iter().map(|(pair, version)| fences.cover(*pair, *version)).collect())
    }

    /// The highest version of all fences.
    pub async fn highest_fence(&self) -> Result<Version, StoreError> {
        let mut script = self.script();
        script.begin("SELECT COALESCE(MAX(up_to), 0) FROM erased_users");
        Ok(Version(get(row(&self.read(&script).await?, 0, TABLE)?, 0, TABLE)?))
    }

    /// Fences of users after this one, in the order of users.
    pub async fn fences_after(&self, after: i64, limit: u32) -> Result<Vec<(UserId, Version)>, StoreError> {
        let mut script = self.script();
        script.begin("SELECT user_id, up_to FROM erased_users WHERE user_id > ").int(after.max(0));
        script.words(" ORDER BY user_id LIMIT ").int(i64::from(limit));
        rows(&self.read(&script).await?, 0).iter().map(fence_of).collect()
    }

    /// Fences of users that were written after that time, at most `limit`.
    pub async fn fences_since(&self, at: DateTime<Utc>, limit: u32) -> Result<Vec<(UserId, Version)>, StoreError> {
        let mut script = self.script();
        script.begin("SELECT user_id, up_to FROM erased_users WHERE user_id > 0 AND fenced_at > ").time(at);
        script.words(" ORDER BY fenced_at LIMIT ").int(i64::from(limit));
        rows(&self.read(&script).await?, 0).iter().map(fence_of).collect()
    }

    /// When the newest fence was written, or a resource restored; 1970 if there is none.
    pub async fn newest_fence(&self) -> Result<DateTime<Utc>, StoreError> {
        let mut script = self.script();
        script.begin("SELECT MAX(fenced_at) FROM erased_users");
        script.begin("SELECT MAX(fenced_at) FROM deleted_resources");
        script.begin("SELECT MAX(changed_at) FROM deleted_resources");
        let results = self.read(&script).await?;
        let fenced = |statement, table| -> Result<DateTime<Utc>, StoreError> {
            let newest: Option<NaiveDateTime> = get(row(&results, statement, table)?, 0, table)?;
            Ok(newest.map(utc).unwrap_or_default())
        };
        let changed: Option<i64> = get(row(&results, 2, deleted::TABLE)?, 0, deleted::TABLE)?;
        let of_resources = fenced(1, deleted::TABLE)?.max(time_of(Version(changed.unwrap_or_default())));
        Ok(fenced(0, TABLE)?.max(of_resources))
    }

    /// What became of the erasure of a user, if there was one.
    pub async fn erasure_of(&self, user: UserId) -> Result<Option<Erasure>, StoreError> {
        let mut script = self.script();
        select_erasures(&mut script).words(" WHERE user_id = ").int(user.get());
        rows(&self.read(&script).await?, 0).first().map(erasure_of).transpose()
    }

    /// Erasures that are under way, of users and of resources: those that were fenced first, at most `limit`.
    pub async fn erasures_under_way(&self, limit: u32) -> Result<Vec<Erasure>, StoreError> {
        let limit = i64::from(limit);
        let mut script = self.script();
        select_erasures(&mut script)
            .words(" WHERE cleaned_at IS NULL AND user_id > 0 ORDER BY fenced_at, user_id LIMIT ")
            .int(limit);
        select_deletions(&mut script).words(" WHERE cleaned_at IS NULL ORDER BY fenced_at LIMIT ").int(limit);
        let mut erasures = both_kinds(&self.read(&script).await?)?;
        erasures.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(erasures)
    }

    /// The same of all that were fenced by then.
    pub async fn erasures_fenced_by(&self, until: DateTime<Utc>) -> Result<Vec<Erasure>, StoreError> {
        let mut script = self.script();
        select_erasures(&mut script).words(" WHERE cleaned_at IS NULL AND user_id > 0 AND fenced_at <= ").time(until);
        select_deletions(&mut script).words(" WHERE cleaned_at IS NULL AND fenced_at <= ").time(until);
        both_kinds(&self.read(&script).await?)
    }
}

/// Of a script's two statements; those first that were fenced first.
fn both_kinds(results: &Results) -> Result<Vec<Erasure>, StoreError> {
    let users = rows(results, 0).iter().map(erasure_of);
    let resources = rows(results, 1).iter().map(deletion_of);
    let mut erasures = users.chain(resources).collect::<Result<Vec<_>, _>>()?;
    erasures.sort_by_key(|erasure| (erasure.fenced_at, erasure.fence.of));
    Ok(erasures)
}

/// Begins a script that writes what users did; gives its statement for [`Held::of`].
pub(crate) fn hold(script: &mut Script) -> usize {
    debug_assert!(script.is_empty(), "before anything else is locked");
    let (statement, lock) = (script.statements(), script.dialect().for_share());
    script.begin("SELECT up_to FROM erased_users WHERE user_id = 0").words(lock);
    statement
}

/// What is known of fences to who writes some alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Alone {
    /// The highest version of all fences.
    pub(crate) highest: Version,
    /// Later than every fence that was written before, whatever clocks say: who looks for what came after a time, or up to it, takes
    /// the order of times for that of commits.
    pub(crate) now: DateTime<Utc>,
}

/// Begins a transaction that writes fences: all who wrote what users did have ended, and whoever comes waits.
pub(crate) async fn hold_alone(tx: &mut Tx, mut script: Script, now: DateTime<Utc>) -> Result<Alone, StoreError> {
    let unlocked = script.clone();
    let lock = script.dialect().for_update();
    insert_nobody(&mut script, Version::ZERO);
    script.begin("SELECT up_to FROM erased_users WHERE user_id = 0").words(lock);
    script.begin("SELECT MAX(fenced_at) FROM erased_users");
    script.begin("SELECT MAX(fenced_at) FROM deleted_resources");
    script.begin("SELECT MAX(changed_at) FROM deleted_resources");
    let results = tx.run(&script).await?;
    let highest = match Version(get(row(&results, 1, TABLE)?, 0, TABLE)?) {
        // There is no fence, or somebody deleted that row.
        Version::ZERO => highest_of_all(tx, unlocked).await?,
        highest => highest,
    };
    let mut after = now;
    for (statement, table) in [(2, TABLE), (3, deleted::TABLE)] {
        let newest = get::<Option<NaiveDateTime>>(row(&results, statement, table)?, 0, table)?.map(utc);
        after = newest.map_or(after, |newest| after.max(newest + TimeDelta::microseconds(1)));
    }
    let changed: Option<i64> = get(row(&results, 4, deleted::TABLE)?, 0, deleted::TABLE)?;
    let after = changed.map_or(after, |newest| after.max(time_of(Version(newest.saturating_add(1)))));
    Ok(Alone { highest, now: after })
}

/// To the end of a script that writes fences.
pub(crate) fn raise_highest(script: &mut Script, highest: Version) {
    script.begin("UPDATE erased_users SET up_to = ").int(highest.0).words(" WHERE user_id = 0");
}

async fn highest_of_all(tx: &mut Tx, mut script: Script) -> Result<Version, StoreError> {
    script.begin("SELECT COALESCE(MAX(up_to), 0) FROM erased_users");
    script.begin("SELECT COALESCE(MAX(up_to), 0) FROM deleted_resources");
    let results = tx.run(&script).await?;
    let of = |statement| Ok::<_, StoreError>(Version(get(row(&results, statement, TABLE)?, 0, TABLE)?));
    Ok(of(0)?.max(of(1)?))
}

/// The row that all hold, if it is not there.
fn insert_nobody(script: &mut Script, highest: Version) {
    let keep = script.dialect().keep_existing("user_id");
    script.begin("INSERT INTO erased_users (user_id, up_to, fenced_at, cleaned_at) VALUES (0,").int(highest.0);
    script.words(",").time(DateTime::UNIX_EPOCH).words(",").time(DateTime::UNIX_EPOCH).words(")").words(&keep);
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
        let highest = highest_of_all(tx, script.clone()).await?;
        let mut script = script;
        let lock = script.dialect().for_share();
        insert_nobody(&mut script, highest);
        script.begin("SELECT up_to FROM erased_users WHERE user_id = 0").words(lock);
        let results = tx.run(&script).await?;
        Ok(Self { highest: Version(get(row(&results, 1, TABLE)?, 0, TABLE)?) })
    }

    /// The fences of those pairs of which something that old was said.
    pub(crate) async fn fences(
        self,
        tx: &mut Tx,
        mut script: Script,
        said: impl Iterator<Item = (Pair, Version)>,
    ) -> Result<Fences, StoreError> {
        planted!("fence_ignored" => Ok(Fences::default()));
        let old: Vec<Pair> = said.filter(|(_, version)| *version <= self.highest).map(|(pair, _)| pair).collect();
        if old.is_empty() {
            return Ok(Fences::default());
        }
        let reading = Reading::of(&mut script, old.into_iter());
        reading.fences(&tx.run(&script).await?)
    }
}

/// Fences of some users and resources.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    users: HashMap<UserId, Version>,
    resources: HashMap<Resource, Version>,
}

impl Fences {
    pub(crate) fn is_empty(&self) -> bool {
        self.users.is_empty() && self.resources.is_empty()
    }

    /// Up to where what is said of this pair is left out.
    pub(crate) fn up_to(&self, pair: Pair) -> Option<Version> {
        self.users.get(&pair.user).max(self.resources.get(&pair.resource)).copied()
    }

    /// Whether an event is left out.
    pub(crate) fn cover(&self, pair: Pair, version: Version) -> bool {
        self.up_to(pair).is_some_and(|up_to| version <= up_to)
    }
}

/// Which statements of a script read fences.
struct Reading {
    users: Range<usize>,
    resources: Range<usize>,
}

impl Reading {
    fn of(script: &mut Script, pairs: impl Iterator<Item = Pair>) -> Self {
        let (mut users, resources): (Vec<UserId>, Vec<Resource>) = pairs.map(|pair| (pair.user, pair.resource)).unzip();
        users.sort_unstable();
        users.dedup();
        let users = read_fences(script, users.into_iter());
        Self { users, resources: select_marks(script, resources.into_iter()) }
    }

    fn fences(self, results: &Results) -> Result<Fences, StoreError> {
        let marks = read_marks(results, self.resources)?;
        let resources = marks.into_iter().map(|(resource, mark)| (resource, mark.up_to)).collect();
        Ok(Fences { users: fences_of(results, self.users)?, resources })
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
    statements.flat_map(|statement| rows(results, statement)).map(fence_of).collect()
}

fn fence_of(row: &sea_orm::QueryResult) -> Result<(UserId, Version), StoreError> {
    let user = UserId::new(get(row, 0, TABLE)?).map_err(|error| StoreError::corrupt(TABLE, error))?;
    Ok((user, Version(get(row, 1, TABLE)?)))
}

fn select_erasures(script: &mut Script) -> &mut Script {
    script.begin("SELECT user_id, up_to, fenced_at, cleaned_at, removed FROM erased_users")
}

fn erasure_of(row: &sea_orm::QueryResult) -> Result<Erasure, StoreError> {
    let (user, up_to) = fence_of(row)?;
    let fenced_at = utc(get::<NaiveDateTime>(row, 2, TABLE)?);
    Ok(Erasure {
        fence: Fence { of: Erased::User(user), up_to },
        fenced_at,
        cleaned_at: get::<Option<NaiveDateTime>>(row, 3, TABLE)?.map(utc),
        removed: get(row, 4, TABLE)?,
        restored_at: None,
        changed_at: version_of(fenced_at),
    })
}
