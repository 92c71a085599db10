//! Callers without a token, or with one and slow, at the real program: they hold up nobody.

use crate::access::with_tokens;
use crate::deployment::{PATIENCE, Standalone, like};
use crate::hostile::{READER, WRITER, metric, writing};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use test_support::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_health_keep_no_place() {
    let standalone = with_tokens(Standalone::new().await).with("SERVICE__MAX_CONNECTIONS", "8");
    let server = standalone.start_ready().await;
    let mut likes = standalone.client().await;
    likes.like(writing(like(1, 1))).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..16 {
        let mut health = HealthClient::new(standalone.channel().await);
        let mut stream = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        stream.message().await.unwrap().unwrap();
        streams.push((health, stream));
    }
    standalone.client().await.like(writing(like(2, 1))).await.unwrap();
    likes.like(writing(like(3, 1))).await.unwrap();
    assert!(metric(&standalone, r#"interaction_connections_limited_total{surface="grpc",reason="full"}"#).await < 1.0);
    // Nine by strangers; and no place was taken from whoever showed a token.
    assert!(
        metric(&standalone, r#"interaction_connections_limited_total{surface="grpc",reason="gave_way"}"#).await >= 9.0
    );
    drop(streams);
    server.end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_carry_nothing_end_their_connection() {
    let standalone = with_tokens(Standalone::new().await);
    let server = standalone.start_ready().await;
    let frame =
        |kind: u8, data: &[u8]| [&[0, 0, u8::try_from(data.len()).unwrap(), kind, 0, 0, 0, 0, 0][..], data].concat();
    let begin = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, &[])].concat();
    for flood in [frame(6, b"12345678"), frame(4, &[]), frame(99, &[])] {
        let stream = TcpStream::connect(standalone.grpc_addr()).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        writer.write_all(&begin).await.unwrap();
        let reading = tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
        let flood = flood.repeat(1_000);
        let sending = async { while writer.write_all(&flood).await.is_ok() {} };
        let ended = tokio::time::timeout(Duration::from_secs(20), sending).await;
        assert!(ended.is_ok(), "it floods on");
        let _ = reading.await.unwrap();
    }
    assert!(
        metric(&standalone, r#"interaction_connections_limited_total{surface="grpc",reason="frames"}"#).await >= 3.0
    );
    server.end(PATIENCE).await.unwrap();
}

fn post(len: usize) -> String {
    format!(
        "POST /v1/likes HTTP/1.1\r\nhost: localhost\r\nauthorization: {WRITER}\r\n\
         content-type: application/json\r\ncontent-length: {len}\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_not_whole_take_no_turn() {
    let standalone = with_tokens(Standalone::new().await);
    let server = standalone.start_ready().await;
    let mut slow = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(standalone.http_addr()).await.unwrap();
        stream.write_all(format!("{} ", post(100)).as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let all = 64.0 * 16_384.0;
    eventually(PATIENCE, "all of them", async || {
        let open = metric(&standalone, "interaction_unfinished_request_bytes").await;
        if open >= all { Ok(()) } else { Err(open.to_string()) }
    })
    .await;
    let body = r#"{"user_id":"1","resource_type":"video","resource_id":"5","action":"like"}"#;
    let mut stream = TcpStream::connect(standalone.http_addr()).await.unwrap();
    stream.write_all(format!("{}{body}", post(body.len())).as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(std::str::from_utf8(&status).unwrap(), "HTTP/1.1 200");
    assert!(
        metric(&standalone, "interaction_unfinished_request_bytes").await >= all,
        "it waited for the end of others"
    );
    drop(slow);
    server.end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_answered_once_by_connection() {
    let standalone = with_tokens(Standalone::new().await);
    let server = standalone.start_ready().await;
    for (path, status) in [("/", 200), ("/health/live", 200), ("/v1/counts?resource=video:1", 401)] {
        let mut stream = TcpStream::connect(standalone.http_addr()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.repeat(50).as_bytes()).await.unwrap();
        let mut answers = Vec::new();
        // What was sent ahead and is not read may end it by a reset.
        let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answers)).await.unwrap();
        let answers = String::from_utf8_lossy(&answers);
        assert!(answers.matches("HTTP/1.1 ").count() <= 1, "{path}: {answers}");
        assert!(answers.is_empty() || answers.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answers}");
    }
    server.end(PATIENCE).await.unwrap();
}

/// Whoever may read metrics sends one request after the other ahead, over a few connections: it does not take the processor.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_that_are_asked_for_all_the_time_are_made_once_in_a_while() {
    const CONNECTIONS: usize = 4;
    const STATUS: &[u8] = b"HTTP/1.1 200";
    let standalone = with_tokens(Standalone::new().await);
    let server = standalone.start_ready().await;
    let request = format!("GET /metrics HTTP/1.1\r\nhost: localhost\r\nauthorization: {READER}\r\n\r\n");
    let (began, answers) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let mut crowd = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(standalone.http_addr()).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let ahead = request.repeat(50);
        crowd.spawn(async move { while writer.write_all(ahead.as_bytes()).await.is_ok() {} });
        let answers = Arc::clone(&answers);
        crowd.spawn(async move {
            let (mut text, mut part) = (Vec::<u8>::new(), vec![0; 64 << 10]);
            while let Ok(read @ 1..) = reader.read(&mut part).await {
                text.extend(&part[..read]);
                let found = text.windows(STATUS.len()).filter(|bytes| *bytes == STATUS).count();
                answers.fetch_add(found, Ordering::Relaxed);
                // Less than another one, which may have come in two parts.
                text.drain(..text.len().saturating_sub(STATUS.len() - 1));
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let answered = answers.load(Ordering::Relaxed);
    // One every 20 ms, and the first.
    let most = CONNECTIONS * (1 + usize::try_from(began.elapsed().as_millis() / 20).unwrap());
    assert!((CONNECTIONS..=most).contains(&answered), "{answered} answers, at most {most} wanted");
    standalone.client().await.like(writing(like(1, 1))).await.unwrap();
    crowd.abort_all();
    server.end(PATIENCE).await.unwrap();
}
