//! Degraded writes and discarded events are told to the cache: the list of what it missed is in the database, written in
//! the same transaction as the rows, so it survives whoever wrote it. Any process that reaches both stores drains it.

use crate::stores::Stores;
use domain::cache::{CacheError, Settlement};
use domain::{LikeIntent, Pair, PairState, Resource, ShardId, Version};
use event_store::{DirectResult, StoreError};
use futures::FutureExt;
use futures::future::BoxFuture;

/// Most list entries told at once.
const BATCH: usize = 500;

/// Most idempotency keys that are told at once.
const KEYS: u32 = 1_000;

/// Why the cache could not be told.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// The database is why.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cache is why.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// One batch of the list.
struct Batch {
    /// So many were listed.
    listed: usize,
    /// So many of them are of shards that are away: they stay.
    left: usize,
    /// The last one.
    last: i64,
}

/// Tells the cache about at most one batch of entries after this one.
///
/// Rows are read after the list and told before it is shortened, so stopping anywhere only repeats work.
async fn drain_batch(stores: &Stores, after: i64, back: &[ShardId]) -> Result<Batch, RefreshError> {
    let mut entries = stores.likes.refreshes_after(after, BATCH as u32).await?;
    let (listed, last) = (entries.len(), entries.last().map_or(after, |entry| entry.id));
    if stores.shard_circuits.any() {
        let is_away = |shard: ShardId| stores.shard_circuits.is_open(shard) && !back.contains(&shard);
        entries.retain(|entry| !is_away(stores.shards().of(entry.pair.resource)));
    }
    let batch = Batch { listed, left: listed - entries.len(), last };
    if entries.is_empty() {
        return Ok(batch);
    }
    let mut pairs: Vec<Pair> = entries.iter().map(|entry| entry.pair).collect();
    pairs.sort_unstable();
    pairs.dedup();
    let mut resources: Vec<Resource> = pairs.iter().map(|pair| pair.resource).collect();
    resources.dedup();
    let states = stores.likes.load_states(&pairs).await?;
    // The row of a write around the cache has the entry's version or a newer one. Only that of a discarded event has not: the
    // cache gives up what it accepted, unless something newer was accepted since, and asks the database.
    let row_of = |pair| pairs.binary_search(&pair).map_or(Version::ZERO, |at| states[at].version);
    let discarded: Vec<(Pair, Version)> = entries
        .iter()
        .filter(|entry| row_of(entry.pair) < entry.version)
        .map(|entry| (entry.pair, entry.version))
        .collect();
    if !discarded.is_empty() {
        stores.cache.forget_states(&discarded).await?;
    }
    let counts = stores.likes.load_counts(&resources).await?;
    let rows = pairs.iter().copied().zip(states);
    stores.cache.settle(&Settlement::of_rows(resources.into_iter().zip(counts), rows)).await?;
    // A key that was used around the cache answers its repetition there, too.
    let mut page = Some(0);
    while let Some(after) = page {
        let (keys, next) = stores.likes.load_keys(&pairs, after, KEYS).await?;
        if !keys.is_empty() {
            stores.cache.remember(&keys).await?;
        }
        page = next;
    }
    fail::fail_point!("refresh.told");
    let ids: Vec<i64> = entries.iter().map(|entry| entry.id).collect();
    stores.likes.delete_refreshes(&ids).await?;
    Ok(batch)
}

/// Tells everything that is listed now, except of shards that are away; how much that was.
pub fn drain(stores: &Stores) -> BoxFuture<'_, Result<usize, RefreshError>> {
    drain_inner(stores, &[]).boxed()
}

/// The same, also of these shards, which are back.
async fn drain_inner(stores: &Stores, back: &[ShardId]) -> Result<usize, RefreshError> {
    let (mut total, mut left, mut after) = (0, 0, 0);
    let ended = stores.untold.drain_begins();
    loop {
        let batch = drain_batch(stores, after, back).await?;
        total += batch.listed - batch.left;
        left += batch.left;
        after = batch.last;
        if batch.listed < BATCH {
            if left == 0 {
                stores.untold.drain_ended(ended);
            }
            return Ok(total);
        }
    }
}

/// Shards answer again whose server was away while others were not: as for the [whole](close_cache_circuit).
pub(crate) fn close_shard_circuits<'a>(
    stores: &'a Stores,
    back: &'a [ShardId],
) -> BoxFuture<'a, Result<(), RefreshError>> {
    close_shard_circuits_inner(stores, back).boxed()
}

async fn close_shard_circuits_inner(stores: &Stores, back: &[ShardId]) -> Result<(), RefreshError> {
    let close = || back.iter().for_each(|shard| stores.shard_circuits.close(*shard));
    if stores.database_circuit.is_open() {
        if let Ok(_no_direct_writes) = stores.direct_gate.try_write()
            && stores.untold.is_empty()
        {
            close();
        }
        return Ok(());
    }
    drain_inner(stores, back).await?;
    let _no_direct_writes = stores.direct_gate.write().await;
    drain_inner(stores, back).await?;
    close();
    Ok(())
}

/// The cache answers again: tells it what it missed, then lets it serve.
///
/// The last drain runs while no direct write is under way, so none can slip between it and the closing. While the
/// database is unreachable the list cannot be read: then the circuit closes only if this process wrote nothing around the cache,
/// because a stale pair would answer "unchanged" to a user who has changed it since.
pub fn close_cache_circuit(stores: &Stores) -> BoxFuture<'_, Result<(), RefreshError>> {
    close_cache_circuit_inner(stores).boxed()
}

async fn close_cache_circuit_inner(stores: &Stores) -> Result<(), RefreshError> {
    if stores.database_circuit.is_open() {
        if let Ok(_no_direct_writes) = stores.direct_gate.try_write()
            && stores.untold.is_empty()
        {
            stores.cache_circuit.close();
        }
        return Ok(());
    }
    drain(stores).await?;
    let _no_direct_writes = stores.direct_gate.write().await;
    drain(stores).await?;
    stores.cache_circuit.close();
    Ok(())
}

/// The second half of a write that the database took: tells the cache what was just committed. What fails here is on the
/// list.
pub(crate) async fn tell_cache(
    stores: &Stores,
    intents: &[LikeIntent],
    results: &[DirectResult],
) -> Result<(), CacheError> {
    let written = || {
        intents.iter().zip(results).filter_map(|(intent, result)| match result {
            DirectResult::Decided(outcome) => Some((intent.pair, outcome)),
            DirectResult::KeyReused | DirectResult::Deleted => None,
        })
    };
    let counts = written().map(|(pair, outcome)| (pair.resource, outcome.stored));
    let rows = written().map(|(pair, of)| (pair, PairState { liked: of.liked, version: of.version }));
    stores.cache.settle(&Settlement::of_rows(counts, rows)).await.map(drop)
}
