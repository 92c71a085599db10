//! What the broker moves to the dead letters by itself: applied if it is good, kept if it is not.

use crate::rig::{PATIENCE, Rig, event, like, video};
use domain::Action;
use domain::codec::{EncodedEvent, encode_batch};
use event_bus::{Consumer, Headers};
use std::time::Duration;
use test_support::{Deployment, eventually, expect_eq};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn likes_that_a_policy_moves_to_the_dead_letters_are_applied_from_there() {
    let rig = Rig::on(Deployment::build("engine").own_rabbitmq()).await;
    let (queue, dead) = (rig.deployment.queue(), format!("{}.dead", rig.deployment.queue()));
    // Letters that are there for good: an event that was given up, and bytes that are none.
    let mut publisher = rig.publisher();
    let given_up = encode_batch(&[EncodedEvent::from_event(&event(99, 1, Action::Like, 1000))]);
    publisher.publish_dead(&given_up, "retries exhausted", &Headers::new()).await.unwrap();

    let broker = rig.deployment.rabbitmq();
    let pattern = format!("^{}$", queue.replace('.', "\\."));
    broker.ctl(&["set_policy", "ttl", &pattern, r#"{"message-ttl":100}"#, "--apply-to", "queues"]).await.unwrap();
    let wire = tokio::sync::Mutex::new(rig.wire().await);
    // The queue learns of it a moment later.
    eventually(PATIENCE, "a message that expires", async || {
        let mut wire = wire.lock().await;
        wire.publish(&rig.deployment.exchange(), b"garbage").await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        if wire.depth(&queue).await.unwrap() == 0 {
            return Ok(());
        }
        wire.take(&queue).await.unwrap();
        Err("it waits")
    })
    .await;
    // Nobody consumes: all of it expires.
    let server = rig.process().await;
    let accept = server.server();
    for user in 1..=20 {
        accept.accept_one(like(user, 1)).await.unwrap();
    }
    eventually(PATIENCE, "all messages among the dead letters", async || {
        let mut wire = wire.lock().await;
        let (waiting, dead) = (wire.depth(&queue).await.unwrap(), wire.depth(&dead).await.unwrap());
        if waiting == 0 && dead >= 3 { Ok(()) } else { Err(format!("{waiting} wait, {dead} dead")) }
    })
    .await;
    assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes").await, 0);

    server.drain_dead_letters();
    server.settled().await;
    assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes WHERE deleted_at IS NULL").await, 20);
    rig.assert_counts_are_live_rows().await;
    server.assert_cache_agrees(&[video(1)]).await;

    // Later likes, too, although other letters stay.
    for user in 21..=30 {
        accept.accept_one(like(user, 1)).await.unwrap();
    }
    server.settled().await;
    assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes WHERE deleted_at IS NULL").await, 30);
    eventually(PATIENCE, "the letters that stay", async || expect_eq(wire.lock().await.depth(&dead).await.unwrap(), 2))
        .await;
    server.stop().await;
    let mut bodies = Vec::new();
    let mut wire = wire.into_inner();
    while let Some(body) = wire.take(&dead).await.unwrap() {
        bodies.push(body);
    }
    bodies.sort();
    let mut expected = vec![given_up.to_vec(), b"garbage".to_vec()];
    expected.sort();
    assert_eq!(bodies, expected);
    rig.end().await;
}

/// A letter that not even the client library can read breaks every connection that meets it. Those before it are gone through
/// once, and nothing of them is left or doubled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_before_one_that_nobody_can_read_are_gone_through_once() {
    let rig = Rig::new().await;
    let (queue, dead) = (rig.deployment.queue(), format!("{}.dead", rig.deployment.queue()));
    let mut publisher = rig.publisher();
    publisher.publish_dead(b"stays", "given up", &Headers::new()).await.unwrap();
    // Rejected, as by somebody's own consumer: the broker moves it.
    let mut somebody = Consumer::connect(&rig.bus).await.unwrap();
    for user in 1..=5 {
        let good = EncodedEvent::from_event(&event(user, 1, Action::Like, 1000 + user));
        publisher.publish(&[good], &Headers::new()).await.unwrap();
        let delivery = somebody.next().await.unwrap();
        somebody.nack([&delivery], false).await.unwrap();
    }
    somebody.close().await;
    let wire = tokio::sync::Mutex::new(rig.wire().await);
    let waiting = async |letters: u32| {
        eventually(PATIENCE, "the letters", async || expect_eq(wire.lock().await.depth(&dead).await.unwrap(), letters))
            .await;
    };
    waiting(6).await;
    {
        let mut wire = wire.lock().await;
        // A message id, which has to be UTF-8.
        wire.send(&dead_exchange(&queue), &[0, 0x80, 2, 0xff, 0xfe], b"unreadable").await.unwrap();
        wire.confirmed().await.unwrap();
    }
    waiting(7).await;

    let process = rig.process().await;
    process.drain_dead_letters();
    eventually(PATIENCE, "the moved likes", async || {
        expect_eq(rig.number("SELECT COUNT(*) FROM video_likes").await, 5)
    })
    .await;
    waiting(2).await;
    process.stop().await;
    let (mut wire, mut bodies) = (wire.into_inner(), Vec::new());
    while let Some(body) = wire.take(&dead).await.unwrap() {
        bodies.push(String::from_utf8_lossy(&body).into_owned());
    }
    bodies.sort();
    assert_eq!(bodies, ["stays", "unreadable"]);
    rig.end().await;
}

/// Only its beginning is taken in, so nobody here may publish it again: it stays where it is, whole, and what is behind it does
/// not wait for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_that_is_longer_than_any_of_ours_stays_as_it_is() {
    let rig = Rig::new().await;
    let dead = format!("{}.dead", rig.deployment.queue());
    let long: Vec<u8> = (0..2_000_000_u32).map(|number| number.to_be_bytes()[3]).collect();
    let mut publisher = rig.publisher();
    let mut somebody = Consumer::connect(&rig.bus).await.unwrap();
    for user in 1..=2 {
        publisher.publish_dead(&long, "given up", &Headers::new()).await.unwrap();
        let good = EncodedEvent::from_event(&event(user, 1, Action::Like, 1000 + user));
        publisher.publish(&[good], &Headers::new()).await.unwrap();
        let delivery = somebody.next().await.unwrap();
        somebody.nack([&delivery], false).await.unwrap();
    }
    somebody.close().await;
    let wire = tokio::sync::Mutex::new(rig.wire().await);
    let waiting = async |letters: u32| {
        eventually(PATIENCE, "the letters", async || expect_eq(wire.lock().await.depth(&dead).await.unwrap(), letters))
            .await;
    };
    waiting(4).await;
    let process = rig.process().await;
    process.drain_dead_letters();
    eventually(PATIENCE, "the moved likes", async || {
        expect_eq(rig.number("SELECT COUNT(*) FROM video_likes").await, 2)
    })
    .await;
    waiting(2).await;
    process.stop().await;
    let mut wire = wire.into_inner();
    for _ in 0..2 {
        let letter = wire.take(&dead).await.unwrap().expect("it is gone");
        assert!(letter == long, "{} of {} bytes", letter.len(), long.len());
    }
    rig.end().await;
}

fn dead_exchange(queue: &str) -> String {
    format!("{}.dead", queue.trim_end_matches(".likes"))
}
