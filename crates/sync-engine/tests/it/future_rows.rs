//! Rows that somebody else dated into the future.

use crate::rig::{PATIENCE, Rig, like, now_version, unlike, video};
use sync_engine::accept::LikeError;
use test_support::{Links, eventually};

const HOUR_US: i64 = 3_600_000_000;

/// Of user 900, who likes a video that nobody else likes.
async fn insert_row(rig: &Rig, id: i64, version: i64) {
    rig.sql(&format!(
        "INSERT INTO video_likes VALUES (900, {id}, '2150-01-01', '2150-01-01', NULL, {version});
         INSERT INTO like_counts VALUES ('video', {id}, 1, 1, {version}, '2026-01-01')"
    ))
    .await;
}

/// Videos whose likes take their versions from the shard of that row, and some that do not.
fn neighbours(rig: &Rig) -> (Vec<i64>, Vec<i64>) {
    let shard = rig.sync.shards.of(video(4200));
    let (near, far): (Vec<i64>, Vec<i64>) = (1..2_000).partition(|id| rig.sync.shards.of(video(*id)) == shard);
    (near[..3].to_vec(), far[..2].to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_from_the_far_future_concerns_no_other_pair() {
    let mut rig = Rig::new().await;
    let links = Links::to(&rig.deployment).await.unwrap();
    let consumer = rig.process().await;
    consumer.consume();
    rig.redis.url = links.redis.url_of(rig.deployment.redis().url()).into();
    let server = rig.process().await;
    let accept = server.server();
    let (near, far) = neighbours(&rig);
    // In the year 2150, which no version may be, and in a year.
    let year = now_version() + 24 * 365 * HOUR_US;
    for (user, id, version) in [(1, 4200, 5_700_000_000_000_000), (2, near[2], year)] {
        insert_row(&rig, id, version).await;
        let mut said = Vec::new();
        for intent in [like(user, id), unlike(900, id), like(user, near[0]), like(user, near[1])] {
            said.push((intent.pair, accept.accept_one(intent).await.unwrap()));
        }
        server.settled().await;
        for (pair, answer) in &said {
            assert!(answer.changed && answer.version.0 < now_version() + HOUR_US, "{pair:?}: {answer:?}");
            let row = server.stores.database.load_states(&[*pair]).await.unwrap()[0];
            assert_eq!((row.liked, row.version), (answer.liked, answer.version), "{pair:?} dated {version}");
        }
        assert_eq!(rig.number("SELECT COUNT(*) FROM sync_events WHERE status <> 'completed'").await, 0);
        assert_eq!(rig.number(&format!("SELECT like_count FROM like_counts WHERE resource_id = {id}")).await, 1);
        server.assert_cache_agrees(&[video(id), video(near[0]), video(near[1])]).await;
    }

    // Nothing is ahead: the server writes around the cache.
    server.stores.cache.shard_status().await.unwrap();
    links.redis.cut().await;
    for id in [4200, near[0], far[0]] {
        let answer = accept.accept_one(like(3, id)).await.unwrap();
        assert!(answer.degraded && answer.changed, "{answer:?}");
    }
    consumer.stop().await;
    drop(server);
    rig.end().await;
}

/// A process with a wrong clock may have dated a row a few hours ahead, so its shard follows it; the others need not wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_is_ahead_keeps_no_other_shard_waiting() {
    let mut rig = Rig::new().await;
    let links = Links::to(&rig.deployment).await.unwrap();
    rig.redis.url = links.redis.url_of(rig.deployment.redis().url()).into();
    let server = rig.process().await;
    let accept = server.server();
    let (near, far) = neighbours(&rig);
    let version = now_version() + 5 * HOUR_US;
    insert_row(&rig, 4200, version).await;
    let ahead = accept.accept_one(unlike(900, 4200)).await.unwrap();
    assert!(ahead.version.0 > version, "it would lose against the row: {ahead:?}");
    server.stores.cache.shard_status().await.unwrap();

    links.redis.cut().await;
    eventually(PATIENCE, "the cache is away", async || match accept.accept_one(like(3, far[0])).await {
        Ok(answer) if answer.degraded => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(accept.accept_one(like(3, far[1])).await.unwrap().degraded);
    for id in [4200, near[0]] {
        let refused = accept.accept_one(like(3, id)).await;
        assert!(
            matches!(&refused, Err(LikeError::Unavailable { reason, .. }) if reason.contains("ahead")),
            "{refused:?}"
        );
    }
    drop(server);
    rig.end().await;
}
