//! The cache unreachable, wiped, or filled at the wrong moment: it is right again by itself.

use crate::racing::Racing;
use crate::rig::{PATIENCE, Process, Rig, event, like, now_version, unlike, video};
use domain::{Action, LikeIntent, PairState};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use sync_engine::Stores;
use sync_engine::accept::{Acceptor, LikeError};
use sync_engine::read::Reader;
use sync_engine::recover::catch_up::close_cache_circuit;
use test_support::build::video_pair;
use test_support::{Deployment, Links, Random, Redis, RedisOptions, eventually, expect_eq};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A fill that nobody confirms lives this long; what is right sooner was put right.
const SOON: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cache_learns_what_it_missed_before_it_serves_again() {
    let mut rig = Rig::new().await;
    let links = Links::to(&rig.deployment).await.unwrap();
    let consumer = rig.process().await;
    consumer.consume();
    let near = rig.cache();
    rig.redis.url = links.redis.url_of(rig.deployment.redis().url()).into();
    let server = rig.process().await;
    let accept = server.server();
    accept.accept_one(like(1, 1)).await.unwrap();
    server.settled().await;

    links.redis.cut().await;
    let answer = accept.accept_one(unlike(1, 1)).await.unwrap();
    assert!(answer.degraded && answer.changed && !answer.liked && answer.count == Some(0), "{answer:?}");
    let repeated = accept.accept_one(unlike(1, 1)).await.unwrap();
    // Written again: nobody can say here whether an older like is still on its way.
    assert!(repeated.degraded && repeated.changed && repeated.count == Some(0), "{repeated:?}");
    assert!(accept.accept_one(like(2, 1)).await.unwrap().degraded);
    // Already in the database, and noted there for the cache, which knows nothing of it.
    assert_eq!(rig.sql("SELECT user_id FROM video_likes WHERE deleted_at IS NULL").await, "2\n");
    assert_eq!(rig.number("SELECT COUNT(*) FROM cache_refreshes").await, 3);
    assert!(near.states(&[video_pair(1, 1)]).await.unwrap()[0].is_some_and(|state| state.liked));

    // The cache is back, and the list cannot be read for a while: until then the circuit stays open.
    let lock = rig.sql("LOCK TABLES cache_refreshes WRITE; SELECT SLEEP(1.5)");
    let rest = async {
        let locked = "SHOW OPEN TABLES WHERE `Table` = 'cache_refreshes' AND In_use > 0";
        eventually(PATIENCE, "the lock", async || !rig.sql(locked).await.is_empty()).await;
        server.watch();
        links.redis.restore().await.unwrap();
        while server.stores.cache_circuit.is_open() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        near.states(&[video_pair(1, 1)]).await.unwrap()[0]
    };
    let (_, state) = tokio::time::timeout(PATIENCE, async { tokio::join!(lock, rest) }).await.expect("stays open");
    assert!(state.is_some_and(|state| !state.liked), "the circuit closed over a stale pair: {state:?}");
    assert_eq!(rig.number("SELECT COUNT(*) FROM cache_refreshes").await, 0);

    let answer = accept.accept_one(like(1, 1)).await.unwrap();
    assert!(!answer.degraded && answer.changed && answer.count == Some(2), "{answer:?}");
    server.settled().await;
    assert_eq!(rig.number("SELECT like_count FROM like_counts").await, 2);
    server.assert_cache_agrees(&[video(1)]).await;
    consumer.stop().await;
    drop(server);
    rig.end().await;
}

/// One server is cut off from the cache and writes directly. Another one, whose cache was not told yet, must not take
/// the user's next wish for the one before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_pair_is_no_reason_for_unchanged() {
    let mut rig = Rig::new().await;
    let links = Links::to(&rig.deployment).await.unwrap();
    let consumer = rig.process().await;
    consumer.consume();
    let direct = rig.database.url.clone();
    rig.database.url = links.mariadb.url_of(rig.deployment.database_url()).into();
    let near = rig.process().await;
    rig.database.url = direct;
    rig.redis.url = links.redis.url_of(rig.deployment.redis().url()).into();
    let cut_off = rig.process().await;
    let (near_accept, far_accept) = (near.server(), cut_off.server());
    let liked = near_accept.accept_one(like(1, 1)).await.unwrap();
    near.settled().await;

    links.redis.cut().await;
    assert!(far_accept.accept_one(unlike(1, 1)).await.unwrap().degraded);
    let again = near_accept.accept_one(like(1, 1)).await.unwrap();
    assert!(again.changed && again.liked && again.version > liked.version, "{again:?}");
    near.settled().await;
    assert_eq!(rig.sql("SELECT user_id FROM video_likes WHERE deleted_at IS NULL").await, "1\n");
    // A wish that the row agrees with is still unchanged, also where many ask at once.
    let repeated = futures::future::join_all((0..50).map(|_| near_accept.accept_one(like(1, 1)))).await;
    assert!(repeated.iter().all(|answer| answer.as_ref().is_ok_and(|answer| !answer.changed)), "{repeated:?}");

    // Nobody can say what the row is: written again, which is always right.
    assert!(far_accept.accept_one(unlike(1, 1)).await.unwrap().degraded);
    links.mariadb.cut().await;
    let unsure = near_accept.accept_one(like(1, 1)).await.unwrap();
    assert!(unsure.changed && unsure.version > again.version, "{unsure:?}");
    near.settled().await;
    assert_eq!(rig.sql("SELECT user_id FROM video_likes WHERE deleted_at IS NULL").await, "1\n");
    consumer.stop().await;
    drop((near, cut_off));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_cannot_be_told_stays_out_until_it_is() {
    let mut rig = Rig::new().await;
    let links = Links::to(&rig.deployment).await.unwrap();
    let consumer = rig.process().await;
    consumer.consume();
    rig.redis.url = links.redis.url_of(rig.deployment.redis().url()).into();
    rig.database.url = links.mariadb.url_of(rig.deployment.database_url()).into();
    let server = rig.process().await;
    let accept = server.server();
    accept.accept_one(like(1, 1)).await.unwrap();
    server.settled().await;

    links.redis.cut().await;
    assert!(accept.accept_one(unlike(1, 1)).await.unwrap().degraded);
    links.mariadb.cut().await;
    server.stores.cache_circuit.trip(&"cut");
    server.stores.database_circuit.trip(&"cut");
    links.redis.restore().await.unwrap();
    eventually(PATIENCE, "a cache that answers", async || server.stores.cache.ping().await.is_ok()).await;

    // The cache still says "liked": a like by it would be no change, and lost.
    close_cache_circuit(&server.stores).await.unwrap();
    let refused = accept.accept_one(like(1, 1)).await;
    assert!(matches!(refused, Err(LikeError::Unavailable { .. })), "{refused:?}");

    links.mariadb.restore().await.unwrap();
    server.watch();
    eventually(PATIENCE, "closed circuits", async || {
        !server.stores.database_circuit.is_open() && !server.stores.cache_circuit.is_open()
    })
    .await;
    assert!(accept.accept_one(like(1, 1)).await.unwrap().changed);
    server.settled().await;
    assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes WHERE deleted_at IS NULL").await, 1);

    // Nothing was written around the cache since: it may serve without the database.
    server.stores.cache_circuit.trip(&"again");
    server.stores.database_circuit.trip(&"again");
    close_cache_circuit(&server.stores).await.unwrap();
    assert!(!server.stores.cache_circuit.is_open());
    consumer.stop().await;
    drop(server);
    rig.end().await;
}

/// A cache that stalls for less than its circuit needs makes single likes go around it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_stalls_keep_no_cache_out_later() {
    let mut rig = Rig::new().await;
    let links = Links::to(&rig.deployment).await.unwrap();
    rig.redis.url = links.redis.url_of(rig.deployment.redis().url()).into();
    rig.redis.response_timeout = Duration::from_millis(100);
    rig.database.url = links.mariadb.url_of(rig.deployment.database_url()).into();
    rig.sync.circuit.failures = 1_000;
    let server = rig.process().await;
    let accept = server.server();
    server.watch();
    for stall in 0..4 {
        links.redis.freeze();
        let thaw = async {
            tokio::time::sleep(Duration::from_millis(330)).await;
            links.redis.restore().await.unwrap();
        };
        let (answer, ()) = tokio::join!(accept.accept_one(like(1 + stall, 1)), thaw);
        assert!(answer.unwrap().degraded, "the stall was not felt");
    }
    // A write that could not tell the cache has opened it.
    eventually(PATIENCE, "a closed circuit", async || !server.stores.cache_circuit.is_open()).await;
    eventually(PATIENCE, "a cache that was told", async || {
        expect_eq(rig.number("SELECT COUNT(*) FROM cache_refreshes").await, 0)
    })
    .await;

    // The cache goes and comes back while the database is unreachable: it may serve at once.
    links.mariadb.cut().await;
    links.redis.cut().await;
    server.stores.database_circuit.trip(&"cut");
    server.stores.cache_circuit.trip(&"cut");
    links.redis.restore().await.unwrap();
    eventually(PATIENCE, "a cache that serves again", async || !server.stores.cache_circuit.is_open()).await;
    assert!(server.stores.database_circuit.is_open());
    let answer = accept.accept_one(like(9, 1)).await.unwrap();
    assert!(answer.changed, "{answer:?}");
    drop(server);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_flushes_under_load_all_is_right_once_quiet() {
    let rig =
        Rig::on(Deployment::build("engine").own_redis(RedisOptions { appendonly: false, ..RedisOptions::default() }))
            .await;
    let (server, consumer) = (rig.process().await, rig.process().await);
    let accept = server.server();
    consumer.consume();
    consumer.rescue();

    let end = Arc::new(AtomicBool::new(false));
    let load = |users: std::ops::Range<i64>| like_for_a_while(accept.clone(), users, Arc::clone(&end));
    let flushes = async {
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(250)).await;
            flush_all(rig.deployment.redis()).await;
        }
        // Who was liked before the last flush only is not cached, and nobody asks.
        let all: Vec<_> = (1..=VIDEOS).map(video).collect();
        eventually(PATIENCE, "a like of every video", async || {
            let cached = server.stores.cache.counts(&all).await.map_err(|error| error.to_string())?;
            expect_eq(cached.iter().filter(|count| count.is_some()).count(), all.len())
        })
        .await;
        end.store(true, Ordering::SeqCst);
    };
    let (one, other, third, ()) = tokio::join!(load(1..20), load(20..40), load(40..60), flushes);
    let last: HashMap<(i64, i64), bool> = one.into_iter().chain(other).chain(third).collect();
    assert!(last.len() > 100, "no load: {}", last.len());

    let mut expected: Vec<String> =
        last.iter().filter(|(_, liked)| **liked).map(|((user, video), _)| format!("{user}\t{video}")).collect();
    expected.sort();
    eventually(PATIENCE, "everybody's last like in the database", async || {
        let rows = rig.sql("SELECT user_id, video_id FROM video_likes WHERE deleted_at IS NULL").await;
        let mut rows: Vec<&str> = rows.lines().collect();
        rows.sort_unstable();
        let wrong = rows.iter().filter(|row| !expected.iter().any(|e| e == *row)).count();
        expect_eq((rows.len(), wrong), (expected.len(), 0))
    })
    .await;
    server.settled().await;
    rig.assert_counts_are_live_rows().await;
    let resources: Vec<_> = (1..=VIDEOS).map(video).collect();
    eventually(SOON, "cached counts that are the stored ones", async || {
        let cached = server.stores.cache.counts(&resources).await.unwrap();
        let stored = server.stores.database.load_counts(&resources).await.unwrap();
        let shown: Vec<_> = cached.iter().map(|c| c.map(|c| (c.served, c.pending))).collect();
        let wanted: Vec<_> = stored.iter().map(|stored| Some((stored.count, 0))).collect();
        expect_eq(shown, wanted)
    })
    .await;
    consumer.stop().await;
    drop(server);
    rig.end().await;
}

const VIDEOS: i64 = 6;

/// Everybody's last action; a pair's actions never overlap.
async fn like_for_a_while(
    accept: Acceptor,
    users: std::ops::Range<i64>,
    end: Arc<AtomicBool>,
) -> HashMap<(i64, i64), bool> {
    let mut random = Random(users.start as u64);
    let mut last = HashMap::new();
    while !end.load(Ordering::SeqCst) {
        let user = users.start + random.below((users.end - users.start) as u64);
        let video = 1 + random.below(VIDEOS as u64);
        let liked = random.below(3) > 0;
        let intent = if liked { like(user, video) } else { unlike(user, video) };
        let answer = accept.accept_one(intent).await.unwrap();
        assert!(!answer.degraded && answer.liked == liked, "{answer:?}");
        last.insert((user, video), liked);
    }
    last
}

async fn flush_all(redis: &Redis) {
    let mut stream = tokio::net::TcpStream::connect(redis.addr().unwrap()).await.unwrap();
    stream.write_all(b"FLUSHALL\r\n").await.unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"+OK\r\n");
}

/// A process whose fills come too late: somebody else commits between its reading the database and its filling the cache.
async fn racing_process(rig: &Rig, user: i64, id: i64) -> Process {
    let other = rig.process().await;
    let late = event(user, id, Action::Like, now_version());
    let cache = Arc::new(Racing::new(rig.cache(), other.applier.clone(), late));
    let database = other.stores.database.clone();
    let process = rig.process_with(Stores::new(cache, database, rig.sync.shards, rig.sync.circuit));
    process.stores.prepare().await.unwrap();
    process
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_that_was_old_when_it_was_filled_is_put_right() {
    let rig = Rig::new().await;
    let process = racing_process(&rig, 5, 1).await;
    let reader = Reader::new(process.stores.clone(), process.recheck());
    assert_eq!(reader.counts(&[video(1)]).await.unwrap().values, [0], "the race was not met");
    eventually(SOON, "the committed count in the cache", async || {
        expect_eq(process.cached(video(1)).await.map(|count| count.served), Some(1))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_was_old_when_it_was_filled_is_put_right() {
    let rig = Rig::new().await;
    let process = racing_process(&rig, 8, 3).await;
    let pair = video_pair(8, 3);
    let reader = Reader::new(process.stores.clone(), process.recheck());
    assert_eq!(reader.states(&[pair]).await.unwrap().values, [PairState::UNTOUCHED], "the race was not met");
    eventually(SOON, "the committed state in the cache", async || {
        let state = process.stores.cache.states(&[pair]).await.unwrap()[0];
        expect_eq(state.map(|state| state.liked), Some(true))
    })
    .await;
}

/// A call that the cache did not take waits at the database; meanwhile the cache is back, and was never given up. Whoever reads
/// next at this server sees the word, and so does its repetition elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_serving_cache_is_told_of_a_write_around_it_before_the_answer() {
    // Of its own: it looks at everybody's transactions.
    let mut rig = Rig::with_own_database().await;
    let links = Links::to(&rig.deployment).await.unwrap();
    let near = rig.process().await;
    near.consume();
    rig.redis.url = links.redis.url_of(rig.deployment.redis().url()).into();
    rig.sync.circuit.failures = 1_000;
    let process = rig.process().await;
    let accept = process.server();
    accept.accept_one(like(1, 1)).await.unwrap();
    process.settled().await;

    let word = LikeIntent { idempotency_key: Some("k".to_owned()), ..unlike(1, 1) };
    let hold = rig.sql("START TRANSACTION; SELECT 1 FROM like_counts FOR UPDATE; DO SLEEP(1.5); ROLLBACK");
    let write = async {
        let held = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_rows_locked > 0";
        eventually(PATIENCE, "the lock", async || rig.number(held).await > 0).await;
        links.redis.cut().await;
        let waiting = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'";
        let back = async {
            eventually(PATIENCE, "a write that waits", async || rig.number(waiting).await > 0).await;
            links.redis.restore().await.unwrap();
        };
        let (answer, ()) = tokio::join!(accept.accept_one(word.clone()), back);
        answer.unwrap()
    };
    let (_, answer) = tokio::join!(hold, write);
    assert!(answer.degraded && answer.changed && !answer.liked, "{answer:?}");
    assert!(!process.stores.cache_circuit.is_open(), "the cache was given up");

    let reader = Reader::new(process.stores.clone(), process.recheck());
    let read = reader.states(&[video_pair(1, 1)]).await.unwrap();
    assert_eq!(read.values, [PairState { liked: false, version: answer.version }]);
    assert!(!read.degraded, "it was not the cache that answered");
    let repeated = near.server().accept_one(word).await.unwrap();
    assert!(repeated.changed && repeated.version == answer.version, "written again under its key: {repeated:?}");
    near.stop().await;
    drop(process);
    rig.end().await;
}
