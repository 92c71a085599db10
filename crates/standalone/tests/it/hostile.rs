//! gRPC of the real program and callers that are silent, slow or many. What ops HTTP does with them is tried in service-runtime.

use crate::access::with_tokens;
use crate::deployment::{Client, PATIENCE, Standalone, like};
use axum::body::{Body, Bytes};
use axum::http::Request as HttpRequest;
use interaction_proto::v1;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::time::{Duration, Instant};
use test_support::{Program, eventually, http};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tonic::client::GrpcService;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const CHECK: &str = "/grpc.health.v1.Health/Check";
const APPLY: &str = "/interaction.v1.InteractionService/ApplyLikes";
const COUNTS: &str = "/interaction.v1.InteractionService/GetLikeCounts";
pub(crate) const WRITER: &str = "Bearer token-that-writes-1";
pub(crate) const READER: &str = "Bearer token-that-reads-1";
const KIB: usize = 1 << 10;
const MIB: u64 = 1 << 20;
/// A request has so long to be complete.
const RECEIVE: Duration = Duration::from_secs(10);

/// A call whose message announces more bytes than come.
#[derive(Clone, Copy)]
struct Unfinished {
    path: &'static str,
    token: Option<&'static str>,
    announced: usize,
    sent: usize,
}

impl Unfinished {
    /// Returns when it is refused.
    async fn make(self, mut channel: Channel) -> Code {
        let prefix = [&[0][..], &u32::try_from(self.announced).unwrap().to_be_bytes()].concat();
        // As HTTP/2 frames them.
        let whole = std::iter::repeat_n(16 * KIB, self.sent / (16 * KIB));
        let parts = whole.chain([self.sent % (16 * KIB)]).map(|len| vec![0xff; len]);
        let parts = std::iter::once(prefix).chain(parts).map(|part| Ok::<_, std::io::Error>(Bytes::from(part)));
        let body = Body::from_stream(tokio_stream::iter(parts).chain(tokio_stream::pending()));
        let request = HttpRequest::post(self.path).header("content-type", "application/grpc").header("te", "trailers");
        let request = match self.token {
            Some(token) => request.header("authorization", token),
            None => request,
        };
        let request = request.body(tonic::body::Body::new(body)).unwrap();
        poll_fn(|cx| GrpcService::<tonic::body::Body>::poll_ready(&mut channel, cx)).await.unwrap();
        let answer = GrpcService::call(&mut channel, request).await.unwrap();
        let code = answer.headers().get("grpc-status").unwrap().to_str().unwrap().to_owned();
        Code::from_i32(code.parse().unwrap())
    }

    /// So many on each of these connections.
    async fn flood(self, standalone: &Standalone, connections: usize, calls: usize) -> JoinSet<Code> {
        let mut all = JoinSet::new();
        for _ in 0..connections {
            let channel = standalone.channel().await;
            for _ in 0..calls {
                all.spawn(self.make(channel.clone()));
            }
        }
        all
    }
}

/// How many were refused with which code, and the most memory meanwhile.
async fn refused(mut calls: JoinSet<Code>, server: &Program) -> (BTreeMap<String, usize>, u64) {
    let before = server.resident().unwrap();
    let (mut codes, mut most) = (BTreeMap::<String, usize>::new(), 0);
    let mut looks = tokio::time::interval(Duration::from_millis(100));
    let began = Instant::now();
    loop {
        tokio::select! {
            code = calls.join_next() => match code {
                Some(code) => *codes.entry(format!("{:?}", code.unwrap())).or_default() += 1,
                None => {
                    println!("{} MiB, meanwhile at most {} MiB: {codes:?}", before / MIB, most / MIB);
                    return (codes, most);
                }
            },
            _ = looks.tick() => {
                most = most.max(server.resident().unwrap());
                assert!(began.elapsed() < RECEIVE + PATIENCE, "{} calls are kept, {codes:?} are not", calls.len());
            }
        }
    }
}

pub(crate) fn writing<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", MetadataValue::from_static(WRITER));
    request
}

/// 0 as long as it is not shown.
pub(crate) async fn metric(standalone: &Standalone, line: &str) -> f64 {
    let reader = format!("Authorization: {READER}");
    let answer = http::send(&standalone.http_addr(), "GET /metrics", &[&reader], "").await.unwrap();
    let value = answer.body.lines().find_map(|metric| metric.strip_prefix(line)?.trim().parse().ok());
    value.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_calls_without_a_token_cost_next_to_nothing() {
    let standalone = with_tokens(Standalone::new().await);
    let server = standalone.start_ready().await;
    let mut likes = standalone.client().await;
    likes.like(writing(like(1, 1))).await.unwrap();
    let before = server.resident().unwrap();
    // As long as a message of gRPC may be by default, and as long as it may be here.
    let big = Unfinished { path: CHECK, token: None, announced: 4_194_304, sent: 4_194_000 };
    let (codes, most) = refused(big.flood(&standalone, 1, 100).await, &server).await;
    assert!(most < before + 32 * MIB, "{} MiB, then {} MiB", before / MIB, most / MIB);
    assert!(codes.keys().all(|code| &**code == "ResourceExhausted"), "{codes:?}");
    let began = Instant::now();
    let small = Unfinished { announced: 4_000, sent: 3_900, ..big };
    let (codes, most) = refused(small.flood(&standalone, 1, 100).await, &server).await;
    assert!(began.elapsed() >= RECEIVE, "{codes:?} after {:?}", began.elapsed());
    let kept = codes.get("DeadlineExceeded").copied().unwrap_or_default();
    assert!((1..=8).contains(&kept) && kept + codes["ResourceExhausted"] == 100, "{codes:?}");
    assert!(most < before + 32 * MIB, "{} MiB, then {} MiB", before / MIB, most / MIB);
    // Nobody else has noticed.
    let mut health = HealthClient::new(standalone.channel().await);
    health.check(HealthCheckRequest::default()).await.unwrap();
    likes.like(writing(like(2, 1))).await.unwrap();
    assert_eq!(
        metric(&standalone, r#"interaction_calls_refused_total{surface="grpc",reason="late"}"#).await,
        kept as f64
    );
    server.end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_bodies_of_callers_stay_within_the_budget() {
    let budget = 8 * MIB;
    let standalone = with_tokens(Standalone::new().await).with("SERVICE__MAX_UNFINISHED_BYTES", &budget.to_string());
    let server = standalone.start_ready().await;
    let mut likes = standalone.client().await;
    likes.like(writing(like(1, 1))).await.unwrap();
    let before = server.resident().unwrap();
    let big = Unfinished { path: APPLY, token: Some(WRITER), announced: 120 * KIB, sent: 110 * KIB };
    let mut calls = big.flood(&standalone, 10, 250).await;
    // Beside 270 MiB of them a like is taken, on a connection of its own and soon.
    let gave_way = calls.join_next().await.unwrap().unwrap();
    assert_eq!(gave_way, Code::ResourceExhausted);
    for user in 2..20 {
        // A like has its own deadline, which a busy machine may miss.
        eventually(PATIENCE, "a like", async || likes.clone().like(writing(like(user, 1))).await.map(drop)).await;
    }
    let (codes, most) = refused(calls, &server).await;
    assert!(most < before + 128 * MIB, "{} MiB, then {} MiB; {codes:?}", before / MIB, most / MIB);
    assert!(codes.contains_key("ResourceExhausted") && codes.contains_key("DeadlineExceeded"), "{codes:?}");
    assert!(metric(&standalone, r#"interaction_calls_refused_total{surface="grpc",reason="crowded"}"#).await >= 100.0);
    assert!(metric(&standalone, "interaction_unfinished_request_bytes").await <= budget as f64);
    // A read has no message of that length at all.
    let read = Unfinished { path: COUNTS, token: Some(READER), announced: 256 * KIB, sent: 255 * KIB };
    let (codes, _) = refused(read.flood(&standalone, 4, 250).await, &server).await;
    assert!(!codes.contains_key("DeadlineExceeded"), "{codes:?}");
    server.end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_carries_so_many_calls_at_a_time() {
    let standalone = with_tokens(Standalone::new().await).with("SERVICE__MAX_CALLS_PER_CONNECTION", "4");
    let server = standalone.start_ready().await;
    let channel = standalone.channel().await;
    let call = Unfinished { path: APPLY, token: Some(WRITER), announced: 100, sent: 10 };
    let began = Instant::now();
    let calls: Vec<_> = (0..4).map(|_| tokio::spawn(call.make(channel.clone()))).collect();
    eventually(PATIENCE, "all four", async || {
        let open = metric(&standalone, "interaction_unfinished_request_bytes").await;
        if open >= 4.0 * 16_384.0 { Ok(()) } else { Err(open.to_string()) }
    })
    .await;
    let (mut same, mut other) = (Client::new(channel), standalone.client().await);
    other.like(writing(like(1, 1))).await.unwrap();
    assert!(began.elapsed() < RECEIVE, "too late to show anything");
    // It waits at the client until one of the others has ended.
    same.like(writing(like(2, 1))).await.unwrap();
    assert!(began.elapsed() >= RECEIVE, "{:?}", began.elapsed());
    for call in calls {
        assert_eq!(call.await.unwrap(), Code::DeadlineExceeded);
    }
    server.end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_sockets_lock_nobody_out_of_grpc_and_half_a_beginning_ends() {
    let standalone = with_tokens(Standalone::new().await).with("SERVICE__MAX_CONNECTIONS", "64");
    let server = standalone.start_ready().await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(TcpStream::connect(standalone.grpc_addr()).await.unwrap());
    }
    let mut likes = standalone.client().await;
    likes.like(writing(like(1, 1))).await.unwrap();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [&preface[..], &[0, 0, 60, 4, 0, 0, 0, 0, 0, 0]].concat();
    for begin in [&[][..], &preface[..20], &preface[..], &settings] {
        let mut stream = TcpStream::connect(standalone.grpc_addr()).await.unwrap();
        stream.write_all(begin).await.unwrap();
        let mut rest = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(25), stream.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "kept after {begin:?}");
    }
    // Who has made a call is kept, however long ago that was.
    likes.like(writing(like(2, 1))).await.unwrap();
    assert!(
        metric(&standalone, r#"interaction_connections_limited_total{surface="grpc",reason="gave_way"}"#).await >= 1.0
    );
    assert!(
        metric(&standalone, r#"interaction_connections_limited_total{surface="grpc",reason="silent"}"#).await >= 1.0
    );
    assert!(
        metric(&standalone, r#"interaction_connections_limited_total{surface="grpc",reason="greeting"}"#).await >= 1.0
    );
    server.end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_every_connection_is_busy_health_is_still_answered() {
    busy(("SERVICE__MAX_CONNECTIONS", "3"), "(service.max_connections)").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_all_of_an_address_are_busy_its_callers_are_told_so() {
    busy(("SERVICE__MAX_CONNECTIONS_PER_ADDRESS", "3"), "(service.max_connections_per_address)").await;
}

/// A caller from here beside three busy connections is told this.
async fn busy((key, value): (&str, &str), told: &str) {
    let standalone = with_tokens(Standalone::new().await).with(key, value);
    let server = standalone.start_ready().await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(watching(&standalone, WRITER).await.unwrap());
    }
    let channel = standalone.channel().await;
    HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.unwrap();
    let refusal = Client::new(channel).like(writing(like(1, 1))).await.unwrap_err();
    assert!(refusal.code() == Code::Unavailable && refusal.message().contains(told), "{refusal:?}");
    eventually(PATIENCE, "health to say so", async || {
        let (_, health) = server.health().await?;
        let detail = health["parts"]["connections"]["detail"].as_str().unwrap_or_default();
        if detail.contains("none is idle") { Ok(()) } else { Err(health.to_string()) }
    })
    .await;
    for stream in &mut streams {
        let cut = tokio::time::timeout(Duration::from_millis(50), stream.message()).await;
        assert!(cut.is_err(), "{cut:?}");
    }
    drop(streams);
    eventually(PATIENCE, "a place", async || standalone.client().await.like(writing(like(1, 1))).await.map(drop)).await;
    server.end(PATIENCE).await.unwrap();
}

/// A stream on a connection of its own.
pub(crate) async fn watching(
    standalone: &Standalone,
    token: &'static str,
) -> Result<Streaming<v1::WatchLikeCountsResponse>, Status> {
    let mut watch = Request::new(v1::WatchLikeCountsRequest { resources: vec![crate::deployment::video(1)] });
    watch.metadata_mut().insert("authorization", MetadataValue::from_static(token));
    let mut stream = standalone.client().await.watch_like_counts(watch).await?.into_inner();
    assert!(stream.message().await?.is_some());
    Ok(stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_descriptors_run_out_idle_connections_give_way() {
    let standalone = with_tokens(Standalone::new().await);
    let server = standalone.start_ready().await;
    let pid = server.pid().unwrap();
    let used = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let limit = format!("--nofile={}:", used + 40);
    assert!(
        std::process::Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).status().unwrap().success()
    );
    let mut idle = Vec::new();
    let settings = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    for _ in 0..80 {
        let mut stream = TcpStream::connect(standalone.grpc_addr()).await.unwrap();
        stream.write_all(&settings).await.unwrap();
        idle.push(stream);
    }
    let began = Instant::now();
    standalone.client().await.like(writing(like(1, 1))).await.unwrap();
    assert_eq!(http::get(&standalone.http_addr(), "/health/live").await.unwrap().0, 200);
    // Pings that nobody answers would have ended them, too, but not before.
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    // Nor do they hold up the end of the program.
    server.end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_is_none_is_refused_by_every_method() {
    let standalone = Standalone::new().await;
    let server = standalone.start_ready().await;
    let mut client = standalone.client().await;
    let mut health = HealthClient::new(standalone.channel().await);
    for text in ["5s", "123456789S", "S", "-1S", "1.5S"] {
        fn with<T>(text: &'static str, message: T) -> Request<T> {
            let mut request = Request::new(message);
            request.metadata_mut().insert("grpc-timeout", MetadataValue::from_static(text));
            request
        }
        let refusals = [
            client.like(with(text, like(1, 1))).await.map(drop).unwrap_err(),
            health.check(with(text, HealthCheckRequest::default())).await.map(drop).unwrap_err(),
        ];
        for refusal in refusals {
            assert_eq!(refusal.code(), Code::InvalidArgument, "{text}: {refusal:?}");
            assert!(refusal.message().starts_with("grpc-timeout: must be 1 to 8 digits"), "{text}: {refusal:?}");
        }
    }
    client.like(like(1, 1)).await.unwrap();
    server.end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_bounded() {
    let standalone = Standalone::new().await.with("SERVICE__MAX_CONNECTION_AGE", "1s");
    let server = standalone.start_ready().await;
    let mut client = standalone.client().await;
    let mut huge = Request::new(like(5, 5));
    huge.metadata_mut().insert("x-long", MetadataValue::try_from("x".repeat(20_000)).unwrap());
    assert!(client.like(huge).await.is_err(), "20 kB of headers were taken");
    let operation = v1::LikeOperation { idempotency_key: "x".repeat(300_000), ..Default::default() };
    let large = v1::ApplyLikesRequest { operations: vec![operation] };
    assert_eq!(client.apply_likes(large).await.unwrap_err().code(), Code::ResourceExhausted);
    client.like(like(5, 5)).await.unwrap();

    // An idle connection is told to go away when it is old, and then closed.
    let mut raw = TcpStream::connect(standalone.grpc_addr()).await.unwrap();
    raw.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut said = Vec::new();
    tokio::time::timeout(PATIENCE, raw.read_to_end(&mut said)).await.expect("the connection stays").unwrap();
    let (mut frames, mut streams) = (Vec::new(), None);
    while said.len() >= 9 {
        let length = usize::from(said[0]) << 16 | usize::from(said[1]) << 8 | usize::from(said[2]);
        frames.push(said[3]);
        for setting in said[9..9 + length].chunks_exact(6).filter(|setting| said[3] == 4 && setting[..2] == [0, 3]) {
            streams = setting[2..].try_into().ok().map(u32::from_be_bytes);
        }
        said.drain(..9 + length);
    }
    assert!(frames.contains(&7), "no GOAWAY among the frames {frames:?}");
    assert_eq!(streams, Some(256), "SETTINGS_MAX_CONCURRENT_STREAMS");
    client.like(like(6, 5)).await.unwrap();
    server.end(PATIENCE).await.unwrap();
}
