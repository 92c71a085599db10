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

/// What was read longer ago was said no more, once.
const STILL_KNOWN: Duration = Duration::from_secs(32);

/// For so long the database stands still.
const STOOD: Duration = Duration::from_secs(14);

/// Of the figure that says how long likes took: when it is over, so is what it says.
const WINDOW: Duration = Duration::from_secs(60);

/// What this machine's own disk, clocks and load do is not what is asked here.
const OF_MACHINE: [&str; 4] = ["redis_disk", "clocks", "like_latency", "silent_process"];

/// Parts that are not ok.
async fn wrong(program: &Program) -> Vec<String> {
    let health = program.get("/health").await.unwrap().1;
    let unwell = || health["parts"].as_object().unwrap().iter().filter(|(_, part)| part["status"] != "ok");
    assert_eq!(health["status"] != "ok", unwell().count() > 0, "whatever makes it not ok is named: {health}");
    unwell()
        .filter(|(name, _)| !OF_MACHINE.contains(&name.as_str()))
        .map(|(name, part)| format!("{name}: {}", part["detail"].as_str().unwrap_or_default()))
        .collect()
}

/// Figures of which none is older than this call: those that are there may be, the next ones are not.
async fn figures(server: &Program) -> Value {
    let mut first = None;
    loop {
        let overview = server.get("/overview").await.unwrap().1;
        if *first.get_or_insert_with(|| overview["at"].clone()) != overview["at"] {
            return overview;
        }
    }
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
                let both = [wrong(server).await, wrong(consumer).await].concat();
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
        let wrong = wrong(&server).await;
        let missed = wrong.iter().any(|part| part.starts_with("mysql:"));
        if missed && frozen.elapsed() > STOOD { Ok(()) } else { Err(wrong.join("; ")) }
    })
    .await;
    deployment.mariadb().resume().unwrap();

    // As often as can be asked: whenever nothing is said to be wrong, nothing waits and nothing was slow.
    let (thawed, mut lagged) = (Instant::now(), false);
    loop {
        let wrong = wrong(&server).await;
        lagged |= wrong.iter().any(|part| part.contains("commit lag p99") && part.contains("over the last 60 s"));
        if wrong.is_empty() {
            let overview = figures(&server).await;
            assert_eq!(overview["journal"]["pending"], 0, "{overview}");
            let lag = &overview["lag"];
            // A database that is too slow for the page says nothing against it.
            assert!(lag.is_null() || lag["events"] == 0 || lag["p99_ms"].as_i64() <= Some(5_000), "{overview}");
            assert!(lagged, "how long the likes took was not said: {overview}");
            if !lag.is_null() {
                break;
            }
        }
        assert!(thawed.elapsed() < PATIENCE * 3, "{wrong:?}");
    }
    let took = thawed.elapsed();
    assert!(frozen.elapsed() > WINDOW, "what took {STOOD:?} was forgotten after {took:?}");
    well(PATIENCE).await;
    for program in [server, consumer] {
        program.end(SOON).await.unwrap();
    }
}

/// What was known before a database froze stays said, with its age; by who asks without a database, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_likes_are_not_forgotten_while_the_database_stands_still() {
    let deployment = Deployment::build("remembered").own_mariadb().start().await.unwrap();
    let deployment = deployment
        .with("EVENT_DRIVEN_SYNC__RETRY__MAX_RETRIES", "1")
        .with("EVENT_DRIVEN_SYNC__RETRY__BASE_DELAY", "100ms");
    let (server, consumer) =
        (deployment.server().start_connected().await.unwrap(), deployment.consumer().start_ready().await.unwrap());
    let dead = |program| async move {
        let wrong: Vec<String> = wrong(program).await;
        wrong.into_iter().find(|part| part.starts_with("dead_events: 3 accepted likes are dead"))
    };
    deployment.poison(13).await.unwrap();
    let mut client = server.client().await;
    apply(&mut client, (1..=3).map(|user| operation(video_pair(user, 13), true)).collect()).await;
    for program in [&server, &consumer] {
        eventually(PATIENCE, "dead likes", async || dead(program).await.ok_or("not said")).await;
    }
    deployment.mariadb().pause().unwrap();
    let frozen = Instant::now();
    for program in [&server, &consumer] {
        eventually(PATIENCE, "their age", async || match dead(program).await {
            Some(said) if said.contains(", as of ") && frozen.elapsed() > STILL_KNOWN => Ok(()),
            said => Err(format!("{said:?}")),
        })
        .await;
    }
    let (code, status) = status(&deployment, &server).await;
    assert!(code == Some(1) && status["database_available"] == false, "{status}");
    let of_then = |status: &Value| {
        let dead = status["troubles"].as_array()?.iter().find(|one| one["kind"] == "dead_events")?;
        dead["detail"].as_str().map(|said| said.starts_with("3 accepted likes are dead") && said.contains(", as of "))
    };
    assert_eq!(of_then(&status), Some(true), "{status}");
    // The server alone knows it, too.
    let alone = deployment.syncctl().args(["status"]).env("GRPC_ADDR", server.grpc()).start().unwrap();
    assert_eq!(alone.wait_exit(PATIENCE).await.unwrap().code(), Some(1), "{}", alone.log());
    assert!(alone.log().contains("3 accepted likes are dead") && alone.log().contains(", as of "), "{}", alone.log());
    // What a user likes is in the cache; whether its event is dead nobody can tell now.
    let states =
        deployment.syncctl().args(["states", "1", "video:13"]).env("GRPC_ADDR", server.grpc()).start().unwrap();
    assert_eq!(states.wait_exit(PATIENCE).await.unwrap().code(), Some(69), "{}", states.log());
    assert!(states.log().contains("liked") && states.log().contains("unknown"), "{}", states.log());
    deployment.mariadb().resume().unwrap();
    for program in [server, consumer] {
        program.end(SOON).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stands_still_is_missed() {
    let deployment = Deployment::build("silent").start().await.unwrap();
    let (server, consumer) =
        (deployment.server().start_connected().await.unwrap(), deployment.consumer().start_ready().await.unwrap());
    let missed = async || {
        let (_, status) = status(&deployment, &server).await;
        let troubles = status["troubles"].as_array().unwrap().clone();
        let named = troubles.into_iter().find(|one| one["kind"] == "silent_process");
        (named.map(|one| one["detail"].as_str().unwrap().to_owned()), status)
    };
    eventually(PATIENCE, "both of them", async || {
        let (_, status) = missed().await;
        let known: Vec<_> = status["registered"].as_array().unwrap().iter().map(|one| &one["service"]).collect();
        if known == ["interaction-server", "sync-consumer"] { Ok(()) } else { Err(status) }
    })
    .await;
    consumer.pause().unwrap();
    eventually(PATIENCE, "a consumer is missed", async || match missed().await {
        (Some(said), _) if said.starts_with("sync-consumer ") && said.contains(" was not heard of for ") => Ok(()),
        (_, status) => Err(status),
    })
    .await;
    consumer.resume().unwrap();
    eventually(PATIENCE, "nobody is missed", async || match missed().await {
        (None, _) => Ok(()),
        (Some(said), _) => Err(said),
    })
    .await;
    for program in [server, consumer] {
        program.end(SOON).await.unwrap();
    }
}
