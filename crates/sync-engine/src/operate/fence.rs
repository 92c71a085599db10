//! What an operator asks of the [eraser](super::erase): a user is erased, a resource is deleted, or restored. Here its fence is written;
//! the eraser removes what is behind it.

use crate::recover::catch_up::RefreshError;
use crate::recover::fences;
use crate::stores::{Stores, faults};
use domain::cache::CacheError;
use domain::{Erased, Fence, Resource, UserId, Version};
use event_store::{Erasure, Operation};
use futures::FutureExt;
use futures::future::BoxFuture;

/// Begins the erasure of a user, whom it need not have heard of: from here on nothing from before counts. Needs both stores.
pub fn erase_user<'a>(
    stores: &'a Stores,
    user: UserId,
    by: &'a Operation,
) -> BoxFuture<'a, Result<Erasure, RefreshError>> {
    async move {
        let erasure = fence(stores, Erased::User(user), by).await?;
        // The eraser does it again.
        if let Err(error) = stores.cache.keep_fences(&[(user, erasure.fence.up_to)]).await {
            faults::tell("keeping a fence in the cache", &error);
        }
        tracing::info!(actor = by.actor, "a user is erased, by an operator");
        Ok(erasure)
    }
    .boxed()
}

/// Begins the deletion of a resource, which it need not have heard of: from here on nothing from before counts, and likes are refused
/// until it is [restored](restore_resource). Needs both stores.
pub fn delete_resource<'a>(
    stores: &'a Stores,
    resource: Resource,
    by: &'a Operation,
) -> BoxFuture<'a, Result<Erasure, RefreshError>> {
    delete_inner(stores, resource, by).boxed()
}

async fn delete_inner(stores: &Stores, resource: Resource, by: &Operation) -> Result<Erasure, RefreshError> {
    let mut erasure = fence(stores, Erased::Resource(resource), by).await?;
    tracing::info!(actor = by.actor, %resource, "a resource is deleted, by an operator");
    if keep_mark(stores, &erasure).await {
        // It is deleted, whatever becomes of this.
        match raised(stores, &erasure).await {
            Ok(Some(raised)) => {
                erasure = raised;
                keep_mark(stores, &erasure).await;
            }
            Ok(None) => {}
            Err(error) => drop(faults::tell("raising the fence of a deleted resource", &error)),
        }
    }
    Ok(erasure)
}

/// What was accepted between the fence and its mark goes, too.
async fn raised(stores: &Stores, erasure: &Erasure) -> Result<Option<Erasure>, RefreshError> {
    let up_to = raise_clocks(stores, erasure.fence.up_to).await?;
    if up_to <= erasure.fence.up_to {
        return Ok(None);
    }
    Ok(stores.database.raise_fence(erasure, up_to, stores.database.now().await?).await?)
}

/// Likes of a deleted resource count again, those of before its deletion do not; none if it never was deleted. Needs both stores.
pub fn restore_resource<'a>(
    stores: &'a Stores,
    resource: Resource,
    by: &'a Operation,
) -> BoxFuture<'a, Result<Option<Erasure>, RefreshError>> {
    async move {
        let now = stores.database.now().await?;
        // Only where the cache hears of it: while shards are closed it would keep the mark for those that follow.
        raise_clocks(stores, Version(now.timestamp_micros())).await?;
        let Some(erasure) = stores.database.restore_resource(resource, by, now).await? else { return Ok(None) };
        keep_mark(stores, &erasure).await;
        tracing::info!(actor = by.actor, %resource, "a resource is restored, by an operator");
        Ok(Some(erasure))
    }
    .boxed()
}

/// Tells the cache which resources are deleted, all that the database knows: one that begins empty accepts likes of them until it
/// hears of it.
pub fn tell_deleted(stores: &Stores) -> BoxFuture<'_, Result<(), RefreshError>> {
    fences::keep_deleted(stores).boxed()
}

async fn fence(stores: &Stores, of: Erased, by: &Operation) -> Result<Erasure, RefreshError> {
    let now = stores.database.now().await?;
    let up_to = raise_clocks(stores, Version(now.timestamp_micros())).await?;
    fail::fail_point!("erase.clocks_raised");
    let erasure = stores.database.fence(Fence { of, up_to }, Some(by), now).await?;
    fail::fail_point!("erase.fenced");
    Ok(erasure)
}

/// In the cache; else the eraser does it. Says whether the cache has it.
async fn keep_mark(stores: &Stores, erasure: &Erasure) -> bool {
    let mark: Vec<_> = erasure.mark().into_iter().collect();
    match stores.cache.keep_deleted(&mark).await {
        Ok(()) => true,
        Err(error) => {
            faults::tell("telling the cache of a deleted resource", &error);
            false
        }
    }
}

/// Nothing that was accepted before has a higher version than is given, and nothing after has a lower one.
pub(crate) async fn raise_clocks(stores: &Stores, at_least: Version) -> Result<Version, CacheError> {
    let before = stores.cache.raise_clocks(at_least).await?;
    if before > at_least {
        stores.cache.raise_clocks(before).await?;
    }
    Ok(before.max(at_least))
}
