//! One caller who takes all connections that there are, at the real program: others keep theirs, and find more.

use crate::access::with_tokens;
use crate::deployment::{PATIENCE, Standalone, like, video};
use crate::hostile::{READER, WRITER, metric, watching, writing};
use crate::wire;
use interaction_proto::v1::GetLikeCountsRequest;
use prost::Message;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use test_support::eventually;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tonic::Code;

const COUNTS: &str = "/interaction.v1.InteractionService/GetLikeCounts";

/// A connection from there that has said all that precedes a call.
async fn greeted(addr: &str, from: u8) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, from), 0)))?;
    let mut stream = socket.connect(addr.parse().unwrap()).await?;
    stream.write_all(&wire::greeting()).await?;
    Ok(stream)
}

/// Begins a call every so often and ends none, by the token of a reader; comes again when it is cut. Never returns.
async fn begins_calls(addr: String, from: u8) {
    loop {
        let Ok(stream) = greeted(&addr, from).await else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let (mut reader, mut writer) = stream.into_split();
        let mut nowhere = tokio::io::sink();
        let calls = async {
            for number in 0.. {
                writer.write_all(&wire::head(2 * number + 1, COUNTS, Some(READER))).await?;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Ok::<_, std::io::Error>(())
        };
        tokio::select! {
            _ = calls => {}
            _ = tokio::io::copy(&mut reader, &mut nowhere) => {}
        }
    }
}

/// Asks over this connection and waits for the beginning of the answer; an error if the connection has ended.
async fn ask(stream: &mut TcpStream, number: u32) -> std::io::Result<()> {
    let message = GetLikeCountsRequest { resources: vec![video(1)], ..Default::default() }.encode_to_vec();
    stream.write_all(&[wire::head(number, COUNTS, Some(WRITER)), wire::message(number, &message)].concat()).await?;
    while wire::next_frame(stream).await? != (1, number) {}
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_only_begin_lock_nobody_out() {
    let standalone = with_tokens(Standalone::new().await).with("SERVICE__MAX_CONNECTIONS", "16");
    let server = standalone.start_ready().await;
    let mut standing = greeted(&standalone.grpc_addr(), 1).await.unwrap();
    ask(&mut standing, 1).await.unwrap();
    let mut crowd = JoinSet::new();
    for number in 0..24 {
        crowd.spawn(begins_calls(standalone.grpc_addr(), 2 + number % 3));
    }
    eventually(PATIENCE, "all places to be taken", async || {
        let open = metric(&standalone, r#"interaction_open_connections{surface="grpc"}"#).await;
        if open >= 16.0 { Ok(()) } else { Err(open.to_string()) }
    })
    .await;
    let tries = AtomicU32::new(0);
    for user in 1..=30 {
        if user == 10 {
            // Until then the crowd may not have come often enough to be known.
            tries.store(0, Ordering::Relaxed);
        }
        // Until it has made a call it is one of many that nobody knows.
        eventually(PATIENCE, "a like", async || {
            tries.fetch_add(1, Ordering::Relaxed);
            standalone.client().await.like(writing(like(user, 1))).await.map(drop)
        })
        .await;
    }
    let tries = tries.into_inner();
    assert!(tries <= 30, "{tries} tries for 21 likes");
    assert!(
        metric(&standalone, r#"interaction_connections_limited_total{surface="grpc",reason="gave_way"}"#).await >= 10.0
    );
    ask(&mut standing, 3).await.expect("the connection of somebody else was cut");
    crowd.abort_all();
    server.end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_one_token_leave_places_to_others() {
    let standalone = with_tokens(Standalone::new().await)
        .with("SERVICE__MAX_CONNECTIONS", "8")
        .with("SERVICE__MAX_CONNECTIONS_PER_TOKEN", "4");
    let server = standalone.start_ready().await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(watching(&standalone, READER).await.unwrap());
    }
    for _ in 0..6 {
        let refusal = watching(&standalone, READER).await.unwrap_err();
        let told = refusal.message().contains("(service.max_connections_per_token)");
        assert!(refusal.code() == Code::Unavailable && told, "{refusal:?}");
        standalone.client().await.like(writing(like(1, 2))).await.unwrap();
    }
    eventually(PATIENCE, "health to say so", async || {
        let (_, health) = server.health().await?;
        let detail = health["parts"]["connections"]["detail"].as_str().unwrap_or_default();
        if detail.contains("4 are open of the token reader, none is idle") { Ok(()) } else { Err(health.to_string()) }
    })
    .await;
    let refused = metric(&standalone, r#"interaction_connections_limited_total{surface="grpc",reason="token"}"#).await;
    assert!(refused >= 6.0, "{refused}");
    for stream in &mut streams {
        let cut = tokio::time::timeout(Duration::from_millis(50), stream.message()).await;
        assert!(cut.is_err(), "{cut:?}");
    }
    streams.clear();
    eventually(PATIENCE, "a place", async || watching(&standalone, READER).await.map(drop)).await;
    server.end(PATIENCE).await.unwrap();
}
