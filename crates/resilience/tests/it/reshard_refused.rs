//! What belongs to somebody else, or is not known, is not resharded, and nothing is accepted under a number that is a guess.

use std::time::Duration;
use test_support::{Binary, Deployment, Program, RedisOptions, eventually, expect_eq, http};

const PATIENCE: Duration = Duration::from_secs(60);

async fn ends(syncctl: &Binary) -> (Option<i32>, String) {
    let status = syncctl.wait_exit(PATIENCE).await.unwrap();
    (status.code(), syncctl.log())
}

async fn stored(deployment: &Deployment, name: &str) -> String {
    let query = format!("SELECT COALESCE(MAX(value), '') FROM sync_meta WHERE name = '{name}'");
    deployment.sql(&query).await.unwrap().trim().to_owned()
}

/// The status of its answer.
async fn like(server: &Program, user: i64) -> u16 {
    let like = format!(r#"{{"user_id":{user},"resource_type":"video","resource_id":7,"action":"like"}}"#);
    http::post_json(&server.http(), "/v1/likes", &like).await.unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cache_of_another_installation_is_refused_and_left_as_it_is() {
    let deployment = Deployment::build("refused").own_redis(RedisOptions::default()).start().await.unwrap();
    let deployment = deployment.with("EVENT_DRIVEN_SYNC__SHARDS", "16");
    drop(deployment.server().start_connected().await.unwrap());
    deployment.redis().cli(&["HSET", "later:meta", "shards", "64@10"]).await.unwrap();
    for (prefix, dry) in [("later:", true), ("later:", false), ("nobody:", true), ("nobody:", false)] {
        let arguments = ["reshard", "--to", "64", "--no-wait", "--redis-prefix", prefix];
        let dry = if dry { &["--dry-run"][..] } else { &[] };
        let (code, log) = ends(&deployment.syncctl().args([&arguments[..], dry].concat()).start().unwrap()).await;
        assert_eq!(code, Some(1), "{prefix} {dry:?}: {log}");
        assert!(log.contains("another Redis or --redis-prefix was meant"), "{prefix} {dry:?}: {log}");
        assert_eq!(stored(&deployment, "shards").await, "16", "{prefix} {dry:?}");
        assert_eq!(stored(&deployment, "reshard").await, "", "{prefix} {dry:?}");
    }
    assert_eq!(deployment.redis().cli(&["EXISTS", "nobody:meta"]).await.unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_at_once_leave_nothing_that_nobody_can_end() {
    let deployment = Deployment::build("two").own_redis(RedisOptions::default()).start().await.unwrap();
    let deployment = deployment.with("EVENT_DRIVEN_SYNC__SHARDS", "16");
    drop(deployment.server().start_connected().await.unwrap());
    let both: Vec<Binary> = ["64", "32", "64"]
        .into_iter()
        .map(|to| deployment.syncctl().args(["reshard", "--to", to, "--no-wait"]).start().unwrap())
        .collect();
    for syncctl in &both {
        let (code, log) = ends(syncctl).await;
        assert_eq!(code, Some(0), "{log}");
    }
    assert_eq!(stored(&deployment, "reshard").await, "");
    assert_eq!(stored(&deployment, "write_path").await, "");
    let shards = stored(&deployment, "shards").await;
    assert!(shards.starts_with("64@") || shards.starts_with("32@"), "{shards}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_number_that_is_a_guess_nothing_is_accepted() {
    let deployment = Deployment::build("guess").own_redis(RedisOptions::default()).own_mariadb().start().await.unwrap();
    let before = deployment.clone().with("EVENT_DRIVEN_SYNC__SHARDS", "16").server().start_connected().await.unwrap();
    assert_eq!(like(&before, 1).await, 200);
    before.terminate().unwrap();
    before.wait_exit(PATIENCE).await.unwrap();
    // All of it is away, and Redis comes back empty. Nobody has configured a number.
    deployment.redis().cli(&["FLUSHALL"]).await.unwrap();
    deployment.mariadb().stop().await.unwrap();
    let guesses = deployment.server().start().unwrap();
    guesses.wait_log("listening", PATIENCE).await.unwrap();
    for user in 2..12 {
        assert_eq!(like(&guesses, user).await, 503);
    }
    let keys = deployment.redis().cli(&["KEYS", "*}:j"]).await.unwrap();
    assert_eq!(keys, "", "a journal that nobody will read");
    deployment.mariadb().restart().await.unwrap();
    let ended = guesses.wait_exit(PATIENCE).await.unwrap();
    assert_eq!(ended.code(), Some(1), "{}", guesses.log());
    assert!(guesses.log().contains("16 shards"), "{}", guesses.log());
    let knows = deployment.server().start_connected().await.unwrap();
    let _consumer = deployment.consumer().start_connected().await.unwrap();
    assert_eq!(like(&knows, 20).await, 200);
    eventually(PATIENCE, "the likes of both", async || {
        let rows = deployment.number("SELECT COUNT(*) FROM video_likes WHERE user_id IN (1, 20)").await;
        expect_eq(rows.map_err(|error| error.to_string())?, 2)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_not_believed_is_not_resharded() {
    let deployment = Deployment::build("disbelieved").own_redis(RedisOptions::default()).start().await.unwrap();
    let deployment = deployment.with("EVENT_DRIVEN_SYNC__SHARDS", "16");
    drop(deployment.server().start_connected().await.unwrap());
    for note in ["went_back", "recovery"] {
        deployment.sql(&format!("INSERT INTO sync_meta (name, value) VALUES ('{note}', 'x')")).await.unwrap();
        let (code, log) = ends(&deployment.syncctl().args(["reshard", "--to", "64"]).start().unwrap()).await;
        assert_eq!(code, Some(1), "{note}: {log}");
        assert!(log.contains("is not recovered yet"), "{note}: {log}");
        deployment.sql(&format!("DELETE FROM sync_meta WHERE name = '{note}'")).await.unwrap();
    }
    assert_eq!(stored(&deployment, "shards").await, "16");
}
