//! Samples of the last day, and who takes part: what the page shows of the time before it was opened.

use crate::admin::get;
use crate::client::{Grpc, PATIENCE, deployed, like, video};
use serde_json::Value;
use std::time::Duration;
use test_support::{Links, Program, eventually};

async fn history(server: &Program, fits: impl Fn(&Value) -> bool) -> Value {
    eventually(PATIENCE, "samples", async || {
        let (code, body) = get(server, "/history").await;
        if code == 200 && fits(&body) { Ok(body) } else { Err(body) }
    })
    .await
}

fn samples(body: &Value) -> usize {
    body["samples"].as_array().map_or(0, Vec::len)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_outlive_a_server_and_a_lost_database() {
    let deployment = deployed().await.with("EVENT_DRIVEN_SYNC__CIRCUIT__PROBE_INTERVAL", "200ms");
    let links = Links::to(&deployment).await.unwrap();
    let deployment = deployment.through(&links);
    let server = deployment.server().start_ready().await.unwrap();
    server.client().await.like(like(1, video(1))).await.unwrap();
    let first = history(&server, |body| samples(body) > 0 && body["complete"] == true).await;
    let minute = first["samples"][0]["minute"].as_i64().unwrap();
    assert!(first["samples"][0]["journal"].is_i64() && first["samples"][0]["dead"] == 0, "{first}");
    let before = minute - 30;
    deployment.sql(&format!("INSERT INTO sync_samples (sampled_minute, dead) VALUES ({before}, 9)")).await.unwrap();
    server.end(Duration::from_secs(20)).await.unwrap();

    let server = deployment.server().start_ready().await.unwrap();
    let again = history(&server, |body| samples(body) >= 2).await;
    assert_eq!((&again["samples"][0]["minute"], &again["samples"][0]["dead"]), (&before.into(), &9.into()), "{again}");
    assert_eq!(again["samples"][1]["minute"], minute, "{again}");
    let (_, body) = get(&server, "/history?minutes=10").await;
    assert!(body["samples"].as_array().unwrap().iter().all(|one| one["minute"].as_i64() > Some(before)), "{body}");

    // Without the database a server tells what it saw itself, and says so.
    links.mariadb.cut().await;
    let own = history(&server, |body| body["complete"] == false && samples(body) > 0).await;
    assert!(own["samples"][0]["minute"].as_i64() >= Some(minute), "{own}");
    links.mariadb.restore().await.unwrap();
    history(&server, |body| body["complete"] == true && body["samples"][0]["minute"] == before).await;
}
