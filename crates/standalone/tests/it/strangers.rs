//! Callers without a token, or with one and slow, at the real program: they hold up nobody.

use crate::access::with_tokens;
use crate::deployment::{PATIENCE, Standalone, like};
use crate::hostile::{WRITER, metric, writing};
use crate::wire;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_heads_of_strangers_are_read_at_a_rate() {
    const CONNECTIONS: u64 = 16;
    const LEN: usize = 14 << 10;
    /// Of all together.
    const PER_SECOND: u64 = (4 << 20) / LEN as u64;
    /// What a connection may have sent before it waits: what is read at once.
    const AHEAD: u64 = 8;
    let standalone = with_tokens(Standalone::new().await);
    let server = standalone.start_ready().await;
    let answers = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut crowd = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(standalone.grpc_addr()).await.unwrap();
        let (reader, mut writer) = stream.into_split();
        let answers = Arc::clone(&answers);
        crowd.spawn(async move {
            let sending = async {
                writer.write_all(&wire::greeting()).await?;
                for number in 0.. {
                    writer
                        .write_all(&wire::long_head(2 * number + 1, "/interaction.v1.InteractionService/Like", LEN))
                        .await?;
                }
                Ok::<_, std::io::Error>(())
            };
            tokio::try_join!(sending, wire::count_answers(reader, &answers)).map(drop)
        });
    }
    let wanted = CONNECTIONS * AHEAD + PER_SECOND;
    eventually(PATIENCE, "a second's worth of them", async || {
        let answered = answers.load(Ordering::Relaxed);
        if answered >= wanted { Ok(()) } else { Err(answered.to_string()) }
    })
    .await;
    let (answered, took) = (answers.load(Ordering::Relaxed), began.elapsed());
    let most = CONNECTIONS * AHEAD + PER_SECOND * u64::try_from(took.as_millis()).unwrap() / 1_000;
    assert!(answered <= most, "{answered} in {took:?}");
    // A machine that is busy otherwise may hold up one of them.
    eventually(PATIENCE, "a like beside them", async || {
        standalone.client().await.like(writing(like(1, 1))).await.map(drop)
    })
    .await;
    let slowed =
        metric(&standalone, r#"interaction_connections_limited_total{surface="grpc",reason="stranger"}"#).await;
    assert!(slowed >= CONNECTIONS as f64, "{slowed}");
    crowd.abort_all();
    server.end(PATIENCE).await.unwrap();
}
