//! Killed, wiped, cut off, frozen.

use crate::support::{PATIENCE, config, private};
use anyhow::{Context, Result, bail, ensure};
use cache_manager::{RedisCache, RedisConfig};
use domain::cache::{AcceptOutcome, AcceptRequest, LikeCache, SettledResource, Settlement};
use domain::{StoredCount, Version};
use std::time::Duration;
use test_support::build::video_pair;
use test_support::cache_contract::{like, roomy_rules, unlike};
use test_support::{Proxy, Redis, RedisOptions, eventually};

async fn accepted(cache: &RedisCache, request: AcceptRequest) -> Result<Version> {
    match cache.accept(&[request]).await.remove(0)? {
        AcceptOutcome::Accepted(answer) => Ok(answer.version),
        other => bail!("{other:?}"),
    }
}

async fn answers_again(cache: &RedisCache) {
    eventually(PATIENCE, "the cache answers again", async || {
        cache.ping().await.map_err(|error| error.to_string())?;
        cache.shard_status().await.map(drop).map_err(|error| error.to_string())
    })
    .await;
}

async fn journal_len(cache: &RedisCache) -> Result<u64> {
    Ok(cache.shard_status().await?.iter().map(|status| status.journal_len).sum())
}

#[tokio::test]
async fn a_killed_server_with_aof_keeps_the_journal() -> Result<()> {
    let (redis, cache, _) = private(roomy_rules()).await?;
    let mut last = Version::ZERO;
    for user in 1..=50 {
        last = accepted(&cache, like(video_pair(user, 1))).await?;
    }
    let shard = roomy_rules().shards.of(video_pair(1, 1).resource);
    let before = cache.journal_page(shard, Version::ZERO, 100).await?;
    // While its disk is slow, Redis answers what is not in the file yet; what that costs others test.
    eventually(PATIENCE, "everything in the file", async || {
        let said = redis.cli(&["INFO", "persistence"]).await.map_err(|error| error.to_string())?;
        if said.contains("aof_buffer_length:0") { Ok(()) } else { Err(said) }
    })
    .await;
    redis.kill9()?;
    let error = cache.accept(&[like(video_pair(51, 1))]).await.remove(0).expect_err("accepted by a dead server");
    assert!(error.is_unavailable(), "{error}");
    redis.restart().await?;
    answers_again(&cache).await;
    assert_eq!(cache.journal_page(shard, Version::ZERO, 100).await?, before);
    assert_eq!(cache.counts(&[video_pair(1, 1).resource]).await?[0].map(|c| (c.served, c.pending)), Some((50, 50)));
    ensure!(accepted(&cache, like(video_pair(51, 1))).await? > last, "versions went back");
    Ok(())
}

#[tokio::test]
async fn settling_after_a_flush_is_harmless() -> Result<()> {
    let (_redis, cache, raw) = private(roomy_rules()).await?;
    let (pair, other) = (video_pair(1, 1), video_pair(2, 1));
    let lost = accepted(&cache, like(pair)).await?;
    raw.run::<()>("FLUSHALL").await?;
    let settlement = |entries, count, revision, last_version| Settlement {
        resources: vec![SettledResource {
            resource: pair.resource,
            entries,
            stored: Some(StoredCount { count, revision, last_version }),
        }],
        pairs: vec![(pair, domain::PairState { liked: true, version: lost })],
        commit: None,
    };
    // Nothing is cached: nothing is created but the shard's clock.
    let report = cache.settle(&settlement(vec![lost], 1, 1, lost)).await?;
    assert_eq!((report.removed, report.corrections, report.refreshed), (0, 0, 0));
    assert_eq!((cache.counts(&[pair.resource]).await?[0], cache.states(&[pair]).await?[0]), (None, None));

    // Told late, while a new entry is pending: the new one stays pending.
    let new = accepted(&cache, like(other)).await?;
    ensure!(new > lost, "version {new} after {lost}");
    cache.settle(&settlement(vec![lost], 1, 1, lost)).await?;
    let count = cache.counts(&[pair.resource]).await?[0].expect("cached");
    assert_eq!((count.served, count.pending, count.stored), (1, 1, 1));
    // And right in the end.
    cache.settle(&settlement(vec![new], 2, 2, new)).await?;
    let count = cache.counts(&[pair.resource]).await?[0].expect("cached");
    assert_eq!((count.served, count.pending), (2, 0));
    assert_eq!(journal_len(&cache).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_cut_link_is_unavailable_and_comes_back_by_itself() -> Result<()> {
    let redis = Redis::start(RedisOptions::default()).await?;
    let proxy = Proxy::start(redis.addr()?).await?;
    let cache = config(&proxy.url_of(redis.url()), "").build(roomy_rules())?;
    cache.prepare().await?;
    for round in 1..=3 {
        accepted(&cache, like(video_pair(round, 1))).await?;
        proxy.cut().await;
        let errors = [
            cache.accept(&[like(video_pair(9, 9))]).await.remove(0).err(),
            cache.counts(&[video_pair(1, 1).resource]).await.err(),
            cache.settle(&settled_nothing()).await.err(),
            cache.shard_status().await.err(),
            cache.acquire_lease("l", "me", Duration::from_secs(1)).await.err(),
        ];
        for error in errors {
            let error = error.expect("answered through a cut link");
            assert!(error.is_unavailable(), "{error}");
        }
        proxy.restore().await?;
        answers_again(&cache).await;
    }
    assert_eq!(journal_len(&cache).await?, 3);
    Ok(())
}

fn settled_nothing() -> Settlement {
    let part = SettledResource { resource: video_pair(1, 1).resource, entries: Vec::new(), stored: None };
    Settlement { resources: vec![part], pairs: Vec::new(), commit: None }
}

/// A call that Redis sees after its caller gave up does nothing: the user may have acted otherwise meanwhile.
#[tokio::test]
async fn a_stuck_accept_never_takes_effect() -> Result<()> {
    let redis = Redis::start(RedisOptions::default()).await?;
    let patience = Duration::from_millis(500);
    let config = RedisConfig { response_timeout: patience, ..config(redis.url(), "") };
    let cache = config.build(roomy_rules())?;
    cache.prepare().await?;
    let pair = video_pair(1, 1);
    accepted(&cache, like(pair)).await?;
    redis.pause()?;
    let error = cache.accept(&[unlike(pair)]).await.remove(0).expect_err("answered by a paused server");
    assert!(error.is_unavailable(), "{error}");
    redis.resume()?;
    answers_again(&cache).await;
    // The server has read what was sent before: its clients' input is handled in the order in which they connected.
    assert_eq!(journal_len(&cache).await?, 1);
    assert_eq!(cache.states(&[pair]).await?[0].map(|state| state.liked), Some(true));
    accepted(&cache, unlike(pair)).await?;
    Ok(())
}

/// Who writes around the cache takes a version from its clock: it must be above what another server was answered before,
/// however long the way to Redis is from here.
#[tokio::test]
async fn the_clock_behind_a_slow_link_is_not_behind_what_others_were_answered() -> Result<()> {
    let redis = Redis::start(RedisOptions::default()).await?;
    let proxy = Proxy::start(redis.addr()?).await?;
    let near = config(redis.url(), "").build(roomy_rules())?;
    near.prepare().await?;
    proxy.delay(Duration::from_millis(100));
    let far = config(&proxy.url_of(redis.url()), "").build(roomy_rules())?;
    far.ping().await?;
    for user in 1..=20 {
        let version = accepted(&near, like(video_pair(user, 1))).await?;
        let clock = far.clock();
        ensure!(
            clock.is_some_and(|clock| clock > version),
            "clock {clock:?} after another server was answered {version}"
        );
    }
    Ok(())
}

/// Versions of the time in which Redis's clock was set ahead are ahead of it for a while. Whoever writes around the cache
/// above them waits for as long: a word that is accepted in another shard meanwhile is dated by the clock alone.
#[tokio::test]
async fn versions_from_a_clock_that_was_ahead_are_waited_for() -> Result<()> {
    let redis = Redis::start(RedisOptions { preload: true, ..RedisOptions::default() }).await?;
    let cache = config(redis.url(), "").build(roomy_rules())?;
    cache.prepare().await?;
    let near = cache.clock_uncertainty();
    ensure!(near < Duration::from_secs(5), "{near:?} before");
    redis.preload()?.set_clock(30_000_000)?;
    let ahead = accepted(&cache, like(video_pair(1, 1))).await?;
    redis.preload()?.set_clock(0)?;
    // Told of the right time again.
    eventually(PATIENCE, "the clock is right", async || {
        cache.ping().await.map_err(|error| error.to_string())?;
        let other = cache.shard_status().await.map_err(|error| error.to_string())?;
        other.iter().any(|shard| shard.now < ahead).then_some(()).ok_or_else(|| format!("{other:?}"))
    })
    .await;
    ensure!(cache.clock().is_some_and(|clock| clock > ahead), "not above what was answered");
    let wait = cache.clock_uncertainty();
    ensure!(wait > Duration::from_secs(15), "a writer around the cache waits {wait:?} only");
    // That shard alone is ahead.
    let shard_of = |id| roomy_rules().shards.of(video_pair(1, id).resource);
    let other = (2..100).find(|id| shard_of(*id) != shard_of(1)).context("one shard")?;
    let wait = |id| cache.clock_for(&[video_pair(1, id).resource]).map(|(_, wait)| wait);
    ensure!(wait(1) > Some(Duration::from_secs(15)), "in that shard {:?}", wait(1));
    ensure!(wait(other) < Some(Duration::from_secs(5)), "in another shard {:?}", wait(other));
    Ok(())
}
