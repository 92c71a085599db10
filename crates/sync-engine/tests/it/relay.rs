//! Whatever the broker does to a batch, it arrives: by the rescuer, by a second attempt, or directly.

use crate::rig::{PATIENCE, QueueGauge, Rig, like, video};
use event_bus::BusConfig;
use test_support::{Links, Proxy, eventually, execute_sql, expect_eq};

/// What comes now reaches the broker through a proxy; the way around it, and who looks at the queue on that.
async fn behind_a_proxy() -> (Rig, Proxy, (BusConfig, QueueGauge)) {
    let mut rig = Rig::new().await;
    let proxy = Links::to(&rig.deployment).await.unwrap().rabbitmq;
    let around = (rig.bus.clone(), rig.queue_gauge());
    rig.bus.url = proxy.url_of(rig.deployment.rabbitmq().url()).into();
    (rig, proxy, around)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_queue_refuses_comes_later() {
    let mut rig = Rig::new().await;
    rig.bus.queue_max_length = 1;
    let server = rig.process().await;
    let accept = server.server();
    for user in 1..=30 {
        assert!(accept.accept_one(like(user, 1)).await.unwrap().changed);
    }
    assert!(!server.stores.broker_circuit.is_open(), "a refusal is no outage");
    let queue = rig.queue_gauge();
    eventually(PATIENCE, "a full queue", async || queue.ready().await > 0).await;
    assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes").await, 0);
    assert_eq!(server.journal_len().await, 30);

    let consumer = rig.process().await;
    consumer.rescue();
    consumer.consume();
    consumer.settled().await;
    assert_eq!(rig.number("SELECT like_count FROM like_counts").await, 30);
    rig.assert_counts_are_live_rows().await;
    consumer.assert_cache_agrees(&[video(1)]).await;
    consumer.stop().await;
    drop(server);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_returned_because_the_queue_is_gone_is_published_again() {
    let mut rig = Rig::new().await;
    // With a log nothing is returned: it takes the message.
    rig.bus.log.enabled = false;
    let server = rig.process().await;
    let accept = server.server();
    accept.accept_one(like(1, 1)).await.unwrap();
    let queue = rig.queue_gauge();
    eventually(PATIENCE, "a message", async || queue.ready().await == 1).await;
    rig.wire().await.delete_queue(&rig.deployment.queue()).await.unwrap();

    // The relay's connection is open and finds no queue. Without a rescuer, only itself can declare it again.
    accept.accept_one(like(2, 1)).await.unwrap();
    let consumer = rig.process().await;
    consumer.consume();
    eventually(PATIENCE, "the returned event in the database", async || {
        expect_eq(rig.sql("SELECT user_id FROM video_likes").await, "2\n".to_owned())
    })
    .await;
    assert!(!server.stores.broker_circuit.is_open());
    // What was in the deleted queue is in the journal.
    consumer.rescue();
    consumer.settled().await;
    assert_eq!(rig.number("SELECT like_count FROM like_counts").await, 2);
    consumer.stop().await;
    drop(server);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_confirms_events_are_applied_directly_until_the_broker_is_back() {
    let (mut rig, proxy, (direct, queue)) = behind_a_proxy().await;
    let server = rig.process().await;
    let accept = server.server();
    server.watch();
    let stored = async |users: &str, count: i64| {
        let query = format!("SELECT COUNT(*) FROM video_likes WHERE user_id IN ({users})");
        eventually(PATIENCE, format!("users {users} in the database"), async || {
            expect_eq(rig.number(&query).await, count)
        })
        .await;
    };
    // One batch after the other: with the second one there, the first is confirmed.
    for (user, messages) in [(1, 1), (6, 2)] {
        accept.accept_one(like(user, 1)).await.unwrap();
        eventually(PATIENCE, "a message", async || queue.ready().await == messages).await;
    }

    proxy.freeze();
    accept.accept_one(like(2, 1)).await.unwrap();
    stored("2", 1).await;
    assert!(server.stores.broker_circuit.is_open());
    proxy.restore().await.unwrap();
    eventually(PATIENCE, "a closed circuit", async || !server.stores.broker_circuit.is_open()).await;

    proxy.cut().await;
    accept.accept_one(like(3, 1)).await.unwrap();
    accept.accept_one(like(4, 1)).await.unwrap();
    stored("3, 4", 2).await;
    assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes WHERE user_id = 1").await, 0, "not the queue's business");
    proxy.restore().await.unwrap();
    eventually(PATIENCE, "a closed circuit", async || !server.stores.broker_circuit.is_open()).await;

    accept.accept_one(like(5, 1)).await.unwrap();
    rig.bus = direct;
    let consumer = rig.process().await;
    consumer.consume();
    consumer.settled().await;
    assert_eq!(rig.number("SELECT like_count FROM like_counts").await, 6);
    consumer.assert_cache_agrees(&[video(1)]).await;
    consumer.stop().await;
    drop(server);
    rig.end().await;
}

/// A process that is stopped in the middle of a transaction keeps its rows locked. Nobody else waits for it longer than the
/// broker is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_row_holds_up_nobody_once_the_broker_is_back() {
    let (mut rig, proxy, (direct, queue)) = behind_a_proxy().await;
    let server = rig.process().await;
    let accept = server.server();
    rig.bus = direct;
    let consumer = rig.process().await;
    consumer.consume();
    accept.accept_one(like(1, 1)).await.unwrap();
    server.settled().await;
    consumer.stop().await;
    server.watch();

    let url = rig.deployment.database_url().to_owned();
    let held = "BEGIN; UPDATE like_counts SET revision = revision + 1; SELECT SLEEP(20); ROLLBACK";
    let holder = tokio::spawn(async move { execute_sql(&url, held).await });
    let sleeping = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%'";
    eventually(PATIENCE, "a held row", async || rig.number(sleeping).await > 0).await;
    proxy.cut().await;
    accept.accept_one(like(2, 1)).await.unwrap();
    eventually(PATIENCE, "an open circuit", async || server.stores.broker_circuit.is_open()).await;
    proxy.restore().await.unwrap();
    eventually(PATIENCE, "what was to be applied in the queue", async || queue.ready().await == 1).await;
    assert!(!holder.is_finished(), "it waited for the row");

    holder.await.unwrap().unwrap();
    let consumer = rig.process().await;
    consumer.consume();
    consumer.settled().await;
    assert_eq!(rig.number("SELECT like_count FROM like_counts").await, 2);
    consumer.stop().await;
    drop(server);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_broker_away_the_rescuer_applies_what_is_left() {
    let mut rig = Rig::new().await;
    // A port where nobody listens: there never was a broker.
    let nowhere = test_support::lease_port().unwrap();
    let broker = std::mem::replace(&mut rig.bus.url, format!("amqp://guest:guest@{}/%2f", nowhere.addr()).into());
    let server = rig.process().await;
    let accept = server.dying_server();
    for user in 1..=10 {
        accept.accept_one(like(user, 1 + user % 2)).await.unwrap();
    }
    let other = rig.process().await;
    other.rescue();
    other.settled().await;
    assert!(other.stores.broker_circuit.is_open());
    assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes").await, 10);
    other.assert_cache_agrees(&[video(1), video(2)]).await;
    drop((server, other));
    rig.bus.url = broker;
}
