//! Fences of erased users are kept in the cache and in the redo log, too: a copy of the database from before an erasure does not
//! have its fence, and brings back what was erased. Whoever tells such a database again brings the fences back first; those
//! erasures then begin anew, and remove what the copy held.
//!
//! Without any of the three (a copy from before, an empty cache and no log) nobody knows who was erased: then the list of
//! users has to be given again.

use crate::recover::catch_up::RefreshError;
use crate::stores::Stores;

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
    if restored > 0 {
        tracing::warn!(restored, "the database lacked fences of erased users: their erasures begin anew");
    }
    Ok(restored)
}

/// From the database to the cache.
pub(crate) async fn keep(stores: &Stores) -> Result<(), RefreshError> {
    let mut after = 0;
    loop {
        let fences = stores.database.fences_after(after, PAGE).await?;
        let Some(last) = fences.last() else { return Ok(()) };
        after = last.user.get();
        stores.cache.keep_fences(&fences).await?;
    }
}
