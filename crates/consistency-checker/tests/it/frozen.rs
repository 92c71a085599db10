//! A store that hangs is on the operator's one screen, which does not hang with it.

use crate::deployment::{Asked, PATIENCE, SOON, apply, operation};
use serde_json::Value;
use std::time::{Duration, Instant};
use test_support::build::video_pair;
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

/// What a like that was accepted while the database stood still took, at least. The ledger counts to the beginning of the attempt
/// that succeeded, and one that stands still lasts for up to 5 s: what is left is slow all the same.
const STOOD: Duration = Duration::from_secs(14);

/// Two figures of one moment are read so far apart, at most.
const SAME_MOMENT: Duration = Duration::from_secs(6);

/// Of the figure that says how long likes took: when it is over, so is what it says.
const WINDOW: Duration = Duration::from_secs(60);

/// Parts that are not ok, without what this machine's own disk and clocks do.
fn wrong(health: &Value) -> Vec<String> {
    let parts = health["parts"].as_object().unwrap().iter();
    let unwell = parts.filter(|(name, part)| {
        part["status"] != "ok" && !["redis_disk", "clocks", "like_latency"].contains(&name.as_str())
    });
    unwell.map(|(name, part)| format!("{name}: {}", part["detail"].as_str().unwrap_or_default())).collect()
}

/// The figures of a moment, health first.
async fn seen(server: &Program) -> (Vec<String>, Value) {
    let health = server.get("/health").await.unwrap().1;
    let named = health["parts"].as_object().unwrap().values().any(|part| part["status"] != "ok");
    assert_eq!(health["status"] != "ok", named, "whatever makes it not ok is named: {health}");
    (wrong(&health), server.get("/overview").await.unwrap().1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_thaw_nothing_is_well_before_what_waited_has_arrived() {
    let deployment = Deployment::build("thaw").own_mariadb().start().await.unwrap();
    let (server, consumer) =
        (deployment.server().start_connected().await.unwrap(), deployment.consumer().start_ready().await.unwrap());
    let well = |patience| {
        let (server, consumer) = (&server, &consumer);
        async move {
            eventually(patience, "all is well", async || {
                let both = [seen(server).await.0, wrong(&consumer.get("/health").await.unwrap().1)].concat();
                if both.is_empty() { Ok(()) } else { Err(both.join("; ")) }
            })
            .await;
        }
    };
    well(PATIENCE * 2).await;
    let mut client = server.client().await;
    deployment.mariadb().pause().unwrap();
    let frozen = Instant::now();
    apply(&mut client, (1..=40).map(|user| operation(video_pair(user, 4711), true)).collect()).await;
    eventually(PATIENCE, "the database is missed", async || {
        let (wrong, _) = seen(&server).await;
        let missed = wrong.iter().any(|part| part.starts_with("mysql:"));
        if missed && frozen.elapsed() > STOOD { Ok(()) } else { Err(wrong.join("; ")) }
    })
    .await;
    deployment.mariadb().resume().unwrap();

    // As often as can be asked: whenever nothing is said to be wrong, nothing waits and nothing was slow.
    let (thawed, mut lagged) = (Instant::now(), false);
    let (mut clear, last): (Option<Instant>, Value);
    clear = None;
    loop {
        let (wrong, overview) = seen(&server).await;
        lagged |= wrong.iter().any(|part| part.contains("commit lag p99") && part.contains("over the last 60 s"));
        if wrong.is_empty() {
            let (journal, lag) = (&overview["journal"], &overview["lag"]);
            assert_eq!(journal["pending"], 0, "{overview}");
            if lag["events"] == 0 || lag["p99_ms"].as_i64() <= Some(5_000) {
                last = overview;
                break;
            }
            // As the window ends the page may still show what it read a moment ago.
            assert!(clear.get_or_insert_with(Instant::now).elapsed() < SAME_MOMENT, "{overview}");
        }
        assert!(thawed.elapsed() < PATIENCE * 3, "{wrong:?}");
    }
    assert!(lagged, "how long the likes took was not said: {last}");
    let took = thawed.elapsed();
    assert!(frozen.elapsed() > WINDOW, "what took {STOOD:?} was forgotten after {took:?}");
    well(PATIENCE).await;
    for program in [server, consumer] {
        program.end(SOON).await.unwrap();
    }
}
