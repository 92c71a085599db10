//! One process probes, and the others hear of it: see `src/word.rs`.

use crate::support::{PATIENCE, Raw, config, private};
use anyhow::{Context, Result, ensure};
use cache_manager::RedisCache;
use domain::cache::LikeCache;
use std::time::{Duration, Instant};
use test_support::cache_contract::roomy_rules;
use test_support::{Proxy, Redis, RedisOptions, eventually};

/// As every process does while all is well.
const EVERY: Duration = Duration::from_millis(250);

async fn well(cache: &RedisCache) -> Result<()> {
    let away = cache.watch_shards().await?;
    ensure!(away.is_empty(), "{away:?}");
    Ok(())
}

/// How often this command ran, in scripts, too.
async fn calls(redis: &Redis, command: &str) -> Result<u64> {
    let stats = redis.cli(&["info", "commandstats"]).await?;
    let calls =
        stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls="))?.split(',').next());
    Ok(calls.map(str::parse).transpose()?.unwrap_or(0))
}

/// Several processes that ask the same server, none of which has met trouble.
async fn several(redis: &Redis, count: usize) -> Result<Vec<RedisCache>> {
    let mut caches = Vec::new();
    for _ in 0..count {
        let cache = config(redis.url(), "").build(roomy_rules())?;
        cache.prepare().await?;
        well(&cache).await?;
        caches.push(cache);
    }
    Ok(caches)
}

#[tokio::test]
async fn what_is_asked_does_not_grow_with_who_asks() -> Result<()> {
    let redis = Redis::start(RedisOptions::default()).await?;
    let caches = several(&redis, 8).await?;
    let (began, before) = (Instant::now(), calls(&redis, "xadd").await?);
    let clocks = calls(&redis, "time").await?;
    let mut rounds = 0;
    while began.elapsed() < Duration::from_secs(4) {
        for cache in &caches {
            well(cache).await?;
        }
        rounds += 1;
        tokio::time::sleep(EVERY).await;
    }
    let probes = calls(&redis, "xadd").await? - before;
    // Some 4.4 turns, and one that began at the end.
    ensure!((3..=6).contains(&probes), "{probes} probes of 8 processes in {:?}", began.elapsed());
    // Each measures the clock by itself.
    let clocks = calls(&redis, "time").await? - clocks;
    ensure!(clocks >= rounds * 8, "{clocks} clocks in {rounds} rounds");
    // What the shards say came along.
    let before = calls(&redis, "xrange").await?;
    let said = caches[7].shard_status_lately().await?;
    ensure!(said.iter().map(|status| status.shard).eq(roomy_rules().shards.all()), "{said:?}");
    ensure!(calls(&redis, "xrange").await? == before && caches[7].durability().await?.is_some());
    Ok(())
}

#[tokio::test]
async fn what_is_old_is_asked_again() -> Result<()> {
    let (redis, cache, _) = private(roomy_rules()).await?;
    well(&cache).await?;
    tokio::time::sleep(Duration::from_millis(3_100)).await;
    let before = calls(&redis, "xrange").await?;
    cache.shard_status_lately().await?;
    ensure!(calls(&redis, "xrange").await? > before, "what was heard 3 s ago is said to be so now");
    Ok(())
}

/// Whatever others have found: its own link is its own.
#[tokio::test]
async fn who_is_cut_off_learns_it_at_once() -> Result<()> {
    let redis = Redis::start(RedisOptions::default()).await?;
    let proxy = Proxy::start(redis.addr()?).await?;
    let caches = several(&redis, 1).await?;
    let far = config(&proxy.url_of(redis.url()), "").build(roomy_rules())?;
    far.prepare().await?;
    well(&far).await?;
    proxy.cut().await;
    well(&caches[0]).await?;
    let error = far.watch_shards().await.err().context("a link that was cut is well")?;
    ensure!(error.is_unavailable(), "{error}");
    well(&caches[0]).await?;
    proxy.restore().await?;
    eventually(PATIENCE, "the link is back", async || well(&far).await.map_err(|error| error.to_string())).await;
    Ok(())
}

#[tokio::test]
async fn who_is_connected_to_a_replica_learns_it_at_once() -> Result<()> {
    let (primary, redis) = (Redis::start(RedisOptions::default()).await?, Redis::start(RedisOptions::default()).await?);
    let caches = several(&redis, 2).await?;
    let raw = Raw::connect(redis.url(), String::new()).await?;
    raw.run::<()>(&format!("REPLICAOF {}", primary.addr()?.replace(':', " "))).await?;
    for cache in &caches {
        ensure!(cache.watch_shards().await.is_err(), "a replica takes no likes");
    }
    Ok(())
}

/// A journal that somebody shut, a server that is full: whoever looks next finds it, and all others within a word's time.
#[tokio::test]
async fn what_one_finds_all_find() -> Result<()> {
    let redis = Redis::start(RedisOptions::default()).await?;
    let raw = Raw::connect(redis.url(), String::new()).await?;
    let caches = several(&redis, 3).await?;
    for cache in &caches {
        well(cache).await?;
    }
    raw.run::<()>("XADD {s3}:j 9007199254740000-0 e x").await?;
    let shut = Instant::now();
    let mut found = [None; 3];
    while found.iter().any(Option::is_none) {
        for (cache, found) in caches.iter().zip(&mut found) {
            if cache.watch_shards().await.is_err() {
                found.get_or_insert_with(|| shut.elapsed());
            }
        }
        ensure!(shut.elapsed() < Duration::from_secs(10), "not all have found it: {found:?}");
        tokio::time::sleep(EVERY).await;
    }
    ensure!(found.iter().flatten().all(|after| *after < Duration::from_secs(2)), "{found:?}");
    ensure!(caches[1].ping().await.is_err());

    raw.run::<()>("DEL {s3}:j").await?;
    for cache in &caches {
        let again = async || well(cache).await.map_err(|error| error.to_string());
        eventually(PATIENCE, "well again", again).await;
    }
    raw.run::<()>("CONFIG SET maxmemory 1").await?;
    for cache in &caches {
        ensure!(cache.watch_shards().await.is_err() && cache.is_full(), "a full server is full for everybody at once");
    }
    Ok(())
}

/// A prober that says nothing more holds nobody up for long.
#[tokio::test]
async fn a_turn_that_nobody_ends_is_over() -> Result<()> {
    let redis = Redis::start(RedisOptions::default()).await?;
    let raw = Raw::connect(redis.url(), String::new()).await?;
    let cache = several(&redis, 1).await?.remove(0);
    let word: Vec<String> = raw.run("KEYS *:hv:*").await?;
    ensure!(word == ["{s0}:hv:default"], "{word:?}");
    raw.run::<()>("SET {s0}:hv:default probing").await?;
    let (began, before) = (Instant::now(), calls(&redis, "xadd").await?);
    while calls(&redis, "xadd").await? == before {
        well(&cache).await?;
        ensure!(began.elapsed() < Duration::from_secs(5), "it waits for a word that nobody will say");
        tokio::time::sleep(EVERY).await;
    }
    ensure!(began.elapsed() > Duration::from_secs(2), "it did not wait for it at all: {:?}", began.elapsed());
    Ok(())
}
