//! The routes.

use crate::rig::{Rig, video_of};
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use consistency::{ConsistencyConfig, Strategy, routes};
use serde_json::Value;
use test_support::build::video_pair;
use tower::ServiceExt;

async fn call(router: &axum::Router, method: &str, path: &str, body: &str) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_and_reports_and_refuses_nonsense() {
    let rig = Rig::new().await;
    rig.like(video_pair(1, 1)).await;
    rig.settled().await;
    rig.redis::<()>(&format!("HINCRBY {} n 3", rig.counter(1))).await;
    let router = routes(rig.repairing(Strategy::DatabaseFirst).await);
    let question = |dry| format!("{{\"resource_type\":\"video\",\"resource_id\":1,\"dry_run\":{dry}}}");
    for (dry_run, verdict, outcome) in
        [(true, "drift", Some("dry_run")), (false, "drift", Some("repaired")), (false, "consistent", None)]
    {
        let (status, body) = call(&router, "POST", "/consistency/check", &question(dry_run)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (&body["verdict"], &body["resource_id"], &body["leader"]),
            (&verdict.into(), &1.into(), &true.into()),
            "{body}"
        );
        assert_eq!(body["findings"][0]["repair"]["outcome"].as_str(), outcome, "{body}");
    }
    assert_eq!(rig.stores.cache.counts(&[video_of(1)]).await.unwrap()[0].unwrap().served, 1);

    let (status, body) = call(&router, "GET", "/consistency/report?hours=24", "").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let report: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&report["runs"], &report["inconsistent"], &report["repaired"], &report["open"]),
        (&3.into(), &2.into(), &1.into(), &0.into())
    );
    assert_eq!((&report["opened"], &report["closed"]), (&1.into(), &1.into()), "seen twice, found once");
    assert_eq!(report["findings"][0]["outcome"], "repaired");
    assert_eq!(report["troubles"].as_array().map(Vec::len), Some(0));
    assert_eq!(report["by_kind"][0]["kind"], "cached_count");
    assert_eq!(report["by_resource"][0][0], "video:1");
    assert_eq!(report["lag"]["events"], 1);
    assert_eq!(report["trend"].as_array().map(Vec::is_empty), Some(false));
    assert!(report["consistency_rate"].as_f64().unwrap() < 1.0 && report["nines"].as_f64().unwrap() > 0.0);

    let request = Request::builder().uri("/consistency/report").header("accept", "text/html,*/*;q=0.8");
    let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
    let page = String::from_utf8(to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap();
    assert!(page.contains("cached_count") && page.contains("video:1") && page.ends_with("</html>\n"), "{page}");
    assert!(!page.contains("<script") && !page.contains("http://"), "{page}");

    for (path, body, word) in [
        ("/consistency/check", "", "body"),
        ("/consistency/check", "[]", "body"),
        ("/consistency/check", "{\"resource_type\":\"video\"}", "resource_id"),
        ("/consistency/check", "{\"resource_type\":\"film\",\"resource_id\":1}", "resource_type"),
        ("/consistency/check", "{\"resource_type\":\"video\",\"resource_id\":0}", "resource_id"),
        ("/consistency/check", "{\"resource_type\":\"video\",\"resource_id\":\"one\"}", "resource_id: invalid value"),
        ("/consistency/check", "{\"resource_type\":\"video\",\"resource_id\":1,\"repair\":1}", "repair"),
    ] {
        let (status, answer) = call(&router, "POST", path, body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}: {answer}");
        assert!(answer.contains(word), "{body}: {answer}");
    }
    for query in ["hours=0", "hours=721", "hours=many", "days=1"] {
        let (status, answer) = call(&router, "GET", &format!("/consistency/report?{query}"), "").await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {answer}");
    }
    let (status, _) = call(&router, "GET", "/consistency/check", "").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}

/// What a store says names tables, users and hosts: it goes to the log, and the caller gets an id that finds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_never_reads_what_a_store_says() {
    let rig = Rig::new().await;
    rig.like(video_pair(1, 1)).await;
    rig.settled().await;
    let router = routes(rig.checker_with(ConsistencyConfig::default()).await);
    rig.sql("RENAME TABLE video_likes TO secret_likes, data_consistency_checks TO secret_checks").await;
    for (method, path, body) in [
        ("POST", "/consistency/check", r#"{"resource_type":"video","resource_id":1}"#),
        ("GET", "/consistency/report?hours=24", ""),
    ] {
        let (status, answer) = call(&router, method, path, body).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
        assert!(answer.contains("see the server's log (id "), "{answer}");
        for word in ["likes", "checks", "exist", "1146", "migrate"] {
            assert!(!answer.contains(word), "{answer} says {word}");
        }
    }
}
