//! A replica takes over that lacks the last likes and whose clock is behind: versions go on above all that was answered.

use crate::support::{PATIENCE, config};
use anyhow::{Context, Result, ensure};
use cache_manager::RedisCache;
use domain::cache::{AcceptOutcome, AcceptRequest, LikeCache};
use domain::{Pair, PairState, ShardId, Version};
use std::collections::BTreeSet;
use std::slice;
use std::time::Duration;
use test_support::build::video_pair;
use test_support::cache_contract::{like, roomy_rules, unlike};
use test_support::{Proxy, Redis, RedisGroup, RedisGroupOptions, RedisOptions, eventually};

const BEHIND: Duration = Duration::from_secs(3);

/// Versions of the answer to this, as soon as there is one.
async fn answered(cache: &RedisCache, request: AcceptRequest) -> Version {
    eventually(PATIENCE, "an answer", async || match cache.accept(slice::from_ref(&request)).await.remove(0) {
        Ok(AcceptOutcome::Accepted(answer)) => Ok(answer.version),
        other => Err(format!("{other:?}")),
    })
    .await
}

/// Of the first user and a video of this shard.
fn pair_of(shard: u16) -> Result<Pair> {
    let shards = roomy_rules().shards;
    let pairs = (1..10_000).map(|video| video_pair(1, video));
    pairs.into_iter().find(|pair| shards.of(pair.resource) == ShardId(shard)).context("no such video")
}

#[tokio::test]
async fn likes_after_a_failover_win_although_the_clock_of_the_promoted_one_is_behind() -> Result<()> {
    let node = RedisOptions { appendonly: false, preload: true };
    let group = RedisGroup::start(RedisGroupOptions { node, ..Default::default() }).await?;
    group.node(1)?.preload()?.set_clock(-i64::try_from(BEHIND.as_micros())?)?;
    let address = Proxy::start(group.node(0)?.addr()?).await?;
    let cache = || config(&address.url_of(group.node(0)?.url()), "").build(roomy_rules()).context("build");
    let (teller, other) = (cache()?, cache()?);
    // It has met the primary, and was answered nothing there.
    other.ping().await?;
    for shard in 0..3 {
        answered(&teller, like(video_pair(9, pair_of(shard)?.resource.id.get()))).await;
    }

    group.link(1)?.freeze();
    let mut before = Vec::new();
    for shard in 0..3 {
        before.push(answered(&teller, like(pair_of(shard)?)).await);
    }
    group.node(0)?.kill9()?;
    group.promote(1).await?;
    address.retarget(group.node(1)?.addr()?);

    // Who was answered, who was not, and who starts now; each of them is the first to ask a shard.
    let starter = cache()?;
    for (shard, (cache, before)) in (0_u16..).zip([&teller, &other, &starter].into_iter().zip(before)) {
        let after = answered(cache, unlike(pair_of(shard)?)).await;
        ensure!(after > before, "shard {shard}: {after} is not above {before}");
        cache.ping().await?;
        let now = cache.own_clock().context("no clock")?.1;
        ensure!(now < before, "shard {shard}: the clock at {now} is not behind {before}");
    }
    Ok(())
}

/// Another run of Redis has its keys in another order: what was passed over there comes all the same.
#[tokio::test]
async fn a_scan_that_meets_another_run_begins_again() -> Result<()> {
    let redis = Redis::start(RedisOptions::default()).await?;
    let cache = config(redis.url(), "").build(roomy_rules())?;
    cache.prepare().await?;
    let states: Vec<(Pair, PairState)> =
        (1..=2_000).map(|user| (video_pair(user, 1), PairState { liked: true, version: Version(5) })).collect();
    cache.fill_states(&states).await?;
    let (mut seen, mut cursor, mut restarted) = (BTreeSet::new(), 0, false);
    loop {
        let page = async || cache.cached_pairs(cursor, 100).await.map_err(|error| error.to_string());
        let (pairs, next) = eventually(PATIENCE, "a page", page).await;
        if restarted {
            seen.extend(pairs);
        }
        if next == 0 {
            break;
        }
        cursor = next;
        if !restarted {
            redis.restart().await?;
            restarted = true;
        }
    }
    ensure!(restarted && seen.len() == states.len(), "{} of {}", seen.len(), states.len());
    Ok(())
}
