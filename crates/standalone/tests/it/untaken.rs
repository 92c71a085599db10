//! Callers that ask and do not take the answers, at the real program: by the window of HTTP/2, by the buffers of the socket.

use crate::deployment::{Client, PATIENCE, Standalone, like};
use crate::wire;
use interaction_proto::v1;
use prost::Message;
use std::time::{Duration, Instant};
use test_support::{Program, eventually, http};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

/// The connection ends after this.
const SEND: Duration = Duration::from_secs(20);
/// The slowest look of the sweep, and a busy machine.
const SLACK: Duration = Duration::from_secs(40);
const MIB: u64 = 1 << 20;

fn resources(number: i64) -> Vec<v1::Resource> {
    (1..=number).map(|id| v1::Resource { r#type: v1::ResourceType::Video.into(), id }).collect()
}

fn many() -> v1::GetLikeCountsRequest {
    v1::GetLikeCountsRequest { resources: resources(500), ..Default::default() }
}

async fn watch(client: &mut Client) -> Result<Streaming<v1::WatchLikeCountsResponse>, Status> {
    let request = v1::WatchLikeCountsRequest { resources: resources(100) };
    Ok(client.watch_like_counts(request).await?.into_inner())
}

/// A client that grants no byte of any answer, but answers pings.
async fn without_window(standalone: &Standalone) -> Client {
    let endpoint = Channel::from_shared(format!("http://{}", standalone.grpc_addr())).unwrap();
    let endpoint = endpoint.initial_stream_window_size(0);
    Client::new(eventually(PATIENCE, "a connection", async || endpoint.connect().await).await)
}

async fn metric(standalone: &Standalone, line: &str) -> f64 {
    let answer = http::get(&standalone.http_addr(), "/metrics").await.unwrap();
    let value = answer.1.lines().find_map(|metric| metric.strip_prefix(line)?.trim().parse().ok());
    value.unwrap_or_default()
}

/// What came of these calls, while somebody else likes; how many of his likes were taken, and the most memory.
async fn beside(standalone: &Standalone, server: &Program, calls: &mut JoinSet<Code>) -> (Vec<Code>, u32, u64) {
    let mut client = standalone.client().await;
    let (mut ended, mut liked, mut most) = (Vec::new(), 0, 0);
    let began = Instant::now();
    while !calls.is_empty() {
        assert!(began.elapsed() < SEND + SLACK, "{} calls are kept", calls.len());
        // It has its own deadline, which a busy machine may miss.
        if client.like(like(1_000 + i64::from(liked), 1)).await.is_ok() {
            liked += 1;
        }
        most = most.max(server.resident().unwrap());
        let pause = tokio::time::sleep(Duration::from_millis(100));
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                Some(call) = calls.join_next() => ended.push(call.unwrap()),
            }
        }
    }
    (ended, liked, most)
}

/// How a call ended.
fn code<T>(answer: Result<T, Status>) -> Code {
    answer.err().map_or(Code::Ok, |status| status.code())
}

fn is_cut(code: Code) -> bool {
    [Code::Unavailable, Code::Unknown, Code::Cancelled, Code::Internal].contains(&code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_grants_no_window_is_cut_and_nobody_else() {
    let standalone = Standalone::new().await;
    let server = standalone.start_ready().await;
    let mut other = standalone.client().await;
    other.get_like_counts(many()).await.unwrap();
    // A stream that has nothing new to say owes nothing, however long that is.
    let mut quiet = other
        .watch_like_counts(v1::WatchLikeCountsRequest { resources: resources(100)[50..].to_vec() })
        .await
        .unwrap()
        .into_inner();
    assert!(quiet.message().await.unwrap().is_some());
    let before = server.resident().unwrap();
    let mut calls = JoinSet::new();
    let began = Instant::now();
    for _ in 0..4 {
        let client = without_window(&standalone).await;
        for _ in 0..200 {
            let mut client = client.clone();
            calls.spawn(async move { code(client.get_like_counts(many()).await) });
        }
        let mut client = client.clone();
        calls.spawn(async move {
            let mut stream = watch(&mut client).await.unwrap();
            code(stream.message().await)
        });
    }
    let (ended, liked, most) = beside(&standalone, &server, &mut calls).await;
    assert!(began.elapsed() >= SEND, "{:?}", began.elapsed());
    assert!(ended.len() == 4 * 201 && ended.iter().all(|code| is_cut(*code)), "{ended:?}");
    assert!(most < before + 48 * MIB, "{} MiB, then {} MiB", before / MIB, most / MIB);
    assert!(liked >= 10, "{liked} likes of somebody else were taken");
    assert_eq!(
        metric(&standalone, r#"interaction_connections_limited_total{surface="grpc",reason="untaken"}"#).await,
        4.0
    );
    let silent = tokio::time::timeout(Duration::from_millis(100), quiet.message()).await;
    assert!(silent.is_err(), "{silent:?}");
    server.end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_bytes_of_untaken_answers_who_waited_for_longest_is_cut() {
    let standalone = Standalone::new().await.with("SERVICE__MAX_UNTAKEN_BYTES", &(2 * MIB).to_string());
    let server = standalone.start_ready().await;
    let mut first = without_window(&standalone).await;
    let early = tokio::spawn(async move { code(first.get_like_counts(many()).await) });
    eventually(PATIENCE, "the first answer", async || {
        let bytes = metric(&standalone, r#"interaction_untaken_answer_bytes{surface="grpc"}"#).await;
        if bytes > 0.0 { Ok(()) } else { Err(bytes) }
    })
    .await;
    let began = Instant::now();
    let second = without_window(&standalone).await;
    let mut late = JoinSet::new();
    for _ in 0..130 {
        let mut client = second.clone();
        late.spawn(async move { code(client.get_like_counts(many()).await) });
    }
    let early = tokio::time::timeout(SEND + SLACK, early).await.expect("it is kept");
    assert!(is_cut(early.unwrap()));
    assert!(began.elapsed() < SEND, "{:?}: its time was over", began.elapsed());
    while let Some(code) = tokio::time::timeout(SEND + SLACK, late.join_next()).await.expect("they are kept") {
        assert!(is_cut(code.unwrap()));
    }
    server.end(PATIENCE).await.unwrap();
}

const SYMBOL: &str = "interaction.v1.InteractionService";

fn reflection(symbol: &str) -> ServerReflectionRequest {
    let message_request = Some(MessageRequest::FileContainingSymbol(symbol.to_owned()));
    ServerReflectionRequest { host: String::new(), message_request }
}

fn call(stream: u32) -> Vec<u8> {
    // Its answer is long, and so short a request needs no window that is granted later.
    let message = reflection(SYMBOL).encode_to_vec();
    let head = wire::head(stream, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", None);
    [head, wire::message(stream, &message)].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_the_socket_is_cut() {
    let standalone = Standalone::new().await.with("SERVICE__MAX_CALLS_PER_CONNECTION", "2000");
    let server = standalone.start_ready().await;
    let mut other = standalone.client().await;
    other.get_like_counts(many()).await.unwrap();
    let before = server.resident().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut silent = socket.connect(standalone.grpc_addr().parse().unwrap()).await.unwrap();
    silent.write_all(&wire::greeting()).await.unwrap();
    let mut calls = JoinSet::new();
    let began = Instant::now();
    calls.spawn(async move {
        for number in 0..1_500 {
            if silent.write_all(&call(2 * number + 1)).await.is_err() {
                return Code::Unavailable;
            }
        }
        // Never reads; the server's end of it shows when it says one more thing.
        while silent.write_all(&wire::frame(6, 1, 0, &[0; 8])).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Code::Unavailable
    });
    let (ended, liked, most) = beside(&standalone, &server, &mut calls).await;
    assert_eq!(ended, [Code::Unavailable]);
    assert!(began.elapsed() >= SEND / 2, "{:?}: not for what this is about", began.elapsed());
    assert!(most < before + 64 * MIB, "{} MiB, then {} MiB", before / MIB, most / MIB);
    assert!(liked >= 10, "{liked} likes of somebody else were taken");
    eventually(PATIENCE, "its end", async || {
        let open = metric(&standalone, r#"interaction_open_connections{surface="grpc"}"#).await;
        if open <= 2.0 { Ok(()) } else { Err(open) }
    })
    .await;
    server.end(PATIENCE).await.unwrap();
}
