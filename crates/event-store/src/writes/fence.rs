//! Fences are written: of users who are erased, and of resources that are deleted. Resources are restored.
//!
//! Each by a transaction that begins by holding the row of user 0 alone ([`fences`](crate::tables::fences)): what is read behind
//! that stays so to its end.

use crate::sql::error::StoreError;
use crate::sql::pool::Tx;
use crate::sql::script::{CHUNK, Script, time_of, version_of};
use crate::sql::store::{EventStore, rows};
use crate::tables::deleted::{self, deletion_of, its_row, read_marks, select_deletions, select_marks};
use crate::tables::fences::{Alone, Erasure, fences_of, hold_alone, raise_highest, read_fences};
use crate::writes::operate::{Operation, insert_action};
use chrono::{DateTime, Utc};
use domain::{DeletedMark, Erased, Fence, Resource, UserId, Version};
use migrations::{DELETIONS, ERASURES, MINIMUM_COMPATIBLE};
use std::collections::{BTreeMap, HashMap};

/// A mark to write, and whether its erasure begins anew.
type NewMark = (Resource, DeletedMark, bool);

impl EventStore {
    /// Writes a fence, or raises it, and begins the erasure anew; a resource is deleted from here on. With `by`, written down as an
    /// operator's action, which says the resource, and of a user not who it was. A fence is never lowered.
    pub async fn fence(&self, fence: Fence, by: Option<&Operation>, now: DateTime<Utc>) -> Result<Erasure, StoreError> {
        self.transaction("fence", || async {
            let mut tx = self.begin().await?;
            let erasure = match fence.of {
                Erased::User(user) => self.fence_users(&mut tx, &[(user, fence.up_to)], by, now).await?.pop(),
                Erased::Resource(resource) => {
                    let Alone { highest, now } = hold_alone(&mut tx, self.script(), now).await?;
                    let held = self.held_marks(&mut tx, &[resource]).await?.remove(&resource);
                    let mark = said_anew(held, fence.up_to, true, now);
                    let action = by.map(|by| ("delete_resource", by));
                    self.write_marks(&mut tx, highest, &[(resource, mark, true)], action, now).await?.pop()
                }
            };
            tx.commit().await?;
            erasure.ok_or_else(|| StoreError::corrupt(deleted::TABLE, "a fence that was written is not there"))
        })
        .await
    }

    /// Raises the fence of a resource whose deletion is as it was given, and begins it anew; none if somebody has said something
    /// else of the resource meanwhile.
    pub async fn raise_fence(
        &self,
        erasure: &Erasure,
        up_to: Version,
        now: DateTime<Utc>,
    ) -> Result<Option<Erasure>, StoreError> {
        let Some((resource, known)) = erasure.mark() else { return Ok(None) };
        self.transaction("raise_fence", || async {
            let mut tx = self.begin().await?;
            let Alone { highest, now } = hold_alone(&mut tx, self.script(), now).await?;
            let held = self.held_marks(&mut tx, &[resource]).await?.remove(&resource);
            if held.is_none_or(|held| held.at != known.at || !held.deleted) {
                return Ok(None);
            }
            let mark = said_anew(held, up_to, true, now);
            let mut raised = self.write_marks(&mut tx, highest, &[(resource, mark, true)], None, now).await?;
            tx.commit().await?;
            Ok(raised.pop())
        })
        .await
    }

    /// Likes of a deleted resource count again; what was said before its deletion stays out. None if it never was deleted. Written
    /// down as an operator's action, unless it is restored already.
    pub async fn restore_resource(
        &self,
        resource: Resource,
        by: &Operation,
        now: DateTime<Utc>,
    ) -> Result<Option<Erasure>, StoreError> {
        self.transaction("restore_resource", || async {
            let mut tx = self.begin().await?;
            let Alone { highest, now } = hold_alone(&mut tx, self.script(), now).await?;
            let held = self.held_marks(&mut tx, &[resource]).await?.remove(&resource);
            match held {
                Some(held) if held.deleted => {
                    let mark = said_anew(Some(held), held.up_to, false, now);
                    let action = Some(("restore_resource", by));
                    let mut restored =
                        self.write_marks(&mut tx, highest, &[(resource, mark, false)], action, now).await?;
                    tx.commit().await?;
                    Ok(restored.pop())
                }
                Some(_) => {
                    tx.roll_back().await?;
                    self.deletion_of(resource).await
                }
                None => Ok(None),
            }
        })
        .await
    }

    /// Brings back fences of users that a copy of the database from before does not have, and begins those erasures anew; gives how
    /// many.
    pub async fn restore_fences(&self, fences: &[(UserId, Version)], now: DateTime<Utc>) -> Result<usize, StoreError> {
        // In a log one may stand more than once.
        let mut highest: BTreeMap<UserId, Version> = BTreeMap::new();
        for (user, up_to) in fences {
            let held = highest.entry(*user).or_default();
            *held = (*held).max(*up_to);
        }
        let fences: Vec<(UserId, Version)> = highest.into_iter().collect();
        let mut restored = 0;
        for chunk in fences.chunks(CHUNK) {
            let mut script = self.script();
            let statements = read_fences(&mut script, chunk.iter().map(|(user, _)| *user));
            let held = fences_of(&self.read(&script).await?, statements)?;
            let lower = |(user, up_to): &&(UserId, Version)| held.get(user).is_none_or(|held| held < up_to);
            let missing: Vec<(UserId, Version)> = chunk.iter().filter(lower).copied().collect();
            if missing.is_empty() {
                continue;
            }
            self.transaction("restore_fences", || async {
                let mut tx = self.begin().await?;
                self.fence_users(&mut tx, &missing, None, now).await?;
                tx.commit().await
            })
            .await?;
            restored += missing.len();
        }
        Ok(restored)
    }

    /// The same of resources: of each the newest word counts, and the highest fence. What is behind a fence that was lower here is
    /// removed anew.
    pub async fn restore_deleted(
        &self,
        marks: &[(Resource, DeletedMark)],
        now: DateTime<Utc>,
    ) -> Result<usize, StoreError> {
        let mut merged: BTreeMap<Resource, DeletedMark> = BTreeMap::new();
        for (resource, mark) in marks {
            merged.entry(*resource).and_modify(|held| *held = held.merged(*mark)).or_insert(*mark);
        }
        let marks: Vec<(Resource, DeletedMark)> = merged.into_iter().collect();
        let mut restored = 0;
        for chunk in marks.chunks(CHUNK) {
            let mut script = self.script();
            let statements = select_marks(&mut script, chunk.iter().map(|(resource, _)| *resource));
            let held = read_marks(&self.read(&script).await?, statements)?;
            if news(chunk, &held).is_empty() {
                continue;
            }
            restored += self
                .transaction("restore_deleted", || async {
                    let mut tx = self.begin().await?;
                    let Alone { highest, now } = hold_alone(&mut tx, self.script(), now).await?;
                    let resources: Vec<Resource> = chunk.iter().map(|(resource, _)| *resource).collect();
                    let held = self.held_marks(&mut tx, &resources).await?;
                    let news = news(chunk, &held);
                    if !news.is_empty() {
                        self.write_marks(&mut tx, highest, &news, None, now).await?;
                    }
                    tx.commit().await?;
                    Ok(news.len())
                })
                .await?;
        }
        Ok(restored)
    }

    async fn fence_users(
        &self,
        tx: &mut Tx,
        fences: &[(UserId, Version)],
        by: Option<&Operation>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Erasure>, StoreError> {
        let Alone { mut highest, now } = hold_alone(tx, self.script(), now).await?;
        let mut script = self.script();
        let statements = read_fences(&mut script, fences.iter().map(|(user, _)| *user));
        let held = fences_of(&tx.run(&script).await?, statements)?;

        let mut script = self.script();
        let action = by.map(|operation| insert_action(&mut script, "erase_user", operation, 0, now));
        let overwrite = script.dialect().overwrite("user_id", &["up_to", "fenced_at", "cleaned_at", "action_id"], None);
        let mut erasures = Vec::with_capacity(fences.len());
        for (user, up_to) in fences {
            let up_to = held.get(user).copied().unwrap_or_default().max(*up_to);
            highest = highest.max(up_to);
            script.begin("INSERT INTO erased_users (user_id, up_to, fenced_at, cleaned_at, action_id) VALUES (");
            script.int(user.get()).words(",").int(up_to.0).words(",").time(now).words(",NULL,");
            match action {
                Some(id) => script.uuid(id),
                None => script.words("NULL"),
            };
            script.words(")").words(&overwrite);
            let fence = Fence { of: Erased::User(*user), up_to };
            let changed_at = version_of(now);
            let rest = Erasure { fence, fenced_at: now, cleaned_at: None, removed: 0, restored_at: None, changed_at };
            erasures.push(rest);
        }
        raise_highest(&mut script, highest);
        raise_minimum(&mut script, ERASURES);
        tx.run(&script).await?;
        Ok(erasures)
    }

    /// Behind [`hold_alone`].
    async fn held_marks(
        &self,
        tx: &mut Tx,
        resources: &[Resource],
    ) -> Result<HashMap<Resource, DeletedMark>, StoreError> {
        let mut script = self.script();
        let statements = select_marks(&mut script, resources.iter().copied());
        read_marks(&tx.run(&script).await?, statements)
    }

    /// Gives what became of each.
    async fn write_marks(
        &self,
        tx: &mut Tx,
        highest: Version,
        marks: &[NewMark],
        action: Option<(&'static str, &Operation)>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Erasure>, StoreError> {
        const SAID: &[&str] = &["up_to", "restored_at", "changed_at"];
        const BY: &[&str] = &["action_id"];
        const BEGUN: &[&str] = &["fenced_at", "cleaned_at"];
        let mut script = self.script();
        let mut highest = highest;
        for (resource, mark, begins) in marks {
            highest = highest.max(mark.up_to);
            let by_whom = action.map(|(name, operation)| {
                let selection = operation.selection.clone().or_else(|| Some(resource.to_string()));
                insert_action(&mut script, name, &Operation { selection, ..operation.clone() }, 0, now)
            });
            script.begin("INSERT INTO deleted_resources (resource_type, resource_id, up_to, fenced_at, cleaned_at, ");
            script.words("restored_at, changed_at, action_id) VALUES (").name(resource.kind.name());
            script.words(",").int(resource.id.get()).words(",").int(mark.up_to.0).words(",").time(now).words(",NULL,");
            script.time_or_null((!mark.deleted).then(|| time_of(mark.at))).words(",").int(mark.at.0).words(",");
            match by_whom {
                Some(id) => script.uuid(id),
                None => script.words("NULL"),
            };
            let columns = [SAID, if by_whom.is_some() { BY } else { &[] }, if *begins { BEGUN } else { &[] }].concat();
            let overwrite = script.dialect().overwrite("resource_type, resource_id", &columns, None);
            script.words(")").words(&overwrite);
        }
        raise_highest(&mut script, highest);
        raise_minimum(&mut script, DELETIONS);
        let first = script.statements();
        for (resource, ..) in marks {
            select_deletions(&mut script);
            its_row(&mut script, *resource);
        }
        let results = tx.run(&script).await?;
        (first..script.statements()).flat_map(|statement| rows(&results, statement)).map(deletion_of).collect()
    }
}

/// What an operator says now is the newest word, also if a clock went back.
fn said_anew(held: Option<DeletedMark>, up_to: Version, deleted: bool, now: DateTime<Utc>) -> DeletedMark {
    let now = version_of(now);
    match held {
        Some(held) => {
            DeletedMark { up_to: held.up_to.max(up_to), at: now.max(Version(held.at.0.saturating_add(1))), deleted }
        }
        None => DeletedMark { up_to, at: now, deleted },
    }
}

/// What of these is newer, or higher, than what is held.
fn news(marks: &[(Resource, DeletedMark)], held: &HashMap<Resource, DeletedMark>) -> Vec<NewMark> {
    let new = |(resource, mark): &(Resource, DeletedMark)| {
        let held = held.get(resource).copied();
        let merged = held.map_or(*mark, |held| held.merged(*mark));
        (held != Some(merged)).then(|| (*resource, merged, held.is_none_or(|held| held.up_to < merged.up_to)))
    };
    marks.iter().filter_map(new).collect()
}

/// An older program would apply what is behind the fence.
fn raise_minimum(script: &mut Script, migration: &str) {
    let newer = format!("value >= {}", script.dialect().new_value("value"));
    let raise = script.dialect().overwrite("name", &["value"], Some(&newer));
    script.begin("INSERT INTO sync_meta (name, value) VALUES (").text(MINIMUM_COMPATIBLE).words(",").text(migration);
    script.words(")").words(&raise);
}
