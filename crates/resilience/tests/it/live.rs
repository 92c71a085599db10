//! The oracle that watches while load runs: of users who only like, a served count never goes down.

use crate::oracle;
use crate::system::{PATIENCE, Role, System, dies_at};
use Role::{Consumer, Server};
use test_support::Binary;

/// Load under faults on every part but the cache; gives what was seen and the living processes.
async fn watched(system: &mut System, planted: &str) -> (serde_json::Value, [Binary; 2]) {
    let with = |point: &str| [point, planted].join(";");
    let server = system.start_ready(Server, &with("bus.sent:40")).await;
    let consumer = system.start_ready(Consumer, &with("apply.committed:20")).await;
    let shape = ["--resources", "20", "--fresh-users", "--watch-counts", "--watch-interval-ms", "2", "--rate", "1200"];
    let load = system.load_of(6_000, &shape);
    dies_at(&consumer, "apply.committed").await;
    let consumer = system.start(Consumer, &with("settle.shard:100")).await;
    dies_at(&server, "bus.sent").await;
    let server = system.start(Server, planted).await;
    system.under_way().await;
    system.amqp_link.cut().await;
    dies_at(&consumer, "settle.shard").await;
    let consumer = system.start(Consumer, planted).await;
    system.amqp_link.restore().await.unwrap();
    load.wait_exit(PATIENCE).await.unwrap();
    let report = oracle::report(&load.log()).unwrap_or_else(|| panic!("{}", load.log()));
    assert!(report["watch"]["samples"].as_u64().unwrap() > 1_000, "{report}");
    assert_eq!((report["acknowledged"].as_u64(), report["unknown"].as_u64()), (Some(6_000), Some(0)), "{report}");
    (report, [server, consumer])
}

#[tokio::test]
async fn served_counts_never_go_down() {
    let mut system = System::new(&[]).await;
    let (report, processes) = watched(&mut system, "").await;
    assert_eq!(report["watch"]["flicker"], 0, "{report}");
    system.verify().await;
    system.end(processes).await;
}

#[tokio::test]
async fn a_count_that_settling_overwrites_is_seen() {
    let mut system = System::new(&[]).await;
    let (report, processes) = watched(&mut system, "bug.settle_overwrites_pending=return").await;
    assert_ne!(report["watch"]["flicker"], 0, "{report}");
    system.end(processes).await;
}
