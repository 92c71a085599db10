//! A Redis Cluster whose slots move and whose primaries are lost, while likes come.

use crate::support::{PATIENCE, in_cluster};
use anyhow::{Context, Result, bail, ensure};
use cache_manager::{RedisCache, RedisConfig};
use domain::cache::{AcceptOutcome, CacheRules, LikeCache, UserLimit};
use domain::{Pair, PairState, ShardId, StoredCount, Version};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use test_support::build::video_pair;
use test_support::cache_contract::{like, roomy_rules, unlike};
use test_support::{Redis, RedisCluster, RedisOptions, eventually};

const NODE: RedisOptions = RedisOptions { appendonly: true, preload: false };

/// Number of this shard's pairs, of different users.
fn pairs_of(shard: u16, first_user: i64, count: usize) -> Result<Vec<Pair>> {
    let shards = roomy_rules().shards;
    let video = (1..10_000).find(|id| shards.of(video_pair(1, *id).resource) == ShardId(shard)).context("no video")?;
    Ok((first_user..).take(count).map(|user| video_pair(user, video)).collect())
}

async fn accepted(cache: &RedisCache, pair: Pair) -> Result<Version> {
    match cache.accept(&[like(pair)]).await.remove(0)? {
        AcceptOutcome::Accepted(answer) => Ok(answer.version),
        other => bail!("{other:?}"),
    }
}

async fn journal(cache: &RedisCache, shard: u16) -> Result<Vec<Version>> {
    Ok(cache.journal_page(ShardId(shard), Version::ZERO, 100_000).await?.iter().map(|event| event.version).collect())
}

async fn answers(cache: &RedisCache) {
    eventually(PATIENCE, "the whole cache", async || {
        cache.ping().await.map_err(|error| error.to_string())?;
        cache.shard_status().await.map(drop).map_err(|error| error.to_string())
    })
    .await;
}

/// Likes of one shard after another, each of a new user, until told to stop; what was answered, and what was refused.
async fn load(
    cache: Arc<RedisCache>,
    first_user: i64,
    stop: Arc<AtomicBool>,
) -> Result<(Vec<(u16, Version)>, Vec<(u16, String)>)> {
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    let mut user = first_user;
    while !stop.load(Ordering::Relaxed) {
        for shard in 0..roomy_rules().shards.get() {
            let pair = pairs_of(shard, user, 1)?.remove(0);
            match accepted(&cache, pair).await {
                Ok(version) => taken.push((shard, version)),
                Err(error) => {
                    refused.push((shard, format!("{error:#}")));
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
        user += 1;
    }
    Ok((taken, refused))
}

/// A slot goes from node to node while its likes come: none is refused, and all are in the journal once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_refuses_no_like() -> Result<()> {
    let cluster = RedisCluster::start(NODE, 3, false).await?;
    // However slow this machine moves it.
    let settings = RedisConfig { response_timeout: 4 * PATIENCE, ..in_cluster(&cluster, "")? };
    let cache = Arc::new(settings.build(roomy_rules())?);
    cache.prepare().await?;
    let (stop, mut loads) = (Arc::new(AtomicBool::new(false)), Vec::new());
    for worker in 0..4 {
        loads.push(tokio::spawn(load(Arc::clone(&cache), 1_000_000 * worker + 1, Arc::clone(&stop))));
    }
    let key = cache.keys().journal(ShardId(0));
    for _ in 0..3 {
        let from = cluster.primary_of(&key).await?;
        cluster.move_slot(&key, (from + 1) % 3).await?;
    }
    stop.store(true, Ordering::Relaxed);
    let mut all: Vec<(u16, Version)> = Vec::new();
    for load in loads {
        let (taken, refused) = load.await??;
        ensure!(refused.is_empty(), "{} of {} refused: {:?}", refused.len(), taken.len(), refused.first());
        all.extend(taken);
    }
    for shard in 0..roomy_rules().shards.get() {
        let mut answered: Vec<Version> =
            all.iter().filter(|(of, _)| *of == shard).map(|(_, version)| *version).collect();
        answered.sort_unstable();
        ensure!(answered.len() > 10, "hardly any likes of shard {shard}");
        ensure!(answered == journal(&cache, shard).await?, "shard {shard}: the journal is not what was answered");
    }
    for status in cache.shard_status().await? {
        ensure!(status.accepted - status.settled == status.journal_len, "{status:?}");
    }
    Ok(())
}

/// While a slot is on its way its keys are on two nodes: single keys are found on either, and what needs both waits.
#[tokio::test]
async fn keys_of_a_slot_on_its_way_are_found_where_they_are() -> Result<()> {
    let cluster = RedisCluster::start(NODE, 3, false).await?;
    let cache = in_cluster(&cluster, "")?.build(roomy_rules())?;
    cache.prepare().await?;
    let pairs = pairs_of(0, 1, 20)?;
    let mut versions = Vec::new();
    for pair in &pairs {
        versions.push(accepted(&cache, *pair).await?);
    }
    let key = cache.keys().journal(ShardId(0));
    let from = cluster.primary_of(&key).await?;
    let to = (from + 1) % 3;
    cluster.begin_move(&key, from, to).await?;
    let looked = async || -> Result<()> {
        let states = cache.states(&pairs).await?;
        let expected: Vec<_> =
            versions.iter().map(|version| Some(PairState { liked: true, version: *version })).collect();
        ensure!(states == expected, "{states:?}");
        let count = cache.counts(&[pairs[0].resource]).await?.remove(0).context("the counter is gone")?;
        ensure!((count.served, count.pending) == (20, 20), "{count:?}");
        ensure!(journal(&cache, 0).await? == versions, "the journal is another one");
        Ok(())
    };
    looked().await?;
    while cluster.move_some(&key, from, to, 5).await? {
        looked().await?;
        // Nobody takes it for a step back, and it is never said to be settled.
        let standing = cache.standings().await?.into_iter().find(|standing| standing.shard == ShardId(0));
        ensure!(standing.is_some_and(|standing| !versions.iter().any(|version| standing.has_settled(*version))));
    }
    // Both nodes say to try again about a pair that is on neither: the like is given up within its time.
    let began = std::time::Instant::now();
    let error = cache.accept(&[like(pairs_of(0, 900, 1)?[0])]).await.remove(0).err().context("accepted")?;
    ensure!(error.is_unavailable() && began.elapsed() < PATIENCE, "{error} after {:?}", began.elapsed());
    // Likes of other shards do not notice, and the probe says nothing against the node.
    accepted(&cache, pairs_of(1, 900, 1)?[0]).await?;
    cache.ping().await?;
    // One that waits goes on when the slot has arrived.
    let waiting = pairs_of(0, 901, 1)?[0];
    let (end, taken) = tokio::join!(cluster.end_move(&key, from, to), async {
        eventually(PATIENCE, "a like", async || accepted(&cache, waiting).await.map_err(|error| error.to_string()))
            .await
    });
    end?;
    ensure!(taken > versions[19]);
    // Answered by another server than before: what it holds is no reason for "unchanged" any more.
    ensure!(accepted(&cache, pairs[0]).await? > taken);
    ensure!(matches!(cache.accept(&[like(pairs[0])]).await.remove(0)?, AcceptOutcome::Unchanged(_)));
    Ok(())
}

/// A killed primary takes its shards along until its replica is elected. The others go on, and versions go on above all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_primary_takes_only_its_shards_along_and_its_replica_takes_over() -> Result<()> {
    let cluster = RedisCluster::start(NODE, 3, true).await?;
    let cache = Arc::new(in_cluster(&cluster, "")?.build(CacheRules { user_limit: None, ..roomy_rules() })?);
    cache.prepare().await?;
    answers(&cache).await;
    let shards = roomy_rules().shards;
    let mut homes = Vec::new();
    for shard in shards.all() {
        homes.push(cluster.primary_of(&cache.keys().journal(shard)).await?);
    }
    ensure!(homes.iter().collect::<BTreeSet<_>>().len() > 1, "all shards on one primary: {homes:?}");
    let lost = homes[0];
    let mut before = Vec::new();
    for shard in shards.all() {
        before.push(accepted(&cache, pairs_of(shard.0, 1, 1)?[0]).await?);
    }
    // The replica has them before its primary dies.
    eventually(PATIENCE, "a replica that has all", async || {
        let said = cluster.node(lost).map_err(|error| error.to_string())?.cli(&["INFO", "replication"]).await;
        let said = said.map_err(|error| error.to_string())?;
        let offset = said.lines().find_map(|line| line.strip_prefix("master_repl_offset:")).map(str::trim);
        if offset.is_some_and(|offset| said.contains(&format!("offset={offset},"))) { Ok(()) } else { Err(said) }
    })
    .await;
    let stop = Arc::new(AtomicBool::new(false));
    let loads = tokio::spawn(load(Arc::clone(&cache), 10, Arc::clone(&stop)));
    cluster.node(lost)?.kill9()?;
    eventually(PATIENCE, "likes of the lost shards", async || {
        let pair = pairs_of(0, 5, 1).map_err(|error| error.to_string())?.remove(0);
        match cache.accept(&[unlike(pair)]).await.remove(0) {
            Ok(AcceptOutcome::Accepted(answer)) => Ok(answer),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let (_, refused) = loads.await??;
    let elsewhere = refused.iter().find(|(shard, _)| homes[usize::from(*shard)] != lost);
    ensure!(elsewhere.is_none(), "{elsewhere:?}");
    answers(&cache).await;
    for (shard, before) in shards.all().zip(&before) {
        let held = journal(&cache, shard.0).await?;
        ensure!(held.contains(before), "shard {shard} has lost {before}");
        let after = accepted(&cache, pairs_of(shard.0, 2_000_000, 1)?[0]).await?;
        ensure!(after > *before && held.last().is_none_or(|last| after > *last), "{after} is not above {before}");
    }
    // The old one comes back as a replica of the new one.
    cluster.node(lost)?.restart().await?;
    eventually(PATIENCE, "a replica", async || {
        match cluster.node(lost).map_err(|error| error.to_string())?.role().await {
            Ok(role) if role == "slave" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    answers(&cache).await;
    for shard in shards.all() {
        accepted(&cache, pairs_of(shard.0, 3_000_000, 1)?[0]).await?;
    }
    Ok(())
}

/// A primary that is killed and comes back before anybody is elected goes on where it was.
#[tokio::test]
async fn a_primary_that_restarts_goes_on() -> Result<()> {
    let cluster = RedisCluster::start(NODE, 3, false).await?;
    let cache = in_cluster(&cluster, "")?.build(roomy_rules())?;
    cache.prepare().await?;
    let before = accepted(&cache, pairs_of(0, 1, 1)?[0]).await?;
    let home = cluster.primary_of(&cache.keys().journal(ShardId(0))).await?;
    cluster.node(home)?.kill9()?;
    let error = cache.accept(&[like(pairs_of(0, 2, 1)?[0])]).await.remove(0).err().context("accepted")?;
    ensure!(error.is_unavailable(), "{error}");
    let error = cache.ping().await.err().context("the probe passed")?;
    ensure!(error.is_unavailable(), "{error}");
    cluster.node(home)?.restart().await?;
    answers(&cache).await;
    ensure!(journal(&cache, 0).await? == [before]);
    ensure!(accepted(&cache, pairs_of(0, 3, 1)?[0]).await? > before);
    Ok(())
}

/// A scan sees every pair once at least, on whichever node, also when a slot moves meanwhile.
#[tokio::test]
async fn a_scan_goes_over_all_primaries() -> Result<()> {
    let cluster = RedisCluster::start(NODE, 3, false).await?;
    let cache = in_cluster(&cluster, "")?.build(roomy_rules())?;
    cache.prepare().await?;
    let mut all = BTreeSet::new();
    for shard in 0..roomy_rules().shards.get() {
        let states: Vec<(Pair, PairState)> = pairs_of(shard, 1, 300)?
            .iter()
            .map(|pair| (*pair, PairState { liked: true, version: Version(5) }))
            .collect();
        cache.fill_states(&states).await?;
        all.extend(states.iter().map(|(pair, _)| *pair));
    }
    let (mut seen, mut cursor, mut pages) = (BTreeSet::new(), 0, 0);
    loop {
        let (pairs, next) = cache.cached_pairs(cursor, 50).await?;
        seen.extend(pairs);
        pages += 1;
        if next == 0 {
            break;
        }
        cursor = next;
    }
    ensure!(seen == all, "{} of {}", seen.len(), all.len());
    ensure!(pages > 3, "one page has all");
    Ok(())
}

/// The url of one node is enough, and what is no cluster is named.
#[tokio::test]
async fn any_node_leads_to_the_others_and_a_single_server_is_none() -> Result<()> {
    let cluster = test_support::shared::redis_cluster().await?;
    let prefix = format!("{}:", test_support::unique_name("cache"));
    let by_url = |url: &str| RedisConfig { cluster: true, ..crate::support::config(url, &prefix) };
    let cache = by_url(cluster.node(1)?.url()).build(roomy_rules())?;
    cache.prepare().await?;
    for shard in 0..roomy_rules().shards.get() {
        accepted(&cache, pairs_of(shard, 1, 1)?[0]).await?;
    }
    let single = Redis::start(RedisOptions::default()).await?;
    let error = by_url(single.url()).build(roomy_rules())?.prepare().await.err().context("prepared")?;
    ensure!(!error.is_unavailable() && error.to_string().contains("redis.cluster"), "{error}");
    Ok(())
}

/// A user's limit is on a node of its own; when that is lost it limits nobody, and others are limited as ever.
#[tokio::test]
async fn a_limit_whose_node_is_lost_limits_nobody() -> Result<()> {
    let cluster = RedisCluster::start(NODE, 3, false).await?;
    let limit = UserLimit { actions: 2, period: Duration::from_secs(3_000) };
    let cache = in_cluster(&cluster, "")?.build(CacheRules { user_limit: Some(limit), ..roomy_rules() })?;
    cache.prepare().await?;
    let lost = cluster.primary_of("r:1").await?;
    // A user of each kind, and a shard that stays.
    let mut kept_user = None;
    for user in 2..50 {
        if cluster.primary_of(&format!("r:{user}")).await? != lost {
            kept_user = Some(user);
            break;
        }
    }
    let kept_user = kept_user.context("no such user")?;
    let mut kept_shard = None;
    for shard in roomy_rules().shards.all() {
        if cluster.primary_of(&cache.keys().journal(shard)).await? != lost {
            kept_shard = Some(shard.0);
        }
    }
    let shard = kept_shard.context("no such shard")?;
    let shards = roomy_rules().shards;
    let videos: Vec<i64> =
        (1..100_000).filter(|id| shards.of(video_pair(1, *id).resource) == ShardId(shard)).take(8).collect();
    let like_limited = async |user, video| {
        let mut request = like(video_pair(user, video));
        request.limited = true;
        cache.accept(&[request]).await.remove(0)
    };
    for user in [1, kept_user] {
        like_limited(user, videos[0]).await?;
        like_limited(user, videos[1]).await?;
        let over = like_limited(user, videos[2]).await?;
        ensure!(matches!(over, AcceptOutcome::RateLimited { .. }), "user {user}: {over:?}");
    }
    cluster.node(lost)?.kill9()?;
    let free = like_limited(1, videos[3]).await?;
    ensure!(matches!(free, AcceptOutcome::Accepted(_)), "{free:?}");
    let over = like_limited(kept_user, videos[3]).await?;
    ensure!(matches!(over, AcceptOutcome::RateLimited { .. }), "{over:?}");
    Ok(())
}

/// Fills, leases and idempotency keys find their nodes.
#[tokio::test]
async fn what_belongs_to_no_shard_has_a_home() -> Result<()> {
    let cluster = test_support::shared::redis_cluster().await?;
    let prefix = format!("{}:", test_support::unique_name("cache"));
    let cache = in_cluster(cluster, &prefix)?.build(roomy_rules())?;
    cache.prepare().await?;
    for name in ["a", "b", "c", "d", "e", "f"] {
        let ttl = Duration::from_secs(60);
        let token = cache.acquire_lease(name, "one", ttl).await?.context("free")?;
        ensure!(cache.acquire_lease(name, "other", ttl).await?.is_none(), "{name} is taken twice");
        cache.release_lease(name, "one").await?;
        ensure!(cache.acquire_lease(name, "other", ttl).await? == Some(token + 1), "{name}");
    }
    let counts: Vec<_> = (1..60)
        .map(|id| (video_pair(1, id).resource, StoredCount { count: id, revision: 1, last_version: Version(1) }))
        .collect();
    cache.fill_counts(&counts).await?;
    let resources: Vec<_> = counts.iter().map(|(resource, _)| *resource).collect();
    let read = cache.counts(&resources).await?;
    ensure!(read.iter().zip(1..).all(|(count, id)| count.is_some_and(|count| count.served == id)), "{read:?}");
    let served = cache.served_counts(&resources).await?;
    ensure!(served.iter().zip(1..).all(|(count, id)| *count == Some(id)), "{served:?}");
    let durability = cache.durability().await?.context("it says nothing")?;
    ensure!(!durability.persistent, "{durability:?}");
    ensure!(cache.own_clock().is_none(), "its clock was never asked for");
    cache.ping().await?;
    ensure!(cache.own_clock().is_some() && cache.clock().is_some(), "no clock");
    Ok(())
}
