//! What is on its way is said to be on its way, all of it, and nothing else is.

use crate::deployment::{Asked, Checked, apply, operation};
use serde_json::Value;
use std::collections::BTreeSet;
use test_support::build::video_pair;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_is_in_flight_is_reported_as_in_flight() {
    // Nobody publishes again what the paused consumer holds.
    let deployment = Checked::new().await.with("EVENT_DRIVEN_SYNC__REPUBLISH_AFTER", "10m");
    let (server, consumer) = (deployment.server().await, deployment.consumer().await);
    let mut client = server.client().await;
    apply(&mut client, (1..=30).map(|video| operation(video_pair(1, video), true)).collect()).await;
    deployment.settled(&server).await;

    consumer.pause().unwrap();
    // Known ones, and ones that the database has never heard of.
    let moving: BTreeSet<i64> = (11..=50).collect();
    apply(&mut client, moving.iter().map(|video| operation(video_pair(2, *video), true)).collect()).await;
    for video in &moving {
        let (code, checked) = server.check(*video, false).await;
        assert_eq!((code, &checked["verdict"]), (200, &"in_flight".into()), "{video}: {checked}");
        assert_eq!(checked["findings"][0]["cache"]["pending"], 1, "{checked}");
    }
    let (code, checked) = server.check(1, false).await;
    assert_eq!((code, &checked["verdict"]), (200, &"consistent".into()), "{checked}");

    let report = tempfile::NamedTempFile::new().unwrap();
    let path = report.path().to_str().unwrap();
    let (code, said) = deployment.syncctl(&["reconcile", "--stuck-after", "600", "--report", path], None).await;
    assert_eq!(code, Some(0), "lag is nothing wrong: {said}");
    let lines: Vec<Value> =
        std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (summary, findings) = lines.split_last().unwrap();
    assert_eq!(summary["summary"]["inconsistent"], 0, "{summary}");
    assert!(findings.iter().all(|one| one["verdict"] == "in_flight"), "{findings:?}");
    let counters: BTreeSet<i64> = findings
        .iter()
        .filter(|one| one["kind"] == "cached_count")
        .map(|one| one["resource_id"].as_i64().unwrap())
        .collect();
    assert_eq!(counters, moving);
    assert!(deployment.found().await.is_empty());

    consumer.resume().unwrap();
    deployment.settled(&server).await;
    let (code, said) = deployment.syncctl(&["reconcile", "--json"], None).await;
    assert_eq!(code, Some(0), "{said}");
    let summary = test_support::last_json(&said).unwrap();
    assert_eq!(
        (&summary["in_flight"], &summary["inconsistent"], &summary["coverage"]),
        (&0.into(), &0.into(), &1.0.into())
    );
    assert_eq!(summary["finished"], true);
}
