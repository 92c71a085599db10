//! One repairer at a time.

use crate::rig::{PATIENCE, Rig, quick, video_of};
use consistency::{ConsistencyConfig, Strategy};
use domain::StoredCount;
use domain::cache::{CountRepair, RepairOutcome};
use event_store::Fenced;
use std::time::Duration;
use test_support::build::video_pair;
use test_support::eventually;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_office_is_held_by_one_and_lost_cleanly() {
    let rig = Rig::new().await;
    rig.like(video_pair(1, 1)).await;
    rig.settled().await;
    let brief = ConsistencyConfig { lease: Duration::from_millis(600), ..quick(Strategy::DatabaseFirst) };
    let (one, two) = (rig.checker_with(brief.clone()).await, rig.checker_with(brief).await);
    assert!(one.leader().hold().await.unwrap());
    assert!(!two.leader().hold().await.unwrap());
    let old = one.leader().token().unwrap();
    assert!(one.leader().hold().await.unwrap());
    assert_eq!(one.leader().token(), Some(old), "renewed, the same term");

    // The first one sleeps past its lease, as if stopped, with its token in hand.
    eventually(PATIENCE, "the second becomes leader", async || two.leader().hold().await.unwrap()).await;
    assert_eq!(one.leader().token(), None, "its own clock told it");
    let new = two.leader().token().unwrap();
    assert!(new > old);

    let now = chrono::DateTime::from(test_support::wall_clock());
    let database = &rig.stores.database;
    rig.sql("UPDATE like_counts SET like_count = 9").await;
    assert_eq!(database.repair_count(video_of(1), 0, old, now).await.unwrap(), Fenced::Refused);
    let seen = rig.stores.cache.counts(&[video_of(1)]).await.unwrap()[0].unwrap();
    let stored = StoredCount { count: 7, revision: 1, ..StoredCount::default() };
    let repair = CountRepair { resource: video_of(1), seen, stored, abandoned: false };
    assert_eq!(rig.stores.cache.repair_count(&repair, old).await.unwrap(), RepairOutcome::Fenced);
    assert!(!one.leader().hold().await.unwrap());
    assert!(matches!(database.repair_count(video_of(1), 0, new, now).await.unwrap(), Fenced::Done(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checker_that_stops_gives_the_office_back_and_another_goes_on() {
    let rig = Rig::new().await;
    rig.like(video_pair(1, 1)).await;
    rig.settled().await;
    let config = ConsistencyConfig { hot_data_check: Duration::from_millis(300), ..quick(Strategy::DatabaseFirst) };
    let stop = CancellationToken::new();
    let one = rig.checker_with(config.clone()).await;
    let running = tokio::spawn(one.clone().run(stop.clone()));
    eventually(PATIENCE, "leader", async || one.leader().token()).await;
    stop.cancel();
    running.await.unwrap();
    assert_eq!(one.leader().token(), None);

    // By itself: a drift is found among the hot resources and repaired.
    let two = rig.checker_with(config).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(two.run(stop.clone()));
    rig.redis::<()>(&format!("HINCRBY {} n 3", rig.counter(1))).await;
    eventually(PATIENCE, "the repair", async || {
        rig.stores.cache.counts(&[video_of(1)]).await.unwrap()[0].is_some_and(|count| count.served == 1)
    })
    .await;
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_loses_the_database_leaves_the_lease_to_another() {
    let rig = Rig::new().await;
    let long = ConsistencyConfig { lease: Duration::from_secs(120), ..quick(Strategy::DatabaseFirst) };
    let (one, database) = rig.checker_and_its_database(long.clone()).await;
    let two = rig.checker_with(long).await;
    assert!(one.leader().hold().await.unwrap());
    assert!(!two.leader().hold().await.unwrap());
    database.close().await;
    one.leader().hold().await.expect_err("led without the database");
    assert_eq!(one.leader().token(), None);
    assert!(two.leader().hold().await.unwrap());
    // Who cannot lead does not compete either.
    let stop = CancellationToken::new();
    stop.cancel();
    two.leader().clone().run(stop).await;
    one.leader().hold().await.expect_err("competed without the database");
    assert!(two.leader().hold().await.unwrap());
}
