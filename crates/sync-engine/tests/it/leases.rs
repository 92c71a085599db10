//! Leases are for those who can do the work.

use crate::rig::{PATIENCE, Process, Rig, like};
use domain::cache::LikeCache;
use std::time::{Duration, Instant};
use sync_engine::operate::retention::Retention;
use sync_engine::{RetentionConfig, SyncConfig};
use test_support::{eventually, unique_name};

/// Waits until some process holds this lease.
async fn held(cache: &dyn LikeCache, lease: &str) {
    eventually(PATIENCE, "a holder of the lease", async || !free(cache, lease).await).await;
}

/// Whether nobody holds this lease, which is left as it is.
async fn free(cache: &dyn LikeCache, lease: &str) -> bool {
    let free = cache.acquire_lease(lease, "onlooker", Duration::from_millis(200)).await.unwrap().is_some();
    cache.release_lease(lease, "onlooker").await.unwrap();
    free
}

/// Nothing probes this process, so its circuit stays open as if the link was cut.
fn cut_off_from_the_database(process: &Process) {
    process.stores.database_circuit.trip(&"the link is cut");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rescuer_without_the_database_leaves_the_work_to_others() {
    let rig = Rig::new().await;
    let (one, other) = (rig.process().await, rig.process().await);
    one.rescue();
    held(&*one.stores.cache, "rescue").await;
    cut_off_from_the_database(&one);
    // Else it could publish what is stuck, as long as there is a broker, and nobody would apply it without one.
    let cache = &*one.stores.cache;
    eventually(PATIENCE, "a free lease", async || free(cache, "rescue").await).await;

    let accept = other.dying_server();
    for user in 1..=3 {
        assert!(accept.accept_one(like(user, 1)).await.unwrap().changed);
    }
    drop(accept);
    other.consume();
    other.rescue();
    other.settled().await;
    assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes WHERE deleted_at IS NULL").await, 3);
    other.stop().await;
    drop(one);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_without_the_database_gives_its_lease_back() {
    let rig = Rig::new().await;
    let process = rig.process().await;
    let config = RetentionConfig { interval: Duration::from_millis(20), ..RetentionConfig::default() };
    let retention = Retention::new(
        process.stores.clone(),
        unique_name("owner"),
        &SyncConfig { retention: config, ..SyncConfig::default() },
    );
    let running = tokio::spawn(retention.run(process.soft.clone()));
    let cache = &*process.stores.cache;
    held(cache, "retention").await;
    cut_off_from_the_database(&process);
    let cut = Instant::now();
    eventually(PATIENCE, "a free lease", async || free(cache, "retention").await).await;
    assert!(cut.elapsed() < Duration::from_secs(15), "it only ran out, after {:?}", cut.elapsed());
    process.soft.cancel();
    running.await.unwrap();
    rig.end().await;
}
