//! The journal is the truth: what nobody relayed is rescued, and a mere backlog is not multiplied.

use crate::rig::{PATIENCE, Rig, like, video};
use domain::cache::Settlement;
use domain::{PairState, Version};
use event_bus::Consumer;
use std::time::{Duration, Instant};
use sync_engine::accept::Call;
use test_support::build::video_pair;
use test_support::{Deployment, eventually, expect_eq};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_server_accepted_is_finished_by_the_consumer() {
    let rig = Rig::new().await;
    let server = rig.process().await;
    let accept = server.dying_server();
    for result in accept.accept((1..=40).map(|user| like(user, 1 + user % 5)).collect(), Call::arriving_now()).await {
        assert!(result.unwrap().changed);
    }
    drop(accept);
    assert_eq!(server.journal_len().await, 40);
    let (stores, resources) = (server.stores.clone(), (1..=5).map(video).collect::<Vec<_>>());
    drop(server);

    let consumer = rig.process_with(stores);
    consumer.consume();
    consumer.rescue();
    consumer.settled().await;
    assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes WHERE deleted_at IS NULL").await, 40);
    rig.assert_counts_are_live_rows().await;
    consumer.assert_cache_agrees(&resources).await;
    consumer.stop().await;
    rig.end().await;
}

/// After a version from the future the next ones hardly move: measured by them, nothing grows old for an hour.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_got_lost_is_rescued_while_the_clock_stands_still() {
    let rig = Rig::new().await;
    let server = rig.process().await;
    let ahead = Version(server.stores.now().0 + 3_600_000_000);
    let row = PairState { liked: true, version: ahead };
    let told = Settlement { resources: Vec::new(), pairs: vec![(video_pair(9, 1), row)], commit: None };
    server.stores.cache.settle(&told).await.unwrap();
    let accept = server.dying_server();
    for user in 1..=3 {
        assert!(accept.accept_one(like(user, 1)).await.unwrap().version > ahead);
    }
    drop(accept);
    server.consume();
    server.rescue();
    server.settled().await;
    assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes WHERE deleted_at IS NULL").await, 3);
    server.stop().await;
    rig.end().await;
}

/// The entries of all shards together are more than a message may carry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_batches_are_rescued_too() {
    let mut rig = Rig::new().await;
    rig.sync.batch_size = domain::codec::MAX_BATCH;
    let server = rig.process().await;
    let accept = server.dying_server();
    let (likes, mut newest) = (5_000, Version::ZERO);
    for first in (1..=likes).step_by(500) {
        let answers = accept
            .accept((first..first + 500).map(|user| like(user, 1 + user % 50)).collect(), Call::arriving_now())
            .await;
        newest = answers.into_iter().map(|answer| answer.unwrap().version).max().unwrap();
    }
    drop(accept);
    // All are due in the same round.
    let stuck = 2 * rig.sync.republish_after;
    eventually(PATIENCE, "entries that are old", async || server.stores.now().since(newest) > stuck).await;
    server.rescue();
    let queue = rig.queue_gauge();
    eventually(PATIENCE, "messages in the queue", async || queue.ready().await > 1).await;
    server.consume();
    server.settled().await;
    assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes WHERE deleted_at IS NULL").await, likes);
    rig.assert_counts_are_live_rows().await;
    server.stop().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_is_not_multiplied() {
    let rig = Rig::new().await;
    let server = rig.process().await;
    let accept = server.server();
    let queue = rig.queue_gauge();
    // Nobody consumes; several servers look after the journal.
    for user in 1..=5 {
        accept.accept_one(like(i64::from(user), 1)).await.unwrap();
        eventually(PATIENCE, "the event in the queue", async || expect_eq(queue.ready().await, user)).await;
    }
    let other = rig.process().await;
    server.rescue();
    other.rescue();
    let oldest = async || {
        let status = server.stores.cache.shard_status().await.unwrap();
        status.iter().filter_map(|shard| shard.oldest_age()).max().unwrap()
    };
    // Until every entry has been old for many rounds: nothing can be awaited here, because nothing is to happen.
    eventually(PATIENCE, "entries that are old", async || Ok::<_, String>(oldest().await).and_then(old)).await;
    assert_eq!(queue.ready().await, 5, "five events became more messages");
    assert_eq!(server.journal_len().await, 5);

    other.consume();
    other.settled().await;
    assert_eq!(rig.number("SELECT like_count FROM like_counts").await, 5);
    other.stop().await;
    drop(server);
    rig.end().await;
}

fn old(age: Duration) -> Result<(), String> {
    if age > Duration::from_millis(1_500) { Ok(()) } else { Err(format!("{age:?}")) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_interval_between_republications_grows() {
    let mut rig = Rig::new().await;
    rig.sync.republish_after = Duration::from_millis(200);
    let server = rig.process().await;
    server.dying_server().accept_one(like(1, 1)).await.unwrap();
    // A consumer that loses everything: it acknowledges and applies nothing.
    let mut thief = Consumer::connect(&rig.bus).await.unwrap();
    server.rescue();
    let mut stolen = Vec::new();
    for _ in 0..4 {
        let delivery = tokio::time::timeout(PATIENCE, thief.next()).await.expect("given up").unwrap();
        stolen.push(Instant::now());
        thief.ack([&delivery]).await.unwrap();
    }
    let gaps: Vec<Duration> = stolen.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // 200, 400, 800 ms after the one before; a delivery may be late, so a gap may be a little shorter.
    for (gap, interval) in gaps.iter().zip([200, 400, 800]) {
        assert!(*gap > Duration::from_millis(interval * 3 / 4), "{gaps:?}");
    }
    drop(thief);
    drop(server);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_and_a_wiped_broker_lose_nothing() {
    let rig = Rig::on(Deployment::build("engine").own_rabbitmq()).await;
    let broker = rig.deployment.rabbitmq();
    let server = rig.process().await;
    let accept = server.server();
    server.watch();
    let mut user = 0;
    let mut accept_some = async |count: i64| {
        for _ in 0..count {
            user += 1;
            assert!(accept.accept_one(like(user, 1 + user % 3)).await.unwrap().changed);
        }
    };
    accept_some(20).await;
    let queue = rig.queue_gauge();
    eventually(PATIENCE, "events in the queue", async || queue.ready().await > 0).await;

    // Nobody has consumed yet. The broker dies: likes go on, directly.
    broker.kill9().unwrap();
    accept_some(20).await;
    eventually(PATIENCE, "the second twenty in the database", async || {
        expect_eq(rig.number("SELECT COUNT(*) FROM video_likes WHERE user_id > 20").await, 20)
    })
    .await;
    assert!(server.stores.broker_circuit.is_open());

    // It comes back without its data, and everything that was in it arrives all the same.
    broker.wipe_and_restart().await.unwrap();
    let consumer = rig.process().await;
    consumer.consume();
    consumer.rescue();
    eventually(PATIENCE, "a closed circuit", async || !server.stores.broker_circuit.is_open()).await;
    accept_some(20).await;
    consumer.settled().await;
    assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes WHERE deleted_at IS NULL").await, 60);
    rig.assert_counts_are_live_rows().await;
    consumer.assert_cache_agrees(&(1..=3).map(video).collect::<Vec<_>>()).await;
    consumer.stop().await;
}
