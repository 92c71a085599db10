//! A cache whose clock jumps, and one whose disk is slow.

use crate::rig::{PATIENCE, Process, Rig, like, now_version, unlike, video};
use domain::cache::{CacheRules, UserLimit};
use event_store::EventStore;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sync_engine::Stores;
use test_support::{Deployment, Links, RedisOptions, eventually, expect_eq};

/// The documented minute, and what a test may take between two looks at the clock.
const BOUND_US: i64 = 61_000_000;

const HOUR_US: i64 = 3_600_000_000;

async fn rig() -> Rig {
    Rig::on(Deployment::build("engine").own_redis(RedisOptions::default()).preloaded()).await
}

/// One more process, whose users may do little.
async fn limited(rig: &Rig) -> Process {
    let limit = UserLimit { actions: 3, period: Duration::from_secs(1) };
    let cache = rig.redis.build(CacheRules { user_limit: Some(limit), ..rig.rules() }).unwrap();
    let database = EventStore::connect(&rig.database).await.unwrap();
    let process = rig.process_with(Stores::new(Arc::new(cache), database, rig.sync.shards, rig.sync.circuit));
    process.stores.prepare().await.unwrap();
    process
}

fn assert_near(version: domain::Version) {
    let ahead = version.0 - now_version();
    assert!(ahead <= BOUND_US, "{} s ahead", ahead / 1_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_ahead_dates_nothing_far_and_locks_nobody_out() {
    let mut rig = rig().await;
    let links = Links::to(&rig.deployment).await.unwrap();
    let consumer = rig.process().await;
    consumer.consume();
    rig.redis.url = links.redis.url_of(rig.deployment.redis().url()).into();
    let server = limited(&rig).await;
    let accept = server.server();
    server.watch();
    let clock = rig.deployment.redis().preload().unwrap();
    for (round, jump) in [(0, 8 * HOUR_US), (1, 24 * 365 * HOUR_US)] {
        let user = 10 * (1 + round);
        accept.accept_one(like(user, 1)).await.unwrap();
        assert_eq!(server.stores.clocks.wrong(), None);

        clock.set_clock(jump).unwrap();
        eventually(PATIENCE, "a clock that is said to be wrong", async || {
            let wrong = server.stores.clocks.wrong();
            wrong.filter(|wrong| wrong.contains("that of the cache is") && wrong.contains("ahead")).ok_or("none")
        })
        .await;
        let ahead = accept.accept_one(unlike(user, 1)).await.unwrap();
        assert!(!ahead.degraded && ahead.changed, "{ahead:?}");
        assert_near(ahead.version);
        assert_near(accept.accept_one(like(user, 2)).await.unwrap().version);
        // Around the cache, whose clock this process knows only from the jump.
        links.redis.cut().await;
        let around = accept.accept_one(like(user + 1, 1)).await.unwrap();
        assert!(around.degraded, "{around:?}");
        assert_near(around.version);
        links.redis.restore().await.unwrap();
        eventually(PATIENCE, "a closed circuit", async || !server.stores.cache_circuit.is_open()).await;
        // Its owner dies before the clock is back.
        let lease = format!("lease-{round}");
        let ttl = Duration::from_secs(1);
        assert!(consumer.stores.cache.acquire_lease(&lease, "gone", ttl).await.unwrap().is_some());

        clock.set_clock(0).unwrap();
        // Nobody is locked out: with the bounds of the jump a user would wait for as long as it was.
        let after = accept.accept_one(like(user, 1)).await.unwrap();
        assert!(after.changed && after.version > ahead.version, "{after:?}");
        assert_near(after.version);
        eventually(PATIENCE, "the lease of a dead owner", async || {
            consumer.stores.cache.acquire_lease(&lease, "heir", ttl).await.unwrap().is_some()
        })
        .await;
        eventually(PATIENCE, "clocks that agree", async || server.stores.clocks.wrong().is_none()).await;
        server.settled().await;
        let liked = format!("SELECT deleted_at IS NULL FROM video_likes WHERE user_id = {user} AND video_id = 1");
        assert_eq!(rig.number(&liked).await, 1, "the last word lost");
    }
    rig.assert_counts_are_live_rows().await;
    consumer.stop().await;
    drop(server);
    rig.end().await;
}

/// What a killed redis had only in its memory, because its disk held it up, comes from the memory of the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_dies_while_its_disk_is_slow_costs_nothing_while_servers_live() {
    let rig = rig().await;
    let redis = rig.deployment.redis();
    let server = rig.process().await;
    let accept = server.server();
    server.watch();
    let slow = redis.preload().unwrap();
    slow.slow_sync(Duration::from_secs(4)).unwrap();
    let mut user = 0;
    let began = Instant::now();
    while !server.stores.cache_disk.trouble(Instant::now()).is_some_and(|trouble| trouble.contains("too slow")) {
        user += 1;
        accept.accept_one(like(user, 1)).await.unwrap();
        assert!(began.elapsed() < PATIENCE, "its disk is slow, and the cache does not say so");
    }
    // Writes wait for at most two seconds: now some wait again.
    for _ in 0..200 {
        user += 1;
        accept.accept_one(like(user, 1)).await.unwrap();
    }
    redis.kill9().unwrap();
    slow.slow_sync(Duration::ZERO).unwrap();
    redis.restart().await.unwrap();
    eventually(PATIENCE, "a closed circuit", async || !server.stores.cache_circuit.is_open()).await;
    let consumer = rig.process().await;
    consumer.consume();
    consumer.rescue();
    eventually(PATIENCE, "every acknowledged like", async || {
        expect_eq(rig.number("SELECT COUNT(*) FROM video_likes WHERE deleted_at IS NULL").await, user)
    })
    .await;
    // Asked by a process that has no connection of before.
    consumer.settled().await;
    rig.assert_counts_are_live_rows().await;
    eventually(PATIENCE, "a served count that is the stored one", async || {
        let cached = consumer.cached(video(1)).await.map(|count| (count.served, count.pending));
        expect_eq(cached.unwrap_or((user, 0)), (user, 0))
    })
    .await;
    consumer.stop().await;
    drop(server);
    rig.end().await;
}

/// Before likes are refused there is time to make room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_is_nearly_full_says_so() {
    let rig = rig().await;
    let server = rig.process().await;
    server.watch();
    let redis = async |words: &[&str]| {
        let mut command = tokio::process::Command::new("redis-cli");
        let output = command.args(["-u", rig.deployment.redis().url()]).args(words).output().await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    // So much that a few connections more or less make no difference.
    redis(&["SETRANGE", "filler", "50000000", "x"]).await;
    let info = redis(&["INFO", "memory"]).await;
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().trim().parse::<u64>().unwrap();
    assert_eq!(server.stores.cache_disk.fullness(), None);
    let limit = used + used / 20;
    redis(&["CONFIG", "SET", "maxmemory", &limit.to_string()]).await;
    eventually(PATIENCE, "a memory that is nearly full", async || {
        server.stores.cache_disk.fullness().filter(|told| told.contains("% of maxmemory")).ok_or("none")
    })
    .await;
    redis(&["CONFIG", "SET", "maxmemory", "0"]).await;
    eventually(PATIENCE, "room", async || expect_eq(server.stores.cache_disk.fullness(), None)).await;
    server.stop().await;
    rig.end().await;
}
