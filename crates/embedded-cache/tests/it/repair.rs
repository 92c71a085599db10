//! Repairs are compare-and-set, and fenced.

use crate::support::{Home, accepted, one_shard};
use anyhow::{Context, Result};
use domain::cache::{CountRepair, LikeCache, PairRepair, RepairOutcome};
use domain::{PairState, StoredCount, Version};
use test_support::build::video_pair;
use test_support::cache_contract::{like, unlike};

#[tokio::test]
async fn a_counter_is_repaired_only_as_it_was_seen_and_with_nothing_pending() -> Result<()> {
    let cache = Home::new().open(one_shard())?;
    let pair = video_pair(1, 1);
    accepted(&cache, like(pair)).await;
    let seen = cache.counts(&[pair.resource]).await?[0].context("cached")?;
    let stored = StoredCount { count: 7, revision: 9, last_version: Version::ZERO };
    let repair = CountRepair { resource: pair.resource, seen, stored, abandoned: false };
    assert_eq!(cache.repair_count(&repair, 1).await?, RepairOutcome::Changed, "one is pending");
    let abandoned = CountRepair { abandoned: true, ..repair };
    accepted(&cache, unlike(pair)).await;
    assert_eq!(cache.repair_count(&abandoned, 1).await?, RepairOutcome::Changed, "it was not seen so");
    let seen = cache.counts(&[pair.resource]).await?[0].context("cached")?;
    let abandoned = CountRepair { seen, ..abandoned };
    cache.fence_repairs(5).await?;
    assert_eq!(cache.repair_count(&abandoned, 4).await?, RepairOutcome::Fenced);
    assert_eq!(cache.repair_count(&abandoned, 5).await?, RepairOutcome::Repaired);
    let count = cache.counts(&[pair.resource]).await?[0].context("cached")?;
    assert_eq!((count.served, count.pending, count.stored_revision), (7, 0, 9));
    let nothing = CountRepair { resource: video_pair(1, 2).resource, ..abandoned };
    assert_eq!(cache.repair_count(&nothing, 5).await?, RepairOutcome::Changed);
    Ok(())
}

#[tokio::test]
async fn a_pair_is_repaired_only_as_it_was_seen_and_later_likes_win() -> Result<()> {
    let cache = Home::new().open(one_shard())?;
    let pair = video_pair(1, 1);
    let version = accepted(&cache, like(pair)).await.version;
    let row = PairState { liked: false, version: Version(version.0 + 3_600_000_000) };
    let repair = PairRepair { pair, seen: PairState::UNTOUCHED, row };
    assert_eq!(cache.repair_pair(&repair, 1).await?, RepairOutcome::Changed);
    let repair = PairRepair { seen: PairState { liked: true, version }, ..repair };
    assert_eq!(cache.repair_pair(&repair, 1).await?, RepairOutcome::Repaired);
    assert_eq!(cache.states(&[pair]).await?, [Some(row)]);
    assert_eq!(accepted(&cache, like(pair)).await.version, Version(row.version.0 + 1));
    Ok(())
}
