//! Batches become rows: duplicates, contention, and the one event that nobody can write.

use crate::rig::{PATIENCE, Process, Rig, event, like, now_version, video};
use domain::{Action, LikeEvent};
use event_bus::REASON_HEADER;
use event_store::{EventStatus, Operation};
use std::time::Duration;
use sync_engine::accept::Call;
use sync_engine::apply::ApplySummary;
use sync_engine::operate::events::{Operator, Selection};
use test_support::{Random, build::comment_event};
use test_support::{eventually, expect_eq};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_within_and_across_batches_change_nothing() {
    let rig = Rig::new().await;
    let process = rig.process().await;
    let now = now_version();
    let mut events: Vec<LikeEvent> = (0..60).map(|i| event(1 + i % 20, 1 + i % 7, Action::Like, now + i)).collect();
    events.extend((0..20).map(|i| event(1 + i % 20, 1 + i % 7, Action::Unlike, now + 100 + i)));
    events.extend((0..5).map(|i| comment_event(1 + i, 1, Action::Like, now + 200 + i)));

    process.applier.apply(&events).await.unwrap();
    let once = rig.rows().await;
    let counts = rig.sql("SELECT * FROM like_counts").await;
    assert!(!once.is_empty());
    rig.assert_counts_are_live_rows().await;

    let mut random = Random(7);
    for _ in 0..5 {
        let mut twice = [events.clone(), events.clone()].concat();
        random.shuffle(&mut twice);
        twice.truncate(100);
        let summary = process.applier.apply(&twice).await.unwrap();
        assert_eq!(summary, ApplySummary { applied: 100, parked: 0 });
    }
    assert_eq!(rig.rows().await, once);
    assert_eq!(rig.sql("SELECT * FROM like_counts").await, counts, "a duplicate moved a counter or its revision");
    assert_eq!(rig.number("SELECT COUNT(*) FROM sync_events WHERE status = 'completed'").await, 85);
    assert_eq!(rig.number("SELECT COUNT(*) FROM user_behaviors").await, 85);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_appliers_on_the_same_hot_resources_lose_and_double_nothing() {
    let rig = Rig::new().await;
    let (one, other) = (rig.process().await, rig.process().await);
    let now = now_version();
    let mut random = Random(1);
    // Each pair several times, in both directions, over six hot videos; some events go to both appliers.
    let events: Vec<LikeEvent> = (0..2_400)
        .map(|i| event(1 + random.below(80), 1 + random.below(6), Action::from_liked(random.below(3) > 0), now + i))
        .collect();
    let mut shares = [Vec::new(), Vec::new()];
    for event in &events {
        let to = random.below(3);
        if to != 1 {
            shares[0].push(event.clone());
        }
        if to != 0 {
            shares[1].push(event.clone());
        }
    }
    random.shuffle(&mut shares[0]);
    random.shuffle(&mut shares[1]);
    let apply = async |process: &Process, share: &[LikeEvent]| {
        let chunks = share.chunks(60).map(|batch| process.applier.apply(batch));
        // Two transactions of one process at a time, too.
        let results = futures::future::join_all(chunks).await;
        results.into_iter().map(|result| result.expect("a deadlock escaped").parked).sum::<usize>()
    };
    let parked = tokio::join!(apply(&one, &shares[0]), apply(&other, &shares[1]));
    assert_eq!(parked, (0, 0), "contention is no reason to park: {}", rig.sql(PARKED).await);

    let mut expected = std::collections::BTreeMap::new();
    for event in &events {
        expected.insert(event.pair(), event.intent.action.liked());
    }
    for id in 1..=6 {
        let live = expected.iter().filter(|(pair, liked)| pair.resource == video(id) && **liked).count();
        let stored = rig.number(&format!("SELECT like_count FROM like_counts WHERE resource_id = {id}")).await;
        assert_eq!(stored, live as i64, "video {id}");
    }
    rig.assert_counts_are_live_rows().await;
    assert_eq!(rig.number("SELECT COUNT(*) FROM sync_events").await, 2_400);
}

const PARKED: &str = "SELECT error_message FROM sync_events WHERE status = 'failed' LIMIT 3";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_poison_event_among_500_is_parked_retried_buried_and_replayed_alone() {
    let mut rig = Rig::new().await;
    rig.sync.retry.base_delay = Duration::from_millis(400);
    let server = rig.process().await;
    let consumer = rig.process().await;
    rig.deployment.poison(13).await.unwrap();

    // 499 good ones and a poisonous one, accepted by a server that dies, so that they are one batch of the consumer.
    let accept = server.dying_server();
    let intents: Vec<_> = (1..=499).map(|user| like(user, 1 + user % 9)).chain([like(1, 13)]).collect();
    let poison = intents[499].id;
    for result in accept.accept(intents, Call::arriving_now()).await {
        assert!(result.unwrap().changed);
    }
    consumer.consume();
    consumer.rescue();
    server.settled().await;
    let parked = "SELECT status, retry_count, max_retries, error_message LIKE '%poisoned video%' \
                  FROM sync_events WHERE resource_id = 13";
    assert_eq!(rig.sql(parked).await, "failed\t0\t2\t1\n");
    assert_pause(&rig, 200..=400).await;
    assert_eq!(rig.number("SELECT COUNT(*) FROM sync_events WHERE status = 'completed'").await, 499);
    assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes").await, 499);
    assert_eq!(server.cached(video(13)).await.map(|count| (count.served, count.pending)), Some((0, 0)));

    // Its retries: two, with growing pauses, then dead with the reason.
    consumer.retry();
    eventually(PATIENCE, "a first retry that failed", async || {
        expect_eq(rig.sql(parked).await, "failed\t1\t2\t1\n".to_owned())
    })
    .await;
    assert_pause(&rig, 400..=800).await;
    let status = async |wanted| {
        let entry = consumer.stores.database.event(poison).await.unwrap().unwrap();
        expect_eq(entry.status, wanted)
    };
    eventually(PATIENCE, "a dead event", async || status(EventStatus::Dead).await).await;
    assert_eq!(rig.number("SELECT retry_count FROM sync_events WHERE status = 'dead'").await, 2);
    let letter = rig.dead_letter().await;
    assert!(letter.headers[REASON_HEADER].contains("poisoned video"), "{:?}", letter.headers);
    let dead_lettered = domain::codec::decode_batch(&letter.body).unwrap();
    assert_eq!(dead_lettered.iter().map(|event| event.intent.id).collect::<Vec<_>>(), [poison]);

    // The cause is gone and an operator replays it.
    rig.deployment.cure().await.unwrap();
    let operator = Operator::new(consumer.stores.clone());
    let replayed = operator.replay(Selection::Ids(vec![poison]), Operation::default(), false).await.unwrap();
    assert_eq!((replayed.events.len(), replayed.skipped), (1, vec![]));
    eventually(PATIENCE, "a completed event", async || status(EventStatus::Completed).await).await;
    rig.assert_counts_are_live_rows().await;
    assert_eq!(rig.number("SELECT like_count FROM like_counts WHERE resource_id = 13").await, 1);
    eventually(PATIENCE, "the count in the cache", async || {
        expect_eq(server.cached(video(13)).await.map(|count| count.served), Some(1))
    })
    .await;
    server.assert_cache_agrees(&(1..=9).map(video).collect::<Vec<_>>()).await;
    consumer.stop().await;
    drop(server);
    rig.end().await;
}

/// Who waits too long for others tries again later: that is no event's fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_counter_is_no_reason_to_park() {
    let mut rig = Rig::new().await;
    rig.database.lock_timeout = Duration::from_secs(1);
    let process = rig.process().await;
    let now = now_version();
    process.applier.apply(&[event(1, 13, Action::Like, now)]).await.unwrap();
    // Longer than all attempts of one transaction.
    let lock = rig.sql("BEGIN; SELECT like_count FROM like_counts FOR UPDATE; SELECT SLEEP(20)");
    let rest = async {
        let held = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_rows_locked > 0 AND trx_mysql_thread_id IN \
                    (SELECT id FROM information_schema.processlist WHERE info LIKE '%SLEEP(20)%' AND db = DATABASE())";
        eventually(PATIENCE, "the lock", async || expect_eq(rig.number(held).await, 1)).await;
        let later = [event(2, 13, Action::Like, now + 1)];
        assert!(process.applier.apply(&later).await.is_err(), "applied beside a lock");
        assert_eq!(rig.sql(PARKED).await, "");
        later
    };
    let (_, later) = tokio::join!(lock, rest);
    assert_eq!(process.applier.apply(&later).await.unwrap(), ApplySummary { applied: 1, parked: 0 });
    rig.assert_counts_are_live_rows().await;
    drop(process);
    rig.end().await;
}

/// What only a commit tells: rehearsed alone each of the two is fine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_only_together_are_refused_end_as_one_row_and_one_parked_event() {
    let rig = Rig::new().await;
    let process = rig.process().await;
    rig.sql(
        "DELIMITER //\nCREATE TRIGGER jealous BEFORE INSERT ON video_likes FOR EACH ROW \
         IF NEW.video_id IN (13, 14) AND EXISTS (SELECT 1 FROM user_behaviors \
         WHERE video_id = 27 - NEW.video_id) THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'one of two'; END IF//",
    )
    .await;
    let now = now_version();
    let mut events: Vec<LikeEvent> = (0..40).map(|i| event(1 + i, 20 + i % 3, Action::Like, now + i)).collect();
    events.insert(7, event(1, 14, Action::Like, now + 50));
    events.insert(30, event(1, 13, Action::Like, now + 51));
    let summary = process.applier.apply(&events).await.unwrap();
    assert_eq!(summary, ApplySummary { applied: 41, parked: 1 });
    assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes WHERE video_id >= 20").await, 40);
    assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes WHERE video_id < 20").await, 1);
    let parked = "SELECT COUNT(*) FROM sync_events WHERE status = 'failed' AND error_message LIKE '%one of two%'";
    assert_eq!(rig.number(parked).await, 1);
    rig.assert_counts_are_live_rows().await;
    drop(process);
    rig.end().await;
}

/// From the last failure to the next retry, in milliseconds.
async fn assert_pause(rig: &Rig, expected: std::ops::RangeInclusive<i64>) {
    let pause = "SELECT TIMESTAMPDIFF(MICROSECOND, updated_at, next_retry_at) DIV 1000 FROM sync_events \
                 WHERE status = 'failed'";
    let pause = rig.number(pause).await;
    assert!(expected.contains(&pause), "{pause} ms instead of {expected:?}");
}
