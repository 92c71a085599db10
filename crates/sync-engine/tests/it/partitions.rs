//! Retention where ledger and history are cut into partitions: by an account that may drop them, and by one that may not.

use crate::rig::{PATIENCE, Rig, event};
use chrono::TimeDelta;
use domain::{Action, LikeEvent};
use event_store::{Cut, CutStep, DatabaseConfig, EventStore, FailedEvent};
use std::time::Duration;
use sync_engine::operate::retention::Retention;
use sync_engine::{RetentionConfig, Stores, SyncConfig};
use test_support::{eventually, expect_eq, unique_name};
use uuid::{NoContext, Timestamp, Uuid};

const HOUR: i64 = 3_600;

/// Events of each of the last eight hours, some of which failed for good, in tables that are cut hourly.
async fn old_events(rig: &Rig, database: &EventStore) -> i64 {
    let now = database.now().await.unwrap();
    let hour = now.timestamp() / HOUR * HOUR;
    let partitions: Vec<String> = (-7..20)
        .map(|n| (hour + n * HOUR) * 1_000)
        .map(|bound| format!("PARTITION p{bound:012x} VALUES LESS THAN (X'{bound:012x}00000000000000000000')"))
        .chain(["PARTITION pmax VALUES LESS THAN (MAXVALUE)".to_owned()])
        .collect();
    let partitions = partitions.join(", ");
    for cut in Cut::ALL {
        rig.sql(&format!("ALTER TABLE {} PARTITION BY RANGE COLUMNS({}) ({partitions})", cut.table(), cut.key())).await;
    }
    let made = |n: i64, mut event: LikeEvent| {
        let seconds = hour - (n % 8) * HOUR - HOUR / 2;
        event.version.0 = seconds * 1_000_000 + n;
        event.intent.id = Uuid::new_v7(Timestamp::from_unix(NoContext, u64::try_from(seconds).unwrap(), 0));
        event
    };
    let events: Vec<LikeEvent> = (0..400).map(|n| made(n, event(n + 1, 7, Action::Like, 1))).collect();
    database.apply(&events, now).await.unwrap();
    let dead: Vec<FailedEvent> = (0..24)
        .map(|n| made(n, event(n + 1, 8, Action::Like, 1)))
        .map(|event| FailedEvent { event, error: "poison".to_owned(), next_retry_at: None })
        .collect();
    database.park(&dead, 3, now).await.unwrap();
    hour
}

fn config() -> SyncConfig {
    let hours = |n: u64| Duration::from_secs(n * 3_600);
    let retention = RetentionConfig {
        interval: Duration::from_millis(20),
        completed_events: hours(3),
        behaviors: hours(5),
        ..RetentionConfig::default()
    };
    SyncConfig { retention, ..SyncConfig::default() }
}

/// What is younger than three hours is there, of what is older what nobody decided.
async fn goes(rig: &Rig, stores: Stores, hour: i64) {
    let stop = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(Retention::new(stores, unique_name("owner"), &config()).run(stop.clone()));
    let at = |n: i64| format!("X'{:012x}00000000000000000000'", (hour - n * HOUR) * 1_000);
    eventually(PATIENCE, "the end of what is old", async || {
        let completed = format!("SELECT COUNT(*) FROM sync_events WHERE status = 'completed' AND id < {}", at(3));
        let history = format!("SELECT COUNT(*) FROM user_behaviors WHERE event_id < {}", at(5));
        let left = (rig.number(&completed).await, rig.number(&history).await);
        if left == (0, 0) { Ok(()) } else { Err(format!("{left:?} are left")) }
    })
    .await;
    stop.cancel();
    running.await.unwrap();
    assert_eq!(rig.number("SELECT COUNT(*) FROM sync_events WHERE status = 'dead'").await, 24);
    assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes WHERE deleted_at IS NULL").await, 400);
    let young = format!("SELECT COUNT(*) FROM sync_events WHERE status = 'completed' AND id > {}", at(2));
    assert_eq!(rig.number(&young).await, 100);
    let young = format!("SELECT COUNT(*) FROM user_behaviors WHERE event_id > {}", at(4));
    assert_eq!(rig.number(&young).await, 200);
    rig.assert_counts_are_live_rows().await;
}

async fn kept_partitions(rig: &Rig) -> i64 {
    let kept = "SELECT COUNT(*) FROM information_schema.partitions WHERE table_schema = DATABASE() AND partition_name LIKE 'k%'";
    rig.number(kept).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_partitions_are_dropped_and_what_is_undecided_stays() {
    let rig = Rig::with_own_database().await;
    let process = rig.process().await;
    let hour = old_events(&rig, &process.stores.database).await;
    goes(&rig, process.stores.clone(), hour).await;
    assert_eq!(kept_partitions(&rig).await, 2, "one of each table");
    process.stop().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_drop_partitions_deletes_rows() {
    let rig = Rig::with_own_database().await;
    let process = rig.process().await;
    let hour = old_events(&rig, &process.stores.database).await;
    let user = unique_name("few").replace('-', "_");
    let database = rig.sql("SELECT DATABASE()").await.trim().to_owned();
    rig.sql(&format!("CREATE USER {user}@'%'; GRANT SELECT, INSERT, UPDATE, DELETE ON `{database}`.* TO {user}@'%'"))
        .await;
    let url = rig.deployment.database_url().replace("root@", &format!("{user}@"));
    let few = EventStore::connect(&DatabaseConfig { url: url.into(), ..DatabaseConfig::default() }).await.unwrap();
    let mut stores = process.stores.clone();
    stores.database = few;
    goes(&rig, stores, hour).await;
    assert_eq!(kept_partitions(&rig).await, 0);
    assert!(!process.stores.database_circuit.is_open(), "who lacks a right has no database");
    process.stop().await;
    rig.end().await;
}

/// No release before deleted history: what one has left goes when somebody has cut the table, and not because of an upgrade.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_history_stays_until_it_is_cut() {
    let rig = Rig::with_own_database().await;
    let process = rig.process().await;
    let database = process.stores.database.clone();
    let hour = old_events(&rig, &database).await;
    for cut in Cut::ALL {
        rig.sql(&format!("ALTER TABLE {} REMOVE PARTITIONING", cut.table())).await;
    }
    let stop = tokio_util::sync::CancellationToken::new();
    let retention = Retention::new(process.stores.clone(), unique_name("owner"), &config());
    let running = tokio::spawn(retention.run(stop.clone()));
    // The ledger as before; the archive is what a round does last.
    let old = format!(
        "SELECT COUNT(*) FROM sync_events WHERE status = 'completed' AND id < X'{:012x}00000000000000000000'",
        (hour - 3 * HOUR) * 1_000
    );
    eventually(PATIENCE, "the end of old events", async || expect_eq(rig.number(&old).await, 0)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(rig.number("SELECT COUNT(*) FROM user_behaviors").await, 400);
    while database.cut_step(Cut::History).await.unwrap() != CutStep::Done {}
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.cancel();
    running.await.unwrap();
    // It is one partition, which ends in time to come, and goes when all of it is old.
    assert_eq!(rig.number("SELECT COUNT(*) FROM user_behaviors").await, 400);
    let later = database.now().await.unwrap() + TimeDelta::days(400);
    assert!(database.retire_partitions(Cut::History, later).await.unwrap().dropped.is_some());
    assert_eq!(rig.number("SELECT COUNT(*) FROM user_behaviors").await, 0);
    assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes WHERE deleted_at IS NULL").await, 400);
    process.stop().await;
    rig.end().await;
}
