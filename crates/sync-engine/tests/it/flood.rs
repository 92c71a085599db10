//! A flood of events that cannot be written and of messages that are no events: each ends where it belongs, and the
//! good ones between them are not held up. `FLOOD_EVENTS` says how many, for longer floods by hand.

use crate::rig::{PATIENCE, Rig, event, now_version};
use domain::codec::EncodedEvent;
use domain::{Action, LikeEvent};
use event_bus::{Consumer, Headers, REASON_HEADER};
use std::time::{Duration, Instant};
use test_support::{Random, eventually, expect_eq};

const EVENTS: u32 = 3_000;
const PER_MESSAGE: usize = 25;
const POISONED: i64 = 13;

/// For so many, in a debug build beside other tests; for others in proportion.
const LIMIT: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenth_poison_and_a_tenth_garbage_do_not_hold_up_the_rest() {
    let count: u32 = std::env::var("FLOOD_EVENTS").map_or(EVENTS, |count| count.parse().unwrap());
    let (limit, count) = (LIMIT * count / EVENTS, i64::from(count));
    let mut rig = Rig::new().await;
    rig.sync.retry.base_delay = Duration::from_millis(50);
    rig.sync.retry.max_retries = 1;
    rig.sync.batch_size = 100;
    let consumer = rig.process().await;
    rig.deployment.poison(POISONED).await.unwrap();
    let (mut random, now) = (Random(11), now_version());
    let events: Vec<LikeEvent> = (0..count)
        .map(|i| {
            let video = if random.below(10) == 0 { POISONED } else { 20 + random.below(50) };
            event(1 + i, video, Action::Like, now + i)
        })
        .collect();
    let bad = events.iter().filter(|event| event.pair().resource.id.get() == POISONED).count() as i64;
    assert!((count / 20..count / 5).contains(&bad), "{bad}");

    let (mut publisher, mut wire, queue) = (rig.publisher(), rig.wire().await, rig.queue_gauge());
    publisher.connect().await.unwrap();
    let mut garbage = 0;
    for (number, message) in events.chunks(PER_MESSAGE).enumerate() {
        let message: Vec<_> = message.iter().map(EncodedEvent::from_event).collect();
        publisher.publish(&message, &Headers::new()).await.unwrap();
        if number % 10 == 0 {
            wire.publish(&rig.deployment.exchange(), format!("garbage {number}").as_bytes()).await.unwrap();
            garbage += 1;
        }
    }
    let started = Instant::now();
    consumer.retry();
    consumer.consume();
    let ledger =
        async |status: &str| rig.number(&format!("SELECT COUNT(*) FROM sync_events WHERE status = '{status}'")).await;
    eventually(limit, "every good event", async || expect_eq(ledger("completed").await, count - bad)).await;
    eventually(limit, "every bad event dead", async || expect_eq(ledger("dead").await, bad)).await;
    let rate = count as f64 / started.elapsed().as_secs_f64();
    println!("{count} events, {bad} of them refused, {garbage} messages garbage: {rate:.0} events/s");
    rig.assert_counts_are_live_rows().await;
    assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes").await, count - bad);

    let mut letters = Consumer::connect_dead(&rig.bus).await.unwrap();
    let (mut undecodable, mut poisoned) = (0, 0);
    for _ in 0..garbage + bad {
        let letter = tokio::time::timeout(PATIENCE, letters.next()).await.expect("no dead letter").unwrap();
        let reason = &letter.headers[REASON_HEADER];
        if reason.contains("poisoned video") {
            poisoned += 1
        } else {
            undecodable += 1
        }
        letters.ack([&letter]).await.unwrap();
    }
    assert_eq!((undecodable, poisoned), (garbage, bad));
    drop(letters);
    consumer.stop().await;
    assert_eq!(queue.ready().await, 0);
    rig.end().await;
}
