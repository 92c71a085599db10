//! A store that hangs, and who asks whether the server lives; and who fills the broker.

use crate::client::{Grpc, PATIENCE, like, started, video};
use std::time::Duration;
use test_support::{Deployment, eventually, expect_eq, http};
use tokio::task::JoinSet;

/// As many as ops HTTP works on at a time.
const SLOTS: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_hangs_does_not_make_the_server_seem_dead() {
    let deployment = Deployment::build("server").own_mariadb().start().await.unwrap();
    let server = deployment.server().start_ready().await.unwrap();
    deployment.mariadb().pause().unwrap();
    let addr = server.http();
    // Operators, again and again.
    let mut asking = JoinSet::new();
    for _ in 0..2 * SLOTS {
        let addr = addr.clone();
        asking.spawn(async move { http::get(&addr, "/events").await });
    }
    eventually(PATIENCE, "every slot to be taken", async || {
        let asked = http::get(&addr, "/openapi.json");
        match tokio::time::timeout(Duration::from_millis(500), asked).await {
            Err(_) => Ok(()),
            Ok(answer) => Err(format!("{:?}", answer.map(|(code, _)| code))),
        }
    })
    .await;
    for _ in 0..5 {
        let live = tokio::time::timeout(Duration::from_secs(5), http::get(&addr, "/health/live")).await;
        assert_eq!(live.expect("it waits for a slot").unwrap().0, 200);
    }
    let health = tokio::time::timeout(Duration::from_secs(10), http::get(&addr, "/health")).await;
    assert!(health.expect("it waits for a slot").unwrap().1.contains("mysql"));
    // A like needs no database, and waits for nobody who does.
    let like = r#"{"user_id":1,"resource_type":"video","resource_id":1,"action":"like"}"#;
    let liked = tokio::time::timeout(Duration::from_secs(3), http::post_json(&addr, "/v1/likes", like)).await;
    assert_eq!(liked.expect("a like waits for a slot").unwrap().0, 200);
    let answered = std::iter::from_fn(|| asking.try_join_next()).count();
    assert!(answered < SLOTS, "{answered} did not hang: the test shows nothing");
    deployment.mariadb().resume().unwrap();
}

/// Whoever has the broker's credentials may publish what the broker takes: that is in no consumer's memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_messages_of_somebody_else_cost_a_consumer_next_to_nothing() {
    const MIB: u64 = 1 << 20;
    let deployment = Deployment::build("long").own_rabbitmq().start().await.unwrap();
    let (server, consumer) = started(&deployment).await;
    let mut client = server.client().await;
    client.like(like(1, video(1))).await.unwrap();
    let rows = async || deployment.number("SELECT COUNT(*) FROM video_likes").await.map_err(|error| error.to_string());
    eventually(PATIENCE, "the first row", async || expect_eq(rows().await?, 1)).await;
    let before = consumer.resident().unwrap();
    let (mut most, long) = (before, vec![0x5a; 16 << 20]);
    let dead = format!("{}.dead", deployment.queue());
    let mut wire = deployment.wire().await.unwrap();
    for _ in 0..8 {
        wire.publish(&deployment.exchange(), &long).await.unwrap();
        most = most.max(consumer.resident().unwrap());
    }
    client.like(like(2, video(1))).await.unwrap();
    let wire = tokio::sync::Mutex::new(wire);
    let most = std::sync::atomic::AtomicU64::new(most);
    eventually(4 * PATIENCE, "what is behind them, and all of them among the dead letters", async || {
        most.fetch_max(consumer.resident().unwrap(), std::sync::atomic::Ordering::Relaxed);
        let letters = wire.lock().await.depth(&dead).await.map_err(|error| error.to_string())?;
        expect_eq((rows().await?, letters), (2, 8))
    })
    .await;
    let most = most.into_inner();
    println!("{} MiB, with {} MiB of long messages at most {} MiB", before / MIB, 8 * 16, most / MIB);
    assert!(most < before + 64 * MIB, "{} MiB, then {} MiB", before / MIB, most / MIB);
    let letter = wire.into_inner().take(&dead).await.unwrap().expect("it is gone");
    assert!(letter == long, "{} of {} bytes", letter.len(), long.len());
    server.end(PATIENCE).await.unwrap();
    consumer.end(PATIENCE).await.unwrap();
}
