//! Three brokers that are one cluster: a node dies, most of them die, and a backlog stays what it is.
//!
//! `BROKER_BACKLOG=100000` for a large one; it takes optimized programs to make it in a minute.

use crate::running::{APPLIED, PATIENCE, PUBLISHED, Running, count};
use std::time::Duration;
use test_support::{Deployment, RabbitMqGroup, eventually};

const NODES: usize = 3;

/// What the rescuer took for lost and published again.
const REPUBLISHED: &str = "interaction_rescued_events_total{how=\"republished\"}";

/// From a broker's death until the next confirms. Measured: 1 to 2 s on a machine that does nothing else, one of them the wait for
/// the redo log.
const ELSEWHERE: Duration = Duration::from_secs(10);

/// Likes a second.
const RATE: u32 = 200;

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
    // Two that died alone, two together. The broker that had the redo log costs a confirm's time more.
    running.end_after(3).await;
}

fn backlog() -> u32 {
    std::env::var("BROKER_BACKLOG").ok().and_then(|backlog| backlog.parse().ok()).unwrap_or(2_000)
}

/// A cluster that has just lost its leader counts no message and no consumer, and that is not an empty queue. The consumer stands
/// still in the middle of whatever it does, with rows locked or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_is_not_published_again_when_its_leader_dies() {
    let group = RabbitMqGroup::start(NODES).await.unwrap();
    let backlog = backlog();
    let running = Running::start_at_rate(deployment(&group).await, (backlog / 25).max(RATE)).await;
    running.consumer.pause().unwrap();
    running.grows_by(&running.server, PUBLISHED, backlog.into(), 3 * PATIENCE).await;
    let before = count(&running.server, REPUBLISHED).await.unwrap();
    let leader = group.leader(&running.deployment.queue()).await.unwrap();
    group.node(leader).unwrap().kill9().unwrap();
    let published = running.grows(&running.server, PUBLISHED).await;
    eprintln!("node {leader} killed with {backlog} waiting: published after {published:?}");
    assert!(published < ELSEWHERE, "{published:?}");
    // Several rounds of the rescuer, with and without a leader.
    running.grows_by(&running.server, PUBLISHED, (5 * RATE).into(), PATIENCE).await;
    let again = count(&running.server, REPUBLISHED).await.unwrap() - before;
    assert!(again == 0.0, "{again} of {backlog} published again");
    group.node(leader).unwrap().restart().await.unwrap();
    group.all_run(NODES).await.unwrap();
    running.consumer.resume().unwrap();
    running.all_arrives().await;
    let again = running.relayed_again().await;
    eprintln!("{again} relayed again");
    assert!(again <= 500, "{again} relayed again");
    running.ends_well(1).await;
}
