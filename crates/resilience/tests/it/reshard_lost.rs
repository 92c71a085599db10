//! A reshard that was stopped goes on although a store has lost part of it, or somebody gave another order meanwhile.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;
use test_support::{Deployment, Program, RedisOptions, eventually, expect_eq, http};

const PATIENCE: Duration = Duration::from_secs(60);

/// Sixteen shards, a server and a consumer, and one settled like with a key.
async fn start(name: &str) -> (Deployment, Program, Program) {
    let deployment = Deployment::build(name).own_redis(RedisOptions::default()).start().await.unwrap();
    let deployment = deployment.with("EVENT_DRIVEN_SYNC__SHARDS", "16");
    let server = deployment.server().start_connected().await.unwrap();
    let consumer = deployment.consumer().start_connected().await.unwrap();
    let like = r#"{"user_id":1,"resource_type":"video","resource_id":7,"action":"like","idempotency_key":"first"}"#;
    let (status, _) = http::post_json(&server.http(), "/v1/likes", like).await.unwrap();
    assert_eq!(status, 200);
    (deployment, server, consumer)
}

/// How it ended, and what it said.
async fn reshard(deployment: &Deployment, dies_at: &str) -> (std::process::ExitStatus, String) {
    let syncctl = deployment.syncctl().args(["reshard", "--to", "64", "--no-wait"]).env("SYNCCTL_DIES_AT", dies_at);
    let syncctl = syncctl.start().unwrap();
    let status = syncctl.wait_exit(2 * PATIENCE).await.unwrap();
    (status, syncctl.log())
}

async fn dies(deployment: &Deployment, at: &str) {
    let (status, log) = reshard(deployment, at).await;
    assert!(status.signal().is_some(), "{at}: {log}");
}

async fn goes_on(deployment: &Deployment) -> String {
    let (status, log) = reshard(deployment, "").await;
    assert!(status.success(), "{log}");
    assert_eq!(stored(deployment, "shards").await, "64@1", "{log}");
    assert_eq!(stored(deployment, "reshard").await, "", "{log}");
    log
}

async fn stored(deployment: &Deployment, name: &str) -> String {
    let query = format!("SELECT COALESCE(MAX(value), '') FROM sync_meta WHERE name = '{name}'");
    deployment.sql(&query).await.unwrap().trim().to_owned()
}

async fn cli(deployment: &Deployment, arguments: &[&str]) -> String {
    deployment.redis().cli(arguments).await.unwrap().trim().to_owned()
}

/// The program again, and with it a like and its row.
async fn works(deployment: &Deployment, programs: [Program; 2]) {
    for program in programs {
        let _ = program.terminate();
        program.wait_exit(PATIENCE).await.unwrap();
    }
    let server = deployment.server().start_connected().await.unwrap();
    let _consumer = deployment.consumer().start_connected().await.unwrap();
    let like = r#"{"user_id":2,"resource_type":"video","resource_id":7,"action":"like"}"#;
    let (status, answer) = http::post_json(&server.http(), "/v1/likes", like).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    eventually(PATIENCE, "the likes of both", async || {
        let rows = deployment.number("SELECT COUNT(*) FROM video_likes WHERE user_id IN (1, 2)").await;
        expect_eq(rows.map_err(|error| error.to_string())?, 2)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_note_leaves_nothing_stuck() {
    for at in ["closed", "half_sealed", "sealed", "recorded_in_database"] {
        let (deployment, server, consumer) = start(&format!("note-{}", at.replace('_', "-"))).await;
        dies(&deployment, at).await;
        deployment.sql("DELETE FROM sync_meta WHERE name = 'reshard'").await.unwrap();
        let log = goes_on(&deployment).await;
        assert_eq!(log.contains("the note about that is lost"), at != "closed", "{at}: {log}");
        works(&deployment, [server, consumer]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_shard_took_in_that_was_open_again_is_handed_over_too() {
    let (deployment, server, consumer) = start("open-again").await;
    dies(&deployment, "sealing").await;
    // As a replica has it that was behind when it was promoted; whoever knew the old number went on with it.
    let answer = cli(&deployment, &["KEYS", "*}:i:v1:7:first"]).await;
    let answer = answer.lines().find(|name| !name.contains(".1}")).expect("the answer of the old shard").to_owned();
    let shard = answer.split_once("}:").expect("a tag").0.to_owned() + "}";
    let (journal, clock) = (format!("{shard}:j"), format!("{shard}:t"));
    cli(&deployment, &["DEL", &journal, &clock]).await;
    assert_eq!(cli(&deployment, &["RENAME", &format!("{shard}:ot"), &clock]).await, "OK");
    let late = answer.replace(":first", ":late");
    assert_eq!(cli(&deployment, &["COPY", &answer, &late]).await, "1");
    goes_on(&deployment).await;
    let kept = cli(&deployment, &["KEYS", "*}:i:v1:7:late"]).await;
    assert!(kept.lines().count() == 1 && kept.contains(".1}"), "{kept}");
    assert!(cli(&deployment, &["GET", &journal]).await.contains("closed by syncctl reshard"), "it is open");
    works(&deployment, [server, consumer]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_was_given_meanwhile_stays() {
    let (deployment, server, consumer) = start("ordered").await;
    dies(&deployment, "sealed").await;
    assert_eq!(stored(&deployment, "write_path").await, "synchronous");
    let order = deployment.syncctl().args(["write-path", "set", "event_driven"]).start().unwrap();
    order.wait_exit(PATIENCE).await.unwrap();
    let ordered = stored(&deployment, "write_path").await;
    assert_ne!(ordered, "synchronous", "{}", order.log());
    let log = goes_on(&deployment).await;
    assert!(log.contains("was ordered meanwhile and stays"), "{log}");
    assert_eq!(stored(&deployment, "write_path").await, ordered);
    works(&deployment, [server, consumer]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_attempt_that_came_to_nothing_handed_over_is_not_believed_by_the_next() {
    let (deployment, server, consumer) = start("leftovers").await;
    dies(&deployment, "handed_over").await;
    dies(&deployment, "ordered").await;
    let left = cli(&deployment, &["KEYS", "*.1}:i:v1:7:first"]).await;
    assert!(!left.is_empty(), "nothing was handed over");
    let addr = server.grpc();
    let erase = ["erase-user", "1", "--reason", "asked for", "--wait", "--addr", &addr];
    let erase = deployment.syncctl().args(erase).start().unwrap();
    assert!(erase.wait_exit(PATIENCE).await.unwrap().success(), "{}", erase.log());
    goes_on(&deployment).await;
    let left = cli(&deployment, &["KEYS", "*}:i:v1:7:first"]).await;
    assert_eq!(left, "", "the answer of a user who is erased");
    drop((server, consumer));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_like_that_only_a_pair_of_before_has_comes_back() {
    let (deployment, server, consumer) = start("forgotten").await;
    eventually(PATIENCE, "the row", async || {
        let rows = deployment.number("SELECT COUNT(*) FROM video_likes WHERE user_id = 1").await;
        expect_eq(rows.map_err(|error| error.to_string())?, 1)
    })
    .await;
    goes_on(&deployment).await;
    drop((server, consumer));
    // As a replica has it that was behind when it was promoted.
    for table in ["video_likes", "like_counts", "user_behaviors", "sync_events"] {
        deployment.sql(&format!("DELETE FROM {table}")).await.unwrap();
    }
    let recover = deployment.syncctl().args(["recover"]).start().unwrap();
    assert!(recover.wait_exit(PATIENCE).await.unwrap().success(), "{}", recover.log());
    let rows = deployment.number("SELECT COUNT(*) FROM video_likes WHERE user_id = 1 AND video_id = 7").await.unwrap();
    assert_eq!(rows, 1, "{}", recover.log());
    let left: i64 = cli(&deployment, &["TTL", &cli(&deployment, &["KEYS", "*}:p:v1:7"]).await]).await.parse().unwrap();
    assert!((1..=3_600).contains(&left), "it stays for {left} s");
}
