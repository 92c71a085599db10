//! Fields that somebody overwrote with what is no number.

use crate::support::private;
use anyhow::{Context, Result};
use domain::ShardCount;
use domain::cache::LikeCache;
use test_support::build::video_pair;
use test_support::cache_contract::{like, roomy_rules};

/// What is no number in a shard's accounting stops neither the shard nor the looks at all shards.
#[tokio::test]
async fn what_is_no_number_counts_as_nothing() -> Result<()> {
    let rules = domain::cache::CacheRules { shards: ShardCount::new(2)?, ..roomy_rules() };
    let (_redis, cache, raw) = private(rules.clone()).await?;
    let pair = (1..).map(|id| video_pair(1, id)).find(|pair| rules.shards.of(pair.resource).0 == 1).context("none")?;
    let clock = cache.keys().clock(domain::ShardId(1));
    let mut words = 0;
    for field in ["a", "s", "w", "v", "b"] {
        for garbage in ["nan", "-nan", "words", "1e300", "inf", "0.5"] {
            if field == "v" && ["1e300", "inf"].contains(&garbage) {
                // A clock above all versions is named by probes, and stays.
                continue;
            }
            raw.run::<()>(&format!("HSET {clock} {field} {garbage}")).await?;
            let status = cache.shard_status().await.with_context(|| format!("{field} {garbage}"))?;
            assert_eq!(status.len(), 2, "{field} {garbage}");
            cache.ping().await?;
            words += 1;
            let one = video_pair(words, pair.resource.id.get());
            cache.accept(&[like(one)]).await.remove(0).with_context(|| format!("{field} {garbage}"))?;
            let status = cache.shard_status().await.with_context(|| format!("{field} {garbage}, after a like"))?;
            assert_eq!(status[1].journal_len, u64::try_from(words)?, "{field} {garbage}");
        }
    }
    Ok(())
}
