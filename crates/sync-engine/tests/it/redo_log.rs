//! The redo log has what was answered, whatever way it went, and tells it to a database that came back from a copy.

use crate::rig::{PATIENCE, Process, Rig, like, unlike, video};
use domain::WritePath;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use sync_engine::recover::replay::{Replay, ReplayOptions, ReplayReport};
use test_support::{Links, dump_schema, eventually, expect_eq, restore_schema};
use tokio_util::sync::CancellationToken;

async fn logged_users(rig: &Rig) -> BTreeSet<i64> {
    rig.logged().await.iter().map(|event| event.pair().user.get()).collect()
}

async fn nothing_waits(process: &Process) {
    eventually(PATIENCE, "nothing that the log lacks", async || {
        expect_eq(process.stores.database.unlogged_backlog(1_000).await.unwrap(), 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_went_around_the_broker_joins_the_log_whoever_dies() {
    let mut rig = Rig::new().await;
    let links = Links::to(&rig.deployment).await.unwrap();
    let near = rig.clone();
    rig.bus.url = links.rabbitmq.url_of(rig.deployment.rabbitmq().url()).into();
    rig.redis.url = links.redis.url_of(rig.deployment.redis().url()).into();
    let server = rig.process().await;
    server.keep_log();
    server.watch();
    let accept = server.server();
    // By the queue.
    for user in 1..=5 {
        accept.accept_one(like(user, 1)).await.unwrap();
    }
    let consumer = near.process().await;
    consumer.keep_log();
    consumer.consume();
    consumer.settled().await;
    assert_eq!(rig.number("SELECT COUNT(*) FROM sync_events WHERE next_retry_at IS NOT NULL").await, 0);
    assert_eq!(logged_users(&near).await, (1..=5).collect());
    // Nobody joins anything for a while.
    consumer.stop().await;

    // Applied directly, by the relay.
    links.rabbitmq.cut().await;
    for user in 6..=10 {
        accept.accept_one(like(user, 1)).await.unwrap();
    }
    server.settled().await;
    // Written directly, without a cache.
    links.redis.cut().await;
    for user in 11..=15 {
        assert!(accept.accept_one(like(user, 1)).await.unwrap().degraded);
    }
    assert_eq!(rig.number("SELECT COUNT(*) FROM sync_events WHERE next_retry_at IS NOT NULL").await, 10);
    // That server never comes back.
    drop((accept, server));
    assert_eq!(logged_users(&near).await, (1..=5).collect(), "the log cannot have them yet");

    // Another process joins them.
    let joiner = near.process().await;
    joiner.watch();
    joiner.keep_log();
    nothing_waits(&joiner).await;
    assert_eq!(logged_users(&near).await, (1..=15).collect());

    // Synchronous writes, while all stores are there.
    let other = near.process().await;
    other.keep_log();
    let accept = other.server_on(WritePath::Synchronous);
    for user in 16..=20 {
        assert!(accept.accept_one(like(user, 1)).await.unwrap().changed);
    }
    nothing_waits(&other).await;
    assert_eq!(logged_users(&near).await, (1..=20).collect());
    near.assert_counts_are_live_rows().await;
    drop((accept, other, joiner));
    near.end().await;
}

/// Where the log is off, nothing is marked: it would pile up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_log_nothing_waits_for_it() {
    let mut rig = Rig::new().await;
    rig.bus.log.enabled = false;
    let server = rig.process().await;
    server.keep_log();
    let accept = server.server_on(WritePath::Synchronous);
    accept.accept_one(like(1, 1)).await.unwrap();
    assert_eq!(server.stores.database.unlogged_backlog(10).await.unwrap(), 0);
    drop((accept, server));
    rig.end().await;
}

async fn replay(rig: &Rig, options: ReplayOptions, stop_after: Option<u64>) -> ReplayReport {
    let process = rig.process().await;
    let (stop, batches) = (CancellationToken::new(), AtomicU64::new(0));
    let progress = |_: &ReplayReport| {
        if stop_after == Some(batches.fetch_add(1, Ordering::Relaxed) + 1) {
            stop.cancel();
        }
    };
    let replay = Replay::new(process.stores.clone(), &process.applier, rig.bus.clone(), options);
    tokio::time::timeout(2 * PATIENCE, replay.run(&stop, &progress)).await.expect("hangs").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_from_a_copy_is_told_again_everything_in_the_log() {
    let mut rig = Rig::new().await;
    let link = Links::to(&rig.deployment).await.unwrap().rabbitmq;
    let near = rig.clone();
    rig.bus.url = link.url_of(rig.deployment.rabbitmq().url()).into();
    let server = rig.process().await;
    server.keep_log();
    server.watch();
    server.rescue();
    let consumer = near.process().await;
    consumer.consume();
    let accept = server.server();

    // Likes go on while the copy is made, some by the queue, some around it.
    let load = async {
        for round in 0..60 {
            if round == 30 {
                link.cut().await;
            }
            if round == 45 {
                link.restore().await.unwrap();
            }
            for user in 1..=5 {
                // Liked, taken back, liked: the same pairs, in an order that counts.
                let (user, video) = (round % 20 * 5 + user, 1 + user % 3);
                let intent = if round / 20 == 1 { unlike(user, video) } else { like(user, video) };
                assert!(accept.accept_one(intent).await.unwrap().changed);
            }
            if round == 10 {
                server.settled().await;
            }
        }
    };
    let copy = async {
        let half = "SELECT COUNT(*) FROM video_likes";
        eventually(PATIENCE, "some rows", async || if rig.number(half).await >= 50 { Ok(()) } else { Err("few") })
            .await;
        dump_schema(rig.deployment.database_url()).await.unwrap()
    };
    let ((), copy) = tokio::join!(load, copy);
    server.settled().await;
    nothing_waits(&server).await;
    drop(accept);
    server.stop().await;
    consumer.stop().await;
    let (rows, events) = (near.rows().await, near.number("SELECT COUNT(*) FROM sync_events").await);
    assert_eq!(events, 300);

    restore_schema(near.deployment.database_url(), &copy).await.unwrap();
    let lost = events - near.number("SELECT COUNT(*) FROM sync_events").await;
    assert!(lost > 100 && near.rows().await != rows, "{lost}");

    let since = test_support::wall_clock() - 2 * PATIENCE;
    let options = ReplayOptions { since: since.into(), dry_run: true, restart: false, batch_size: 20 };
    let rehearsed = replay(&near, options, None).await;
    assert_eq!((rehearsed.missing, rehearsed.unreadable, rehearsed.at_most), (lost as u64, 0, false), "{rehearsed:?}");
    assert_eq!(near.number("SELECT COUNT(*) FROM sync_events").await, events - lost, "a rehearsal writes nothing");

    // It is stopped, and goes on where it was.
    let options = ReplayOptions { dry_run: false, ..options };
    let first = replay(&near, options, Some(1)).await;
    assert!(first.stopped && first.missing < rehearsed.missing, "{first:?}");
    let rest = replay(&near, options, None).await;
    assert!(!rest.stopped && rest.resumed_at > first.last_offset, "{rest:?}");
    assert_eq!(first.missing + rest.missing, rehearsed.missing);
    assert_eq!(near.rows().await, rows);
    near.assert_counts_are_live_rows().await;
    let history = near.sql("SELECT event_id FROM user_behaviors GROUP BY event_id HAVING COUNT(*) > 1").await;
    assert_eq!(history, "");
    let again = replay(&near, ReplayOptions { restart: true, ..options }, None).await;
    assert_eq!((again.missing, again.resumed_at), (0, None), "{again:?}");
    near.end().await;
}

/// The log knows nothing of time: an old like in it loses against a newer word, also where row and ledger have gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_retained_away_is_not_applied_again() {
    let rig = Rig::new().await;
    let server = rig.process().await;
    let consumer = rig.process().await;
    consumer.consume();
    let accept = server.server();
    accept.accept_one(like(1, 1)).await.unwrap();
    accept.accept_one(unlike(1, 1)).await.unwrap();
    accept.accept_one(like(2, 1)).await.unwrap();
    server.settled().await;
    // The ledger forgets, the tombstone is archived, and an operator discards what was never applied.
    let later = (test_support::wall_clock() + Duration::from_secs(3_600)).into();
    server.stores.database.purge_completed(later, 100).await.unwrap();
    for kind in domain::ResourceType::ALL {
        server.stores.database.archive_tombstones(kind, later, None, 100).await.unwrap();
    }
    rig.sql("DELETE FROM user_behaviors").await;
    let before = rig.rows().await;
    let options = ReplayOptions {
        since: (test_support::wall_clock() - PATIENCE).into(),
        dry_run: false,
        restart: true,
        batch_size: 1,
    };
    // By id nobody knows them any more; the row has one of them, and by version the others change nothing.
    let report = replay(&rig, options, None).await;
    assert_eq!(report.missing, 2, "{report:?}");
    assert_eq!(rig.rows().await, before);
    assert_eq!(rig.number("SELECT like_count FROM like_counts").await, 1);
    assert_eq!(report.parked, 0);
    assert_eq!(server.stores.database.unlogged(10).await.unwrap(), [], "what comes from the log is in it");
    consumer.assert_cache_agrees(&[video(1)]).await;
    drop((accept, server, consumer));
    rig.end().await;
}
