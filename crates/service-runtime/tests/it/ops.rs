use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use service_runtime::listen::api_error::ApiError;
use service_runtime::listen::ops::{self, MAX_BODY_LEN};
use service_runtime::{Context, Criticality, Metrics, Status};
use std::time::Duration;
use test_support::http;
use tokio::net::TcpListener;

/// A server on a free port, until the context's soft token.
async fn serve(context: &Context) -> String {
    let routes = Router::new()
        .route("/fails", get(async || -> Result<(), ApiError> { Err(ApiError::bad_request("no such shard")) }))
        .route("/panics", get(async || -> &'static str { std::panic::panic_any("on purpose") }))
        .route("/echo", post(async |body: String| body))
        .route("/slow", get(async || std::future::pending::<&'static str>().await));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    context.serve_ops(listener, routes);
    addr
}

#[tokio::test]
async fn health_says_how_the_whole_and_the_parts_are() {
    let context = Context::new("test", "1.2.3", "host-1");
    let store = context.health.part("mysql", Criticality::Critical);
    let broker = context.health.part("rabbitmq", Criticality::Optional);
    let addr = serve(&context).await;

    let (code, body) = http::get(&addr, "/health").await.unwrap();
    assert!(code == 503 && body.contains(r#""status":"down""#), "{code} {body}");
    store.ok();
    broker.set(Status::Down, "refused");
    let (code, body) = http::get(&addr, "/health").await.unwrap();
    assert_eq!(code, 200, "{body}");
    for part in [
        r#""status":"degraded""#,
        r#""rabbitmq":{"status":"down","detail":"refused"}"#,
        r#""mysql":{"status":"ok"}"#,
        r#""service":"test""#,
        r#""version":"1.2.3""#,
        r#""uptime_seconds":"#,
    ] {
        assert!(body.contains(part), "{part} in {body}");
    }
    broker.ok();
    let (code, body) = http::get(&addr, "/health").await.unwrap();
    assert!(code == 200 && body.contains(r#""status":"ok""#) && !body.contains("degraded"), "{code} {body}");
    store.set(Status::Down, "gone");
    assert_eq!(http::get(&addr, "/health").await.unwrap().0, 503);
    assert_eq!(http::get(&addr, "/health/live").await.unwrap().0, 200);
}

#[tokio::test]
async fn every_error_is_json() {
    let context = Context::new("test", "1", "host-1");
    let addr = serve(&context).await;
    for (path, code, reason, error) in [
        ("/nothing/here", 404, "NOT_FOUND", "not found"),
        ("/echo", 405, "METHOD_NOT_ALLOWED", "method not allowed"),
        ("/fails", 400, "INVALID_REQUEST", "no such shard"),
        ("/panics", 500, "INTERNAL", "internal error"),
        ("/metrics", 404, "NOT_FOUND", "metrics are switched off"),
    ] {
        let (found, body) = http::get(&addr, path).await.unwrap();
        assert_eq!(found, code, "{path}: {body}");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{path}: {body}"));
        assert_eq!(body, serde_json::json!({ "status": code, "reason": reason, "error": error }), "{path}");
    }
    let (code, body) = http::post_json(&addr, "/echo", &"x".repeat(MAX_BODY_LEN + 1)).await.unwrap();
    assert!(code == 413 && body.contains("MESSAGE_TOO_LONG"), "{code} {body}");
    assert_eq!(http::post_json(&addr, "/echo", "hello").await.unwrap(), (200, "hello".to_owned()));
}

#[tokio::test]
async fn metrics_are_prometheus_text_with_the_buckets_of_their_kind() {
    let mut context = Context::new("test", "1", "host-1");
    // The only test of this process that installs the recorder.
    context.metrics = Some(Metrics::install().unwrap().with_old_names(true));
    assert!(Metrics::install().is_err());
    let addr = serve(&context).await;
    metrics::counter!("test_accepts_total", "outcome" => "changed").increment(2);
    metrics::counter!("interaction_likes_total", "outcome" => "accepted").increment(1);
    metrics::histogram!("test_lag_seconds").record(0.003);
    metrics::histogram!("test_batch_size").record(150.0);
    let (code, body) = http::get(&addr, "/metrics").await.unwrap();
    assert_eq!(code, 200);
    for line in [
        r#"test_accepts_total{outcome="changed"} 2"#,
        r#"test_lag_seconds_bucket{le="0.0025"} 0"#,
        r#"test_lag_seconds_bucket{le="0.005"} 1"#,
        r#"test_batch_size_bucket{le="100"} 0"#,
        r#"test_batch_size_bucket{le="200"} 1"#,
        "# HELP process_resident_memory_bytes Resident memory",
        "process_resident_memory_bytes ",
        r#"interaction_likes_total{outcome="accepted"} 1"#,
        "# TYPE likes_total counter\nlikes_total{outcome=\"accepted\"} 1\n",
    ] {
        assert!(body.contains(line), "{line} in\n{body}");
    }
    context.metrics = context.metrics.map(|metrics| metrics.with_old_names(false));
    let (_, body) = http::get(&serve(&context).await, "/metrics").await.unwrap();
    assert!(body.contains("\ninteraction_likes_total{") && !body.contains("\nlikes_total"), "{body}");
}

#[tokio::test]
async fn the_server_stops_with_the_soft_token_though_a_request_hangs() {
    let context = Context::new("test", "1", "host-1");
    let addr = serve(&context).await;
    let hanging = tokio::spawn({
        let addr = addr.clone();
        async move { http::get(&addr, "/slow").await }
    });
    assert_eq!(http::get(&addr, "/health/live").await.unwrap().0, 200);
    context.soft.cancel();
    context.tracker.close();
    tokio::time::timeout(Duration::from_secs(15), context.tracker.wait()).await.expect("the server did not stop");
    assert!(!context.has_failed());
    assert!(tokio::net::TcpStream::connect(&addr).await.is_err());
    hanging.abort();
}

#[tokio::test]
async fn the_router_can_be_used_without_the_harness() {
    let context = Context::new("test", "1", "host-1");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(serve_alone(listener, context.clone()));
    assert_eq!(http::get(&addr, "/health").await.unwrap().0, StatusCode::OK.as_u16());
    context.soft.cancel();
    server.await.unwrap();
}

async fn serve_alone(listener: TcpListener, context: Context) {
    ops::serve(&context.gate, listener, service_runtime::router(&context, Router::new()), context.soft.clone()).await;
}
