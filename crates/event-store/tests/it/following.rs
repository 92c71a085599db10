//! Several servers: whichever of them writes is the one that is used, and nothing else ever.

use crate::support::{at, like};
use domain::ShardCount;
use event_store::{DatabaseConfig, EventStore};
use std::time::Duration;
use test_support::{MariaDbGroup, MariaDbOptions, Proxy, eventually, lease_port};

const PATIENCE: Duration = Duration::from_secs(30);

/// A schema on a primary with one replica.
async fn group() -> MariaDbGroup {
    let options = MariaDbOptions { durable: false, ..MariaDbOptions::default() };
    let group = MariaDbGroup::start(options, 1).await.unwrap();
    group.sql(0, "CREATE DATABASE likes").await.unwrap();
    let store = EventStore::connect(&config(&group, 0, "root@")).await.unwrap();
    store.migrate().await.unwrap();
    store.bind_shards(ShardCount::default()).await.unwrap();
    group.caught_up(1, 0).await.unwrap();
    group
}

fn config(group: &MariaDbGroup, node: usize, login: &str) -> DatabaseConfig {
    let url = group.node(node).unwrap().url().replace("root@", login).replace("/test", "/likes");
    let connect_timeout = Duration::from_secs(2);
    DatabaseConfig { url: url.into(), max_connections: 4, connect_timeout, ..DatabaseConfig::default() }
}

/// By the list alone: nobody listens at the url.
fn at_hosts(hosts: Vec<String>) -> DatabaseConfig {
    let url = format!("mysql://{}127.0.0.1:1/likes", MariaDbGroup::APP);
    let connect_timeout = Duration::from_secs(2);
    DatabaseConfig { url: url.into(), hosts, max_connections: 4, connect_timeout, ..DatabaseConfig::default() }
}

async fn writes(store: &EventStore, user: i64) -> Result<(), String> {
    store.apply(&[like(user, 7, user)], at(1_000)).await.map(drop).map_err(|error| error.to_string())
}

async fn likes(group: &MariaDbGroup, node: usize) -> String {
    group.sql(node, "SELECT COUNT(*) FROM likes.video_likes").await.unwrap().trim().to_owned()
}

#[tokio::test]
async fn the_one_that_writes_is_found_wherever_it_stands_in_the_list() {
    let group = group().await;
    let (nobody, silent) = (lease_port().unwrap(), Proxy::start(group.node(1).unwrap().addr().unwrap()).await.unwrap());
    silent.freeze();
    let mut hosts = vec![nobody.addr(), silent.addr().to_string()];
    hosts.extend(group.addrs().unwrap().into_iter().rev());
    let store = EventStore::connect(&at_hosts(hosts)).await.unwrap();
    writes(&store, 1).await.unwrap();
    for (user, from, to) in [(2, 0, 1), (3, 1, 0)] {
        group.switch(from, to).await.unwrap();
        eventually(PATIENCE, "a commit by the new primary", || writes(&store, user)).await;
        eventually(PATIENCE, "the probe", || store.probe()).await;
        assert_eq!(likes(&group, to).await, user.to_string());
        group.caught_up(from, to).await.unwrap();
    }
}

#[tokio::test]
async fn a_primary_that_is_killed_is_replaced_by_the_one_that_was_promoted() {
    let group = group().await;
    let store = EventStore::connect(&at_hosts(group.addrs().unwrap())).await.unwrap();
    writes(&store, 1).await.unwrap();
    group.caught_up(1, 0).await.unwrap();
    group.node(0).unwrap().kill9().unwrap();
    let error = store.probe().await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    group.promote(1).await.unwrap();
    eventually(PATIENCE, "a commit by the promoted one", || writes(&store, 2)).await;

    // The old one comes back and writes, too: which one is right nobody here can tell. Who is connected stays so.
    group.node(0).unwrap().restart().await.unwrap();
    writes(&store, 3).await.unwrap();
    let other = EventStore::connect(&at_hosts(group.addrs().unwrap())).await.unwrap();
    let error = writes(&other, 4).await.unwrap_err();
    assert!(error.contains("both say that they write"), "{error}");
    group.sql(0, "SET GLOBAL read_only = ON").await.unwrap();
    eventually(PATIENCE, "one that writes", || writes(&other, 4)).await;
    assert_eq!(likes(&group, 1).await, "4");
}

/// An administrator can write where everybody else may only read.
#[tokio::test]
async fn a_replica_is_not_written_to_although_it_would_take_it() {
    let group = group().await;
    let url = config(&group, 1, "root@");
    let store = EventStore::connect(&url).await.unwrap();
    for error in [store.ping().await, store.probe().await, store.apply(&[like(1, 7, 1)], at(1_000)).await.map(drop)] {
        let error = error.unwrap_err();
        assert!(error.is_unavailable() && error.only_reads_there(), "{error}");
        assert!(error.to_string().contains("database.hosts"), "{error}");
    }
    assert_eq!(likes(&group, 1).await, "0");

    // Nor where it is demoted while we are connected: the probe finds out.
    let store = EventStore::connect(&config(&group, 0, "root@")).await.unwrap();
    writes(&store, 1).await.unwrap();
    group.sql(0, "SET GLOBAL read_only = ON").await.unwrap();
    assert!(store.probe().await.unwrap_err().only_reads_there());
    assert!(writes(&store, 2).await.is_err());
    assert_eq!(likes(&group, 0).await, "1");
    group.sql(0, "SET GLOBAL read_only = OFF").await.unwrap();
    eventually(PATIENCE, "the probe", || store.probe()).await;
    writes(&store, 2).await.unwrap();
}
