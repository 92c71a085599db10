//! Deleted resources: their fences, and which of them are deleted now.
//!
//! Their fences keep out what erased users' keep out, by the same row that every writer holds ([`fences`](super::fences)). Whether
//! one is deleted now is asked by what the database itself decides: a like that a cache has accepted was accepted, and is written.
//!
//! A row stays when its resource is restored: so does its fence, and a copy of the database from before is told of both.

use crate::sql::error::StoreError;
use crate::sql::pool::Results;
use crate::sql::script::{CHUNK, Script, time_of, utc};
use crate::sql::store::{EventStore, get, rows};
use crate::tables::fences::Erasure;
use chrono::NaiveDateTime;
use domain::{DeletedMark, Erased, Fence, Resource, ResourceType, Version};
use std::collections::{HashMap, HashSet};
use std::ops::Range;

pub(crate) const TABLE: &str = "deleted_resources";

const MARKS: &str = "SELECT resource_type, resource_id, up_to, changed_at, restored_at IS NULL FROM deleted_resources";

impl EventStore {
    /// What became of the deletion of a resource, if there was one.
    pub async fn deletion_of(&self, resource: Resource) -> Result<Option<Erasure>, StoreError> {
        let mut script = self.script();
        select_deletions(&mut script);
        its_row(&mut script, resource);
        rows(&self.read(&script).await?, 0).first().map(deletion_of).transpose()
    }

    /// Those of these resources that are deleted and not restored.
    pub async fn deleted(&self, resources: &[Resource]) -> Result<HashSet<Resource>, StoreError> {
        let mut script = self.script();
        let statements = select_deleted(&mut script, resources.iter().copied());
        read_deleted(&self.read(&script).await?, statements)
    }

    /// What is known of deleted resources after this one, in the order of resources; restored ones, too.
    pub async fn deleted_after(
        &self,
        after: Option<Resource>,
        limit: u32,
    ) -> Result<Vec<(Resource, DeletedMark)>, StoreError> {
        let mut marks = Vec::new();
        for kind in ordered_kinds() {
            let id = match after {
                Some(after) if after.kind.name() > kind.name() => continue,
                Some(after) if after.kind == kind => after.id.get(),
                _ => 0,
            };
            let Some(limit) = i64::from(limit).checked_sub(marks.len() as i64).filter(|limit| *limit > 0) else {
                break;
            };
            let mut script = self.script();
            script.begin(MARKS).words(" WHERE resource_type = ").name(kind.name());
            script.words(" AND resource_id > ").int(id).words(" ORDER BY resource_id LIMIT ").int(limit);
            for row in rows(&self.read(&script).await?, 0) {
                marks.push(mark_of(row)?);
            }
        }
        Ok(marks)
    }

    /// What was said of resources, or brought back, after that time, at most `limit`.
    pub async fn deleted_since(&self, at: Version, limit: u32) -> Result<Vec<(Resource, DeletedMark)>, StoreError> {
        let mut script = self.script();
        script.begin(MARKS).words(" WHERE changed_at > ").int(at.0).words(" OR fenced_at > ").time(time_of(at));
        script.words(" ORDER BY changed_at LIMIT ").int(i64::from(limit));
        rows(&self.read(&script).await?, 0).iter().map(mark_of).collect()
    }
}

/// In the order of their names, which is that of the key.
fn ordered_kinds() -> [ResourceType; ResourceType::ALL.len()] {
    let mut kinds = ResourceType::ALL;
    kinds.sort_unstable_by_key(|kind| kind.name());
    kinds
}

/// Asks which resources are deleted now; the result is for [`read_deleted`].
pub(crate) fn select_deleted(script: &mut Script, resources: impl Iterator<Item = Resource>) -> Range<usize> {
    let words = "SELECT resource_type, resource_id FROM deleted_resources WHERE restored_at IS NULL AND ";
    in_chunks(script, words, resources)
}

pub(crate) fn read_deleted(results: &Results, statements: Range<usize>) -> Result<HashSet<Resource>, StoreError> {
    statements.flat_map(|statement| rows(results, statement)).map(resource_of).collect()
}

/// Reads what is known of resources; the result is for [`read_marks`].
pub(crate) fn select_marks(script: &mut Script, resources: impl Iterator<Item = Resource>) -> Range<usize> {
    in_chunks(script, &format!("{MARKS} WHERE "), resources)
}

pub(crate) fn read_marks(
    results: &Results,
    statements: Range<usize>,
) -> Result<HashMap<Resource, DeletedMark>, StoreError> {
    statements.flat_map(|statement| rows(results, statement)).map(mark_of).collect()
}

/// One statement for each kind and [`CHUNK`] of resources.
fn in_chunks(script: &mut Script, words: &str, resources: impl Iterator<Item = Resource>) -> Range<usize> {
    let first = script.statements();
    let mut resources: Vec<Resource> = resources.collect();
    resources.sort_unstable();
    resources.dedup();
    for of_kind in resources.chunk_by(|one, other| one.kind == other.kind) {
        for chunk in of_kind.chunks(CHUNK) {
            script.begin(words);
            resources_in(script, chunk);
        }
    }
    first..script.statements()
}

/// Of one kind, in a table that has both columns.
pub(crate) fn resources_in(script: &mut Script, of_kind: &[Resource]) {
    let Some(Resource { kind, .. }) = of_kind.first() else { return };
    script.words("resource_type = ").name(kind.name()).words(" AND resource_id IN (");
    script.list(of_kind, |script, resource| {
        script.int(resource.id.get());
    });
    script.words(")");
}

/// In a table of which it is the key.
pub(crate) fn its_row(script: &mut Script, resource: Resource) -> &mut Script {
    script.words(" WHERE resource_type = ").name(resource.kind.name());
    script.words(" AND resource_id = ").int(resource.id.get())
}

pub(crate) fn select_deletions(script: &mut Script) -> &mut Script {
    script.begin(
        "SELECT resource_type, resource_id, up_to, fenced_at, cleaned_at, removed, restored_at, changed_at \
         FROM deleted_resources",
    )
}

pub(crate) fn deletion_of(row: &sea_orm::QueryResult) -> Result<Erasure, StoreError> {
    let time = |column| Ok::<_, StoreError>(get::<Option<NaiveDateTime>>(row, column, TABLE)?.map(utc));
    Ok(Erasure {
        fence: Fence { of: Erased::Resource(resource_of(row)?), up_to: Version(get(row, 2, TABLE)?) },
        fenced_at: utc(get::<NaiveDateTime>(row, 3, TABLE)?),
        cleaned_at: time(4)?,
        removed: get(row, 5, TABLE)?,
        restored_at: time(6)?,
        changed_at: Version(get(row, 7, TABLE)?),
    })
}

fn mark_of(row: &sea_orm::QueryResult) -> Result<(Resource, DeletedMark), StoreError> {
    let (up_to, at) = (Version(get(row, 2, TABLE)?), Version(get(row, 3, TABLE)?));
    Ok((resource_of(row)?, DeletedMark { up_to, at, deleted: get::<i64>(row, 4, TABLE)? != 0 }))
}

fn resource_of(row: &sea_orm::QueryResult) -> Result<Resource, StoreError> {
    let kind: String = get(row, 0, TABLE)?;
    let kind = kind.parse().map_err(|error| StoreError::corrupt(TABLE, error))?;
    Resource::new(kind, get(row, 1, TABLE)?).map_err(|error| StoreError::corrupt(TABLE, error))
}
