//! The consumer: bytes that are no events, events twice and in any order, stopping, and a database that is unreachable.

use crate::rig::{PATIENCE, Rig, event, like, now_version, video};
use domain::codec::{EncodedEvent, encode_batch};
use domain::{Action, Origin, Version};
use event_bus::{Consumer, Headers, REASON_HEADER};
use std::collections::HashMap;
use std::time::Duration;
use test_support::{Random, eventually, expect_eq};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_events_are_buried_with_their_reason_and_the_rest_goes_on() {
    let rig = Rig::new().await;
    let consumer = rig.process().await;
    consumer.consume();
    let (mut publisher, queue) = (rig.publisher(), rig.queue_gauge());
    publisher.connect().await.unwrap();

    let good = |user| EncodedEvent::from_event(&event(user, 1, Action::Like, now_version()));
    let unknown_enum = {
        let mut bad = good(7);
        let mut payload = bad.payload.to_vec();
        payload[17] = 9;
        bad.payload = payload.into();
        // The batch is refused whole: its good event comes again from the journal, if it came from there.
        encode_batch(&[good(8), bad])
    };
    let huge = vec![1; domain::codec::MAX_BODY_LEN + 1];
    let bodies: [(&[u8], &str); 4] = [
        (b"{\"like\":1}", "unknown format 123"),
        (b"", "truncated at format"),
        (&unknown_enum, "resource_type: unknown code 9"),
        // Too long to be taken in: the broker moves it, which gives no reason.
        (&huge, ""),
    ];
    let mut wire = rig.wire().await;
    let mut expected = HashMap::new();
    for (user, (body, reason)) in (1..).zip(bodies) {
        wire.publish(&rig.deployment.exchange(), body).await.unwrap();
        publisher.publish(&[good(user)], &Headers::new()).await.unwrap();
        expected.insert(body.to_vec(), reason);
    }
    eventually(PATIENCE, "the good ones in the database", async || {
        expect_eq(rig.sql("SELECT user_id FROM video_likes ORDER BY 1").await, "1\n2\n3\n4\n".to_owned())
    })
    .await;

    let mut letters = Consumer::connect_dead(&rig.bus).await.unwrap();
    for _ in 0..bodies.len() {
        let letter = tokio::time::timeout(PATIENCE, letters.next()).await.expect("no dead letter").unwrap();
        let reason = expected.remove(&letter.body[..]).expect("a dead letter nobody sent");
        let said = letter.headers.get(REASON_HEADER);
        if reason.is_empty() {
            assert_eq!((said, letter.moved.as_deref()), (None, Some("rejected")));
        } else {
            assert!(said.is_some_and(|said| said.contains(reason)), "{said:?} instead of {reason}");
        }
        letters.ack([&letter]).await.unwrap();
    }
    drop(letters);
    consumer.stop().await;
    assert_eq!(queue.ready().await, 0, "a message that is no events came back");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_twice_and_shuffled_gives_the_same_rows() {
    let rig = Rig::new().await;
    let mut random = Random(3);
    let now = now_version();
    let events: Vec<_> = (0..600)
        .map(|i| event(1 + random.below(25), 1 + random.below(8), Action::from_liked(random.below(3) > 0), now + i))
        .collect();
    let mut last = std::collections::BTreeMap::new();
    for event in &events {
        last.insert((event.pair().user.get(), event.pair().resource.id.get()), (event.intent.action, event.version));
    }
    let expected: String = last
        .iter()
        .map(|((user, video), (action, version))| {
            format!("{user}\t{video}\t{}\t{version}\n", i32::from(action.liked()))
        })
        .collect();

    let mut encoded: Vec<_> = events.iter().chain(&events).map(EncodedEvent::from_event).collect();
    random.shuffle(&mut encoded);
    let (mut publisher, queue) = (rig.publisher(), rig.queue_gauge());
    for message in encoded.chunks(7) {
        publisher.publish(message, &Headers::new()).await.unwrap();
    }
    // Two consumers race for the messages.
    let (one, other) = (rig.process().await, rig.process().await);
    one.consume();
    other.consume();
    eventually(PATIENCE, "all events in the ledger", async || {
        expect_eq(rig.number("SELECT COUNT(*) FROM sync_events WHERE status = 'completed'").await, 600)
    })
    .await;
    tokio::join!(one.stop(), other.stop());
    assert_eq!(queue.ready().await, 0);
    assert_eq!(rig.rows().await, expected);
    assert_eq!(rig.number("SELECT COUNT(*) FROM user_behaviors").await, 600);
    rig.assert_counts_are_live_rows().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_soft_stop_acknowledges_what_is_in_hand_and_gives_the_rest_back() {
    let mut rig = Rig::new().await;
    rig.sync.batch_size = 5;
    let consumer = rig.process().await;
    rig.slow_down(0.05).await;
    let now = now_version();
    let (mut publisher, queue) = (rig.publisher(), rig.queue_gauge());
    for i in 0..60 {
        let message = EncodedEvent::from_event(&event(1 + i, 1, Action::Like, now + i));
        publisher.publish(&[message], &Headers::new()).await.unwrap();
    }
    consumer.consume();
    let applied = async || rig.number("SELECT COUNT(*) FROM sync_events").await;
    eventually(PATIENCE, "a first batch", async || applied().await > 0).await;
    consumer.stop().await;
    let applied = applied().await;
    assert!((1..60).contains(&applied), "stopped too late to tell: {applied}");
    // Applied and not acknowledged would be counted twice, acknowledged and not applied not at all.
    let ready = i64::from(queue.ready().await);
    assert_eq!(ready + applied, 60, "{applied} applied");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_database_did_not_take_is_not_acknowledged() {
    let rig = Rig::with_own_database().await;
    let mariadb = rig.deployment.mariadb();
    let consumer = rig.process().await;
    mariadb.kill9().unwrap();
    // No journal has it: who loses it loses it for good.
    let alone = EncodedEvent::from_event(&event(1, 1, Action::Like, now_version()));
    rig.publisher().publish(&[alone], &Headers::new()).await.unwrap();
    consumer.consume();
    // Nobody watches here: what opens the circuit is the batch that failed.
    let circuit = &consumer.stores.database_circuit;
    eventually(PATIENCE, "a batch that failed", async || circuit.is_open()).await;
    consumer.stop().await;
    assert_eq!(rig.queue_gauge().ready().await, 1, "acknowledged, though not committed");

    mariadb.restart().await.unwrap();
    let next = rig.process().await;
    next.consume();
    let live = "SELECT COUNT(*) FROM video_likes WHERE deleted_at IS NULL";
    eventually(PATIENCE, "the like", async || expect_eq(rig.number(live).await, 1)).await;
    next.stop().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_events_wait() {
    let mut rig = Rig::with_own_database().await;
    let deployment = rig.deployment.clone();
    let mariadb = deployment.mariadb();
    rig.database.query_timeout = Duration::from_secs(1);
    rig.bus.prefetch = 1;
    let (server, consumer) = (rig.process().await, rig.process().await);
    let accept = server.server();
    server.watch();
    consumer.watch();
    consumer.consume();
    consumer.rescue();
    accept.accept_one(like(1, 1)).await.unwrap();
    server.settled().await;

    for (outage, users) in [("stopped", 2..=11), ("killed", 12..=21)] {
        match outage {
            "stopped" => mariadb.pause().unwrap(),
            _ => mariadb.kill9().unwrap(),
        }
        eventually(PATIENCE, "open circuits", async || {
            consumer.stores.database_circuit.is_open() && server.stores.database_circuit.is_open()
        })
        .await;
        // Known and unknown counters alike: accepted, though not always with a count.
        for user in users.clone() {
            let answer = accept.accept_one(like(user, 1 + user % 2)).await.unwrap();
            assert!(answer.changed && answer.liked, "{outage}: {answer:?}");
            if user == *users.start() {
                // The consumer has it in hand and the queue is empty: still no reason to publish it again.
                tokio::time::sleep(rig.sync.republish_after * 4).await;
                assert_eq!(rig.queue_gauge().ready().await, 0, "{outage}: a waiting event was published again");
            }
        }
        assert_eq!(server.journal_len().await, 10, "{outage}");

        match outage {
            "stopped" => mariadb.resume().unwrap(),
            _ => mariadb.restart().await.unwrap(),
        }
        server.settled().await;
        let live = rig.number("SELECT COUNT(*) FROM video_likes WHERE deleted_at IS NULL").await;
        assert_eq!(live, *users.end(), "{outage}");
        rig.assert_counts_are_live_rows().await;
        server.assert_cache_agrees(&[video(1), video(2)]).await;
    }
    consumer.stop().await;
    drop(server);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn month_old_dead_letters_change_nothing_when_they_are_published_again() {
    let rig = Rig::new().await;
    let consumer = rig.process().await;
    let now = now_version();
    let old = event(1, 1, Action::Like, now - 30 * 24 * 3_600_000_000);
    let newer = event(1, 1, Action::Unlike, now);
    consumer.applier.apply(std::slice::from_ref(&newer)).await.unwrap();
    let before = rig.rows().await;
    let mut publisher = rig.publisher();
    let letter = EncodedEvent { version: old.version, origin: Origin::Journal, ..EncodedEvent::from_event(&old) };
    publisher.publish(&[letter.clone(), letter], &Headers::new()).await.unwrap();
    consumer.consume();
    eventually(PATIENCE, "both in the ledger", async || {
        expect_eq(rig.number("SELECT COUNT(*) FROM sync_events WHERE status = 'completed'").await, 2)
    })
    .await;
    assert_eq!(rig.rows().await, before);
    assert_eq!(rig.number("SELECT like_count FROM like_counts").await, 0);
    assert!(Version(now) > old.version);
    consumer.stop().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_nobody_can_read_ends_as_a_dead_letter_alone() {
    let mut rig = Rig::new().await;
    rig.bus.delivery_limit = 5;
    // Declares the queues.
    let mut publisher = rig.publisher();
    publisher.connect().await.unwrap();
    let mut wire = rig.wire().await;
    let good = |user| EncodedEvent::from_event(&event(user, 1, Action::Like, 1000 + user));
    for user in 1..=20 {
        publisher.publish(&[good(user)], &Headers::new()).await.unwrap();
        // Readable, but no event: dead-lettered one by one, so that the connection breaks on the way.
        for _ in 0..10 {
            wire.publish(&rig.deployment.exchange(), b"garbage").await.unwrap();
        }
        if user == 7 || user == 8 {
            // A message id, which has to be UTF-8.
            wire.send(&rig.deployment.exchange(), &[0, 0x80, 2, 0xff, 0xfe], b"x").await.unwrap();
            wire.confirmed().await.unwrap();
        }
    }
    let consumer = rig.process().await;
    consumer.consume();
    eventually(PATIENCE, "the good ones in the database", async || {
        expect_eq(rig.number("SELECT COUNT(*) FROM video_likes").await, 20)
    })
    .await;
    let dead = format!("{}.dead", rig.deployment.queue());
    let wire = tokio::sync::Mutex::new(wire);
    eventually(PATIENCE, "the others among the dead letters", async || {
        let mut wire = wire.lock().await;
        let (waiting, dead) = (wire.depth(&rig.deployment.queue()).await.unwrap(), wire.depth(&dead).await.unwrap());
        if waiting == 0 && dead >= 202 { Ok(()) } else { Err(format!("{waiting} wait, {dead} dead")) }
    })
    .await;
    // And nothing else. Garbage may be there twice: its letter was confirmed when the connection broke before its
    // acknowledgement.
    let (mut wire, mut unreadable) = (wire.into_inner(), 0);
    while let Some(body) = wire.take(&dead).await.unwrap() {
        assert!(body == b"x" || body == b"garbage", "{body:02x?}");
        unreadable += usize::from(body == b"x");
    }
    assert_eq!(unreadable, 2);
    consumer.stop().await;
    rig.end().await;
}

/// What goes into the redo log beside the queue goes by a key of its own: without that binding the log alone takes likes, and
/// confirms them. An idle consumer binds the queue again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_that_somebody_took_away_comes_back() {
    let rig = Rig::new().await;
    let consumer = rig.process().await;
    consumer.consume();
    let mut publisher = rig.publisher();
    let now = now_version();
    let publish = async |publisher: &mut event_bus::Publisher, n: i64| {
        let event = EncodedEvent::from_event(&event(n, 1, Action::Like, now + n));
        publisher.publish(&[event], &Headers::new()).await.unwrap();
    };
    let rows = "SELECT COUNT(*) FROM video_likes";
    publish(&mut publisher, 1).await;
    eventually(PATIENCE, "the first like", async || expect_eq(rig.number(rows).await, 1)).await;
    let mut wire = rig.wire().await;
    for key in ["likes", "likes.logged"] {
        wire.unbind(&rig.deployment.queue(), &rig.deployment.exchange(), key).await.unwrap();
    }
    let one_comes_through = async {
        for n in 2.. {
            publish(&mut publisher, n).await;
            if rig.number(rows).await > 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), one_comes_through).await;
    waited.expect("nothing comes through: only the next look at the log binds it");
    consumer.stop().await;
    rig.end().await;
}
