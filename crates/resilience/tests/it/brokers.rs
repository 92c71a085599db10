//! Three brokers that are one cluster: a node dies, most of them die, and a backlog stays what it is.

use crate::running::{APPLIED, PATIENCE, Running, count};
use std::time::Duration;
use test_support::{Deployment, RabbitMqGroup, eventually};

const NODES: usize = 3;

/// Confirmed by the brokers.
const PUBLISHED: &str = "published_events_total";

/// What the rescuer took for lost and published again.
const REPUBLISHED: &str = "rescued_events_total{how=\"republished\"}";

async fn deployment(group: &RabbitMqGroup) -> Deployment {
    let url = group.node(0).unwrap().url();
    let deployment = Deployment::build("brokers").rabbitmq_at(url).start().await.unwrap();
    // As old as a second is old enough to be taken for lost, if the queue is believed to be empty.
    let hosts = group.addrs().unwrap().join(",");
    deployment.with_all(&[("RABBITMQ__HOSTS", hosts.as_str()), ("EVENT_DRIVEN_SYNC__REPUBLISH_AFTER", "1s")])
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
    running.end().await;
}

/// A cluster that has just lost its leader counts no message and no consumer, and that is not an empty queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_is_not_published_again_when_its_leader_dies() {
    let group = RabbitMqGroup::start(NODES).await.unwrap();
    let running = Running::start(deployment(&group).await).await;
    running.consumer.pause().unwrap();
    let backlog = count(&running.server, PUBLISHED).await.unwrap() + 2_000.0;
    eventually(PATIENCE, "a backlog", async || {
        let now = count(&running.server, PUBLISHED).await?;
        if now >= backlog { Ok(()) } else { Err(format!("{now} of {backlog}")) }
    })
    .await;
    let before = count(&running.server, REPUBLISHED).await.unwrap_or(0.0);
    let leader = group.leader(&running.deployment.queue()).await.unwrap();
    group.node(leader).unwrap().kill9().unwrap();
    // Several rounds of the rescuer, with and without a leader.
    running.grows(&running.server, PUBLISHED).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let again = count(&running.server, REPUBLISHED).await.unwrap_or(0.0) - before;
    group.node(leader).unwrap().restart().await.unwrap();
    group.all_run(NODES).await.unwrap();
    running.consumer.resume().unwrap();
    running.end().await;
    // What was on its way to the leader when it died has no confirm, and goes again.
    assert!(again <= 500.0, "{again} of a backlog of 2000 published again");
}
