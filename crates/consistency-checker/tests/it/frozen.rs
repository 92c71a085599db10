//! A store that hangs is on the operator's one screen, which does not hang with it.

use crate::deployment::{PATIENCE, SOON};
use serde_json::Value;
use test_support::{Deployment, Program, RedisOptions, eventually};

async fn status(deployment: &Deployment, server: &Program) -> (Option<i32>, Value) {
    let command = deployment.syncctl().args(["status", "-o", "json", "--http", &server.http()]);
    let command = command.env("GRPC_ADDR", server.grpc()).start().unwrap();
    let code = command.wait_exit(PATIENCE).await.unwrap().code();
    let log = command.log();
    let line = log.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{code:?} {log}"));
    (code, serde_json::from_str(line).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_store_is_named_on_the_screen() {
    let deployment = Deployment::build("frozen").own_mariadb().own_redis(RedisOptions::default());
    let deployment = deployment.start().await.unwrap();
    let server = deployment.server().start_connected().await.unwrap();
    let says = async |store: &str, available: bool, patience| {
        let kind = format!("{store}_unreachable");
        eventually(patience, format!("{store} {available}"), async || {
            let (code, status) = status(&deployment, &server).await;
            let trouble = status["troubles"].as_array().unwrap().iter().find(|one| one["kind"] == kind.as_str());
            let named = trouble.is_some() && code == Some(1) && status["status"] == "degraded";
            let known = status[format!("{store}_available")] == available;
            if known && trouble.is_none() == available && (available || named) { Ok(()) } else { Err(status) }
        })
        .await;
    };
    says("database", true, PATIENCE).await;
    says("cache", true, PATIENCE).await;
    deployment.mariadb().pause().unwrap();
    says("database", false, PATIENCE).await;
    deployment.mariadb().resume().unwrap();
    says("database", true, PATIENCE).await;
    deployment.redis().pause().unwrap();
    says("cache", false, PATIENCE).await;
    deployment.redis().resume().unwrap();
    says("cache", true, PATIENCE).await;
    // The server itself.
    server.pause().unwrap();
    let command = deployment.syncctl().args(["status"]).env("GRPC_ADDR", server.grpc()).start().unwrap();
    assert_eq!(command.wait_exit(PATIENCE).await.unwrap().code(), Some(69), "{}", command.log());
    assert!(command.log().contains("UNREACHABLE"), "{}", command.log());
    server.resume().unwrap();
    server.end(SOON).await.unwrap();
}
