//! The kill matrix: the process aborts at the point, under load; after a restart nothing is lost and nothing is there twice.
//!
//! `KILL_ON_CLUSTER=1` for the same on a Redis Cluster.

use crate::system::{Role, System, dies_at, finished, on_a_cluster};
use Role::{Consumer, Server};
use std::path::Path;
use test_support::{Load, Program};

pub(crate) const OPERATIONS: u32 = 3_000;

const fn other(role: Role) -> Role {
    match role {
        Server => Consumer,
        Consumer => Server,
    }
}

/// The usual case: both processes run, one of them dies at the point and is started again.
async fn survives(role: Role, point: &str, nth: u32, settings: &[(&str, &str)]) {
    let system = System::new(settings).await;
    let victim = system.start_ready(role, &format!("{point}:{nth}")).await;
    let witness = system.start_ready(other(role), "").await;
    survived(system, (role, victim), witness, point).await;
}

async fn survived(mut system: System, (role, victim): (Role, Program), witness: Program, point: &str) {
    let load = system.load(OPERATIONS);
    dies_at(&victim, point).await;
    assert!(load.is_running(), "it died when the load was over: {}", load.log());
    let restarted = system.start(role, "").await;
    finish(system, load, [witness, restarted]).await;
}

async fn finish(system: System, load: Load, processes: [Program; 2]) {
    finished(&load).await;
    system.verify().await;
    system.end(processes).await;
}

#[tokio::test]
async fn accepted_and_not_answered() {
    survives(Server, "accept.accepted", 300, &[]).await;
}

#[tokio::test]
async fn journal_read_by_the_rescuer() {
    // A relay that holds one event, and memory that keeps few beside it, leave most of them to the rescuer.
    let little = [("EVENT_DRIVEN_SYNC__RELAY_CAPACITY", "1"), ("EVENT_DRIVEN_SYNC__KEPT_BYTES", "65536")];
    let system = System::new(&little).await;
    let victim = system.start_ready(Server, "rescue.read:3").await;
    // Whoever has the lease rescues, and that must be the one that dies.
    let witness = system.start_ready_with(Consumer, ("EVENT_DRIVEN_SYNC__RESCUE_INTERVAL", "1h")).await;
    survived(system, (Server, victim), witness, "rescue.read").await;
}

#[tokio::test]
async fn sent_and_not_confirmed() {
    survives(Server, "bus.sent", 30, &[]).await;
}

#[tokio::test]
async fn confirmed_and_in_the_journal() {
    survives(Server, "relay.confirmed", 30, &[]).await;
}

#[tokio::test]
async fn ledger_inserted() {
    survives(Consumer, "store.ledger_inserted", 10, &[]).await;
}

#[tokio::test]
async fn before_commit() {
    survives(Consumer, "store.before_commit", 10, &[]).await;
}

#[tokio::test]
async fn committed_and_not_settled() {
    survives(Consumer, "apply.committed", 10, &[]).await;
}

#[tokio::test]
async fn between_the_shards_of_a_settlement() {
    survives(Consumer, "settle.shard", 50, &[]).await;
}

#[tokio::test]
async fn settled_and_not_acknowledged() {
    survives(Consumer, "consume.applied", 10, &[]).await;
}

#[tokio::test]
async fn retry_claimed() {
    let mut system = System::new(&[]).await;
    let server = system.start_ready(Server, "").await;
    system.poison().await;
    let victim = system.start_ready(Consumer, "retry.claimed").await;
    let load = system.load(OPERATIONS);
    dies_at(&victim, "retry.claimed").await;
    let claimed = system.sql("SELECT COUNT(*) FROM sync_events WHERE status = 'processing'").await;
    assert_ne!(claimed.trim(), "0", "nothing was claimed");
    let restarted = system.start(Consumer, "").await;
    system.cure().await;
    finish(system, load, [server, restarted]).await;
}

#[tokio::test]
async fn in_a_direct_write() {
    let mut system = System::new(&[]).await;
    let victim = system.start_ready(Server, "store.direct_before_commit:5").await;
    let consumer = system.start_ready(Consumer, "").await;
    let load = system.load(OPERATIONS);
    system.under_way().await;
    system.cache_goes().await;
    dies_at(&victim, "store.direct_before_commit").await;
    // It starts without its cache, too.
    let restarted = system.start(Server, "").await;
    system.under_way().await;
    system.cache_comes_back().await;
    finish(system, load, [consumer, restarted]).await;
}

#[tokio::test]
async fn in_a_direct_apply() {
    let mut system = System::new(&[]).await;
    let victim = system.start_ready(Server, "store.before_commit:5").await;
    let consumer = system.start_ready(Consumer, "").await;
    let load = system.load(OPERATIONS);
    system.under_way().await;
    system.links.rabbitmq.cut().await;
    dies_at(&victim, "store.before_commit").await;
    let restarted = system.start(Server, "").await;
    system.links.rabbitmq.restore().await.unwrap();
    finish(system, load, [consumer, restarted]).await;
}

#[tokio::test]
async fn in_a_degraded_refresh() {
    if on_a_cluster() {
        // It takes a server that alone has no cache, and no link leads to a cluster.
        return;
    }
    let mut system = System::new(&[]).await;
    let server = system.start_ready(Server, "").await;
    // Reaches Redis, and so tells it what the server could not.
    let victim = system.start_ready(Consumer, "refresh.told").await;
    let load = system.load(OPERATIONS);
    system.under_way().await;
    system.links.redis.cut().await;
    dies_at(&victim, "refresh.told").await;
    let restarted = system.start(Consumer, "").await;
    system.links.redis.restore().await.unwrap();
    finish(system, load, [server, restarted]).await;
}

#[tokio::test]
async fn in_a_purge() {
    let settings =
        [("EVENT_DRIVEN_SYNC__RETENTION__INTERVAL", "50ms"), ("EVENT_DRIVEN_SYNC__RETENTION__BATCH_SIZE", "100")];
    let mut system = System::new(&settings).await;
    let server = system.start_ready(Server, "").await;
    // In one piece, so that rows go one by one; of 2023, by users that nobody else is: nothing but their age says that they may go.
    let numbers = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 900)";
    system
        .sql(&format!(
            "ALTER TABLE sync_events REMOVE PARTITIONING; \
             INSERT INTO sync_events (id, event_type, resource_type, resource_id, user_id, action_type, version, status, \
             origin, created_at, updated_at) {numbers} SELECT UNHEX(CONCAT('018bcfe5680070008000', LPAD(HEX(n), 12, '0'))), \
             'video_like', 'video', 1, 1000000 + n, 'unlike', 1700000000000000 + n, 'completed', 'journal', \
             '2023-11-14', '2023-11-14' FROM numbers; \
             INSERT INTO video_likes (user_id, video_id, created_at, updated_at, deleted_at, version) {numbers} \
             SELECT 1000000 + n, 1, '2023-11-14', '2023-11-14', '2023-11-14', 1700000000000000 + n FROM numbers"
        ))
        .await;
    let load = system.load(OPERATIONS);
    system.under_way().await;
    let victim = system.start(Consumer, "retention.purged:3").await;
    dies_at(&victim, "retention.purged").await;
    let restarted = system.start(Consumer, "").await;
    system.expect_number("SELECT COUNT(*) FROM sync_events WHERE user_id > 1000000", 0).await;
    system.expect_number("SELECT COUNT(*) FROM video_likes WHERE user_id > 1000000", 0).await;
    finish(system, load, [server, restarted]).await;
}

#[tokio::test]
async fn in_a_replay() {
    let mut system = System::new(&[("EVENT_DRIVEN_SYNC__RETRY__MAX_RETRIES", "0")]).await;
    let server = system.start_ready(Server, "").await;
    system.poison().await;
    let consumer = system.start_ready(Consumer, "").await;
    finished(&system.load(1_000)).await;
    let unfinished = "SELECT COUNT(*) FROM sync_events WHERE status NOT IN ('completed', 'dead')";
    system.expect_number("SELECT COUNT(*) >= 20 FROM sync_events WHERE status = 'dead'", 1).await;
    system.expect_number(unfinished, 0).await;

    let load = system.load(OPERATIONS);
    let replayer = Path::new("examples").join("replayer").display().to_string();
    let victim = system.program(&replayer, Consumer, "store.requeued:3");
    dies_at(&victim, "store.requeued").await;
    // Cured only now: a second copy of a dead event that comes later is applied, and nothing is left to replay.
    finished(&load).await;
    system.expect_number(unfinished, 0).await;
    system.cure().await;
    let again = system.program(&replayer, Consumer, "");
    let status = again.wait_exit(crate::system::PATIENCE).await.unwrap();
    assert!(status.success(), "{}", again.log());
    finish(system, load, [server, consumer]).await;
}

/// The process that brings to the log what went around it dies between log and ledger: the next one brings it again.
#[tokio::test]
async fn in_a_join_of_the_log() {
    let mut system = System::new(&[]).await;
    // It comes first, so it has the lease.
    let victim = system.start_ready(Consumer, "log.joined").await;
    let server = system.start_ready(Server, "").await;
    let load = system.load(OPERATIONS);
    system.under_way().await;
    system.links.rabbitmq.cut().await;
    dies_at(&victim, "log.joined").await;
    let restarted = system.start(Consumer, "").await;
    system.links.rabbitmq.restore().await.unwrap();
    finished(&load).await;
    system.expect_number("SELECT COUNT(*) FROM sync_events WHERE next_retry_at IS NOT NULL", 0).await;
    assert_eq!(system.not_in_the_log().await, [""; 0]);
    finish(system, load, [server, restarted]).await;
}
