//! The oracle that watches while load runs: of users who only like, a served count never goes down.

use crate::system::{PATIENCE, Role, System, dies_at};
use Role::{Consumer, Server};
use serde_json::Value;
use test_support::Load;

const OPERATIONS: u32 = 10_000;

/// Users who like once, and a reader of counts.
fn watched_load(system: &mut System) -> Load {
    let shape = ["--resources", "20", "--fresh-users", "--watch-counts", "--watch-interval-ms", "2", "--rate", "1000"];
    system.load_of(OPERATIONS, &shape)
}

/// What the reader saw.
async fn seen(load: &Load) -> Value {
    load.wait_exit(5 * PATIENCE).await.unwrap();
    let report = load.report().unwrap();
    eprintln!("{report}");
    assert!(report["watch"]["samples"].as_u64().unwrap() > 1_000, "{report}");
    assert_eq!((report["acknowledged"].as_u64(), report["unknown"].as_u64()), (Some(OPERATIONS.into()), Some(0)));
    report
}

#[tokio::test]
async fn served_counts_never_go_down() {
    let mut system = System::new(&[]).await;
    let server = system.start_ready(Server, "bus.sent:40").await;
    let consumer = system.start_ready(Consumer, "apply.committed:5").await;
    let load = watched_load(&mut system);
    // The server first: a consumer on a busy machine puts many publishes into one commit, and none comes while the server
    // is down.
    dies_at(&server, "bus.sent").await;
    let server = system.start(Server, "").await;
    dies_at(&consumer, "apply.committed").await;
    let consumer = system.start(Consumer, "settle.shard:2").await;
    dies_at(&consumer, "settle.shard").await;
    let consumer = system.start(Consumer, "").await;
    system.links.rabbitmq.cut().await;
    server.wait_log("circuit opened", PATIENCE).await.unwrap();
    system.links.rabbitmq.restore().await.unwrap();
    server.wait_log("circuit closed", PATIENCE).await.unwrap();
    let report = seen(&load).await;
    assert_eq!(report["watch"]["flicker"], 0, "{report}");
    system.verify().await;
    system.end([server, consumer]).await;
}

#[tokio::test]
async fn a_count_that_settling_overwrites_is_seen() {
    let mut system = System::new(&[]).await;
    let server = system.start_ready(Server, "").await;
    let consumer = system.start_ready(Consumer, "bug.settle_overwrites_pending=return").await;
    let load = watched_load(&mut system);
    let report = seen(&load).await;
    assert_ne!(report["watch"]["flicker"], 0, "{report}");
    system.end([server, consumer]).await;
}
