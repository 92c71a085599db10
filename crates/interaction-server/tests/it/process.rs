//! Starting, stopping, and being killed.

use crate::client::{Grpc, PATIENCE, deployed, fresh_id, like, started, video};
use interaction_proto::v1;
use std::time::{Duration, Instant};
use test_support::{Binary, Deployment, Links, eventually, expect_eq};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

/// Far less than the drain deadline, enough for a busy machine.
const QUICKLY: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_configuration_is_one_line_that_names_the_key_and_exit_code_64() {
    for program in ["interaction-server", "sync-consumer"] {
        for (variable, value, named) in [
            ("INTERACTION__REDIS__ULR", "redis://x", "redis (from INTERACTION__REDIS__ULR): unknown key ulr"),
            ("INTERACTION__RABBITMQ__PREFETCH", "many", "rabbitmq.prefetch"),
            ("INTERACTION__EVENT_DRIVEN_SYNC__BATCH_SIZE", "0", "event_driven_sync.batch_size"),
            ("INTERACTION__RABBITMQ__URL", "amqp://me:sesame@h/", "rabbitmq.url: ends in a slash"),
            ("INTERACTION__REDIS__URL", "redis://me:ses/ame@h", "redis.url: has an @ behind"),
            ("INTERACTION__DATABASE__URL", "mysql://me:sesame@/x", "database.url: names no host"),
        ] {
            let binary = Binary::build(program).env(variable, value).start().unwrap();
            let status = binary.wait_exit(PATIENCE).await.unwrap();
            assert_eq!(status.code(), Some(64), "{}", binary.log());
            let log = binary.log();
            assert!(log.contains(named) && log.trim().lines().count() == 1, "{named}: {log}");
            assert!(!log.contains("same") && !log.contains("ame@"), "a password: {log}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_quickly_whoever_is_connected() {
    let server = deployed().await.server().start_ready().await.unwrap();
    let channel = server.channel().await;
    let mut client = crate::client::Client::new(channel.clone());
    client.like(like(1, video(1))).await.unwrap();
    // The one idles; the other watches for as long as it lives.
    let _idle = server.client().await;
    let request = HealthCheckRequest { service: "interaction.v1.InteractionService".to_owned() };
    let mut watch = HealthClient::new(channel).watch(request).await.unwrap().into_inner();
    watch.message().await.unwrap().expect("no first status");

    let started = Instant::now();
    server.terminate().unwrap();
    let status = server.wait_exit(QUICKLY).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(started.elapsed() < QUICKLY, "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigterm_does_not_wait_for_a_request_that_hangs() {
    let deployment = deployed().await.with("REDIS__RESPONSE_TIMEOUT", "60s");
    let links = Links::to(&deployment).await.unwrap();
    let deployment = deployment.through(&links);
    let server = deployment.server().start_ready().await.unwrap();
    let mut client = server.client().await;
    client.like(like(1, video(1))).await.unwrap();
    links.redis.freeze();
    let hangs = tokio::spawn(async move { client.like(like(2, video(1))).await });
    // The request is there when the freeze shows in health.
    eventually(PATIENCE, "redis to be missed", async || {
        let (_, body) = server.health().await?;
        if body["parts"]["redis"]["status"] == "down" { Ok(()) } else { Err(body.to_string()) }
    })
    .await;
    assert!(!hangs.is_finished(), "nothing hangs: the test shows nothing");

    server.terminate().unwrap();
    server.wait_log("stopping", PATIENCE).await.unwrap();
    assert!(server.is_running(), "the first signal must let requests finish");
    server.terminate().unwrap();
    let status = server.wait_exit(QUICKLY).await.unwrap();
    assert_eq!(status.code(), Some(1), "{}", server.log());
    assert!(hangs.await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_starting_together_on_an_empty_database_both_come_up() {
    let deployment = deployed().await;
    let (one, other) = tokio::try_join!(deployment.server().start_ready(), deployment.server().start_ready()).unwrap();
    assert_eq!(one.client().await.like(like(1, video(1))).await.unwrap().into_inner().count, Some(1));
    assert_eq!(other.client().await.like(like(2, video(1))).await.unwrap().into_inner().count, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_number_of_shards_ends_the_process_with_a_clear_error() {
    let deployment = deployed().await;
    drop(deployment.server().start_ready().await.unwrap());
    let wrong = deployment.clone().with("EVENT_DRIVEN_SYNC__SHARDS", "8").server().start().unwrap();
    let status = wrong.wait_exit(PATIENCE).await.unwrap();
    let log = wrong.log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("holds data of 64 shards, configured are 8"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_server_accepted_arrives() {
    let deployment = deployed().await.with("EVENT_DRIVEN_SYNC__REPUBLISH_AFTER", "500ms");
    let consumer = deployment.consumer().start_ready().await.unwrap();
    let server = deployment.server().start_ready().await.unwrap();
    let mut client = server.client().await;
    let mut accepted = 0;
    for user in 1..=60 {
        client.like(like(user, video(1 + user % 3))).await.unwrap();
        accepted += 1;
    }
    server.kill9().unwrap();
    let count = "SELECT COUNT(*) FROM video_likes WHERE deleted_at IS NULL";
    eventually(PATIENCE, "every accepted like", async || {
        let rows = deployment.sql(count).await.map_err(|error| error.to_string())?;
        expect_eq(rows.trim().to_owned(), accepted.to_string())
    })
    .await;
    consumer.terminate().unwrap();
    let status = consumer.wait_exit(QUICKLY).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", consumer.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn started_before_its_stores_it_comes_up_by_itself() {
    let deployment = deployed().await;
    let links = Links::to(&deployment).await.unwrap();
    links.cut().await;
    let deployment = deployment.through(&links);
    let (server, consumer) = (deployment.server().start().unwrap(), deployment.consumer().start().unwrap());

    let is = async |code: u16, status: &str| {
        let (seen, body) = server.health().await?;
        if (seen, body["status"].as_str()) == (code, Some(status)) { Ok(()) } else { Err(format!("{seen} {body}")) }
    };
    eventually(PATIENCE, "503 of the server", async || is(503, "down").await).await;
    let mut client = server.client().await;
    let status = client.like(like(1, video(1))).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.get_error_details().retry_info().is_some_and(|info| info.retry_delay > Some(Duration::ZERO)));
    assert!(server.is_running() && consumer.is_running());

    // The database alone is enough for likes.
    links.mariadb.restore().await.unwrap();
    eventually(PATIENCE, "a degraded server", async || is(200, "degraded").await).await;
    let user = fresh_id();
    let answer = client.like(like(user, video(1))).await.unwrap().into_inner();
    assert!(answer.degraded && answer.changed && answer.count == Some(1), "{answer:?}");

    links.rabbitmq.restore().await.unwrap();
    links.redis.restore().await.unwrap();
    tokio::try_join!(server.wait_ready(), consumer.wait_ready()).unwrap();
    // The same like again, and one by somebody else: the cache, which never saw the first, is right once they are settled.
    for user in [user, fresh_id()] {
        let answer = client.like(like(user, video(1))).await.unwrap().into_inner();
        assert!(answer.liked && !answer.degraded, "{answer:?}");
    }
    eventually(PATIENCE, "two likes", async || {
        let request = v1::GetLikeCountsRequest { resources: vec![video(1)], ..Default::default() };
        let counts = client.clone().get_like_counts(request).await.map_err(|status| status.to_string())?;
        expect_eq(counts.into_inner().counts[0].count, 2)
    })
    .await;
    drop((server, consumer));
}

/// MySQL cannot log what is written (1665). Whoever starts meanwhile serves, accepts and waits, and ends for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_that_start_while_the_database_refuses_all_writes_serve_and_wait() {
    let binary_log = &["--log-bin=log", "--binlog-format=ROW"];
    let deployment = Deployment::build("moods").own_mariadb_with(binary_log).start().await.unwrap();
    // As in any running installation, the tables are there, and what is written about the shards.
    let (server, consumer) = started(&deployment).await;
    server.client().await.like(like(1, video(1))).await.unwrap();
    eventually(PATIENCE, "the first row", async || {
        expect_eq(deployment.number("SELECT COUNT(*) FROM video_likes").await.map_err(|e| e.to_string())?, 1)
    })
    .await;
    deployment.sql("SET GLOBAL binlog_format = 'STATEMENT'").await.unwrap();
    drop((server, consumer));

    let server = deployment.server().start().unwrap();
    let consumer = deployment.consumer().start().unwrap();
    let mut client = server.client().await;
    for user in 2..=20 {
        let said = client.like(like(user, video(1))).await.unwrap().into_inner();
        assert!(said.liked && said.changed, "{said:?}");
    }
    for program in [&server, &consumer] {
        eventually(PATIENCE, "health that says why", async || {
            let (_, body) = program.health().await.map_err(|error| error.to_string())?;
            let part = &body["parts"]["mysql"];
            let says =
                part["last_error"]["error"].as_str().is_some_and(|error| error.contains("binlog_format must be"));
            if part["status"] == "down" && says { Ok(()) } else { Err(body.to_string()) }
        })
        .await;
        assert!(program.is_running(), "{}", program.log());
    }
    assert_eq!(deployment.number("SELECT COUNT(*) FROM video_likes").await.unwrap(), 1);

    deployment.sql("SET GLOBAL binlog_format = 'ROW'").await.unwrap();
    eventually(PATIENCE, "all rows", async || {
        expect_eq(deployment.number("SELECT COUNT(*) FROM video_likes").await.map_err(|e| e.to_string())?, 20)
    })
    .await;
    assert_eq!(deployment.number("SELECT COUNT(*) FROM sync_events WHERE status <> 'completed'").await.unwrap(), 0);
}

/// Nothing is there yet, and nothing may be written: whoever starts meanwhile serves, accepts and waits, and goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_that_start_while_the_database_only_reads_serve_and_wait() {
    let deployment = Deployment::build("reads").own_mariadb().start().await.unwrap();
    deployment.sql("SET GLOBAL read_only = 1").await.unwrap();
    let server = deployment.server().start().unwrap();
    let others = [deployment.consumer().start().unwrap(), deployment.checker().start().unwrap()];
    let mut client = server.client().await;
    for user in 1..=20 {
        let said = client.like(like(user, video(1))).await.unwrap().into_inner();
        assert!(said.liked && said.changed, "{said:?}");
    }
    for program in [&server].into_iter().chain(&others) {
        eventually(PATIENCE, "health that says why", async || {
            let (_, body) = program.health().await.map_err(|error| error.to_string())?;
            let part = &body["parts"]["mysql"];
            let says = part["last_error"]["error"].as_str().is_some_and(|error| error.contains("it only reads"));
            if part["status"] == "down" && says { Ok(()) } else { Err(body.to_string()) }
        })
        .await;
        assert!(program.is_running(), "{}", program.log());
    }
    deployment.sql("SET GLOBAL read_only = 0").await.unwrap();
    eventually(PATIENCE, "all rows", async || {
        expect_eq(deployment.number("SELECT COUNT(*) FROM video_likes").await.map_err(|e| e.to_string())?, 20)
    })
    .await;
    assert_eq!(deployment.number("SELECT COUNT(*) FROM sync_events WHERE status <> 'completed'").await.unwrap(), 0);
    for program in [&server].into_iter().chain(&others) {
        eventually(PATIENCE, "health", async || {
            let (_, body) = program.health().await.map_err(|error| error.to_string())?;
            if body["parts"]["mysql"]["status"] == "ok" { Ok(()) } else { Err(body.to_string()) }
        })
        .await;
    }
}
