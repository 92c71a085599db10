//! Wrong versions of the protocol. Each scenario passes without the bug and finds it with the bug.

mod scenes;

use crate::rig::{PATIENCE, Process, Rig, VIDEO};
use domain::Action::{Like, Unlike};
use domain::codec::EncodedEvent;
use domain::{PairState, ResourceType};
use event_bus::Headers;
use event_store::Operation;
use fail::FailGuard;
use scenes::{
    accepted, broker_is_wiped, consumer_dies_and_broker_is_wiped, consumer_dies_and_cache_is_wiped, published,
    server_dies_after_the_answer,
};
use std::sync::{Mutex, mpsc};
use std::time::Duration;
use sync_engine::operate::erase::erase_user;
use sync_engine::operate::retention::Retention;
use sync_engine::read::Reader;
use sync_engine::recover::catch_up;
use sync_engine::{RetentionConfig, SyncConfig};
use test_support::build::{event, intent, video_pair};
use test_support::{eventually, try_eventually};
use tokio_util::sync::CancellationToken;

/// Bugs and points are switched on for the whole test program.
pub(crate) static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

pub(crate) type Found = Result<(), String>;

/// The scenario must pass, and with the bug it must fail by naming `finding`.
pub(crate) async fn finds(bug: &str, finding: &str, scenario: impl AsyncFn(&Rig) -> Found) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let rig = Rig::new().await;
    if let Err(found) = scenario(&rig).await {
        panic!("found without the bug: {found}");
    }
    rig.end().await;

    let planted = FailGuard::new(format!("bug.{bug}"), "return").unwrap();
    let rig = Rig::new().await;
    let found = scenario(&rig).await.expect_err("the bug was not found");
    assert!(found.contains(finding), "found something else than {finding:?}: {found}");
    rig.end().await;
    drop(planted);
}

#[tokio::test]
async fn ack_before_commit() {
    finds("ack_before_commit", "\"lost\"", consumer_dies_and_cache_is_wiped).await;
}

#[tokio::test]
async fn settle_before_commit() {
    finds("settle_before_commit", "\"lost\"", consumer_dies_and_broker_is_wiped).await;
}

#[tokio::test]
async fn delete_at_publish() {
    finds("delete_at_publish", "\"lost\"", broker_is_wiped).await;
}

#[tokio::test]
async fn accept_without_journal() {
    finds("accept_without_journal", "\"lost\"", server_dies_after_the_answer).await;
}

#[tokio::test]
async fn fence_ignored() {
    finds("fence_ignored", "came back", async |rig| {
        let process = accepted(rig, &[(1, Like)]).await;
        let events = process.journal().await;
        let pair = video_pair(1, VIDEO);
        erase_user(&process.stores, pair.user, &Operation::default()).await.unwrap();
        process.applier.apply(&events).await.unwrap();
        let row = process.stores.database.load_states(&[pair]).await.unwrap()[0];
        if row == PairState::UNTOUCHED { Ok(()) } else { Err(format!("came back: {row:?}")) }
    })
    .await;
}

#[tokio::test]
async fn rescuer_drops() {
    finds("rescuer_drops", "\"lost\"", server_dies_after_the_answer).await;
}

#[tokio::test]
async fn delta_from_message() {
    finds("delta_from_message", "\"wrong_count\"", async |rig| {
        let process = accepted(rig, &[(1, Like), (2, Like), (3, Like)]).await;
        let events = process.journal().await;
        for _delivery in 0..2 {
            process.applier.apply(&events).await.unwrap();
        }
        rig.verify().await
    })
    .await;
}

#[tokio::test]
async fn no_version_check() {
    finds("no_version_check", "\"lost\"", async |rig| {
        let process = accepted(rig, &[(1, Like), (1, Unlike), (1, Like), (1, Unlike)]).await;
        for event in process.journal().await.iter().rev() {
            process.applier.apply(std::slice::from_ref(event)).await.unwrap();
        }
        rig.verify().await
    })
    .await;
}

#[tokio::test]
async fn tombstone_ignored() {
    finds("tombstone_ignored", "\"lost\"", async |rig| {
        let process = accepted(rig, &[(1, Like), (1, Unlike)]).await;
        let events = process.journal().await;
        for delivered in [&events[..1], &events[1..], &events[..1]] {
            process.applier.apply(delivered).await.unwrap();
        }
        rig.verify().await
    })
    .await;
}

#[tokio::test]
async fn tombstone_forgotten() {
    finds("tombstone_forgotten", "\"lost\"", async |rig| {
        let process = accepted(rig, &[(1, Like), (1, Unlike)]).await;
        let events = process.journal().await;
        process.applier.apply(&events).await.unwrap();
        let database = &process.stores.database;
        let later = database.now().await.unwrap() + Duration::from_secs(3_600);
        let moved = database.archive_tombstones(ResourceType::Video, later, None, 100).await.unwrap();
        assert_eq!(moved.archived, 1);
        process.applier.apply(&events[..1]).await.unwrap();
        rig.verify().await
    })
    .await;
}

#[tokio::test]
async fn retention_by_own_clock() {
    finds("retention_by_own_clock", "fresh", async |rig| {
        let process = accepted(rig, &[(1, Like), (1, Unlike)]).await;
        process.applier.apply(&process.journal().await).await.unwrap();
        let database = &process.stores.database;
        let long_ago = database.now().await.unwrap() - Duration::from_secs(40 * 86_400);
        let (fresh, old) = (video_pair(1, VIDEO), video_pair(2, VIDEO));
        process.applier.apply(&[event(2, VIDEO, Unlike, long_ago.timestamp_micros())]).await.unwrap();

        let config = RetentionConfig { interval: Duration::from_millis(20), ..RetentionConfig::default() };
        let stop = CancellationToken::new();
        let retention = Retention::new(
            process.stores.clone(),
            "owner".to_owned(),
            &SyncConfig { retention: config, ..SyncConfig::default() },
        );
        let running = tokio::spawn(retention.run(stop.clone()));
        eventually(PATIENCE, "a round that moves what is old", async || {
            database.load_states(&[old]).await.unwrap()[0] == PairState::UNTOUCHED
        })
        .await;
        stop.cancel();
        running.await.unwrap();
        match database.load_states(&[fresh]).await.unwrap()[0] {
            PairState::UNTOUCHED => Err("a fresh tombstone was taken for an old one".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
}

#[tokio::test]
async fn no_revision_guard() {
    finds("no_revision_guard", "\"wrong_cached_count\"", async |rig| {
        let process = accepted(rig, &[(1, Like), (2, Like)]).await;
        let events = process.journal().await;
        let applied = [process.commit(&events[0]).await, process.commit(&events[1]).await];
        process.settle(&events[1], &applied[1]).await;
        process.settle(&events[0], &applied[0]).await;
        rig.verify().await
    })
    .await;
}

#[tokio::test]
async fn settle_counts_absent() {
    finds("settle_counts_absent", "serves 1", async |rig| {
        let process = accepted(rig, &[(1, Like)]).await;
        let event = process.journal().await.remove(0);
        let applied = process.commit(&event).await;
        process.settle(&event, &applied).await;
        process.accept(&process.dying_server(), 2, Like).await;
        process.settle(&event, &applied).await;
        serves(&process, (2, 1)).await
    })
    .await;
}

#[tokio::test]
async fn settle_overwrites_pending() {
    finds("settle_overwrites_pending", "serves 1", async |rig| {
        let process = accepted(rig, &[(1, Like), (2, Like)]).await;
        let event = process.journal().await.remove(0);
        let applied = process.commit(&event).await;
        process.settle(&event, &applied).await;
        serves(&process, (2, 1)).await
    })
    .await;
}

async fn serves(process: &Process<'_>, wanted: (i64, i64)) -> Found {
    match process.served().await {
        Some(seen) if seen == wanted => Ok(()),
        Some((served, pending)) => Err(format!("serves {served} with {pending} pending instead of {wanted:?}")),
        None => Err("serves nothing".to_owned()),
    }
}

#[tokio::test]
async fn repeat_counted() {
    finds("repeat_counted", "counted again", async |rig| {
        let process = rig.process().await;
        let server = process.dying_server();
        let (first, again) =
            (process.accept(&server, 1, Like).await, server.accept_one(intent(video_pair(1, VIDEO), Like)).await);
        let again = again.unwrap();
        if (again.count, again.changed) == (first.count, false) { Ok(()) } else { Err("counted again".to_owned()) }
    })
    .await;
}

#[tokio::test]
async fn ignore_nack() {
    finds("ignore_nack", "nobody has it", async |rig| {
        // A redo log would take it.
        let mut publisher = rig.publisher_without_log();
        publisher.connect().await.unwrap();
        // Nobody takes the message now: the broker returns it.
        rig.wipe_queue().await;
        let like = EncodedEvent::from_event(&event(1, VIDEO, Like, 1));
        let published = publisher.publish(&[like], &Headers::new()).await;
        publisher.close().await;
        match published {
            Ok(()) if rig.queue().await.ready == 0 => Err("published, but nobody has it".to_owned()),
            Ok(()) | Err(_) => Ok(()),
        }
    })
    .await;
}

#[tokio::test]
async fn log_skipped() {
    finds("log_skipped", "not in the redo log", async |rig| {
        published(rig).await;
        let consumer = rig.process().await;
        consumer.consume();
        consumer.settled().await;
        consumer.stop().await;
        let logged = rig.logged().await;
        if logged == 5 { Ok(()) } else { Err(format!("consumed and {} of 5 not in the redo log", 5 - logged)) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fill_without_recheck() {
    finds("fill_without_recheck", "serves 1", async |rig| {
        let process = accepted(rig, &[(1, Like)]).await;
        process.applier.apply(&process.journal().await).await.unwrap();
        rig.wipe_cache(":c:").await;

        // A reader has loaded the count and is about to fill it ...
        let ((reached, at_point), (release, released)) = (mpsc::channel(), mpsc::channel());
        let released = Mutex::new(released);
        fail::cfg_callback("cache.filling", move || {
            let _ = reached.send(());
            let _ = tokio::task::block_in_place(|| released.lock().unwrap().recv_timeout(PATIENCE));
        })
        .unwrap();
        let reader = Reader::new(process.stores.clone(), process.recheck());
        let reading = tokio::spawn(async move { reader.counts(&[video_pair(1, VIDEO).resource]).await.map(drop) });
        tokio::task::spawn_blocking(move || at_point.recv_timeout(PATIENCE)).await.unwrap().unwrap();
        // ... when another process changes and settles it: there is nothing cached that could be settled.
        process.applier.apply(&[event(2, VIDEO, Like, process.stores.now().0)]).await.unwrap();
        fail::remove("cache.filling");
        release.send(()).unwrap();
        reading.await.unwrap().unwrap();

        let limit = Duration::from_secs(2);
        try_eventually(limit, "the count", async || serves(&process, (2, 0)).await).await.map_err(|e| e.to_string())
    })
    .await;
}

#[tokio::test]
async fn direct_forgets_refresh() {
    finds("direct_forgets_refresh", "\"wrong_cached_pair\"", async |rig| {
        let process = accepted(rig, &[(1, Like), (2, Like)]).await;
        process.applier.apply(&process.journal().await).await.unwrap();
        // The cache becomes unreachable, and comes back as it was.
        process.stores.cache_circuit.trip(&"unplugged");
        let answer = process.accept(&process.dying_server(), 1, Unlike).await;
        assert!(answer.degraded && answer.changed, "{answer:?}");
        catch_up::close_cache_circuit(&process.stores).await.unwrap();
        rig.verify().await
    })
    .await;
}

#[tokio::test]
async fn unchanged_unconfirmed() {
    finds("unchanged_unconfirmed", "\"lost\"", async |rig| {
        let near = accepted(rig, &[(1, Like)]).await;
        near.applier.apply(&near.journal().await).await.unwrap();
        // Another process cannot reach the cache, and writes around it.
        let cut_off = rig.process().await;
        cut_off.stores.cache_circuit.trip(&"unplugged");
        cut_off.accept(&cut_off.dying_server(), 1, Unlike).await;
        near.accept(&near.dying_server(), 1, Like).await;
        near.applier.apply(&near.journal().await).await.unwrap();
        catch_up::drain(&near.stores).await.unwrap();
        rig.verify().await
    })
    .await;
}

/// No bug of ours: the broker forgets a subscription, and the consumer must notice.
#[tokio::test]
async fn a_subscription_that_is_gone_is_noticed() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let rig = Rig::new().await;
    published(&rig).await;
    let gone = FailGuard::new("bug.unsubscribed_consumer", "1*return").unwrap();
    let consumer = rig.process().await;
    consumer.consume();
    consumer.settled().await;
    assert!(rig.verify().await.is_ok());
    consumer.stop().await;
    drop(gone);
    rig.end().await;
}

#[tokio::test]
async fn park_forgets() {
    finds("park_forgets", "\"lost\"", async |rig| {
        published(rig).await;
        rig.sql(
            "DELIMITER //\nCREATE TRIGGER poison BEFORE INSERT ON video_likes FOR EACH ROW \
             IF NEW.user_id = 3 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'poisoned user'; END IF//",
        )
        .await;
        let consumer = rig.process().await;
        consumer.consume();
        consumer.settled().await;
        rig.sql("DROP TRIGGER poison").await;
        consumer.retry();
        let found = rig.verify().await;
        consumer.stop().await;
        found
    })
    .await;
}

#[tokio::test]
async fn anybody_blamed() {
    finds("anybody_blamed", "given up", async |rig| {
        published(rig).await;
        rig.sql(
            "CREATE TRIGGER mood BEFORE INSERT ON video_likes FOR EACH ROW \
             SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no rows today'",
        )
        .await;
        let consumer = rig.process().await;
        consumer.consume();
        consumer.retry();
        let number =
            async |of: &str| rig.sql(&format!("SELECT COUNT(*) FROM {of}")).await.trim().parse::<u64>().unwrap();
        eventually(PATIENCE, "a judgement", async || {
            let waits = consumer.stores.database_circuit.is_open();
            waits || number("sync_events WHERE status = 'dead'").await == 5
        })
        .await;
        rig.sql("DROP TRIGGER mood").await;
        consumer.watch_database();
        eventually(PATIENCE, "a database that is well", async || !consumer.stores.database_circuit.is_open()).await;
        // Whoever is not given up arrives.
        let arrived = try_eventually(PATIENCE, "all of them", async || {
            let (rows, dead) = (number("video_likes").await, number("sync_events WHERE status = 'dead'").await);
            if rows == 5 || dead > 0 { Ok(dead) } else { Err(format!("{rows} rows, {dead} dead")) }
        })
        .await;
        consumer.stop().await;
        match arrived {
            Ok(0) => Ok(()),
            Ok(dead) => Err(format!("{dead} events were given up")),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
}
