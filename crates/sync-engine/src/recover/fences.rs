//! Fences of erased users, and what is known of deleted resources, are kept in the cache and in the redo log, too: a copy of the
//! database from before an erasure does not have its fence, and brings back what was erased. Whoever tells such a database again
//! brings the fences back first; those erasures then begin anew, and remove what the copy held. Of a resource the newest word counts,
//! that it is deleted or restored, whoever has it.
//!
//! Without any of the three (a copy from before, an empty cache and no log) nobody knows who was erased: then the list of
//! users and resources has to be given again.

use crate::recover::catch_up::RefreshError;
use crate::stores::Stores;
use chrono::{DateTime, Utc};
use domain::Version;

/// Fences told at once.
const PAGE: u32 = 500;

/// From the cache to the database; gives how many it lacked.
pub(crate) async fn bring_back(stores: &Stores) -> Result<usize, RefreshError> {
    let (mut restored, mut cursor) = (0, 0);
    loop {
        let (fences, next) = stores.cache.kept_fences(cursor, PAGE).await?;
        if !fences.is_empty() {
            restored += stores.database.restore_fences(&fences, stores.database.now().await?).await?;
        }
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    loop {
        let (marks, next) = stores.cache.kept_deleted(cursor, PAGE).await?;
        if !marks.is_empty() {
            restored += stores.database.restore_deleted(&marks, stores.database.now().await?).await?;
        }
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    if restored > 0 {
        tracing::warn!(restored, "the database lacked what was erased, deleted or restored: those erasures begin anew");
    }
    Ok(restored)
}

/// From the database to the cache.
pub(crate) async fn keep(stores: &Stores) -> Result<(), RefreshError> {
    let mut after = 0;
    loop {
        let fences = stores.database.fences_after(after, PAGE).await?;
        let Some((last, _)) = fences.last() else { break };
        after = last.get();
        stores.cache.keep_fences(&fences).await?;
    }
    keep_deleted(stores).await
}

/// The same of resources alone.
pub(crate) async fn keep_deleted(stores: &Stores) -> Result<(), RefreshError> {
    let mut after = None;
    loop {
        let marks = stores.database.deleted_after(after, PAGE).await?;
        let Some((last, _)) = marks.last() else { return Ok(()) };
        after = Some(*last);
        stores.cache.keep_deleted(&marks).await?;
    }
}

/// From the database to the cache, what was said after that time; false if it is too much for one page.
pub(crate) async fn keep_since(stores: &Stores, known: DateTime<Utc>) -> Result<bool, RefreshError> {
    let fences = stores.database.fences_since(known, PAGE).await?;
    let marks = stores.database.deleted_since(Version(known.timestamp_micros()), PAGE).await?;
    if fences.len().max(marks.len()) >= PAGE as usize {
        return Ok(false);
    }
    stores.cache.keep_fences(&fences).await?;
    stores.cache.keep_deleted(&marks).await?;
    Ok(true)
}
