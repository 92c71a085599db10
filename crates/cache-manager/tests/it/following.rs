//! Several addresses: whichever node is the primary is the one that is used, and nothing else ever.

use crate::support::{PATIENCE, Raw, config};
use anyhow::{Context, Result, ensure};
use cache_manager::{RedisCache, RedisConfig};
use domain::cache::LikeCache;
use test_support::build::video_pair;
use test_support::cache_contract::{like, roomy_rules};
use test_support::{Proxy, Redis, RedisGroup, RedisGroupOptions, RedisOptions, eventually, lease_port};

const NODE: RedisOptions = RedisOptions { appendonly: false, preload: false };

fn at_nodes(nodes: Vec<String>) -> RedisConfig {
    // Nobody listens at the url.
    RedisConfig { nodes, ..config("redis://127.0.0.1:1", "") }
}

async fn accepts(cache: &RedisCache, user: i64) -> Result<(), String> {
    cache.accept(&[like(video_pair(user, 1))]).await.remove(0).map(drop).map_err(|error| error.to_string())?;
    cache.shard_status().await.map(drop).map_err(|error| error.to_string())
}

/// All that a node was asked to run since it was last told to forget.
async fn writes_at(node: &Redis) -> Result<bool> {
    let said = node.cli(&["INFO", "commandstats"]).await?;
    Ok(said.contains("cmdstat_evalsha") || said.contains("cmdstat_hset"))
}

#[tokio::test]
async fn the_primary_is_found_wherever_it_stands_in_the_list() -> Result<()> {
    let group = RedisGroup::start(RedisGroupOptions { node: NODE, replicas: 2, sentinels: 0 }).await?;
    let (nobody, silent) = (lease_port()?, Proxy::start(group.node(1)?.addr()?).await?);
    silent.freeze();
    let mut nodes = vec![nobody.addr(), silent.addr().to_string()];
    nodes.extend(group.addrs()?.into_iter().rev());
    let cache = at_nodes(nodes).build(roomy_rules())?;
    cache.prepare().await?;
    accepts(&cache, 1).await.map_err(anyhow::Error::msg)?;

    for (user, primary) in [(2, 1), (3, 2), (4, 0)] {
        group.switch_to(primary).await?;
        eventually(PATIENCE, "likes at the new primary", || accepts(&cache, user)).await;
        let journal = Raw::connect(group.node(primary)?.url(), String::new()).await?;
        ensure!(!journal.everything().await?.is_empty(), "node {primary} has nothing");
    }
    Ok(())
}

#[tokio::test]
async fn a_replica_is_no_primary_although_it_takes_writes() -> Result<()> {
    let group = RedisGroup::start(RedisGroupOptions { node: NODE, ..Default::default() }).await?;
    group.node(1)?.cli(&["CONFIG", "SET", "replica-read-only", "no"]).await?;
    let cache = config(group.node(1)?.url(), "").build(roomy_rules())?;
    let error = accepts(&cache, 1).await.err().context("a replica took a like")?;
    ensure!(error.contains("replica") && error.contains("redis.nodes"), "{error}");
    // At the start it is waited for: it may become one.
    let error = cache.prepare().await.err().context("prepared")?;
    ensure!(error.is_unavailable() && error.to_string().contains("redis.nodes"), "{error}");
    ensure!(!writes_at(group.node(1)?).await?, "it was written to");

    // Of several it is not.
    let cache = at_nodes(vec![group.node(1)?.addr()?]).build(roomy_rules())?;
    let error = cache.prepare().await.err().context("prepared")?;
    ensure!(error.is_unavailable(), "{error}");
    group.switch_to(1).await?;
    eventually(PATIENCE, "likes", || accepts(&cache, 1)).await;
    Ok(())
}

#[tokio::test]
async fn two_primaries_are_none() -> Result<()> {
    let group = RedisGroup::start(RedisGroupOptions { node: NODE, ..Default::default() }).await?;
    group.promote(1).await?;
    let cache = at_nodes(group.addrs()?).build(roomy_rules())?;
    let error = accepts(&cache, 1).await.err().context("a like was accepted")?;
    ensure!(error.contains("both say that they are the primary"), "{error}");
    let addr = group.node(0)?.addr()?;
    let (host, port) = addr.split_once(':').context("no port")?;
    group.node(1)?.cli(&["REPLICAOF", host, port]).await?;
    eventually(PATIENCE, "likes", || accepts(&cache, 1)).await;
    Ok(())
}

#[tokio::test]
async fn sentinels_lead_to_the_primary_that_they_elected() -> Result<()> {
    let group = RedisGroup::start(RedisGroupOptions { node: NODE, replicas: 2, sentinels: 3 }).await?;
    let mut sentinels = group.sentinel_addrs()?;
    // One of them is gone, and one has never been there.
    group.sentinel(1)?.kill9()?;
    sentinels.insert(0, lease_port()?.addr());
    let sentinels = sentinels.into_iter().map(Into::into).collect();
    let settings = RedisConfig { sentinels, master: Redis::WATCHED.to_owned(), ..config("redis://127.0.0.1:1", "") };
    let cache = settings.build(roomy_rules())?;
    cache.prepare().await?;
    accepts(&cache, 1).await.map_err(anyhow::Error::msg)?;
    group.node(0)?.kill9()?;
    eventually(PATIENCE, "likes at the elected primary", || accepts(&cache, 2)).await;
    let elected = group.primary().await?;
    ensure!(elected != 0, "the killed one is the primary");

    // The old one comes back and takes itself for the primary until it is told otherwise.
    group.node(0)?.restart().await?;
    for user in 3..50 {
        eventually(PATIENCE, "likes", || accepts(&cache, user)).await;
    }
    eventually(PATIENCE, "the probe", async || cache.ping().await.map_err(|error| error.to_string())).await;
    ensure!(!writes_at(group.node(0)?).await? || group.node(0)?.role().await? == "slave", "the old one was written to");
    Ok(())
}

/// Where nobody may ask for the role, one address is believed.
#[tokio::test]
async fn who_may_not_ask_for_the_role_believes_the_url() -> Result<()> {
    let redis = Redis::start(NODE).await?;
    redis.cli(&["ACL", "SETUSER", "likes", "on", ">pw", "~*", "+@all", "-role"]).await?;
    let url = redis.url().replace("redis://", "redis://likes:pw@");
    let cache = config(&url, "").build(roomy_rules())?;
    cache.prepare().await?;
    accepts(&cache, 1).await.map_err(anyhow::Error::msg)?;
    let cache = RedisConfig { nodes: vec![redis.addr()?], ..config(&url, "") }.build(roomy_rules())?;
    let error = accepts(&cache, 1).await.err().context("a like was accepted")?;
    ensure!(error.contains("+role"), "{error}");
    Ok(())
}
