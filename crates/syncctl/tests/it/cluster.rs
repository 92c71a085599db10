//! Commands that work on the stores themselves, where the cache is a Redis Cluster.

use std::time::Duration;
use test_support::{Deployment, RedisCluster, RedisOptions, eventually, expect_eq, http};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_need_no_server_work_on_a_cluster() {
    let cluster = RedisCluster::start(RedisOptions::default(), 3, false).await.unwrap();
    let url = format!("redis://{}", cluster.addrs().unwrap()[0]);
    let deployment = Deployment::build("operators").redis_at(url).start().await.unwrap().with("REDIS__CLUSTER", "true");
    let server = deployment.server().start_connected().await.unwrap();
    let _consumer = deployment.consumer().start_connected().await.unwrap();
    for user in 1..=40 {
        let like = format!(r#"{{"user_id":{user},"resource_type":"video","resource_id":{user},"action":"like"}}"#);
        assert_eq!(http::post_json(&server.http(), "/v1/likes", &like).await.unwrap().0, 200);
    }
    eventually(PATIENCE, "all rows", async || {
        let rows = deployment.number("SELECT COUNT(*) FROM video_likes").await;
        expect_eq(rows.map_err(|error| error.to_string())?, 40)
    })
    .await;
    let contexts = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(contexts.path(), "current = here\n[here]\nredis_cluster = true\n").unwrap();
    let contexts = contexts.path().to_str().unwrap();
    let said = async |arguments: &[&str], variable: (&str, &str)| {
        let syncctl = deployment.syncctl().args(arguments).env(variable.0, variable.1).start().unwrap();
        let code = syncctl.wait_exit(PATIENCE).await.unwrap().code();
        (code, syncctl.log())
    };
    let addr = server.grpc();
    let erase = ["erase-user", "7", "--reason", "asked for", "--wait", "--addr", &addr];
    let (code, log) = said(&erase, ("REDIS_CLUSTER", "true")).await;
    assert_eq!(code, Some(0), "{log}");
    // The log does not reach as far back, which is a problem; but it is read, and so is the cache.
    let since = ["recover", "--dry-run", "--since", "2026-01-01T00:00:00Z"];
    let (code, log) = said(&since, ("REDIS_CLUSTER", "true")).await;
    assert!(code == Some(1) && log.contains("missing in the database and to be applied: 0"), "{log}");
    for command in [
        &["reconcile"][..],
        &["repair", "--all", "--apply"],
        &["repair", "video:3"],
        &["recover", "--dry-run"],
        &["erase-user", "7", "--verify"],
        &["clock"],
        &["reshard", "--to", "64", "--dry-run"],
    ] {
        for variable in [("REDIS_CLUSTER", "true"), ("SYNCCTL_REDIS_CLUSTER", "true"), ("SYNCCTL_CONTEXTS", contexts)] {
            let (code, log) = said(command, variable).await;
            assert_eq!(code, Some(0), "{command:?} {variable:?}: {log}");
        }
        let (code, log) = said(command, ("REDIS_CLUSTER", "false")).await;
        assert_ne!(code, Some(0), "{command:?}: {log}");
        assert!(log.contains("add --redis-cluster"), "{command:?}: {log}");
    }
}
