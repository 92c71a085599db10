//! What the last process accepted and did not settle goes to the database before anything is served.

use domain::cache::JournalPages;
use domain::{LikeEvent, ShardCount};
use sync_engine::Stores;
use sync_engine::apply::Applier;
use tokio_util::sync::CancellationToken;

/// Applies and settles the whole journal; returns how many likes that were. What is in the database already changes
/// nothing there. If the database is unreachable, or `stop` comes, the rest is left to the rescuer.
///
/// # Errors
/// The cache's only.
pub async fn replay(
    stores: &Stores,
    applier: &Applier,
    shards: ShardCount,
    batch_size: usize,
    stop: &CancellationToken,
) -> anyhow::Result<u64> {
    let mut replayed = 0;
    for shard in shards.all() {
        // All of it: it is as long as the journal's limit at most.
        let mut pages = JournalPages::new(stores.cache.as_ref(), shard, batch_size, usize::MAX);
        while let Some(page) = pages.next().await? {
            let mut events: Vec<LikeEvent> = Vec::with_capacity(page.len());
            for entry in &page {
                match entry.decode() {
                    Ok(event) => events.push(event),
                    Err(error) => tracing::error!(%error, version = %entry.version, "journal entry cannot be decoded"),
                }
            }
            if stop.is_cancelled() || stores.database_circuit.is_open() {
                return Ok(replayed);
            }
            if let Err(error) = applier.apply(&events).await {
                tracing::warn!(%error, "the database is unreachable: unsettled likes stay in the journal, the rescuer brings them round");
                return Ok(replayed);
            }
            replayed += events.len() as u64;
        }
    }
    Ok(replayed)
}
