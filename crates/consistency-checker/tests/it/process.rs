//! It starts, sweeps, repairs, answers, and ends.

use crate::deployment::{Asked, Checked, PATIENCE, SOON, apply, operation, video_of};
use test_support::build::video_pair;
use test_support::{Authority, Binary, Redis, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_sweeps_repairs_reports_and_ends_on_sigterm() {
    let deployment = Checked::new()
        .await
        .with("DATA_CONSISTENCY__CHECK_INTERVAL", "1s")
        .with("DATA_CONSISTENCY__CONFIRM_AFTER", "100ms");
    let (server, consumer) = (deployment.server().await, deployment.consumer().await);
    let mut client = server.client().await;
    apply(&mut client, (1..=3).map(|video| operation(video_pair(1, video), true)).collect()).await;
    deployment.settled(&server).await;

    let checker = deployment.checker().await;
    eventually(PATIENCE, "a full sweep", async || !deployment.finished_runs("full").await.is_empty()).await;
    deployment.redis::<()>(&format!("HINCRBY {} n 7", deployment.keys.counter(video_of(2)))).await;
    eventually(PATIENCE, "the repair", async || {
        let count: i64 = deployment.redis(&format!("HGET {} n", deployment.keys.counter(video_of(2)))).await;
        if count == 1 { Ok(()) } else { Err(format!("count {count}\n{}", checker.log())) }
    })
    .await;
    eventually(PATIENCE, "the repair in the report", async || {
        let (code, report) = checker.get("/consistency/report?hours=1").await.unwrap();
        let says = (&report["inconsistent"], &report["repaired"], &report["by_resource"][0][0]);
        let fine = code == 200 && says == (&1.into(), &1.into(), &"video:2".into()) && report["coverage"] == 1.0;
        if fine { Ok(()) } else { Err(report) }
    })
    .await;
    // The server tells the same, but repairs nothing.
    let (code, report) = server.get("/consistency/report").await.unwrap();
    assert_eq!((code, &report["inconsistent"]), (200, &1.into()), "{report}");
    let (code, checked) = server.check(2, false).await;
    assert_eq!((code, &checked["verdict"], &checked["leader"]), (200, &"consistent".into(), &false.into()));
    let (code, text) = checker.get("/metrics").await.unwrap();
    let text = text.as_str().unwrap();
    for metric in [
        "interaction_consistency_checked_total",
        "interaction_consistency_found_total",
        "interaction_consistency_repairs_total",
    ] {
        assert!(code == 200 && text.contains(metric), "{metric}: {text}");
    }
    let found = deployment.found().await;
    assert!(found.len() == 1 && found[0].repaired && found[0].token().is_some(), "{found:?}");
    checker.end(SOON).await.unwrap();
    server.end(SOON).await.unwrap();
    consumer.end(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_configuration_is_one_line_that_names_the_key_and_exit_code_64() {
    let binary = Binary::build("consistency-checker").env("INTERACTION__DATA_CONSISTENCY__LEASE", "1ms");
    let binary = binary.start().unwrap();
    let status = binary.wait_exit(PATIENCE).await.unwrap();
    let log = binary.log();
    assert_eq!(status.code(), Some(64), "{log}");
    assert!(log.contains("data_consistency.lease") && log.trim().lines().count() == 1, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_reaches_a_cache_behind_tls() {
    let deployment = Checked::new().await;
    // A deployment, which remembers its number of shards.
    deployment.server().await.end(SOON).await.unwrap();
    let (ours, theirs) = (Authority::new("ours").unwrap(), Authority::new("theirs").unwrap());
    let redis = Redis::start_tls(&ours).await.unwrap();
    let plain = redis.url().replace("rediss://", "redis://");
    for (url, authority, expected, words) in [
        (redis.url(), &ours, 0, "0 wrong"),
        (redis.url(), &theirs, 69, "cache"),
        (plain.as_str(), &ours, 2, "redis.ca_file: is of use only with a rediss:// url"),
    ] {
        let ca = authority.ca();
        let args = ["reconcile", "--redis-url", url, "--redis-ca-file", ca.to_str().unwrap()];
        let (code, said) = deployment.syncctl(&args, None).await;
        assert!(code == Some(expected) && said.contains(words), "{expected} {words}: {code:?} {said}");
    }
}
