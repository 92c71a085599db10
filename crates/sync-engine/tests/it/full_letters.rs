//! Dead letters that the broker makes for want of room, that it has no room for, and that it cannot be given.

use crate::rig::{PATIENCE, Rig, event, like, now_version};
use domain::Action;
use domain::codec::EncodedEvent;
use event_bus::{BusError, Consumer, Headers, Publisher, REASON_HEADER};
use std::time::Duration;
use test_support::{Deployment, Links, Wire, eventually, expect_eq};

const POISONED: i64 = 13;

fn dead_exchange(queue: &str) -> String {
    format!("{}.dead", queue.trim_end_matches(".likes"))
}

/// Letters that stay, until the queue takes no more; how many it took.
async fn fill(publisher: &mut Publisher) -> u32 {
    for taken in 0..20 {
        match publisher.publish_dead(b"stays", "given up", &Headers::new()).await {
            Ok(()) => {}
            Err(error @ BusError::NotConfirmed(_)) if !error.is_unavailable() => return taken,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("it is never full");
}

async fn taken_out(wire: &mut Wire, queue: &str) -> Vec<String> {
    let mut bodies = Vec::new();
    while let Some(body) = wire.take(queue).await.unwrap() {
        bodies.push(String::from_utf8_lossy(&body).into_owned());
    }
    bodies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn likes_beyond_the_length_of_a_queue_that_drops_its_oldest_are_applied_from_the_dead_letters() {
    let rig = Rig::new().await;
    let (queue, dead) = (rig.deployment.queue(), format!("{}.dead", rig.deployment.queue()));
    let wire = tokio::sync::Mutex::new(rig.wire().await);
    wire.lock().await.declare_dropping(&queue, 1, &dead_exchange(&queue)).await.unwrap();
    // No journal has them: who loses one loses it for good.
    let (mut publisher, now) = (rig.publisher(), now_version());
    for user in 1..=5 {
        let alone = EncodedEvent::from_event(&event(user, 1, Action::Like, now + user));
        publisher.publish(&[alone], &Headers::new()).await.unwrap();
    }
    eventually(PATIENCE, "four of five among the dead letters", async || {
        expect_eq(wire.lock().await.depth(&dead).await.unwrap(), 4)
    })
    .await;

    let process = rig.process().await;
    process.drain_dead_letters();
    let rows = async || rig.number("SELECT COUNT(*) FROM video_likes").await;
    eventually(PATIENCE, "the dropped likes", async || expect_eq(rows().await, 4)).await;
    eventually(PATIENCE, "no letter", async || expect_eq(wire.lock().await.depth(&dead).await.unwrap(), 0)).await;
    process.consume();
    eventually(PATIENCE, "all likes", async || expect_eq(rows().await, 5)).await;
    rig.assert_counts_are_live_rows().await;
    process.stop().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_dead_letter_queue_stops_nothing() {
    let mut rig = Rig::on(Deployment::build("engine").own_rabbitmq()).await;
    // What the broker cannot bury it tries again after three minutes, unless told otherwise.
    let soon = "application:set_env(rabbit, dead_letter_worker_publisher_confirm_timeout, 2000).";
    rig.deployment.rabbitmq().ctl(&["eval", soon]).await.unwrap();
    rig.bus.queue_max_length = 3;
    rig.sync.retry.max_retries = 1;
    rig.sync.retry.claim_lease = Duration::from_secs(1);
    let dead = format!("{}.dead", rig.deployment.queue());
    let (mut publisher, now) = (rig.publisher(), now_version());
    publisher.publish_dead(b"stays", "given up", &Headers::new()).await.unwrap();
    // A like that the broker moved lies behind what stays.
    let mut somebody = Consumer::connect(&rig.bus).await.unwrap();
    let moved = EncodedEvent::from_event(&event(1, 1, Action::Like, now));
    publisher.publish(&[moved], &Headers::new()).await.unwrap();
    let delivery = somebody.next().await.unwrap();
    somebody.nack([&delivery], false).await.unwrap();
    somebody.close().await;
    let wire = tokio::sync::Mutex::new(rig.wire().await);
    let depth = async || wire.lock().await.depth(&dead).await.unwrap();
    eventually(PATIENCE, "the moved like", async || expect_eq(depth().await, 2)).await;
    let mut stays = 1 + fill(&mut publisher).await;

    let drain = rig.process().await;
    drain.drain_dead_letters();
    let rows = async || rig.number("SELECT COUNT(*) FROM video_likes WHERE deleted_at IS NULL").await;
    eventually(PATIENCE, "the moved like in the database", async || expect_eq(rows().await, 1)).await;
    eventually(PATIENCE, "the letters that stay", async || expect_eq(depth().await, stays)).await;
    drain.stop().await;
    stays += fill(&mut publisher).await;

    // Nothing can be buried now: what is refused, and what is no event, and the good ones go their ways.
    rig.deployment.poison(POISONED).await.unwrap();
    let process = rig.process().await;
    process.consume();
    process.rescue();
    process.retry();
    let accept = process.server();
    wire.lock().await.publish(&rig.deployment.exchange(), b"garbage").await.unwrap();
    let refused = like(7, POISONED);
    let id = refused.id;
    accept.accept_one(refused).await.unwrap();
    for user in 2..=6 {
        accept.accept_one(like(user, 1)).await.unwrap();
    }
    eventually(PATIENCE, "every good like", async || expect_eq(rows().await, 6)).await;
    process.settled().await;
    eventually(PATIENCE, "the refused one dead, in the ledger alone", async || {
        let entry = process.stores.database.event(id).await.unwrap().unwrap();
        let said = entry.error.unwrap_or_default();
        let dead = entry.status == event_store::EventStatus::Dead && said.contains("poisoned video");
        if dead { Ok(()) } else { Err(format!("{:?}: {said}", entry.status)) }
    })
    .await;
    assert_eq!(depth().await, stays, "something was taken, or pushed out");
    process.stop().await;

    // With room again the broker buries by itself what it had to keep.
    let all = std::cell::RefCell::new(Vec::new());
    eventually(PATIENCE, "what is no event, and all letters that stayed", async || {
        let taken = taken_out(&mut *wire.lock().await, &dead).await;
        let mut bodies = all.borrow_mut();
        bodies.extend(taken);
        let kept = bodies.iter().filter(|body| *body == "stays").count();
        let garbage = bodies.iter().filter(|body| *body == "garbage").count();
        expect_eq((kept, garbage, bodies.len()), (stays as usize, 1, stays as usize + 1))
    })
    .await;
    rig.assert_counts_are_live_rows().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_whose_letter_the_broker_cannot_be_given_dies_when_it_can() {
    let mut rig = Rig::new().await;
    rig.sync.retry.max_retries = 1;
    rig.sync.retry.claim_lease = Duration::from_millis(300);
    rig.publisher().connect().await.unwrap();
    let around = rig.clone();
    let proxy = Links::to(&rig.deployment).await.unwrap().rabbitmq;
    rig.bus.url = proxy.url_of(rig.deployment.rabbitmq().url()).into();
    proxy.cut().await;
    let process = rig.process().await;
    rig.deployment.poison(POISONED).await.unwrap();
    let poisoned = event(1, POISONED, Action::Like, now_version());
    process.applier.apply(std::slice::from_ref(&poisoned)).await.unwrap();
    process.retry();

    let state = "SELECT status, retry_count FROM sync_events";
    let claimed = async || rig.sql("SELECT status, retry_count, next_retry_at FROM sync_events").await;
    // Its retry fails again and again, and counts for nothing: no claim is concluded.
    let seen = std::cell::RefCell::new(std::collections::BTreeSet::new());
    eventually(PATIENCE, "a third claim", async || {
        let now = claimed().await;
        assert!(!now.starts_with("dead"), "{now}");
        let mut seen = seen.borrow_mut();
        if now.starts_with("processing") {
            seen.insert(now);
        }
        if seen.len() > 2 { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    assert_eq!(rig.sql(state).await, "processing\t0\n");

    proxy.restore().await.unwrap();
    eventually(PATIENCE, "its end", async || expect_eq(rig.sql(state).await, "dead\t1\n".to_owned())).await;
    let letter = around.dead_letter().await;
    assert!(letter.headers[REASON_HEADER].contains("poisoned video"), "{:?}", letter.headers);
    let buried = domain::codec::decode_batch(&letter.body).unwrap();
    assert_eq!(buried.iter().map(|event| event.intent.id).collect::<Vec<_>>(), [poisoned.intent.id]);
    process.stop().await;
    rig.end().await;
}
