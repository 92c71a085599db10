//! Marks of deleted resources in Redis: what is lost of them, and what they cost.

use crate::support::{Raw, private};
use anyhow::{Context, Result, ensure};
use cache_manager::RedisCache;
use domain::cache::{AcceptOutcome, CacheRules, LikeCache};
use domain::{DeletedMark, Resource, ShardCount, ShardId, Version};
use test_support::build::video_pair;
use test_support::cache_contract::{like, roomy_rules};

fn one_shard() -> Result<CacheRules> {
    Ok(CacheRules { shards: ShardCount::new(1)?, ..roomy_rules() })
}

fn word(id: i64, at: i64, deleted: bool) -> (Resource, DeletedMark) {
    (video_pair(1, id).resource, DeletedMark { up_to: Version(at), at: Version(at), deleted })
}

async fn is_deleted(cache: &RedisCache, id: i64) -> Result<bool> {
    Ok(cache.accept(&[like(video_pair(1, id))]).await.remove(0)? == AcceptOutcome::Deleted)
}

async fn counted(raw: &Raw, clock: &str) -> Result<i64> {
    raw.run(&format!("HGET {clock} d")).await
}

/// Either key may be lost, or overwritten: telling the marks once more makes it whole.
#[tokio::test]
async fn what_is_lost_of_marks_is_whole_again_when_they_are_told_again() -> Result<()> {
    let (_redis, cache, raw) = private(one_shard()?).await?;
    let (clock, marks) = (cache.keys().clock(ShardId(0)), cache.keys().deleted(ShardId(0)));
    let told = [word(1, 10, true), word(2, 10, true), word(3, 20, false), word(3, 10, true)];
    cache.keep_deleted(&told).await?;
    for lost in ["nothing", &format!("DEL {clock}"), &format!("DEL {marks}"), &format!("SET {marks} garbage")] {
        if lost.starts_with("SET") {
            raw.run::<()>(&format!("DEL {marks}")).await?;
        }
        if lost != "nothing" {
            raw.run::<()>(lost).await?;
            // A copy that is gone is gone: nobody is refused for what it might have said.
            assert!(!is_deleted(&cache, 1).await?, "{lost}");
        }
        cache.keep_deleted(&told).await?;
        cache.keep_deleted(&told).await?;
        assert_eq!(counted(&raw, &clock).await?, 2, "{lost}");
        let refused = [is_deleted(&cache, 1).await?, is_deleted(&cache, 2).await?, is_deleted(&cache, 3).await?];
        assert_eq!(refused, [true, true, false], "{lost}");
    }
    cache.keep_deleted(&[word(1, 30, false), word(2, 30, false)]).await?;
    assert_eq!(counted(&raw, &clock).await?, 0);
    assert!(!is_deleted(&cache, 1).await?);
    Ok(())
}

/// Where nothing of a shard is deleted nobody asks for marks.
#[tokio::test]
async fn marks_are_asked_for_where_there_are_some() -> Result<()> {
    let (_redis, cache, raw) = private(one_shard()?).await?;
    let asked = async || -> Result<u64> {
        let info: String = raw.run("INFO commandstats").await?;
        let Some(line) = info.lines().find_map(|line| line.strip_prefix("cmdstat_hget:calls=")) else { return Ok(0) };
        Ok(line.split(',').next().context("no number of calls")?.parse()?)
    };
    // The look at the data is one, too, and keeping a mark asks for it.
    let mut before = asked().await?;
    cache.accept(&[like(video_pair(1, 1)), like(video_pair(1, 2))]).await;
    assert_eq!(asked().await?, before, "asked for marks that cannot be there");
    cache.keep_deleted(&[word(2, 10, true)]).await?;
    before = asked().await?;
    let outcomes = cache.accept(&[like(video_pair(2, 1)), like(video_pair(2, 2))]).await;
    ensure!(matches!(outcomes[1], Ok(AcceptOutcome::Deleted)), "{outcomes:?}");
    assert_eq!(asked().await?, before + 2);
    cache.keep_deleted(&[word(2, 20, false)]).await?;
    before = asked().await?;
    cache.accept(&[like(video_pair(3, 1)), like(video_pair(3, 2))]).await;
    assert_eq!(asked().await?, before, "asked for marks of what is restored");
    Ok(())
}
