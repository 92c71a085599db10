//! How long keys live, in Redis's own words.

use crate::support::{Raw, on_shared};
use anyhow::{Result, bail, ensure};
use cache_manager::RedisCache;
use domain::cache::{
    AcceptOutcome, AcceptRequest, CacheRules, LikeCache, MissingCount, SettledResource, Settlement, UserLimit,
};
use domain::{Pair, PairState, StoredCount, Version};
use std::time::Duration;
use test_support::build::video_pair;
use test_support::cache_contract::{like, roomy_rules, unlike};

/// Longest life of what was filled and not confirmed.
const BRIEF: i64 = 10;
/// What the database does not know either.
const UNKNOWN: i64 = 40;
const PAIR: i64 = 1000;
const COUNTER: i64 = 2000;
const KEY: i64 = 3000;

fn rules() -> CacheRules {
    CacheRules {
        pair_ttl: Duration::from_secs(PAIR as u64),
        counter_ttl: Duration::from_secs(COUNTER as u64),
        unknown_ttl: Duration::from_secs(UNKNOWN as u64),
        idempotency_ttl: Duration::from_secs(KEY as u64),
        ..roomy_rules()
    }
}

/// `seconds`, or a little less.
async fn lives(raw: &Raw, key: &str, seconds: i64) -> Result<()> {
    let ttl = raw.ttl(key).await?;
    ensure!(ttl <= seconds && ttl > seconds - 8, "{key} lives {ttl} s instead of {seconds} s");
    Ok(())
}

async fn accept(cache: &RedisCache, request: AcceptRequest) -> Result<Version> {
    match cache.accept(&[request]).await.remove(0)? {
        AcceptOutcome::Accepted(answer) => Ok(answer.version),
        other => bail!("{other:?}"),
    }
}

async fn settle(cache: &RedisCache, pair: Pair, entries: &[Version], revision: Option<i64>) -> Result<()> {
    let stored = revision.map(|revision| StoredCount { count: 1, revision, last_version: Version::ZERO });
    let resource = SettledResource { resource: pair.resource, entries: entries.to_vec(), stored };
    cache.settle(&Settlement { resources: vec![resource], pairs: Vec::new(), commit: None }).await?;
    Ok(())
}

#[tokio::test]
async fn a_counter_has_no_lifetime_while_entries_are_pending() -> Result<()> {
    let (cache, raw) = on_shared(rules()).await?;
    let pair = video_pair(1, 1);
    let key = cache.keys().counter(pair.resource);
    let first = accept(&cache, like(pair)).await?;
    let second = accept(&cache, unlike(pair)).await?;
    assert_eq!(raw.ttl(&key).await?, -1);
    settle(&cache, pair, &[first], Some(1)).await?;
    assert_eq!(raw.ttl(&key).await?, -1, "one entry is still pending");
    settle(&cache, pair, &[second], Some(2)).await?;
    lives(&raw, &key, COUNTER).await?;
    let third = accept(&cache, like(pair)).await?;
    assert_eq!(raw.ttl(&key).await?, -1, "pending again");
    // Parked: nothing says that the stored count is the newest.
    settle(&cache, pair, &[third], None).await?;
    lives(&raw, &key, BRIEF).await
}

#[tokio::test]
async fn a_filled_counter_lives_briefly_until_it_is_confirmed() -> Result<()> {
    let (cache, raw) = on_shared(rules()).await?;
    let (read, idle) = (video_pair(1, 1), video_pair(1, 2));
    let stored = StoredCount { count: 1, revision: 5, last_version: Version::ZERO };
    cache.fill_counts(&[(read.resource, stored)]).await?;
    accept(&cache, AcceptRequest { missing: MissingCount::Without, ..like(idle) }).await?;
    cache.accept(&[AcceptRequest { missing: MissingCount::Fill(stored), ..like(idle) }]).await.remove(0)?;
    for pair in [read, idle] {
        let key = cache.keys().counter(pair.resource);
        lives(&raw, &key, BRIEF).await?;
        settle(&cache, pair, &[], Some(4)).await?;
        lives(&raw, &key, BRIEF).await?;
        settle(&cache, pair, &[], Some(5)).await?;
        lives(&raw, &key, COUNTER).await?;
        settle(&cache, pair, &[], Some(4)).await?;
        lives(&raw, &key, COUNTER).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_pair_keeps_its_lifetime_when_it_is_refreshed() -> Result<()> {
    let (cache, raw) = on_shared(rules()).await?;
    let pair = video_pair(1, 1);
    let key = cache.keys().pair(pair);
    let version = accept(&cache, like(pair)).await?.0;
    lives(&raw, &key, PAIR).await?;
    raw.run::<()>(&format!("EXPIRE {key} 500")).await?;
    let newer = |by| PairState { liked: false, version: Version(version + by) };
    let settlement = Settlement { resources: Vec::new(), pairs: vec![(pair, newer(1))], commit: None };
    assert_eq!(cache.settle(&settlement).await?.refreshed, 1);
    lives(&raw, &key, 500).await?;
    cache.fill_states(&[(pair, newer(2))]).await?;
    assert_eq!(cache.states(&[pair]).await?, [Some(newer(2))]);
    lives(&raw, &key, 500).await
}

#[tokio::test]
async fn a_filled_pair_lives_briefly_until_it_is_confirmed() -> Result<()> {
    let (cache, raw) = on_shared(rules()).await?;
    let at = |version| PairState { liked: true, version: Version(version) };
    for (pair, filled, confirmed) in
        [(video_pair(1, 1), at(10), at(10)), (video_pair(2, 1), at(10), at(11)), (video_pair(3, 1), at(0), at(0))]
    {
        let key = cache.keys().pair(pair);
        cache.fill_states(&[(pair, filled)]).await?;
        lives(&raw, &key, BRIEF).await?;
        let older = PairState { liked: false, version: filled.version };
        cache.settle(&Settlement { resources: Vec::new(), pairs: vec![(pair, older)], commit: None }).await?;
        lives(&raw, &key, BRIEF).await?;
        cache.settle(&Settlement { resources: Vec::new(), pairs: vec![(pair, confirmed)], commit: None }).await?;
        lives(&raw, &key, PAIR).await?;
        assert_eq!(cache.states(&[pair]).await?, [Some(confirmed)]);
        // Accepted here, it lives as long as any.
        raw.run::<()>(&format!("EXPIRE {key} 5")).await?;
        accept(&cache, like(pair)).await?;
        lives(&raw, &key, PAIR).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_nobody_knows_lives_briefly_until_it_is_liked() -> Result<()> {
    let (cache, raw) = on_shared(rules()).await?;
    let pair = video_pair(1, 1);
    let (counter, state) = (cache.keys().counter(pair.resource), cache.keys().pair(pair));
    let unknown = StoredCount::default();
    cache.fill_counts(&[(pair.resource, unknown)]).await?;
    cache.fill_states(&[(pair, PairState::UNTOUCHED)]).await?;
    for key in [&counter, &state] {
        lives(&raw, key, BRIEF).await?;
    }
    cache.settle(&Settlement::of_rows([(pair.resource, unknown)], [(pair, PairState::UNTOUCHED)])).await?;
    for key in [&counter, &state] {
        lives(&raw, key, UNKNOWN).await?;
    }
    let version = accept(&cache, like(pair)).await?;
    lives(&raw, &state, PAIR).await?;
    assert_eq!(raw.ttl(&counter).await?, -1, "a like is pending");
    // Told once more what was true before: the like is still pending.
    cache.settle(&Settlement::of_rows([(pair.resource, unknown)], [(pair, PairState::UNTOUCHED)])).await?;
    assert_eq!(raw.ttl(&counter).await?, -1, "a like is pending");
    lives(&raw, &state, PAIR).await?;
    settle(&cache, pair, &[version], Some(1)).await?;
    lives(&raw, &counter, COUNTER).await
}

#[tokio::test]
async fn keys_of_callers_and_tokens_of_users_expire() -> Result<()> {
    let limit = UserLimit { actions: 10, period: Duration::from_secs(1000) };
    let (cache, raw) = on_shared(CacheRules { user_limit: Some(limit), ..rules() }).await?;
    let mut request = AcceptRequest { limited: true, ..like(video_pair(1, 1)) };
    request.intent.idempotency_key = Some("k".to_owned());
    accept(&cache, request).await?;
    let keys: Vec<String> = raw.everything().await?.into_iter().map(|(key, _)| key).collect();
    let find = |part: &str| keys.iter().find(|key| key.contains(part)).unwrap_or_else(|| panic!("{part} in {keys:?}"));
    lives(&raw, find(":i:"), KEY).await?;
    // One token of ten: given back after a tenth of the period.
    lives(&raw, find("r:1"), 100).await
}
