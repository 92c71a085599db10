//! Steps of resharding, and what a process meets that knows the old number of shards.

use crate::support::{Raw, config, in_cluster, on_shared};
use anyhow::{Context, Result, ensure};
use cache_manager::{Closing, RedisCache, Standing};
use domain::cache::{
    AcceptOutcome, Answer, CacheError, CacheRules, FirstAnswer, LikeCache, SettledResource, Settlement,
};
use domain::{DeletedMark, ShardCount, ShardId, UserId, Version};
use std::collections::BTreeSet;
use std::time::Duration;
use test_support::build::video_pair;
use test_support::cache_contract::{like, roomy_rules, unlike};
use test_support::{RedisCluster, RedisOptions, shared};

/// A cache that knows the next number.
fn next_of(rules: &CacheRules, to: u16) -> Result<CacheRules> {
    Ok(CacheRules { shards: rules.shards.resharded_to(to)?, ..rules.clone() })
}

async fn two() -> Result<(RedisCache, RedisCache, Raw)> {
    let (old, raw) = on_shared(roomy_rules()).await?;
    let meta = old.keys().clock(ShardId(0));
    let prefix = meta.split('{').next().context("no tag")?.to_owned();
    let new = config(shared::redis().await?.url(), &prefix).build(next_of(&roomy_rules(), 16)?)?;
    Ok((old, new, raw))
}

fn keyed(user: i64, key: &str) -> domain::cache::AcceptRequest {
    let mut request = like(video_pair(user, 1));
    request.intent.idempotency_key = Some(key.to_owned());
    request
}

/// All of it, as `syncctl` does it.
async fn reshard(old: &RedisCache, new: &RedisCache) -> Result<Version> {
    let next = next_of(&roomy_rules(), 16)?.shards;
    let mut highest = Version::ZERO;
    for shard in roomy_rules().shards.all() {
        match old.close_shard(shard, next).await? {
            Closing::Closed(clock) => highest = highest.max(clock),
            Closing::Holds(entries) => anyhow::bail!("{shard} holds {entries}"),
        }
    }
    new.raise_clocks(highest).await?;
    old.hand_over(new).await?;
    let mut cursor = 0;
    loop {
        let (_, next) = old.hand_over_answers(new, cursor, 10).await?;
        cursor = next;
        if next == 0 {
            break;
        }
    }
    for shard in roomy_rules().shards.all() {
        ensure!(old.seal_shard(shard, next).await?, "{shard} is open");
    }
    new.record_shards().await?;
    Ok(highest)
}

async fn settle(cache: &RedisCache, request: &domain::cache::AcceptRequest, version: Version) -> Result<()> {
    let resource = request.intent.pair.resource;
    let settled = SettledResource { resource, entries: vec![version], stored: None };
    cache.settle(&Settlement { resources: vec![settled], pairs: Vec::new(), commit: None }).await?;
    Ok(())
}

async fn accepted(cache: &RedisCache, request: &domain::cache::AcceptRequest) -> Result<Version> {
    match cache.accept(std::slice::from_ref(request)).await.remove(0)? {
        AcceptOutcome::Accepted(answer) => Ok(answer.version),
        other => anyhow::bail!("{other:?}"),
    }
}

#[tokio::test]
async fn a_shard_with_entries_is_not_closed_and_one_that_is_closed_opens_as_it_was() -> Result<()> {
    let (old, _new, raw) = two().await?;
    let next = next_of(&roomy_rules(), 16)?.shards;
    let request = like(video_pair(1, 1));
    let shard = roomy_rules().shards.of(request.intent.pair.resource);
    let version = accepted(&old, &request).await?;
    assert_eq!(old.close_shard(shard, next).await?, Closing::Holds(1));
    settle(&old, &request, version).await?;
    let clock: Vec<(String, String)> = raw.run(&format!("HGETALL {}", old.keys().clock(shard))).await?;
    for _ in 0..2 {
        assert_eq!(old.close_shard(shard, next).await?, Closing::Closed(version));
    }
    assert!(old.accept(&[unlike(video_pair(1, 1))]).await.remove(0).is_err_and(|error| error.is_unavailable()));
    assert!(old.open_shard(shard, next).await? && !old.open_shard(shard, next).await?);
    assert_eq!(raw.run::<Vec<(String, String)>>(&format!("HGETALL {}", old.keys().clock(shard))).await?, clock);
    assert!(!old.seal_shard(shard, next).await?, "an open shard was sealed");
    assert!(accepted(&old, &unlike(video_pair(1, 1))).await? > version);
    Ok(())
}

#[tokio::test]
async fn a_shard_says_how_it_stands_also_one_that_nobody_has_used() -> Result<()> {
    let (old, _new, raw) = two().await?;
    let next = next_of(&roomy_rules(), 16)?.shards;
    let [unused, used] = [0, 1].map(ShardId);
    raw.run::<i64>(&format!("DEL {}", old.keys().clock(unused))).await?;
    raw.run::<i64>(&format!("HSET {} v 7", old.keys().clock(used))).await?;
    for (shard, highest) in [(unused, Version::ZERO), (used, Version(7))] {
        ensure!(old.standing(shard, next).await? == Standing::Open, "{shard}");
        ensure!(old.close_shard(shard, next).await? == Closing::Closed(highest), "{shard}");
        ensure!(old.standing(shard, next).await? == Standing::Closed, "{shard}");
        ensure!(old.open_shard(shard, next).await?, "{shard} stays closed");
        ensure!(old.standing(shard, next).await? == Standing::Open, "{shard}");
        old.close_shard(shard, next).await?;
        ensure!(old.seal_shard(shard, next).await?, "{shard}");
        ensure!(old.standing(shard, next).await? == Standing::Sealed, "{shard}");
        let other = roomy_rules().shards.resharded_to(32)?;
        ensure!(matches!(old.standing(shard, other).await?, Standing::Foreign(word) if word.contains("16")), "{shard}");
    }
    Ok(())
}

#[tokio::test]
async fn who_knows_the_old_number_writes_nothing_and_the_new_shards_know_all_that_the_old_ones_did() -> Result<()> {
    let (old, new, _raw) = two().await?;
    let first = keyed(1, "a:b");
    let version = accepted(&old, &first).await?;
    settle(&old, &first, version).await?;
    let marked = video_pair(1, 9).resource;
    let mark = DeletedMark { up_to: Version(7), at: Version(8), deleted: true };
    old.keep_deleted(&[(marked, mark)]).await?;
    old.keep_fences(&[(UserId::new(77)?, Version(5))]).await?;
    // A clock that is ahead of the server's.
    let ahead = Version(version.0 + 3_600_000_000);
    old.raise_clocks(ahead).await?;
    ensure!(reshard(&old, &new).await? >= ahead, "the highest version was forgotten");

    let error = old.accept(&[like(video_pair(2, 1))]).await.remove(0).err().context("accepted")?;
    ensure!(error.is_unavailable(), "{error}");
    settle(&old, &first, version).await.err().context("settled")?;
    let answer = Answer { count: Some(1), version };
    let late = FirstAnswer {
        pair: first.intent.pair,
        key: "late".to_owned(),
        liked: true,
        answer,
        changed: true,
        age: Duration::ZERO,
    };
    old.remember(&[late]).await.err().context("remembered")?;
    old.ping_shards().await.err().context("a probe found nothing wrong")?;
    match old.prepare().await {
        Err(CacheError::Resharded(resharded)) => assert_eq!(resharded.now.to_string(), "16@1"),
        other => anyhow::bail!("{other:?}"),
    }

    new.prepare().await?;
    new.ping_shards().await?;
    match new.accept(std::slice::from_ref(&first)).await.remove(0)? {
        AcceptOutcome::Repeated { answer, .. } => assert_eq!(answer.version, version),
        other => anyhow::bail!("the key was forgotten: {other:?}"),
    }
    ensure!(accepted(&new, &like(video_pair(2, 1))).await? > ahead, "a version of before is larger");
    assert_eq!(new.kept_fences(0, 100).await?.0, [(UserId::new(77)?, Version(5))]);
    let mut refused = like(video_pair(3, 9));
    refused.limited = false;
    let outcome = new.accept(&[refused]).await.remove(0)?;
    ensure!(!matches!(outcome, AcceptOutcome::Accepted(_)), "a deleted resource is liked: {outcome:?}");
    Ok(())
}

#[tokio::test]
async fn nothing_is_left_of_the_old_shards_but_what_keeps_them_closed_and_pairs_for_an_hour() -> Result<()> {
    let (old, new, raw) = two().await?;
    for user in 1..50 {
        let request = keyed(user, "k");
        let version = accepted(&old, &request).await?;
        settle(&old, &request, version).await?;
    }
    reshard(&old, &new).await?;
    let cached = accepted(&new, &like(video_pair(99, 1))).await?;
    let mut cursor = 0;
    loop {
        cursor = old.remove_closed(cursor, 20).await?.1;
        if cursor == 0 {
            break;
        }
    }
    let left: Vec<String> = raw.everything().await?.into_iter().map(|(key, _)| key).collect();
    let of_old = left.iter().filter(|key| key.contains("{s") && !key.contains(".1}:"));
    let (pairs, words): (Vec<&String>, Vec<&String>) = of_old.partition(|key| key.contains("}:p:"));
    assert_eq!(words.len(), 2 * usize::from(roomy_rules().shards.get()), "{left:?}");
    assert_eq!(pairs.len(), 49, "{left:?}");
    for key in pairs {
        ensure!(raw.run::<i64>(&format!("TTL {key}")).await? <= 3_600, "{key}");
    }
    // They are no news to anybody but to whoever looks for them.
    let (mut of_now, mut before, mut of_nobody) = (BTreeSet::new(), BTreeSet::new(), 0);
    for cache in [&new, &old] {
        let mut cursor = 0;
        loop {
            let (some, next) = cache.pairs_of_before(cursor, 1_000).await?;
            of_nobody += if std::ptr::eq(cache, &old) { some.len() } else { 0 };
            before.extend(some.into_iter().filter(|(_, state)| state.liked).map(|(pair, _)| pair));
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
    loop {
        let (some, next) = new.cached_pairs(cursor, 1_000).await?;
        of_now.extend(some);
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    assert_eq!((of_now, of_nobody), (BTreeSet::from([video_pair(99, 1)]), 0));
    assert_eq!(before, (1..50).map(|user| video_pair(user, 1)).collect());
    assert_eq!(new.states(&[video_pair(99, 1)]).await?[0].map(|state| state.version), Some(cached));
    Ok(())
}

#[tokio::test]
async fn a_number_that_redis_has_lost_again_is_recorded_again() -> Result<()> {
    let (old, new, raw) = two().await?;
    reshard(&old, &new).await?;
    raw.run::<i64>(&format!("HSET {} shards 4", old.keys().clock(ShardId(0)).replace("{s0}:t", "meta"))).await?;
    new.prepare().await?;
    assert_eq!(old.recorded_shards().await?, Some(next_of(&roomy_rules(), 16)?.shards));
    // A later one stays.
    old.record_shards().await?;
    assert_eq!(new.recorded_shards().await?.map(ShardCount::epoch), Some(1));
    Ok(())
}

#[tokio::test]
async fn a_cluster_is_handed_over() -> Result<()> {
    let cluster = RedisCluster::start(RedisOptions::default(), 3, false).await?;
    let old = in_cluster(&cluster, "")?.build(roomy_rules())?;
    old.prepare().await?;
    let new = in_cluster(&cluster, "")?.build(next_of(&roomy_rules(), 16)?)?;
    let mut requests = Vec::new();
    for user in 1..40 {
        let mut request = like(video_pair(user, user));
        request.intent.idempotency_key = Some("k".to_owned());
        let version = accepted(&old, &request).await?;
        settle(&old, &request, version).await?;
        requests.push((request, version));
    }
    reshard(&old, &new).await?;
    new.prepare().await?;
    for (request, version) in requests {
        match new.accept(std::slice::from_ref(&request)).await.remove(0)? {
            AcceptOutcome::Repeated { answer, .. } => assert_eq!(answer.version, version),
            other => anyhow::bail!("the key was forgotten: {other:?}"),
        }
        ensure!(old.accept(&[request]).await.remove(0).is_err(), "accepted");
    }
    Ok(())
}

#[tokio::test]
async fn a_cluster_says_whether_its_slots_move() -> Result<()> {
    let cluster = RedisCluster::start(RedisOptions::default(), 3, false).await?;
    let cache = in_cluster(&cluster, "")?.build(roomy_rules())?;
    cache.prepare().await?;
    let key = cache.keys().clock(ShardId(0));
    let before = cache.slots_now().await?;
    ensure!(!before.moving && before == cache.slots_now().await?, "{before:?}");
    let from = cluster.primary_of(&key).await?;
    let to = (from + 1) % 3;
    cluster.begin_move(&key, from, to).await?;
    ensure!(cache.slots_now().await?.moving);
    while cluster.move_some(&key, from, to, 100).await? {}
    cluster.end_move(&key, from, to).await?;
    let after = cache.slots_now().await?;
    ensure!(!after.moving && after != before, "{after:?}");
    Ok(())
}
