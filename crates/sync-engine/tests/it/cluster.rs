//! The cache is a Redis Cluster: one lost primary degrades its shards only.

use crate::rig::{PATIENCE, Rig, like, video};
use cache_manager::{Keys, RedisConfig};
use domain::ShardId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use sync_engine::accept::Acceptor;
use test_support::{RedisCluster, RedisOptions, eventually, expect_eq};

/// One video of this shard.
fn video_of(rig: &Rig, shard: ShardId) -> i64 {
    (1..10_000).find(|id| rig.sync.shards.of(video(*id)) == shard).unwrap()
}

/// Likes of new users, one after the other, until told to stop: how many, and how many of them around the cache.
async fn load(accept: Acceptor, video: i64, users: Arc<AtomicI64>, stop: Arc<AtomicBool>) -> (i64, i64) {
    let (mut answered, mut degraded) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let answer = accept.accept_one(like(users.fetch_add(1, Ordering::Relaxed), video)).await.unwrap();
        assert!(answer.liked && answer.changed, "{answer:?}");
        answered += 1;
        degraded += i64::from(answer.degraded);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (answered, degraded)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_primary_degrades_its_shards_only() {
    let cluster = RedisCluster::start(RedisOptions::default(), 3, true).await.unwrap();
    let mut rig = Rig::new().await;
    rig.redis = RedisConfig { nodes: cluster.addrs().unwrap(), cluster: true, ..rig.redis };
    let keys = Keys::new(rig.redis.key_prefix.clone(), rig.sync.shards);
    let mut homes = Vec::new();
    for shard in rig.sync.shards.all() {
        homes.push(cluster.primary_of(&keys.journal(shard)).await.unwrap());
    }
    let lost = homes[0];
    assert!(homes.iter().any(|home| *home != lost), "all shards on one primary: {homes:?}");

    let server = rig.process().await;
    server.watch();
    server.consume();
    server.rescue();
    let accept = server.server();
    let (users, stop) = (Arc::new(AtomicI64::new(1)), Arc::new(AtomicBool::new(false)));
    let mut loads = Vec::new();
    for shard in rig.sync.shards.all() {
        let (users, stop) = (Arc::clone(&users), Arc::clone(&stop));
        loads.push(tokio::spawn(load(accept.clone(), video_of(&rig, shard), users, stop)));
    }
    let begun = async |likes: i64| {
        let from = users.load(Ordering::Relaxed);
        eventually(PATIENCE, "likes", async || users.load(Ordering::Relaxed) > from + likes).await;
    };
    begun(100).await;

    cluster.node(lost).unwrap().kill9().unwrap();
    let circuits = &server.stores.shard_circuits;
    eventually(PATIENCE, "the circuit of a lost shard to open", async || circuits.is_open(ShardId(0))).await;
    begun(100).await;
    eventually(PATIENCE, "all shards", async || expect_eq(circuits.away(), Vec::new())).await;
    begun(100).await;
    stop.store(true, Ordering::Relaxed);
    let mut likes = 0;
    for (load, home) in loads.into_iter().zip(&homes) {
        let (answered, degraded) = load.await.unwrap();
        likes += answered;
        if *home == lost {
            assert!(degraded > 0, "its primary was lost, and nobody noticed");
        } else {
            assert_eq!(degraded, 0, "{degraded} of {answered} likes of another primary");
        }
    }
    assert!(!server.stores.cache_circuit.is_open());

    server.settled().await;
    assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes WHERE deleted_at IS NULL").await, likes);
    assert_eq!(rig.number("SELECT COUNT(*) FROM sync_events WHERE status <> 'completed'").await, 0);
    rig.assert_counts_are_live_rows().await;
    let videos: Vec<_> = rig.sync.shards.all().map(|shard| video(video_of(&rig, shard))).collect();
    server.assert_cache_agrees(&videos).await;
}
