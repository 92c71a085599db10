//! An emptied cache, and everybody comes at once.

use crate::rig::{PATIENCE, Rig, like, video};
use domain::Resource;
use std::time::Duration;
use sync_engine::read::Reader;
use test_support::{Deployment, RedisOptions, eventually, expect_eq};
use tokio::task::JoinSet;
use tokio::time::Instant;

const CALLS: usize = 400;

/// The database is asked for each counter once and once more to look again, not by every call; likes do not wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_loss_of_the_cache_each_counter_is_loaded_once() {
    let deployment = Deployment::build("cold").own_redis(RedisOptions::default()).own_mariadb();
    let rig = Rig::on(deployment).await;
    let process = rig.process().await;
    let (acceptor, reader) = (process.server(), Reader::new(process.stores.clone(), process.recheck()));
    process.consume();
    for user in 1..=3 {
        acceptor.accept_one(like(user, 7)).await.unwrap();
    }
    process.settled().await;
    // What the first like loaded is shared for 100 ms; whoever empties the cache within them is shown it again until the next check.
    tokio::time::sleep(Duration::from_millis(200)).await;
    rig.deployment.redis().cli(&["FLUSHALL"]).await.unwrap();

    let resources: Vec<Resource> = (1..=500).map(video).collect();
    let questions = "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'COM_SELECT'";
    let before = rig.number(questions).await;
    let began = Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..CALLS {
        let (reader, resources) = (reader.clone(), resources.clone());
        calls.spawn(async move { reader.counts(&resources).await.unwrap() });
    }
    let liked = acceptor.accept_one(like(4, 7)).await.unwrap();
    let like_took = began.elapsed();
    assert_eq!(liked.count, Some(4));
    while let Some(read) = calls.join_next().await {
        let read = read.unwrap();
        assert!(!read.degraded && [3, 4].contains(&read.values[6]), "{:?}", &read.values[..8]);
        assert!(read.values.iter().enumerate().all(|(i, count)| i == 6 || *count == 0));
    }
    let took = began.elapsed();
    let asked = rig.number(questions).await - before;
    println!("{CALLS} calls took {took:?}, a like beside them {like_took:?}; {asked} queries");
    // A flight of 100 ms or less takes all who come meanwhile; the others are looks of everything that runs beside.
    assert!(asked < CALLS as i64 / 4, "{asked} queries");
    eventually(PATIENCE, "cached counters", async || {
        let cached = process.stores.cache.counts(&resources).await.map_err(|error| error.to_string())?;
        expect_eq(cached.iter().flatten().count(), resources.len())
    })
    .await;
    assert!(took < Duration::from_secs(30));
    rig.end().await;
}
