//! Tables with rows are cut into partitions: nothing is lost or doubled, whoever writes and wherever it ends.

use crate::support::{TestDb, at, like};
use domain::LikeEvent;
use event_store::{Cut, CutStep, EventStatus, EventStore, FailedEvent, StoreError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// As a release without partitions has left it.
async fn whole() -> TestDb {
    let db = TestDb::mysql().await;
    for cut in Cut::ALL {
        db.execute(&format!("ALTER TABLE {} REMOVE PARTITIONING", cut.table())).await;
    }
    db
}

fn now_version() -> i64 {
    let (seconds, nanos) = uuid::Timestamp::now(uuid::NoContext).to_unix();
    i64::try_from(seconds).unwrap() * 1_000_000 + i64::from(nanos / 1_000)
}

fn fresh(user: i64, video: i64) -> LikeEvent {
    let mut event = like(user, video, now_version() + user % 7);
    event.intent.id = Uuid::now_v7();
    event
}

async fn is_cut(db: &TestDb, cut: Cut) -> bool {
    let names = "SELECT COUNT(*) FROM information_schema.partitions WHERE table_schema = DATABASE() AND partition_name = 'pmax'";
    db.number(&format!("{names} AND table_name = '{}'", cut.table())).await == 1
}

/// Until it is cut; gives the steps. A step waits for who uses the table, and is tried again.
async fn cut_all(store: &EventStore, cut: Cut) -> Vec<CutStep> {
    let mut steps = Vec::new();
    for _ in 0..100 {
        match store.cut_step(cut).await {
            Ok(CutStep::Done) => return steps,
            Ok(step) => steps.push(step),
            Err(StoreError::Conflict(_)) => {}
            Err(error) => panic!("{cut:?} after {steps:?}: {error}"),
        }
    }
    panic!("it does not end: {steps:?}");
}

#[tokio::test]
async fn a_table_with_rows_is_cut_without_copying_and_goes_on() {
    let db = whole().await;
    let events: Vec<_> = (1..=300).map(|user| fresh(user, 7)).collect();
    db.store.apply(&events, at(now_version())).await.unwrap();
    for cut in Cut::ALL {
        let steps = cut_all(&db.store, cut).await;
        use CutStep::{Away, Back, Dropped, Exchanged, Made};
        assert_eq!(steps, [Made, Away, Exchanged, Back, Dropped]);
        assert!(is_cut(&db, cut).await);
        assert_eq!(db.number(&format!("SELECT COUNT(*) FROM {}", cut.table())).await, 300);
        assert_eq!(cut_all(&db.store, cut).await, []);
    }
    assert_eq!(db.store.apply(&events, at(now_version())).await.unwrap().changed_pairs, 0);
    db.store.apply(&[fresh(301, 7)], at(now_version())).await.unwrap();
    for cut in Cut::ALL {
        assert_eq!(db.number(&format!("SELECT COUNT(*) FROM {}", cut.table())).await, 301);
        // What came before is one partition, and goes with it.
        let later = db.store.now().await.unwrap() + chrono::TimeDelta::days(100);
        let step = db.store.retire_partitions(cut, later).await.unwrap();
        assert!(step.dropped.is_some());
        assert_eq!(db.number(&format!("SELECT COUNT(*) FROM {}", cut.table())).await, 0);
    }
    db.assert_counts_are_live_rows().await;
    let sqlite = TestDb::sqlite().await;
    assert_eq!(cut_all(&sqlite.store, Cut::Ledger).await, []);
}

/// Whoever cuts dies after each step, for a moment or for good; others write all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_under_a_writer_wherever_it_ends() {
    let db = whole().await;
    let old: Vec<_> = (1..=2_000).map(|user| fresh(user, 7)).collect();
    for chunk in old.chunks(500) {
        db.store.apply(chunk, at(now_version())).await.unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..2 {
        let (store, stop) = (EventStore::connect(&db.config).await.unwrap(), Arc::clone(&stop));
        writers.push(tokio::spawn(async move {
            let (mut written, mut refused, mut longest) = (Vec::new(), 0, Duration::ZERO);
            for round in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let users = (round * 20..round * 20 + 20).map(|user| 10_000 + writer * 1_000_000 + user);
                let events: Vec<LikeEvent> = users.map(|user| fresh(user, 8 + writer)).collect();
                let began = Instant::now();
                // As consumers do: again until it is written.
                loop {
                    match store.apply(&events, at(now_version())).await {
                        Ok(_) => break,
                        Err(error) if error.is_unavailable() || error.is_conflict() => refused += 1,
                        Err(error) => panic!("a like is given up for it: {error}"),
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                longest = longest.max(began.elapsed());
                let dead = FailedEvent { event: fresh(5, 99), error: "poison".to_owned(), next_retry_at: None };
                while let Err(error) = store.park(std::slice::from_ref(&dead), 3, at(now_version())).await {
                    assert!(error.is_unavailable() || error.is_conflict(), "{error}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                written.extend(events);
                written.push(dead.event);
            }
            (written, refused, longest)
        }));
    }
    for cut in Cut::ALL {
        let mut steps = Vec::new();
        loop {
            // Each step by another process, which is killed after it.
            let process = EventStore::connect(&db.config).await.unwrap();
            match process.cut_step(cut).await {
                Ok(CutStep::Done) => break,
                Ok(step) => steps.push(step),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => panic!("{error}"),
            }
            process.close().await;
            tokio::time::sleep(Duration::from_millis(if steps.len() % 2 == 0 { 150 } else { 20 })).await;
        }
        println!("{cut:?}: {steps:?}");
        assert!(is_cut(&db, cut).await);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    stop.store(true, Ordering::Relaxed);
    let mut all: Vec<Uuid> = old.iter().map(|event| event.intent.id).collect();
    let mut dead = 0;
    for writer in writers {
        let (written, refused, longest) = writer.await.unwrap();
        println!("{} events written, refused {refused} times, waited for at most {longest:?}", written.len());
        assert!(refused > 0, "nobody wrote while the table was away");
        dead += written.iter().filter(|event| event.pair().resource.id.get() == 99).count();
        all.extend(written.iter().map(|event| event.intent.id));
    }
    all.sort_unstable();
    let count = i64::try_from(all.len()).unwrap();
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events").await, count);
    assert_eq!(db.number("SELECT COUNT(DISTINCT id) FROM sync_events").await, count);
    let stored = db.store.events(&all).await.unwrap();
    assert_eq!(stored.len(), all.len(), "an event is not found by its id");
    assert_eq!(stored.iter().filter(|entry| entry.status == EventStatus::Dead).count(), dead);
    assert_eq!(db.number("SELECT COUNT(*) FROM user_behaviors").await, count - dead as i64);
    assert_eq!(db.number("SELECT COUNT(*) FROM video_likes").await, count - dead as i64);
    db.assert_counts_are_live_rows().await;
}

/// A row later than the first bound: by a clock that is ahead, or long after the first step.
#[tokio::test]
async fn what_is_later_than_the_first_bound_is_seen_in_time() {
    let db = whole().await;
    db.store.apply(&[fresh(1, 7)], at(now_version())).await.unwrap();
    assert_eq!(db.store.cut_step(Cut::Ledger).await.unwrap(), CutStep::Made);
    let ahead = |days: u64, user| {
        let mut event = fresh(user, 7);
        let (seconds, _) = uuid::Timestamp::now(uuid::NoContext).to_unix();
        event.intent.id = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds + days * 86_400, 0));
        event
    };
    let late = ahead(3, 2);
    db.store.apply(std::slice::from_ref(&late), at(now_version())).await.unwrap();
    assert_eq!(db.store.cut_step(Cut::Ledger).await.unwrap(), CutStep::Dropped);
    assert_eq!(db.store.cut_step(Cut::Ledger).await.unwrap(), CutStep::Made);
    assert_eq!(db.store.cut_step(Cut::Ledger).await.unwrap(), CutStep::Away);
    // While it is away nobody writes; who does it all the same is seen.
    let stray = format!(
        "INSERT INTO sync_events_whole SELECT X'{}', event_type, resource_type, resource_id, user_id, action_type, version, status, \
         origin, retry_count, max_retries, next_retry_at, priority, idempotency_key, error_message, created_at, processed_at, updated_at \
         FROM sync_events_whole LIMIT 1",
        ahead(30, 3).intent.id.simple()
    );
    db.execute(&stray).await;
    assert_eq!(db.store.cut_step(Cut::Ledger).await.unwrap(), CutStep::TakenBack);
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events").await, 3);
    cut_all(&db.store, Cut::Ledger).await;
    assert!(is_cut(&db, Cut::Ledger).await);
    assert!(db.store.event(late.intent.id).await.unwrap().is_some());
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events").await, 3);
}

/// Others have written ids that are no times.
#[tokio::test]
async fn a_table_whose_ids_are_no_times_stays_whole() {
    let db = whole().await;
    db.store.apply(&[fresh(1, 7)], at(now_version())).await.unwrap();
    let behavior = "INSERT INTO user_behaviors VALUES (X'9c5b94b1a1a14d0c8a3a2f1f6f0f0e0d', 5, 5, 'view', NOW(6), 1)";
    db.execute(behavior).await;
    let error = db.store.cut_step(Cut::History).await.unwrap_err();
    assert!(error.to_string().contains("UUID v7"), "{error}");
    assert!(!is_cut(&db, Cut::History).await);
    assert_eq!(db.number("SELECT COUNT(*) FROM user_behaviors").await, 2);
}
