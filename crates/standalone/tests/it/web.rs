//! gRPC-Web: what a browser's page calls, from which sites, and how it is refused.

use crate::access::with_tokens;
use crate::deployment::{PATIENCE, Standalone, like, video};
use axum::Router;
use axum::response::Html;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use interaction_proto::v1;
use prost::Message;
use serde_json::json;
use test_support::http::{self, Answer};
use test_support::{Browser, eventually};
use tonic::codegen::http::{HeaderMap, HeaderName, HeaderValue};
use tonic::{Code, Status};
use tonic_types::StatusExt;

const TEXT: &str = "Content-Type: application/grpc-web-text";
const SERVICE: &str = "/interaction.v1.InteractionService";

/// A message behind its five bytes, in Base64.
fn framed(message: &impl Message) -> String {
    let body = message.encode_to_vec();
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend(body);
    STANDARD.encode(bytes)
}

/// `name: value` lines.
fn header_map(lines: &str) -> HeaderMap {
    let pairs = lines.lines().filter_map(|line| line.split_once(':'));
    let pairs = pairs.map(|(name, value)| (name.trim().parse::<HeaderName>(), HeaderValue::from_str(value.trim())));
    pairs.map(|(name, value)| (name.unwrap(), value.unwrap())).collect()
}

/// What an answer comes to: its message, or how it was refused, by a frame behind the messages or by the headers.
fn read<M: Message + Default>(answer: &Answer) -> Result<M, Status> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let (_, head) = answer.head.split_once("\r\n").unwrap();
    let head = header_map(head);
    if let Some(status) = Status::from_header_map(&head) {
        return Err(status);
    }
    // Each frame is a text of its own, and each has its own padding; in between stand the lines of chunks.
    let frames = answer.body.lines().filter(|line| line.len() > 6).flat_map(|text| STANDARD.decode(text).unwrap());
    let bytes: Vec<u8> = frames.collect();
    let len = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
    let (message, trailers) = (&bytes[5..5 + len], &bytes[5 + len..]);
    assert_eq!((bytes[0], trailers[0]), (0, 0x80), "{answer:?}");
    let trailers = header_map(std::str::from_utf8(&trailers[5..]).unwrap());
    match Status::from_header_map(&trailers) {
        Some(status) if status.code() != Code::Ok => Err(status),
        _ => Ok(M::decode(message).unwrap()),
    }
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

async fn call(standalone: &Standalone, method: &str, headers: &[&str], message: &impl Message) -> Answer {
    let headers = [&[TEXT, "Accept: application/grpc-web-text", "X-Grpc-Web: 1"], headers].concat();
    let line = format!("POST {SERVICE}/{method}");
    http::send(&standalone.http_addr(), &line, &headers, &framed(message)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_by_grpc_web_is_the_same_as_by_grpc() {
    let standalone = Standalone::new()
        .await
        .with("RATE_LIMITING__USER_ACTION__ENABLED", "true")
        .with("RATE_LIMITING__USER_ACTION__MAX_ACTIONS", "2")
        .with("RATE_LIMITING__USER_ACTION__WINDOW", "1h");
    let server = standalone.start_ready().await;
    let mut client = standalone.client().await;
    client.like(like(1, 42)).await.unwrap();
    let liked: v1::LikeResponse = read(&call(&standalone, "Like", &[], &like(2, 42)).await).unwrap();
    assert!(liked.liked && liked.changed && liked.count == Some(2), "{liked:?}");
    let asked = v1::GetLikeSummariesRequest { user_id: 2, resources: vec![video(42)], ..Default::default() };
    let read_back: v1::GetLikeSummariesResponse =
        read(&call(&standalone, "GetLikeSummaries", &[], &asked).await).unwrap();
    assert_eq!(client.get_like_summaries(asked).await.unwrap().into_inner(), read_back);

    // Refused by the contract, by a limit, by the header of the deadline, by the length.
    let refused = |answer: Answer| read::<v1::LikeResponse>(&answer).unwrap_err();
    let status = refused(call(&standalone, "Like", &[], &like(0, 42)).await);
    let details = status.get_error_details();
    let fields: Vec<_> = details.bad_request().unwrap().field_violations.iter().map(|one| one.field.as_str()).collect();
    assert_eq!((status.code(), fields, &*reason(&status)), (Code::InvalidArgument, vec!["user_id"], "INVALID_REQUEST"));
    let second = call(&standalone, "Like", &[], &like(2, 43)).await;
    read::<v1::LikeResponse>(&second).unwrap();
    let status = refused(call(&standalone, "Like", &[], &like(2, 44)).await);
    assert_eq!((status.code(), &*reason(&status)), (Code::ResourceExhausted, "USER_LIMIT"));
    assert!(status.get_error_details().retry_info().is_some(), "{status:?}");
    let status = refused(call(&standalone, "Like", &["Grpc-Timeout: soon"], &like(3, 42)).await);
    assert_eq!((status.code(), status.message().starts_with("grpc-timeout: ")), (Code::InvalidArgument, true));
    let status = refused(call(&standalone, "Loathe", &[], &like(3, 42)).await);
    assert_eq!(status.code(), Code::Unimplemented);
    let key = "k".repeat(8 << 10);
    let long = v1::LikeRequest { idempotency_key: key, ..like(3, 42) };
    let status = refused(call(&standalone, "Like", &[], &long).await);
    assert_eq!((status.code(), &*reason(&status)), (Code::ResourceExhausted, "MESSAGE_TOO_LONG"));

    // What is no message, and what is no text of one.
    for body in ["AAAAAAL//w==", "%%%%"] {
        let line = format!("POST {SERVICE}/Like");
        let status = refused(http::send(&standalone.http_addr(), &line, &[TEXT], body).await.unwrap());
        assert_eq!(
            (status.code(), &*reason(&status)),
            (Code::InvalidArgument, "INVALID_REQUEST"),
            "{body}: {status:?}"
        );
    }

    // JSON has its own routes, and operators have theirs.
    let line = format!("POST {SERVICE}/Like");
    let answer = http::send(&standalone.http_addr(), &line, &["Content-Type: application/json"], "{}").await.unwrap();
    assert_eq!(answer.status, 415, "{answer:?}");
    let line = "POST /interaction.v1.SyncAdminService/WarmUp";
    assert!(http::send(&standalone.http_addr(), line, &[TEXT], "AAAAAAA=").await.unwrap().status >= 400);
    server.end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_listed_sites_may_ask_what_callers_ask() {
    let standalone = with_tokens(Standalone::new().await).with("SERVICE__CORS_ORIGINS", "https://app.example");
    let server = standalone.start_ready().await;
    let addr = standalone.http_addr();
    let (ours, other) = ("Origin: https://app.example", "Origin: https://other.example");
    let allows = |answer: &Answer| answer.head.contains("access-control-allow-origin: https://app.example");
    let like_path = format!("{SERVICE}/Like");
    for (path, origin, expected) in [
        (&*like_path, ours, true),
        ("/v1/likes", ours, true),
        ("/v1/counts", ours, true),
        (&like_path, other, false),
        ("/events/replay", ours, false),
        ("/cache/stats", ours, false),
    ] {
        let asks = [origin, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: x-grpc-web"];
        let answer = http::send(&addr, &format!("OPTIONS {path}"), &asks, "").await.unwrap();
        assert_eq!((answer.status == 204, allows(&answer)), (expected, expected), "{path} {origin}: {answer:?}");
    }
    let (token, site) = ("Authorization: Bearer token-that-writes-1", "Sec-Fetch-Site: cross-site");
    let answer = call(&standalone, "Like", &[ours, site, token], &like(1, 42)).await;
    assert!(allows(&answer) && answer.head.contains("vary: origin"), "{answer:?}");
    assert!(read::<v1::LikeResponse>(&answer).unwrap().liked);
    // A page reads why it was refused, too.
    for (token, code, expected) in [
        ("Authorization: Bearer token-that-nobody-has", Code::Unauthenticated, "TOKEN_UNKNOWN"),
        ("Authorization: Bearer token-that-reads-1", Code::PermissionDenied, "ROLE_TOO_LOW"),
        ("Authorization: Bearer token-of-some-users-1", Code::PermissionDenied, "OUT_OF_SCOPE"),
    ] {
        let answer = call(&standalone, "Like", &[ours, site, token], &like(10, 42)).await;
        let status = read::<v1::LikeResponse>(&answer).unwrap_err();
        assert_eq!((status.code(), &*reason(&status), allows(&answer)), (code, expected, true), "{answer:?}");
    }
    // Reading needs no more than the role that reads.
    let asked = v1::GetLikeCountsRequest { resources: vec![video(42)], ..Default::default() };
    let reader = "Authorization: Bearer token-that-reads-1";
    let counts: v1::GetLikeCountsResponse =
        read(&call(&standalone, "GetLikeCounts", &[ours, reader], &asked).await).unwrap();
    assert_eq!(counts.counts[0].count, 1);

    let answer = call(&standalone, "Like", &[other, site, token], &like(1, 43)).await;
    let status = read::<v1::LikeResponse>(&answer).unwrap_err();
    assert_eq!((reason(&status), allows(&answer)), ("CROSS_SITE".to_owned(), false), "{answer:?}");
    let operator = "Authorization: Bearer token-that-operates-1";
    let headers = [ours, site, operator, "Content-Type: application/json"];
    let answer = http::send(&addr, "POST /cache/warmup", &headers, "{}").await.unwrap();
    assert_eq!((answer.status, allows(&answer)), (403, false), "{answer:?}");
    server.end(PATIENCE).await.unwrap();
}

/// A site with one empty page; its origin.
async fn site() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/", get(async || Html("<!doctype html><title>elsewhere</title>")));
    tokio::spawn(async move { axum::serve(listener, router).await });
    origin
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_another_site_likes_and_watches() {
    let (listed, unlisted) = (site().await, site().await);
    let standalone = Standalone::new().await.with("SERVICE__CORS_ORIGINS", &listed);
    let server = standalone.start_ready().await;
    let mut client = standalone.client().await;
    let browser = Browser::start(800, 600).await.unwrap();
    let url = format!("http://{}{SERVICE}", standalone.http_addr());
    let script = |method: &str, body: &str, then: &str| {
        let headers = json!({ "content-type": "application/grpc-web-text", "accept": "application/grpc-web-text",
            "x-grpc-web": "1" });
        format!(
            "return (async () => {{ const answer = await fetch('{url}/{method}', {{ method: 'POST',
                headers: {headers}, body: '{body}' }}); {then} }})().catch((error) => error.name);"
        )
    };
    let liking = |user| script("Like", &framed(&like(user, 42)), "return answer.status + ' ' + await answer.text();");

    browser.open(&listed).await.unwrap();
    let said = browser.run(&liking(1)).await.unwrap();
    assert!(said.as_str().unwrap().starts_with("200 AAAA"), "{said}");
    // A refusal is in headers that the page may read.
    let then = "return answer.headers.get('grpc-status') + ' ' + answer.headers.get('grpc-message');";
    let said = browser.run(&script("Like", &framed(&like(0, 42)), then)).await.unwrap();
    assert!(said.as_str().unwrap().starts_with("3 user_id"), "{said}");
    // A stream goes on while its page reads it.
    let watch = v1::WatchLikeCountsRequest { resources: vec![video(42)] };
    let then = "window.parts = []; const reader = answer.body.getReader();
        (async () => { for (;;) { const part = await reader.read(); if (part.done) break;
            window.parts.push(new TextDecoder().decode(part.value)); } })();
        return answer.headers.get('content-type');";
    let said = browser.run(&script("WatchLikeCounts", &framed(&watch), then)).await.unwrap();
    assert_eq!(said, "application/grpc-web-text+proto");
    client.like(like(2, 42)).await.unwrap();
    eventually(PATIENCE, "a count of two in the page", async || {
        let parts = browser.run("return window.parts").await.unwrap();
        let last = parts.as_array().and_then(|parts| parts.last()).and_then(|part| part.as_str());
        let bytes = last.and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
        let update = v1::WatchLikeCountsResponse::decode(bytes.get(5..).unwrap_or_default()).unwrap_or_default();
        if update.counts.first().map(|count| count.count) == Some(2) { Ok(()) } else { Err(parts) }
    })
    .await;

    browser.open(&unlisted).await.unwrap();
    assert_eq!(browser.run(&liking(3)).await.unwrap(), "TypeError");
    let asked = v1::GetLikeCountsRequest { resources: vec![video(42)], ..Default::default() };
    assert_eq!(client.get_like_counts(asked).await.unwrap().into_inner().counts[0].count, 2);
    server.end(PATIENCE).await.unwrap();
}
