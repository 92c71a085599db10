//! Repairs, as every cache that supports them must do them.

use crate::support::on_shared;
use anyhow::Result;
use domain::cache::RepairOutcome::{Changed, Fenced, Repaired};
use domain::cache::{CountRepair, LikeCache, PairRepair, SettledResource, Settlement};
use domain::{PairState, Resource, StoredCount, Version};
use test_support::build::video_pair;
use test_support::cache_contract::{like, roomy_rules};

const fn stored(count: i64, revision: i64) -> StoredCount {
    StoredCount { count, revision, last_version: Version::ZERO }
}

async fn seen(cache: &impl LikeCache, resource: Resource) -> Result<domain::cache::CachedCount> {
    cache.counts(&[resource]).await?[0].ok_or_else(|| anyhow::anyhow!("{resource} is not cached"))
}

async fn settle(cache: &impl LikeCache, resource: Resource, entries: Vec<Version>, is: StoredCount) -> Result<()> {
    let resource = SettledResource { resource, entries, stored: Some(is) };
    cache.settle(&Settlement { resources: vec![resource], pairs: Vec::new(), commit: None }).await?;
    Ok(())
}

#[tokio::test]
async fn a_counter_is_repaired_only_as_it_was_seen_and_with_nothing_pending() -> Result<()> {
    let (cache, _) = on_shared(roomy_rules()).await?;
    let (one, two) = (video_pair(1, 1), video_pair(2, 1));
    let resource = one.resource;
    cache.fill_counts(&[(resource, stored(9, 3))]).await?;
    let before = seen(&cache, resource).await?;
    let repair = |seen, abandoned| CountRepair { resource, seen, stored: stored(4, 3), abandoned };

    // A like came in between: not as seen; and seen anew it is pending.
    cache.accept(&[like(one)]).await.remove(0)?;
    assert_eq!(cache.repair_count(&repair(before, false), 1).await?, Changed);
    let pending = seen(&cache, resource).await?;
    assert_eq!((pending.served, pending.pending), (10, 1));
    assert_eq!(cache.repair_count(&repair(pending, false), 1).await?, Changed);
    assert_eq!(seen(&cache, resource).await?, pending);

    // Settled: as seen it is repaired, and only once.
    settle(&cache, resource, vec![pending.last_version], stored(9, 3)).await?;
    let idle = seen(&cache, resource).await?;
    assert_eq!(cache.repair_count(&repair(idle, false), 1).await?, Repaired);
    let after = seen(&cache, resource).await?;
    assert_eq!((after.served, after.pending, after.stored, after.stored_revision), (4, 0, 4, 3));
    assert_eq!(cache.repair_count(&repair(idle, false), 1).await?, Changed);

    // Pending entries that nobody has any more; a like after the look protects itself.
    cache.accept(&[like(two)]).await.remove(0)?;
    let lost = seen(&cache, resource).await?;
    cache.accept(&[like(video_pair(3, 1))]).await.remove(0)?;
    assert_eq!(cache.repair_count(&repair(lost, true), 1).await?, Changed);
    let lost = seen(&cache, resource).await?;
    assert_eq!(cache.repair_count(&repair(lost, true), 1).await?, Repaired);
    assert_eq!(seen(&cache, resource).await?.pending, 0);

    // What is not cached is not created.
    let absent = CountRepair { resource: video_pair(1, 2).resource, ..repair(lost, true) };
    assert_eq!(cache.repair_count(&absent, 1).await?, Changed);
    assert_eq!(cache.counts(&[absent.resource]).await?, [None]);
    Ok(())
}

#[tokio::test]
async fn a_pair_is_repaired_only_as_it_was_seen() -> Result<()> {
    let (cache, _) = on_shared(roomy_rules()).await?;
    let pair = video_pair(1, 1);
    cache.accept(&[like(pair)]).await.remove(0)?;
    let Some(seen) = cache.states(&[pair]).await?[0] else { anyhow::bail!("not cached") };
    let row = PairState { liked: false, version: seen.version };
    let other = PairState { version: Version(seen.version.0 - 1), ..seen };
    assert_eq!(cache.repair_pair(&PairRepair { pair, seen: other, row }, 1).await?, Changed);
    assert_eq!(cache.states(&[pair]).await?, [Some(seen)]);
    assert_eq!(cache.repair_pair(&PairRepair { pair, seen, row }, 1).await?, Repaired);
    assert_eq!(cache.states(&[pair]).await?, [Some(row)]);
    let absent = video_pair(2, 1);
    assert_eq!(cache.repair_pair(&PairRepair { pair: absent, seen, row }, 1).await?, Changed);
    assert_eq!(cache.states(&[absent]).await?, [None]);
    Ok(())
}

#[tokio::test]
async fn a_smaller_token_is_refused_in_every_shard() -> Result<()> {
    let (cache, _) = on_shared(roomy_rules()).await?;
    cache.fence_repairs(7).await?;
    cache.fence_repairs(5).await?;
    for id in 1..=20 {
        let resource = video_pair(1, id).resource;
        cache.fill_counts(&[(resource, stored(9, 3))]).await?;
        let seen = seen(&cache, resource).await?;
        let repair = CountRepair { resource, seen, stored: stored(4, 3), abandoned: false };
        assert_eq!(cache.repair_count(&repair, 6).await?, Fenced, "{resource}");
        assert_eq!(cache.counts(&[resource]).await?, [Some(seen)]);
        let pair = PairRepair { pair: video_pair(1, id), seen: PairState::UNTOUCHED, row: PairState::UNTOUCHED };
        assert_eq!(cache.repair_pair(&pair, 6).await?, Fenced, "{resource}");
        assert_eq!(cache.repair_count(&repair, 7).await?, Repaired, "{resource}");
    }
    Ok(())
}
