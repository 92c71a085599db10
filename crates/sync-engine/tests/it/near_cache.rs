//! Counts that a server remembers for a moment: what its callers may see, whatever others do meanwhile.

use crate::rig::{PATIENCE, Process, Rig, like, unlike, video};
use domain::cache::{CountRepair, RepairOutcome};
use domain::{LikeIntent, Resource, StoredCount};
use std::time::Duration;
use sync_engine::accept::Acceptor;
use sync_engine::read::Reader;
use sync_engine::stores::near_cache::NearCacheConfig;
use test_support::build::video_pair;
use test_support::{Links, eventually, expect_eq};
use tokio::time::Instant;

/// Longer than any test: what is remembered is shown until the end.
const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(100);

/// A server that remembers counts for so long.
async fn server(rig: &Rig, ttl: Duration) -> (Process, Acceptor, Reader) {
    let config = NearCacheConfig { ttl, ..NearCacheConfig::default() };
    let stores = rig.stores().await.with_near_cache(&config);
    stores.prepare().await.unwrap();
    let process = rig.process_with(stores);
    let (acceptor, reader) = (process.server(), Reader::new(process.stores.clone(), process.recheck()));
    (process, acceptor, reader)
}

async fn count(reader: &Reader, resource: Resource) -> i64 {
    let read = reader.counts(&[resource]).await.unwrap();
    assert!(!read.degraded);
    read.values[0]
}

#[tokio::test]
async fn who_likes_sees_the_count_with_it_at_once_and_what_others_did_a_moment_later() {
    let rig = Rig::new().await;
    let (_one, one, reading) = server(&rig, LONG).await;
    let (_other, other, other_reading) = server(&rig, LONG).await;
    assert_eq!(count(&reading, video(1)).await, 0);
    for (user, seen) in [(1, 1), (2, 2), (3, 3)] {
        assert_eq!(one.accept_one(like(user, 1)).await.unwrap().count, Some(seen));
        assert_eq!(count(&reading, video(1)).await, seen);
    }
    assert_eq!(one.accept_one(unlike(2, 1)).await.unwrap().count, Some(2));
    assert_eq!(count(&reading, video(1)).await, 2);
    // What another server accepts is not known here, unless the caller says that it must be.
    let answer = other.accept_one(like(4, 1)).await.unwrap();
    assert_eq!((answer.count, count(&other_reading, video(1)).await), (Some(3), 3));
    assert_eq!(count(&reading, video(1)).await, 2, "it remembers nothing");
    let read = reading.counts_with(&[video(1)], answer.version).await.unwrap();
    assert_eq!(read.values, [3], "the least version was not kept");
    // Whoever is told "unchanged" by this server was answered by another one before.
    let answer = other.accept_one(like(5, 1)).await.unwrap();
    let again = one.accept_one(like(5, 1)).await.unwrap();
    assert_eq!((again.changed, again.version, again.count), (false, answer.version, Some(4)));
    assert_eq!(count(&reading, video(1)).await, 4);
    // And whoever is given the answer to a call that another one had taken.
    let keyed = || LikeIntent { idempotency_key: Some("once".to_owned()), ..like(6, 1) };
    let answer = other.accept_one(keyed()).await.unwrap();
    assert_eq!((answer.count, count(&reading, video(1)).await), (Some(5), 4));
    let again = one.accept_one(keyed()).await.unwrap();
    assert_eq!((again.version, again.changed), (answer.version, true));
    assert_eq!(count(&reading, video(1)).await, 5);
    rig.end().await;
}

/// What the database said may have been asked for before: by whoever asked first.
#[tokio::test]
async fn what_was_loaded_is_not_remembered() {
    let rig = Rig::new().await;
    let (_process, _, reading) = server(&rig, LONG).await;
    let process = rig.process().await;
    let other = process.server();
    assert_eq!(count(&reading, video(1)).await, 0);
    assert_eq!(other.accept_one(like(1, 1)).await.unwrap().count, Some(1));
    assert_eq!(count(&reading, video(1)).await, 1);
    assert_eq!(other.accept_one(like(2, 1)).await.unwrap().count, Some(2));
    assert_eq!(count(&reading, video(1)).await, 1, "what the cache said is not remembered");
    rig.end().await;
}

/// Reads until this count is seen; every read that began later than `SHORT` after `changed` must see it.
async fn seen_in_time(reader: &Reader, expected: i64, changed: Instant) {
    loop {
        let began = Instant::now();
        let seen = count(reader, video(1)).await;
        if seen == expected {
            return;
        }
        assert!(began < changed + SHORT, "{seen} instead of {expected} {:?} later", began - changed);
    }
}

#[tokio::test]
async fn what_others_change_is_seen_in_time() {
    let rig = Rig::new().await;
    let (_one, one, reading) = server(&rig, SHORT).await;
    let other = rig.process().await;
    let others = other.server();
    other.consume();
    one.accept_one(like(1, 1)).await.unwrap();
    assert_eq!(count(&reading, video(1)).await, 1);
    others.accept_one(like(2, 1)).await.unwrap();
    seen_in_time(&reading, 2, Instant::now()).await;
    others.accept_one(unlike(2, 1)).await.unwrap();
    seen_in_time(&reading, 1, Instant::now()).await;
    // A repair changes no version.
    other.settled().await;
    let seen = other.cached(video(1)).await.unwrap();
    let stored = StoredCount { count: 7, revision: seen.stored_revision, last_version: seen.last_version };
    let repair = CountRepair { resource: video(1), seen, stored, abandoned: false };
    other.stores.cache.fence_repairs(1).await.unwrap();
    assert_eq!(count(&reading, video(1)).await, 1);
    let outcome = other.stores.cache.repair_count(&repair, 1).await.unwrap();
    assert!(matches!(outcome, RepairOutcome::Repaired), "{outcome:?}");
    seen_in_time(&reading, 7, Instant::now()).await;
    rig.end().await;
}

/// Reads from before a like are on their way all the time, and some come back after its answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_likes_is_never_shown_less_while_many_read() {
    const LIKES: i64 = 400;
    let rig = Rig::new().await;
    let (_process, acceptor, reading) = server(&rig, Duration::from_millis(3)).await;
    acceptor.accept_one(like(1, 1)).await.unwrap();
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let reader = reading.clone();
        crowd.spawn(async move {
            loop {
                count(&reader, video(1)).await;
                tokio::task::yield_now().await;
            }
        });
    }
    for user in 2..=LIKES {
        assert_eq!(acceptor.accept_one(like(user, 1)).await.unwrap().count, Some(user));
        for _ in 0..3 {
            assert_eq!(count(&reading, video(1)).await, user);
        }
    }
    drop(crowd);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_hides_no_cache_that_is_unreachable_and_no_write_around_it() {
    let mut rig = Rig::new().await;
    let links = Links::to(&rig.deployment).await.unwrap();
    let consumer = rig.process().await;
    consumer.consume();
    rig.redis.url = links.redis.url_of(rig.deployment.redis().url()).into();
    let (process, acceptor, reading) = server(&rig, LONG).await;
    acceptor.accept_one(like(1, 1)).await.unwrap();
    acceptor.accept_one(like(1, 2)).await.unwrap();
    consumer.settled().await;
    assert_eq!(count(&reading, video(1)).await, 1);

    links.redis.cut().await;
    eventually(PATIENCE, "an open circuit", async || {
        reading.states(&[video_pair(1, 1)]).await.unwrap();
        expect_eq(process.stores.cache_circuit.is_open(), true)
    })
    .await;
    let read = reading.counts(&[video(1)]).await.unwrap();
    assert!(read.degraded && read.values == [1], "{read:?}");
    let answer = acceptor.accept_one(like(2, 1)).await.unwrap();
    assert!(answer.degraded && answer.count == Some(2), "{answer:?}");

    links.redis.restore().await.unwrap();
    process.watch();
    eventually(PATIENCE, "a closed circuit", async || expect_eq(process.stores.cache_circuit.is_open(), false)).await;
    assert_eq!(count(&reading, video(1)).await, 2, "a count from before the write around the cache");
    assert_eq!(count(&reading, video(2)).await, 1);
    rig.end().await;
}
