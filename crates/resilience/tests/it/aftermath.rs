//! What a failure that is over leaves behind.

use crate::planted::finds;
use domain::Action::Like;
use std::time::UNIX_EPOCH;
use sync_engine::recover::catch_up::close_cache_circuit;
use test_support::{Redis, RedisOptions};

const DAY_US: i64 = 24 * 3_600_000_000;

/// The documented minute, and a second for the test.
const BOUND_US: i64 = 61_000_000;

#[tokio::test]
async fn untold_forever() {
    finds("untold_forever", "stays out", async |rig| {
        let process = rig.process().await;
        process.stores.cache_circuit.trip(&"unplugged");
        let answer = process.accept(&process.dying_server(), 1, Like).await;
        assert!(answer.degraded, "{answer:?}");
        close_cache_circuit(&process.stores).await.unwrap();
        // The cache was told. Later it goes and comes back while the database is away.
        process.stores.database_circuit.trip(&"unplugged");
        process.stores.cache_circuit.trip(&"unplugged");
        close_cache_circuit(&process.stores).await.unwrap();
        if process.stores.cache_circuit.is_open() { Err("a cache that knows all stays out".to_owned()) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn any_clock_believed() {
    finds("any_clock_believed", "ahead", async |rig| {
        let redis = Redis::start(RedisOptions { preload: true, ..RedisOptions::default() }).await.unwrap();
        redis.preload().unwrap().set_clock(DAY_US).unwrap();
        let process = rig.process_at(redis.url()).await;
        let accepted = process.accept(&process.dying_server(), 1, Like).await;
        process.stores.cache_circuit.trip(&"unplugged");
        let around = process.accept(&process.dying_server(), 2, Like).await;
        assert!(around.degraded, "{around:?}");
        let now = test_support::wall_clock().duration_since(UNIX_EPOCH).unwrap();
        let latest = i64::try_from(now.as_micros()).unwrap() + BOUND_US;
        match [accepted, around].iter().find(|answer| answer.version.0 > latest) {
            None => Ok(()),
            Some(answer) => {
                Err(format!("dated {} us further ahead than may be: {answer:?}", answer.version.0 - latest))
            }
        }
    })
    .await;
}
