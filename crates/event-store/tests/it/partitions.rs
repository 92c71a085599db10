//! Ledger and history in partitions: what goes with them and what stays.

use crate::support::{TestDb, at, event, like};
use chrono::{DateTime, Utc};
use domain::{Action, LikeEvent};
use event_store::{Cut, CutStep, DatabaseConfig, EventStatus, EventStore, Extended, FailedEvent, StoreError};
use migrations::partitions::{Holds, Partition, list};
use sea_orm::{ConnectionTrait, Statement};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use uuid::{NoContext, Timestamp, Uuid};

const START: i64 = 1_700_000_000;

fn hour(hours: i64) -> DateTime<Utc> {
    at((START + hours * 3_600) * 1_000_000)
}

/// An event made and accepted in that hour.
fn made(hours: i64, mut event: LikeEvent) -> LikeEvent {
    event.version.0 += hour(hours).timestamp_micros();
    let seconds = u64::try_from(hour(hours).timestamp()).unwrap();
    event.intent.id = Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, 7));
    event
}

/// Cuts both tables at these hours.
async fn cut_at(db: &TestDb, hours: &[i64]) {
    let bound = |hours: &i64| u64::try_from(hour(*hours).timestamp_millis()).unwrap();
    let partitions: Vec<Partition> =
        hours.iter().map(|hours| Partition { holds: Holds::Period, bound: bound(hours) }).collect();
    for cut in Cut::ALL {
        let list = list(&partitions, true);
        db.execute(&format!("ALTER TABLE {} PARTITION BY RANGE COLUMNS({}) {list}", cut.table(), cut.key())).await;
    }
}

async fn names(db: &TestDb, cut: Cut) -> Vec<String> {
    let names = format!(
        "SELECT COALESCE(partition_name, '') FROM information_schema.partitions WHERE table_schema = DATABASE() \
         AND table_name = '{}' ORDER BY partition_ordinal_position",
        cut.table()
    );
    db.words(&names).await
}

/// Without the bounds: `k` and `p`.
async fn letters(db: &TestDb, cut: Cut) -> String {
    names(db, cut).await.iter().map(|name| name.chars().next().unwrap_or('-')).collect()
}

#[tokio::test]
async fn a_new_database_is_cut_and_has_partitions_ahead() {
    let db = TestDb::mysql().await;
    let now = db.store.now().await.unwrap();
    let day = Duration::from_secs(86_400);
    for (cut, kept) in [(Cut::Ledger, 7 * day), (Cut::History, 400 * day)] {
        let before = names(&db, cut).await;
        assert!(before.len() > 3 && before.last().unwrap() == "pmax", "{before:?}");
        assert_eq!(db.store.extend_partitions(cut, now, kept).await.unwrap(), Extended::By(0));
        let later = now + 100 * kept / 100;
        let Extended::By(new) = db.store.extend_partitions(cut, later, kept).await.unwrap() else { panic!("behind") };
        let after = names(&db, cut).await;
        assert!(new > 0 && after.len() == before.len() + new, "{new}: {after:?}");
        assert_eq!(after[..before.len() - 1], before[..before.len() - 1]);
        assert_eq!(db.store.extend_partitions(cut, later, kept).await.unwrap(), Extended::By(0));
    }
    let sqlite = TestDb::sqlite().await;
    assert_eq!(sqlite.store.extend_partitions(Cut::Ledger, now, day).await.unwrap(), Extended::Nowhere);
    let nothing = sqlite.store.retire_partitions(Cut::Ledger, now).await.unwrap();
    assert_eq!((nothing.dropped, nothing.by_rows), (None, now));
}

/// Nobody made partitions for a while: what came meanwhile is where it belongs afterwards.
#[tokio::test]
async fn rows_behind_all_bounds_get_partitions_of_their_own() {
    let db = TestDb::mysql().await;
    cut_at(&db, &[1, 2]).await;
    let events: Vec<_> = (0..6).map(|n| made(n, like(n + 1, 7, n))).collect();
    db.store.apply(&events, hour(6)).await.unwrap();
    let hours = Duration::from_secs(8 * 3_600);
    let extended = db.store.extend_partitions(Cut::Ledger, hour(6), hours).await.unwrap();
    assert!(matches!(extended, Extended::By(_)), "{extended:?}");
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events PARTITION (pmax)").await, 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events").await, 6);
}

#[tokio::test]
async fn old_partitions_go_and_undecided_events_stay() {
    let db = TestDb::mysql().await;
    cut_at(&db, &[1, 2, 3, 4, 20]).await;
    db.store.keep_unlogged(true);
    // Two hours' events around the broker (the log lacks them), then others through it.
    let events: Vec<_> = (0..40).map(|n| made(n / 10, like(n + 1, 7, n))).collect();
    db.store.apply(&events, hour(5)).await.unwrap();
    db.execute("UPDATE sync_events SET next_retry_at = NULL").await;
    let ids = |event: &LikeEvent| event.intent.id;
    let lacking = ids(&events[3]);
    let mark = format!(
        "UPDATE sync_events SET next_retry_at = '{}' WHERE id = X'{}'",
        hour(6).format("%F %T"),
        lacking.simple()
    );
    db.execute(&mark).await;
    let parked: Vec<FailedEvent> = [(0, 101), (1, 102), (1, 103), (2, 104)]
        .map(|(hours, user)| made(hours, like(user, 9, user)))
        .into_iter()
        .map(|event| FailedEvent { event, error: "poison".to_owned(), next_retry_at: None })
        .collect();
    db.store.park(&parked, 3, hour(5)).await.unwrap();
    let due = made(1, like(105, 9, 105));
    let waits = FailedEvent { event: due.clone(), error: "later".to_owned(), next_retry_at: Some(hour(9)) };
    db.store.park(&[waits], 3, hour(5)).await.unwrap();
    let discarded = ids(&parked[1].event);
    db.execute(&format!("UPDATE sync_events SET status = 'discarded' WHERE id = X'{}'", discarded.simple())).await;

    // The third hour is not over.
    let mut dropped = 0;
    loop {
        let step = db.store.retire_partitions(Cut::Ledger, hour(2) + chrono::TimeDelta::minutes(30)).await.unwrap();
        assert_eq!(step.full, 0);
        if step.dropped.is_none() {
            assert_eq!(step.by_rows, hour(2));
            break;
        }
        dropped += 1;
    }
    assert_eq!((dropped, letters(&db, Cut::Ledger).await.as_str()), (2, "kpppp"));
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events").await, 20 + 5 + 1);
    for event in parked.iter().map(|failed| &failed.event).chain([&due, &events[3], &events[25]]) {
        assert!(db.store.event(ids(event)).await.unwrap().is_some(), "{event:?} is gone");
    }
    let status = db.store.event(discarded).await.unwrap().unwrap().status;
    assert_eq!(status, EventStatus::Discarded);
    assert_eq!(db.number("SELECT COUNT(*) FROM information_schema.tables WHERE table_name LIKE '%\\_leaving' AND table_schema = DATABASE()").await, 0);

    // What is completed among what stayed goes row by row, and what comes late too.
    let late = made(0, like(200, 7, 1));
    db.store.apply(&[events[0].clone(), late, due.clone()], hour(7)).await.unwrap();
    db.execute("UPDATE sync_events SET next_retry_at = NULL WHERE status = 'completed'").await;
    let by_rows = db.store.retire_partitions(Cut::Ledger, hour(2)).await.unwrap().by_rows;
    assert_eq!(db.store.purge_completed_rows(by_rows, hour(2), 100).await.unwrap(), 4);
    // The discarded one is not applied by a replay.
    db.store.apply(&[parked[1].event.clone()], hour(8)).await.unwrap();
    assert_eq!(db.number("SELECT COUNT(*) FROM video_likes WHERE user_id = 102").await, 0);
    db.assert_counts_are_live_rows().await;

    // The history by its own bound; likes stay.
    let step = db.store.retire_partitions(Cut::History, hour(1)).await.unwrap();
    assert!(step.dropped.is_some() && step.kept == 0, "{step:?}");
    assert_eq!(db.number("SELECT COUNT(*) FROM user_behaviors WHERE user_id <= 10").await, 0);
    // What comes again has its place, and goes by itself.
    assert_eq!(db.store.apply(&events[1..2], hour(8)).await.unwrap().changed_pairs, 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM user_behaviors WHERE user_id <= 10").await, 1);
    assert_eq!(db.store.purge_behaviors(hour(1), 100).await.unwrap(), 1);
    assert_eq!(db.number("SELECT COUNT(*) FROM video_likes WHERE user_id <= 40").await, 40);
}

/// Whatever was left of a step that ended half way, the next one goes on.
#[tokio::test]
async fn a_step_that_ended_anywhere_is_done_again() {
    let db = TestDb::mysql().await;
    cut_at(&db, &[1, 2, 20]).await;
    let events: Vec<_> = (0..20).map(|n| made(n / 10, like(n + 1, 7, n))).collect();
    db.store.apply(&events, hour(5)).await.unwrap();
    let dead = FailedEvent { event: made(0, like(99, 9, 1)), error: "poison".to_owned(), next_retry_at: None };
    db.store.park(std::slice::from_ref(&dead), 3, hour(5)).await.unwrap();
    let first = names(&db, Cut::Ledger).await[0].clone();
    let twin = "CREATE TABLE sync_events_leaving LIKE sync_events; ALTER TABLE sync_events_leaving REMOVE PARTITIONING; \
                INSERT INTO sync_events_leaving SELECT * FROM sync_events WHERE status = 'dead'";
    // Before the exchange, and behind it.
    db.execute(twin).await;
    db.execute(&format!("ALTER TABLE sync_events EXCHANGE PARTITION {first} WITH TABLE sync_events_leaving")).await;
    for left in [1, 0] {
        let step = db.store.retire_partitions(Cut::Ledger, hour(2)).await.unwrap();
        assert_eq!((step.dropped.is_some(), step.kept), (true, left));
        assert!(db.store.event(dead.event.intent.id).await.unwrap().is_some());
    }
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events").await, 1);
    assert_eq!(letters(&db, Cut::Ledger).await, "kpp");
    // Behind everything but the last statement: it is dropped also where nothing more is old.
    db.execute("CREATE TABLE sync_events_leaving LIKE sync_events").await;
    assert_eq!(db.store.retire_partitions(Cut::Ledger, hour(2)).await.unwrap().dropped, None);
    let left =
        "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name LIKE '%leaving'";
    assert_eq!(db.number(left).await, 0);
}

/// Events fail, come again and are completed in a partition while it goes: whatever was decided last stands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_undecided_goes_beside_writers() {
    let db = TestDb::mysql().await;
    let hours: Vec<i64> = (1..=12).chain([30]).collect();
    cut_at(&db, &hours).await;
    let mut events: Vec<_> = (0..600).map(|n| made(n / 50, event(n + 1, 7, Action::Like, n))).collect();
    events.sort_by_key(|event| event.intent.id);
    db.store.apply(&events, hour(13)).await.unwrap();
    let (writer, done) = (db.store.clone(), Arc::new(AtomicBool::new(false)));
    let until = Arc::clone(&done);
    // Each time one event of every hour: one of them is in the partition that goes.
    let writing = tokio::spawn(async move {
        let (mut waits, mut ids) = (Duration::ZERO, Vec::new());
        for round in 0.. {
            if until.load(Ordering::Relaxed) {
                break;
            }
            let failed: Vec<FailedEvent> = (0..12)
                .map(|hours| made(hours, like(round * 12 + hours + 1, 8, round)))
                .map(|event| FailedEvent { event, error: "poison".to_owned(), next_retry_at: None })
                .collect();
            let began = Instant::now();
            writer.park(&failed, 3, hour(13)).await.unwrap();
            waits = waits.max(began.elapsed());
            ids.extend(failed.iter().map(|failed| failed.event.intent.id));
        }
        (waits, ids)
    });
    let mut dropped = 0;
    while dropped < 12 {
        match db.store.retire_partitions(Cut::Ledger, hour(12)).await {
            Ok(step) => dropped += usize::from(step.dropped.is_some()),
            Err(StoreError::Conflict(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    done.store(true, Ordering::Relaxed);
    let (longest, ids) = writing.await.unwrap();
    println!("{} events written, a writer waited for at most {longest:?}", ids.len());
    let stored = db.store.events(&ids).await.unwrap();
    assert_eq!(stored.len(), ids.len(), "something undecided is gone");
    assert!(stored.iter().all(|entry| entry.status == EventStatus::Dead), "something was decided otherwise");
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events").await, i64::try_from(ids.len()).unwrap());
}

/// Three processes at once, of which one is killed now and then in the middle of it, and one has but a single connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_processes_drop_and_some_are_killed() {
    let db = TestDb::mysql().await;
    let hours: Vec<i64> = (1..=10).chain([30]).collect();
    cut_at(&db, &hours).await;
    let events: Vec<_> = (0..200).map(|n| made(n / 20, like(n + 1, 7, n))).collect();
    db.store.apply(&events, hour(25)).await.unwrap();
    let dead: Vec<_> = (0..200).map(|n| made(n / 20, like(n + 1, 8, n))).collect();
    let ids: Vec<Uuid> = dead.iter().map(|event| event.intent.id).collect();
    let failed =
        |event: &LikeEvent| FailedEvent { event: event.clone(), error: "poison".to_owned(), next_retry_at: None };
    db.store.park(&dead.iter().map(failed).collect::<Vec<_>>(), 3, hour(25)).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let mut processes = Vec::new();
    for connections in [1, 4, 4] {
        let config = DatabaseConfig { max_connections: connections, ..db.config.clone() };
        let (store, done) = (EventStore::connect(&config).await.unwrap(), Arc::clone(&done));
        processes.push(tokio::spawn(async move {
            let (mut dropped, mut failed) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                match store.retire_partitions(Cut::Ledger, hour(10)).await {
                    Ok(step) if step.dropped.is_some() => dropped += 1,
                    Ok(_) => done.store(true, Ordering::Relaxed),
                    Err(error) => {
                        assert!(error.is_conflict() || error.is_unavailable(), "{error:?}");
                        failed += 1;
                    }
                }
                let hours = Duration::from_secs(24 * 3_600);
                if let Err(error) = store.extend_partitions(Cut::Ledger, hour(40), hours).await {
                    assert!(error.is_conflict() || error.is_unavailable(), "{error:?}");
                }
            }
            (dropped, failed)
        }));
    }
    let holder = "SELECT COALESCE(CAST(IS_USED_LOCK(CONCAT('retire:', LEFT(SHA2(DATABASE(), 256), 32))) AS SIGNED), 0)";
    let (connection, mut killed) = (db.connection().await, 0);
    while !done.load(Ordering::Relaxed) {
        // In time for some, and at the end for none.
        tokio::time::sleep(Duration::from_millis(if killed < 12 { 13 + 67 * (killed % 9) } else { 200 })).await;
        if killed >= 12 {
            continue;
        }
        let asked = Statement::from_string(connection.get_database_backend(), holder);
        let session: i64 = connection.query_one_raw(asked).await.unwrap().unwrap().try_get_by_index(0).unwrap();
        // It may have ended meanwhile.
        killed += u64::from(session > 0 && connection.execute_unprepared(&format!("KILL {session}")).await.is_ok());
    }
    let mut dropped = 0;
    for process in processes {
        let (by_one, failed) = process.await.unwrap();
        println!("dropped {by_one}, failed {failed}");
        dropped += by_one;
    }
    println!("killed {killed}");
    // One that was killed behind the exchange has dropped without saying so, and then drops nothing again.
    assert!(killed > 3 && dropped > 0, "killed {killed}, dropped {dropped}");
    let stored = db.store.events(&ids).await.unwrap();
    assert_eq!(stored.iter().filter(|entry| entry.status == EventStatus::Dead).count(), 200);
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events").await, 200);
    assert_eq!(db.number("SELECT COUNT(*) FROM user_behaviors").await, 200);
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events PARTITION (pmax)").await, 0);
}

/// More than may be copied while others wait: the partition stays, and gives its completed events away row by row; rows behind all
/// partitions wait for who has time.
#[tokio::test]
async fn what_is_too_much_to_copy_stays() {
    let db = TestDb::mysql().await;
    cut_at(&db, &[1, 2]).await;
    fill(&db, 0, 51_000, "dead").await;
    fill(&db, 1, 1_000, "completed").await;
    let step = db.store.retire_partitions(Cut::Ledger, hour(2)).await.unwrap();
    assert_eq!((step.dropped.is_some(), step.full, step.by_rows), (true, 1, hour(1)));
    let step = db.store.retire_partitions(Cut::Ledger, hour(2)).await.unwrap();
    assert_eq!((step.dropped, step.full, letters(&db, Cut::Ledger).await.as_str()), (None, 1, "pkp"));
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events").await, 51_000);

    fill(&db, 5, 51_000, "completed").await;
    let week = Duration::from_secs(7 * 86_400);
    assert_eq!(db.store.extend_partitions(Cut::Ledger, hour(6), week).await.unwrap(), Extended::Behind);
    // What is old of it goes all the same.
    assert_eq!(db.store.retire_partitions(Cut::Ledger, hour(6)).await.unwrap().by_rows, hour(6));
    assert_eq!(db.store.purge_completed_rows(hour(6), hour(6), 1_000).await.unwrap(), 1_000);
    assert_eq!(db.store.cut_step(Cut::Ledger).await.unwrap(), CutStep::Extended);
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events PARTITION (pmax)").await, 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events").await, 101_000);
}

/// Rows of that hour, at once.
async fn fill(db: &TestDb, hours: i64, rows: u64, status: &str) {
    let sql = format!(
        "INSERT INTO sync_events (id, event_type, resource_type, resource_id, user_id, action_type, version, status, origin, \
         created_at, processed_at, updated_at) WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000), \
         m (m) AS (SELECT 0 UNION ALL SELECT m + 1 FROM m WHERE m < {}) \
         SELECT UNHEX(CONCAT(LPAD(HEX({} + n), 12, '0'), '7000', LPAD(HEX(m * 1000 + n), 16, '0'))), 'video_like', 'video', 7, n, \
         'like', m * 1000 + n, '{status}', 'journal', NOW(6), NOW(6), NOW(6) FROM m JOIN n",
        rows / 1000 - 1,
        hour(hours).timestamp_millis()
    );
    db.execute(&sql).await;
}

/// A figure, not a bound: rows dropped per second beside rows deleted.
#[tokio::test]
async fn dropping_keeps_up() {
    const ROWS: u64 = 200_000;
    let db = TestDb::mysql().await;
    cut_at(&db, &[1, 2, 20]).await;
    for hours in 0..2 {
        fill(&db, hours, ROWS, "completed").await;
    }
    let began = Instant::now();
    assert!(db.store.retire_partitions(Cut::Ledger, hour(1)).await.unwrap().dropped.is_some());
    let by_partition = ROWS as f64 / began.elapsed().as_secs_f64();
    let began = Instant::now();
    let mut deleted = 0;
    for _ in 0..20 {
        deleted += db.store.purge_completed(hour(2), 1_000).await.unwrap();
    }
    let by_row = deleted as f64 / began.elapsed().as_secs_f64();
    println!("rows/s: {by_partition:.0} with their partition, {by_row:.0} one by one");
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events").await, ROWS as i64 - 20_000);
}
