//! Numbers of commits: a database that has lost some is noticed, and no other one is suspected.

use crate::support::{TestDb, at, intent, like, on_both, video_pair};
use domain::cache::{CommitNumber, ToldCommit};
use domain::{Action, Version};
use event_store::{DatabaseConfig, EventStore, FailedEvent};
use std::time::{Duration, Instant};
use test_support::{MariaDbGroup, MariaDbOptions, Proxy, eventually};

const PATIENCE: Duration = Duration::from_secs(30);

on_both!(
    every_commit_of_a_lane_has_the_next_number,
    every_way_that_settles_or_answers_is_numbered,
    a_database_that_lacks_commits_is_noticed_by_the_next_one,
    an_idle_writer_notices_too_and_everybody_learns_of_it,
    an_emptied_database_is_noticed,
    what_a_dead_writer_lost_is_noticed_by_whoever_was_told,
    what_a_process_has_seen_is_missed_although_nobody_tells_it_any_more,
    rows_of_dead_writers_go_by_age,
);

async fn apply(db: &EventStore, user: i64) -> CommitNumber {
    db.apply(&[like(user, 7, user)], at(1_000)).await.unwrap().commit.unwrap()
}

/// Told to a cache just now.
async fn told(db: &EventStore, commit: CommitNumber) -> ToldCommit {
    ToldCommit { commit, at: Version(db.now().await.unwrap().timestamp_micros()) }
}

async fn look(db: &EventStore, of_others: &[ToldCommit]) -> Option<CommitNumber> {
    db.look_back(of_others).await.unwrap().map(|evidence| evidence.known)
}

async fn every_commit_of_a_lane_has_the_next_number(db: TestDb) {
    let first = apply(&db.store, 1).await;
    assert_eq!((first.lane, first.number), (0, 1));
    for number in 2..=5 {
        assert_eq!(apply(&db.store, number).await, CommitNumber { number, ..first });
    }
    // Taken back, so it is no commit.
    db.store.dry_run(&[like(9, 7, 9)], at(1_000)).await.unwrap();
    assert_eq!(apply(&db.store, 10).await.number, 6);
    assert_eq!(db.words("SELECT CONCAT(lane, ' ', seq) FROM sync_writers").await, ["0 6"]);
    // Another process has its own.
    let other = EventStore::connect(&db.config).await.unwrap();
    let of_other = apply(&other, 11).await;
    assert_ne!(of_other.writer, first.writer);
    // Side by side each has a lane.
    let batches: Vec<_> = (20..28).map(|user| [like(user, user, user)]).collect();
    let together = batches.iter().map(|batch| db.store.apply(batch, at(1_000)));
    for applied in futures::future::join_all(together).await {
        assert_eq!(applied.unwrap().commit.unwrap().writer, first.writer);
    }
    let of_first = CommitNumber { number: 6, ..first };
    let numbers = [told(&db.store, of_first).await, told(&db.store, of_other).await];
    assert_eq!((look(&db.store, &numbers).await, look(&other, &numbers).await), (None, None));
}

async fn every_way_that_settles_or_answers_is_numbered(db: TestDb) {
    apply(&db.store, 1).await;
    let until = Instant::now() + PATIENCE;
    db.store.apply_direct(&[intent(video_pair(2, 7), Action::Like)], at(1_000), until, true).await.unwrap();
    let failed = FailedEvent { event: like(3, 7, 3), error: "x".into(), next_retry_at: None };
    let parked = db.store.park(&[failed], 1, at(1_000)).await.unwrap().unwrap();
    assert_eq!(parked.number, 3);
    let token = db.store.take_repair_token().await.unwrap();
    db.store.restore(&[like(4, 7, 4)], token, at(1_000)).await.unwrap();
    assert_eq!(apply(&db.store, 5).await.number, 5);
}

async fn a_database_that_lacks_commits_is_noticed_by_the_next_one(db: TestDb) {
    let first = apply(&db.store, 1).await;
    let copy = db.words("SELECT CONCAT(at, '') FROM sync_writers").await;
    let last = apply(&db.store, 2).await;
    db.execute(&format!("UPDATE sync_writers SET seq = {}", first.number)).await;
    // What it says is committed all the same, in a lane that begins anew.
    let after = apply(&db.store, 3).await;
    assert_eq!((after.lane, after.number), (last.lane + 1, 1));
    let evidence = db.store.went_back().unwrap();
    assert_eq!((evidence.known, evidence.found.unwrap().0), (last, first.number));
    assert!(evidence.found.unwrap().1.to_string() >= copy[0], "{evidence}");
    assert!(evidence.known_at <= evidence.noticed_at, "{evidence}");
    // It stands, and is not found once more.
    assert_eq!(apply(&db.store, 4).await.number, 2);
    assert_eq!(look(&db.store, &[]).await, Some(last));
    db.store.forget_went_back(&[]).await.unwrap();
    apply(&db.store, 5).await;
    assert_eq!(look(&db.store, &[]).await, None);
}

async fn an_idle_writer_notices_too_and_everybody_learns_of_it(db: TestDb) {
    let other = EventStore::connect(&db.config).await.unwrap();
    let last = apply(&db.store, 2).await;
    assert_eq!(look(&db.store, &[]).await, None);
    db.execute("UPDATE sync_writers SET seq = seq - 1").await;
    assert_eq!(look(&other, &[]).await, None);
    assert_eq!(look(&db.store, &[]).await, Some(last));
    assert_eq!(look(&other, &[]).await, Some(last));
    assert_eq!(other.went_back(), db.store.went_back());
    // Whoever takes it away, it is away for all.
    other.forget_went_back(&[]).await.unwrap();
    assert_eq!((look(&other, &[]).await, look(&db.store, &[]).await), (None, None));
}

async fn an_emptied_database_is_noticed(db: TestDb) {
    let last = apply(&db.store, 2).await;
    db.execute("DELETE FROM sync_writers").await;
    apply(&db.store, 3).await;
    let evidence = db.store.went_back().unwrap();
    assert_eq!((evidence.known, evidence.found), (last, None));
}

async fn what_a_dead_writer_lost_is_noticed_by_whoever_was_told(db: TestDb) {
    let dead = EventStore::connect(&db.config).await.unwrap();
    let lost = apply(&dead, 2).await;
    drop(dead);
    let told = [told(&db.store, lost).await];
    assert_eq!(look(&db.store, &told).await, None);
    db.execute("DELETE FROM sync_writers").await;
    // Its row may have been deleted for its age.
    let other = EventStore::connect(&db.config).await.unwrap();
    let long_ago = ToldCommit { at: Version(1_700_000_000_000_000), ..told[0] };
    assert_eq!(look(&other, &[long_ago]).await, None);
    assert_eq!(look(&other, &told).await, Some(lost));
    assert_eq!(look(&db.store, &told).await, Some(lost));
    db.store.forget_went_back(&told).await.unwrap();
    assert_eq!(look(&db.store, &told).await, None, "found once more after it was settled");
}

/// The writer dies, and then the cache, which knew of it.
async fn what_a_process_has_seen_is_missed_although_nobody_tells_it_any_more(db: TestDb) {
    let dead = EventStore::connect(&db.config).await.unwrap();
    let told = [told(&db.store, apply(&dead, 1).await).await];
    assert_eq!(look(&db.store, &told).await, None);
    let lost = apply(&dead, 2).await;
    assert_eq!(look(&db.store, &[]).await, None);
    db.execute("UPDATE sync_writers SET seq = seq - 1").await;
    assert_eq!(look(&db.store, &[]).await, Some(lost));
    db.store.forget_went_back(&[]).await.unwrap();
    assert_eq!(look(&db.store, &[]).await, None, "found once more after it was given up");
}

async fn rows_of_dead_writers_go_by_age(db: TestDb) {
    for user in 0..3 {
        apply(&EventStore::connect(&db.config).await.unwrap(), user + 1).await;
    }
    let now = db.store.now().await.unwrap();
    assert_eq!(db.store.purge_writers(now - event_store::WRITERS_KEPT, 10).await.unwrap(), 0);
    let later = now + Duration::from_secs(60);
    assert_eq!(db.store.purge_writers(later, 2).await.unwrap(), 2);
    assert_eq!(db.store.purge_writers(later, 2).await.unwrap(), 1);
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_writers").await, 0);
}

/// Whether it was committed nobody was told: neither is a reason to suspect the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_whose_answers_are_lost_prove_nothing() {
    let db = TestDb::mysql().await;
    let server = test_support::shared::mariadb().await.unwrap();
    let link = Proxy::start(server.addr().unwrap()).await.unwrap();
    let config = DatabaseConfig {
        url: link.url_of(secrecy::ExposeSecret::expose_secret(&db.config.url)).into(),
        max_connections: 1,
        query_timeout: Duration::from_secs(1),
        ..DatabaseConfig::default()
    };
    let store = EventStore::connect(&config).await.unwrap();
    let mut last = apply(&store, 1).await;
    for round in 0..12 {
        let event = [like(100 + round, 7, 100 + round)];
        let mut commit = Box::pin(store.apply(&event, at(1_000)));
        // Somewhere between its first byte and its answer.
        let soon = Duration::from_millis(u64::try_from(round).unwrap());
        let early = tokio::time::timeout(soon, &mut commit).await.is_ok();
        link.hold_answers();
        if !early {
            let _ = commit.await;
        }
        link.restore().await.unwrap();
        let event = [like(200 + round, 7, 200 + round)];
        eventually(PATIENCE, "a commit", || store.apply(&event, at(1_000))).await;
        let next = apply(&store, 300 + round).await;
        assert!(next > last, "{next:?} after {last:?}");
        last = next;
        assert_eq!(look(&store, &[]).await, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_behind_when_it_was_promoted() {
    let options = MariaDbOptions { durable: false, ..MariaDbOptions::default() };
    let group = MariaDbGroup::start(options, 1).await.unwrap();
    group.sql(0, "CREATE DATABASE likes").await.unwrap();
    let url = format!("mysql://{}127.0.0.1:1/likes", MariaDbGroup::APP);
    let config = DatabaseConfig {
        url: url.into(),
        hosts: group.addrs().unwrap(),
        connect_timeout: Duration::from_secs(2),
        ..DatabaseConfig::default()
    };
    let store = EventStore::connect(&config).await.unwrap();
    store.ping().await.unwrap();
    store.migrate().await.unwrap();
    let replicated = apply(&store, 1).await;
    group.caught_up(1, 0).await.unwrap();
    // Without loss, first: nobody is suspected.
    group.switch(0, 1).await.unwrap();
    eventually(PATIENCE, "a commit", async || store.apply(&[like(2, 7, 2)], at(1_000)).await).await;
    group.switch(1, 0).await.unwrap();
    eventually(PATIENCE, "a commit", async || store.apply(&[like(3, 7, 3)], at(1_000)).await).await;
    assert_eq!(look(&store, &[]).await, None);
    let kept = apply(&store, 4).await;
    assert!(kept > replicated);
    group.caught_up(1, 0).await.unwrap();

    group.sql(1, "STOP SLAVE").await.unwrap();
    let mut lost = kept;
    for user in 5..25 {
        lost = apply(&store, user).await;
    }
    group.node(0).unwrap().kill9().unwrap();
    group.promote(1).await.unwrap();
    eventually(PATIENCE, "a commit", async || store.apply(&[like(30, 7, 30)], at(1_000)).await).await;
    let evidence = store.went_back().unwrap();
    assert_eq!((evidence.known, evidence.found.unwrap().0), (lost, kept.number), "{evidence}");
    assert_eq!(lost.number - kept.number, 20);
}
