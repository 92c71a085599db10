//! Accounting, journal pages, leases.

use super::{MakeCache, Subject, like, roomy_rules, settled, stored, unlike};
use crate::build::video_pair;
use crate::eventually;
use anyhow::{Context, Result, ensure};
use domain::cache::{AcceptOutcome, CacheRules, JournalPages};
use domain::{ShardCount, ShardId, Version};
use std::time::Duration;

/// One status per shard, all zero, with the time.
pub async fn an_empty_cache_has_empty_accounting(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let accounting = subject.cache.shard_status().await?;
    let shards: Vec<_> = accounting.iter().map(|status| status.shard).collect();
    assert_eq!(shards, subject.rules.shards.all().collect::<Vec<_>>());
    for status in accounting {
        assert_eq!((status.accepted, status.settled, status.journal_len, status.oldest), (0, 0, 0, None));
        assert_eq!(status.settled_up_to, Version::ZERO);
        ensure!(status.now > Version(1_600_000_000_000_000), "the clock says {}", status.now);
    }
    Ok(())
}

/// accepted - settled = journal length at every look, while likes come and settlements go.
pub async fn the_accounting_agrees_under_concurrency(make: impl MakeCache) -> Result<()> {
    const USERS: i64 = 8;
    const LIKES: i64 = 40;
    let subject = Subject::new(make).await;
    let user = async |user: i64| -> Result<()> {
        for id in 1..=LIKES {
            let pair = video_pair(user, id % 7 + 1);
            let request = if (id / 7) % 2 == 0 { like(pair) } else { unlike(pair) };
            if let AcceptOutcome::Accepted(answer) = subject.accept(request).await?
                && id % 3 > 0
            {
                let settlement = settled(pair.resource, &[answer.version], Some(stored(0, 0)));
                subject.settle(&settlement).await?;
                subject.settle(&settlement).await?;
            }
        }
        Ok(())
    };
    let watch = async {
        for _ in 0..60 {
            for status in subject.cache.shard_status().await? {
                ensure!(status.accepted - status.settled == status.journal_len, "{status:?}");
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    };
    let (u1, u2, u3, u4) = (user(1), user(2), user(3), user(4));
    let (u5, u6, u7, u8) = (user(5), user(6), user(7), user(USERS));
    tokio::try_join!(u1, u2, u3, u4, u5, u6, u7, u8, watch)?;
    let accounting = subject.cache.shard_status().await?;
    let (accepted, settled): (u64, u64) =
        accounting.iter().fold((0, 0), |(a, s), status| (a + status.accepted, s + status.settled));
    ensure!(accepted > 0 && settled > 0 && accepted > settled, "{accepted} accepted, {settled} settled");
    // What the counters call pending is what the journals hold.
    let resources: Vec<_> = (1..=7).map(|id| video_pair(1, id).resource).collect();
    let pending: i64 = subject.cache.counts(&resources).await?.into_iter().flatten().map(|count| count.pending).sum();
    assert_eq!(pending as u64, accepted - settled);
    Ok(())
}

/// The age of the oldest entry, and how far the consumers have come.
pub async fn the_oldest_entry_and_the_settled_mark_move(make: impl MakeCache) -> Result<()> {
    let subject = Subject::with(make, CacheRules { shards: ShardCount::new(1)?, ..roomy_rules() }).await;
    let resource = video_pair(1, 1).resource;
    let mut versions = Vec::new();
    for user in 1..=3 {
        versions.push(subject.accepted(like(video_pair(user, 1))).await?.version);
    }
    let status = async || subject.cache.shard_status().await?.pop().context("one shard");
    let first = status().await?;
    assert_eq!((first.oldest, first.journal_len, first.accepted), (Some(versions[0]), 3, 3));
    ensure!(first.now >= versions[2], "now {} is before {}", first.now, versions[2]);
    ensure!(first.oldest_age().is_some_and(|age| age < Duration::from_secs(60)), "{:?}", first.oldest_age());
    // Out of order: the mark is the highest, the oldest stays.
    subject.settle(&settled(resource, &[versions[1]], None)).await?;
    let second = status().await?;
    assert_eq!((second.oldest, second.settled_up_to, second.settled), (Some(versions[0]), versions[1], 1));
    subject.settle(&settled(resource, &[versions[0]], None)).await?;
    let third = status().await?;
    assert_eq!((third.oldest, third.settled_up_to), (Some(versions[2]), versions[1]));
    subject.settle(&settled(resource, &[versions[2]], None)).await?;
    let last = status().await?;
    assert_eq!((last.oldest, last.settled_up_to, last.journal_len), (None, versions[2], 0));
    assert_eq!((last.accepted, last.settled), (3, 3));
    Ok(())
}

/// Oldest first, after a version, at most as many as asked for, each decoding to what was asked.
pub async fn pages_give_the_journal_in_order(make: impl MakeCache) -> Result<()> {
    let subject = Subject::with(make, CacheRules { shards: ShardCount::new(1)?, ..roomy_rules() }).await;
    let requests: Vec<_> = (1..=25).map(|id| like(video_pair(id, id))).collect();
    for outcome in subject.cache.accept(&requests).await {
        outcome?;
    }
    let mut some = JournalPages::new(subject.cache.as_ref(), ShardId(0), 10, 2);
    let (mut first, mut seen) = (Vec::new(), Vec::new());
    while let Some(page) = some.next().await? {
        first.extend(page);
    }
    assert_eq!((first.len(), some.reached_end()), (20, false));
    let mut all = JournalPages::new(subject.cache.as_ref(), ShardId(0), 10, 9);
    while let Some(page) = all.next().await? {
        ensure!(page.len() <= 10, "{} entries in a page of 10", page.len());
        seen.extend(page);
    }
    assert!(all.reached_end() && seen.starts_with(&first));
    ensure!(seen.is_sorted_by(|one, two| one.version < two.version), "out of order: {seen:?}");
    let intents = seen.iter().map(|entry| Ok(entry.decode()?.intent)).collect::<Result<Vec<_>>>()?;
    assert_eq!(intents, requests.into_iter().map(|request| request.intent).collect::<Vec<_>>());
    assert!(subject.cache.journal_page(ShardId(0), Version::MAX, 10).await?.is_empty());
    Ok(())
}

/// Who has it renews it with the same token; nobody else gets it. Leases of other names are apart.
pub async fn a_lease_has_one_owner(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let long = Duration::from_secs(60);
    let token = subject.cache.acquire_lease("relay", "a", long).await?;
    ensure!(token.is_some(), "a free lease was refused");
    assert_eq!(subject.cache.acquire_lease("relay", "b", long).await?, None);
    assert_eq!(subject.cache.acquire_lease("relay", "a", long).await?, token);
    ensure!(subject.cache.acquire_lease("sweep", "b", long).await?.is_some(), "another lease was refused");
    Ok(())
}

/// The new owner's token is larger, and the old owner is out; renewing keeps a lease alive.
pub async fn a_lease_that_ran_out_changes_its_owner_and_token(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let first = subject.cache.acquire_lease("relay", "a", Duration::from_millis(200)).await?.context("free")?;
    let long = Duration::from_secs(60);
    let second = eventually(Duration::from_secs(20), "the lease runs out", async || {
        subject.cache.acquire_lease("relay", "b", long).await.ok().flatten()
    })
    .await;
    ensure!(second > first, "token {second} after {first}");
    assert_eq!(subject.cache.acquire_lease("relay", "a", long).await?, None);
    Ok(())
}

/// Giving back what one does not hold does nothing; a released lease is free at once, with a larger token.
pub async fn a_lease_is_released_by_its_owner_only(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let long = Duration::from_secs(60);
    let first = subject.cache.acquire_lease("relay", "a", long).await?.context("free")?;
    subject.cache.release_lease("relay", "b").await?;
    assert_eq!(subject.cache.acquire_lease("relay", "b", long).await?, None);
    subject.cache.release_lease("relay", "a").await?;
    subject.cache.release_lease("relay", "a").await?;
    let second = subject.cache.acquire_lease("relay", "b", long).await?.context("released")?;
    ensure!(second > first, "token {second} after {first}");
    Ok(())
}

/// Preparing changes nothing of what is there.
pub async fn preparing_again_is_harmless(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    subject.accepted(like(video_pair(1, 1))).await?;
    subject.cache.prepare().await?;
    subject.cache.ping().await?;
    assert_eq!(subject.journal_len().await?, 1);
    Ok(())
}
