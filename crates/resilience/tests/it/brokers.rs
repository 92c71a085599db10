//! Three brokers that are one cluster: a node dies, and most of them die.

use crate::running::{APPLIED, PATIENCE, Running};
use test_support::{Deployment, RabbitMqGroup, eventually};

const NODES: usize = 3;

/// Confirmed by the brokers.
const PUBLISHED: &str = "published_events_total";

async fn deployment(group: &RabbitMqGroup) -> Deployment {
    let url = group.node(0).unwrap().url();
    let deployment = Deployment::build("brokers").rabbitmq_at(url).start().await.unwrap();
    deployment.with("RABBITMQ__HOSTS", group.addrs().unwrap().join(","))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn likes_go_on_when_a_broker_dies_and_when_most_do() {
    let group = RabbitMqGroup::start(NODES).await.unwrap();
    let running = Running::start(deployment(&group).await).await;

    for _ in 0..2 {
        let leader = group.leader(&running.deployment.queue()).await.unwrap();
        group.node(leader).unwrap().kill9().unwrap();
        let published = running.grows(&running.server, PUBLISHED).await;
        let applied = running.grows(&running.consumer, APPLIED).await;
        eprintln!("node {leader} killed: published after {published:?}, applied {applied:?} later");
        group.node(leader).unwrap().restart().await.unwrap();
        group.all_run(NODES).await.unwrap();
    }

    // One of three decides nothing: likes are written all the same, and published again when two are there.
    for node in [1, 2] {
        group.node(node).unwrap().kill9().unwrap();
    }
    let rows = async || {
        let rows = running.deployment.number("SELECT COUNT(*) FROM video_likes").await;
        rows.map_err(|error| format!("{error:#}"))
    };
    let before = rows().await.unwrap();
    eventually(PATIENCE, "rows without a broker", async || {
        let now = rows().await?;
        if now >= before + 100 { Ok(()) } else { Err(format!("{now}, {before} at first")) }
    })
    .await;
    for node in [1, 2] {
        group.node(node).unwrap().restart().await.unwrap();
    }
    group.all_run(NODES).await.unwrap();
    let published = running.grows(&running.server, PUBLISHED).await;
    eprintln!("two nodes are back: published after {published:?}");
    // Two that died alone, two together. The broker that had the redo log costs a confirm's time more.
    running.end_after(3).await;
}
