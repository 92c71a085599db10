//! What a server must be like, and what is found in it.

use crate::support::{config, on_shared, private};
use anyhow::Result;
use domain::cache::{AcceptOutcome, CacheError, CacheRules, JournalPages, LikeCache, SettledResource, Settlement};
use domain::{ShardCount, ShardId, StoredCount, Version};
use test_support::build::video_pair;
use test_support::cache_contract::{like, roomy_rules, unlike};

#[tokio::test]
async fn a_server_that_may_evict_the_journal_is_refused() -> Result<()> {
    let (_redis, cache, raw) = private(roomy_rules()).await?;
    for (policy, safe) in
        [("allkeys-lru", false), ("volatile-lru", true), ("allkeys-random", false), ("noeviction", true)]
    {
        raw.run::<()>(&format!("CONFIG SET maxmemory-policy {policy}")).await?;
        match cache.prepare().await {
            Ok(()) => assert!(safe, "{policy} was not refused"),
            Err(CacheError::Unsafe(reason)) => {
                assert!(!safe && reason.contains(policy), "{policy}: {reason}");
            }
            Err(other) => panic!("{policy}: {other}"),
        }
        assert_eq!(
            cache.durability().await?.map(|told| told.may_evict),
            Some(!safe),
            "{policy} set while programs run"
        );
    }
    Ok(())
}

/// Redis answers a connection's commands in their order: a like must not come after somebody's read of hundreds of keys.
#[tokio::test]
async fn reads_go_another_way_than_likes() -> Result<()> {
    let (_redis, cache, raw) = private(roomy_rules()).await?;
    let pairs: Vec<_> = (1..=500).map(|id| video_pair(1, id)).collect();
    let resources: Vec<_> = pairs.iter().map(|pair| pair.resource).collect();
    for pair in &pairs[..2] {
        cache.accept(&[like(*pair)]).await.remove(0)?;
    }
    let counts = cache.counts(&resources).await?;
    let served: Vec<_> = counts.iter().map(|count| count.map(|count| count.served)).collect();
    assert_eq!((served.len(), &served[..3]), (500, &[Some(1), Some(1), None][..]), "in the order of the question");
    assert_eq!(cache.served_counts(&resources).await?, served);
    cache.counts(&resources).await?;
    // By its last command each connection is known.
    let clients: String = raw.run("CLIENT LIST").await?;
    let field = |client: &str, name: &str| {
        let value = client.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().to_owned()
    };
    let sent = |command: &str| -> Vec<String> {
        let of_command = clients.lines().filter(|client| field(client, "cmd") == command);
        of_command.map(|client| field(client, "id")).collect()
    };
    let (likes, reads) = (sent("evalsha"), sent("hmget"));
    assert_eq!((likes.len(), reads.len()), (1, 1), "{clients}");
    cache.states(&pairs).await?;
    cache.counts(&resources[..3]).await?;
    cache.fill_counts(&[(resources[9], StoredCount::default())]).await?;
    cache.settle(&Settlement::of_rows([(resources[9], StoredCount::default())], [])).await?;
    let clients: String = raw.run("CLIENT LIST").await?;
    let of_likes = clients.lines().find(|client| field(client, "id") == likes[0]).expect("the connection of likes");
    assert_eq!(field(of_likes, "cmd"), "evalsha", "{of_likes}");
    let few = clients.lines().filter(|client| field(client, "cmd") == "hmget");
    assert!(few.clone().all(|client| field(client, "id") != reads[0]), "few keys wait behind many: {clients}");
    assert_eq!(few.count(), 1, "{clients}");
    Ok(())
}

#[tokio::test]
async fn another_number_of_shards_is_refused() -> Result<()> {
    let (cache, raw) = on_shared(roomy_rules()).await?;
    let url = test_support::shared::redis().await?.url();
    let meta = raw.everything().await?.remove(0).0;
    let prefix = meta.strip_suffix("meta").expect("the only key after prepare");
    let other = config(url, prefix).build(CacheRules { shards: ShardCount::new(8)?, ..roomy_rules() })?;
    match other.prepare().await {
        Err(CacheError::ShardMismatch { stored: 4, configured: 8 }) => {}
        other => panic!("{other:?}"),
    }
    cache.prepare().await?;
    Ok(())
}

#[tokio::test]
async fn without_memory_likes_wait_and_settling_goes_on() -> Result<()> {
    let (_redis, cache, raw) = private(roomy_rules()).await?;
    let pair = video_pair(1, 1);
    let AcceptOutcome::Accepted(answer) = cache.accept(&[like(pair)]).await.remove(0)? else { panic!("not accepted") };
    let before = raw.everything().await?;
    raw.run::<()>("CONFIG SET maxmemory 1").await?;
    let refused = cache.accept(&[unlike(pair), like(video_pair(2, 1)), like(video_pair(2, 2))]).await;
    for outcome in refused {
        let error = outcome.expect_err("accepted without memory");
        assert!(error.is_unavailable(), "{error}");
    }
    assert_eq!(raw.everything().await?, before);
    let stored = Some(StoredCount { count: 1, revision: 1, last_version: answer.version });
    let resource = SettledResource { resource: pair.resource, entries: vec![answer.version], stored };
    let report = cache.settle(&Settlement { resources: vec![resource], pairs: Vec::new(), commit: None }).await?;
    assert_eq!(report.removed, 1);
    raw.run::<()>("CONFIG SET maxmemory 0").await?;
    cache.accept(&[unlike(pair)]).await.remove(0)?;
    Ok(())
}

/// Somebody wrote into the journal by hand: the others' entries still come out, in order.
#[tokio::test]
async fn foreign_entries_do_not_hide_the_journal() -> Result<()> {
    let (cache, raw) = on_shared(CacheRules { shards: ShardCount::new(1)?, ..roomy_rules() }).await?;
    let journal = cache.keys().journal(ShardId(0));
    raw.run::<()>(&format!("XADD {journal} 5-0 e garbage")).await?;
    raw.run::<()>(&format!("XADD {journal} 6-0 other field")).await?;
    for seq in 1..=5 {
        raw.run::<()>(&format!("XADD {journal} 7-{seq} e garbage")).await?;
    }
    cache.accept(&[like(video_pair(1, 1))]).await.remove(0)?;
    raw.run::<()>(&format!("XADD {journal} * e garbage")).await?;
    cache.accept(&[like(video_pair(2, 1))]).await.remove(0)?;

    let status = cache.shard_status().await?[0];
    assert_eq!((status.oldest, status.accepted, status.journal_len), (Some(Version(5)), 2, 10));
    let mut seen = Vec::new();
    let mut pages = JournalPages::new(&cache, ShardId(0), 2, 20);
    while let Some(page) = pages.next().await? {
        seen.extend(page);
    }
    assert!(pages.reached_end(), "{seen:?}");
    let decoded: Vec<_> = seen.iter().map(|entry| entry.decode().ok().map(|event| event.pair())).collect();
    assert_eq!(decoded, [None, None, Some(video_pair(1, 1)), Some(video_pair(2, 1))]);
    // What has a version can be settled away.
    let resource = video_pair(1, 1).resource;
    let part = SettledResource { resource, entries: vec![Version(5), Version(6)], stored: None };
    assert_eq!(cache.settle(&Settlement { resources: vec![part], pairs: Vec::new(), commit: None }).await?.removed, 2);
    Ok(())
}

/// A server whose clock was set back, or that took over from a faster one.
#[tokio::test]
async fn a_clock_behind_its_own_versions_goes_on_from_them() -> Result<()> {
    let (cache, raw) = on_shared(CacheRules { shards: ShardCount::new(1)?, ..roomy_rules() }).await?;
    let future = 4_000_000_000_000_000_i64;
    raw.run::<()>(&format!("HSET {} v {future}", cache.keys().clock(ShardId(0)))).await?;
    let batch = [like(video_pair(1, 1)), unlike(video_pair(1, 1)), like(video_pair(1, 2))];
    for (step, outcome) in (1..).zip(cache.accept(&batch).await) {
        match outcome? {
            AcceptOutcome::Accepted(answer) => assert_eq!(answer.version, Version(future + step)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(cache.shard_status().await?[0].now, Version(future + 3));
    let state = cache.states(&[video_pair(1, 1)]).await?[0].expect("cached");
    assert_eq!((state.liked, state.version), (false, Version(future + 2)));
    let id: String = raw.run(&format!("HGET {} v", cache.keys().counter(video_pair(1, 2).resource))).await?;
    assert_eq!(id, (future + 3).to_string());
    Ok(())
}
