//! One process: it checks itself, and answers operators like a server does.

use crate::deployment::{PATIENCE, Standalone, like};
use serde_json::Value;
use test_support::{eventually, http};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_checks_itself_and_says_so() {
    let standalone = Standalone::new().await.with("DATA_CONSISTENCY__CHECK_INTERVAL", "1s");
    let server = standalone.start_ready().await;
    let mut client = standalone.client().await;
    for user in 1..=3 {
        client.like(like(user, 1)).await.unwrap();
    }
    let get = async |path: &str| -> Result<Value, String> {
        let (code, body) = http::get(&standalone.http_addr(), path).await.map_err(|error| error.to_string())?;
        if code == 200 { serde_json::from_str(&body).map_err(|error| error.to_string()) } else { Err(body) }
    };
    eventually(PATIENCE, "the likes in the database", async || {
        let stats = get("/cache/stats").await?;
        if stats["pending"] == 0 && stats["available"] == true { Ok(()) } else { Err(stats.to_string()) }
    })
    .await;
    eventually(PATIENCE, "a sweep that saw them", async || {
        let report = get("/consistency/report").await?;
        let runs = report["latest_runs"].as_array().cloned().unwrap_or_default();
        let seen =
            |run: &Value| run["kind"] == "full" && run["status"] == "finished" && run["checked"].as_i64() > Some(6);
        if runs.iter().any(seen) && report["inconsistent"] == 0 { Ok(()) } else { Err(report.to_string()) }
    })
    .await;
    let question = "{\"resource_type\":\"video\",\"resource_id\":1}";
    let (code, body) = http::post_json(&standalone.http_addr(), "/consistency/check", question).await.unwrap();
    assert!(code == 200 && body.contains("\"verdict\":\"consistent\"") && body.contains("\"leader\":true"), "{body}");
    let (code, body) =
        http::post_json(&standalone.http_addr(), "/cache/warmup", "{\"top_resources\":5}").await.unwrap();
    assert!(code == 200 && body.contains("\"counters\":1,\"counters_filled\":0"), "{body}");
    server.end(PATIENCE).await.unwrap();
}
