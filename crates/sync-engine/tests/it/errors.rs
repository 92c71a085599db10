//! Errors of stores that are nobody's fault: likes go on, nothing is parked, nothing ends, and all arrives when the cause is
//! gone. Each is produced by a real server.

use crate::rig::{PATIENCE, Process, Rig, like, video};
use domain::WritePath;
use sync_engine::accept::{Acceptor, Call, LikeError};
use sync_engine::stores::circuit_breaker::Circuit;
use test_support::{Deployment, Links, RedisOptions, eventually, expect_eq};

pub(crate) async fn is_open(circuit: &Circuit, open: bool, what: &str) {
    eventually(PATIENCE, what, async || expect_eq(circuit.is_open(), open)).await;
}

/// Likes by these users, each answered.
async fn accepted(accept: &Acceptor, users: std::ops::RangeInclusive<i64>) {
    for user in users {
        let answer = accept.accept_one(like(user, 1)).await.unwrap();
        assert!(answer.liked && answer.changed, "{answer:?}");
    }
}

/// Everything is in the database, once, and nobody was blamed.
async fn all_arrived(rig: &Rig, process: &Process, likes: i64) {
    process.settled().await;
    assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes WHERE deleted_at IS NULL").await, likes);
    assert_eq!(rig.number("SELECT COUNT(*) FROM sync_events WHERE status <> 'completed'").await, 0);
    rig.assert_counts_are_live_rows().await;
    process.assert_cache_agrees(&[video(1)]).await;
}

async fn redis_cli(rig: &Rig, words: &[&str]) {
    let mut command = tokio::process::Command::new("redis-cli");
    let output = command.args(["-u", rig.deployment.redis().url()]).args(words).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("OK"), "{words:?}: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn likes_go_on_while_the_cache_misses_a_right_has_no_room_or_only_reads() {
    let rig = Rig::on(Deployment::build("engine").own_redis(RedisOptions::default())).await;
    let server = rig.process().await;
    server.watch();
    server.consume();
    // What was committed and could not be settled.
    server.rescue();
    let accept = server.server();
    accepted(&accept, 1..=5).await;
    let mut users = 5;
    for (spoil, mend, says) in [
        (&["ACL", "SETUSER", "default", "-xadd"][..], &["ACL", "SETUSER", "default", "+xadd"][..], "ACL SETUSER"),
        // What likes that are accepted do without, and settlements and fills do not.
        (&["ACL", "SETUSER", "default", "-xdel"], &["ACL", "SETUSER", "default", "+xdel"], "+xdel"),
        (&["ACL", "SETUSER", "default", "-expire"], &["ACL", "SETUSER", "default", "+expire"], "+expire"),
        (&["CONFIG", "SET", "maxmemory", "1"], &["CONFIG", "SET", "maxmemory", "0"], "maxmemory"),
        (&["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"], "replica"),
    ] {
        server.settled().await;
        redis_cli(&rig, spoil).await;
        accepted(&accept, users + 1..=users + 10).await;
        users += 10;
        let circuit = &server.stores.cache_circuit;
        is_open(circuit, true, "the circuit of the cache to open").await;
        let last = circuit.last_error().unwrap();
        assert!(last.text.contains(says), "{last:?} does not say {says}");
        redis_cli(&rig, mend).await;
        is_open(circuit, false, "the circuit of the cache to close").await;
        accepted(&accept, users + 1..=users + 5).await;
        users += 5;
    }
    all_arrived(&rig, &server, users).await;
    server.stop().await;
    rig.end().await;
}

/// Redis has no room, and the likes that fill it are in its journal alone: they are brought on, which makes room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_cache_alone_has_is_brought_on() {
    let rig = Rig::on(Deployment::build("engine").own_redis(RedisOptions::default())).await;
    let process = rig.process().await;
    let nobody_relays = process.dying_server();
    accepted(&nobody_relays, 1..=20).await;
    drop(nobody_relays);
    redis_cli(&rig, &["CONFIG", "SET", "maxmemory", "1"]).await;
    process.watch();
    is_open(&process.stores.cache_circuit, true, "the circuit of the cache to open").await;
    process.consume();
    process.rescue();
    eventually(PATIENCE, "an empty journal", async || expect_eq(process.journal_len().await, 0)).await;
    assert!(process.stores.cache_circuit.is_open(), "there was no room all the time");
    redis_cli(&rig, &["CONFIG", "SET", "maxmemory", "0"]).await;
    is_open(&process.stores.cache_circuit, false, "the circuit of the cache to close").await;
    all_arrived(&rig, &process, 20).await;
    process.stop().await;
    rig.end().await;
}

/// Somebody shuts the journal of one shard with an id above all of ours. Likes of the other shards go well, each of them more
/// often than a probe fails, and all the same the circuit opens, says the key, and stays open until that is gone. What the journal
/// holds is brought on meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_somebody_shut_is_found_emptied_and_named() {
    let rig = Rig::on(Deployment::build("engine").own_redis(RedisOptions::default())).await;
    let process = rig.process().await;
    let nobody_relays = process.dying_server();
    accepted(&nobody_relays, 1..=20).await;
    drop(nobody_relays);
    let shards = rig.sync.shards;
    let keys = cache_manager::Keys::new(rig.redis.key_prefix.clone(), shards);
    let journal = keys.journal(shards.of(video(1)));
    let shut = "redis.call('XADD', KEYS[1], ARGV[1], 'a', 'b') return redis.status_reply('OK')";
    redis_cli(&rig, &["EVAL", shut, "1", &journal, "18446744073709551615-18446744073709551615"]).await;

    let elsewhere = (2..).find(|id| shards.of(video(*id)) != shards.of(video(1))).unwrap();
    let (accept, circuit) = (process.server(), &process.stores.cache_circuit);
    process.watch();
    let likes = std::cell::Cell::new(20);
    eventually(PATIENCE, "the circuit of the cache to open", async || {
        for _ in 0..5 {
            likes.set(likes.get() + 1);
            accept.accept_one(like(likes.get(), elsewhere)).await.unwrap();
        }
        expect_eq(circuit.is_open(), true)
    })
    .await;
    let last = circuit.last_error().unwrap();
    assert!(last.text.contains(&journal) && last.text.contains("DEL it"), "{last:?}");
    process.consume();
    process.rescue();
    eventually(PATIENCE, "nothing but the foreign entry", async || expect_eq(process.journal_len().await, 1)).await;
    assert!(circuit.is_open(), "it takes no like of that shard");
    let first = likes.get() + 1;
    accepted(&accept, first..=first + 4).await;

    let gone = "redis.call('DEL', KEYS[1]) return redis.status_reply('OK')";
    redis_cli(&rig, &["EVAL", gone, "1", &journal]).await;
    is_open(circuit, false, "the circuit of the cache to close").await;
    accepted(&accept, first + 5..=first + 9).await;
    all_arrived(&rig, &process, first + 9).await;
    process.stop().await;
    rig.end().await;
}

/// Everybody waits, whoever starts meanwhile too, and one line says what is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn likes_wait_while_the_database_gives_too_few_rights() {
    let mut rig = Rig::with_own_database().await;
    rig.process().await;
    // Whatever the server gives to everybody is taken away.
    rig.sql("DELETE FROM mysql.db; FLUSH PRIVILEGES; CREATE USER app@'%' IDENTIFIED BY 'pw'").await;
    rig.sql("GRANT SELECT ON *.* TO app@'%'").await;
    rig.database.url = rig.deployment.database_url().replace("root@", "app:pw@").into();
    let stores = rig.stores().await;
    stores.prepare().await.unwrap();
    let server = rig.process_with(stores);
    assert!(server.stores.database_circuit.is_open(), "a database that takes no likes is taken for well");
    let last = server.stores.database_circuit.last_error().unwrap();
    assert!(last.text.contains("it is granted by: GRANT"), "{last:?}");
    server.watch();
    server.consume();
    let accept = server.server();
    accepted(&accept, 1..=20).await;
    assert_eq!(server.journal_len().await, 20);

    rig.sql("GRANT INSERT, UPDATE, DELETE ON *.* TO app@'%'").await;
    all_arrived(&rig, &server, 20).await;
    is_open(&server.stores.database_circuit, false, "the circuit of the database to close").await;
    server.stop().await;
    rig.end().await;
}

/// A batch that the server does not take in one statement is taken in several.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_are_too_long_for_the_database_are_split() {
    let rig = Rig::with_own_database().await;
    let server = rig.process().await;
    rig.sql("SET GLOBAL max_allowed_packet = 16384").await;
    let dying = server.dying_server();
    accepted(&dying, 1..=300).await;
    // A process that connects now is told the limit.
    let consumer = rig.process().await;
    consumer.watch();
    consumer.rescue();
    consumer.consume();
    all_arrived(&rig, &consumer, 300).await;
    assert!(!consumer.stores.database_circuit.is_open(), "{:?}", consumer.stores.database_circuit.last_error());
    consumer.stop().await;
    rig.end().await;
}

/// A call that is written in several transactions, of which the last one waits for too long: what is committed is answered as that,
/// and never as expired, with a cache and without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_comes_too_late_leaves_those_before_it_their_answers() {
    const VIDEO: i64 = i64::MAX - 1_000;
    for path in [WritePath::EventDriven, WritePath::Synchronous] {
        let mut rig = Rig::with_own_database().await;
        let links = Links::to(&rig.deployment).await.unwrap();
        rig.redis.url = links.redis.url_of(rig.deployment.redis().url()).into();
        rig.sql("SET GLOBAL max_allowed_packet = 16384").await;
        let server = rig.process().await;
        if path == WritePath::EventDriven {
            links.redis.cut().await;
        }
        let accept = server.server_on(path);
        accept.accept_one(like(1, 2)).await.unwrap();
        let hold = rig.sql(
            "START TRANSACTION; SELECT 1 FROM like_counts WHERE resource_type = 'video' AND resource_id = 2 FOR UPDATE; \
             DO SLEEP(97)",
        );
        let call = async {
            let held = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'DO SLEEP(97)%'";
            eventually(PATIENCE, "the lock", async || rig.number(held).await == 1).await;
            // Of ids as long as can be, so that not even their rows are read at once: who is read waits for the lock.
            let intents = (1..=400).map(|user| like(i64::MAX - user, VIDEO)).chain([like(2, 2)]);
            accept.accept(intents.collect(), Call::arriving_now()).await
        };
        let results = tokio::select! {
            _ = hold => panic!("the lock is gone"),
            results = call => results,
        };
        let decided = results.iter().filter(|result| result.is_ok()).count();
        assert!(decided > 0, "nothing was in time by {path:?}: {:?}", results.first());
        let others = results.iter().filter_map(|result| result.as_ref().err());
        assert_eq!(others.filter(|error| matches!(error, LikeError::Expired)).count(), 401 - decided, "{results:?}");
        let rows = rig.number("SELECT COUNT(*) FROM video_likes WHERE video_id <> 2 AND deleted_at IS NULL").await;
        assert_eq!(usize::try_from(rows).unwrap(), decided, "written by {path:?}, beside what was answered");
        server.stop().await;
        rig.end().await;
    }
}

/// An alarm lets everybody connect and ask; only a publish finds out. Likes are applied directly as long as it lasts, also those
/// that are in the journal alone, and the circuit does not flap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn likes_are_applied_directly_as_long_as_an_alarm_of_the_broker_lasts() {
    let rig = Rig::on(Deployment::build("engine").own_rabbitmq()).await;
    let server = rig.process().await;
    server.watch();
    let accept = server.server();
    // In the journal alone: as if the relay had been behind.
    let dying = server.dying_server();
    let broker = rig.deployment.rabbitmq();
    broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1MB"]).await.unwrap();
    let circuit = &server.stores.broker_circuit;
    is_open(circuit, true, "the circuit of the broker to open").await;
    server.rescue();
    accepted(&accept, 1..=50).await;
    accepted(&dying, 51..=100).await;
    // Nobody consumes.
    all_arrived(&rig, &server, 100).await;
    assert!(circuit.is_open(), "closed during the alarm");
    assert!(circuit.held().is_zero(), "it relapsed: {:?}", circuit.last_error());

    broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1GB"]).await.unwrap();
    is_open(circuit, false, "the circuit of the broker to close").await;
    server.consume();
    accepted(&accept, 101..=120).await;
    all_arrived(&rig, &server, 120).await;
    server.stop().await;
    rig.end().await;
}
