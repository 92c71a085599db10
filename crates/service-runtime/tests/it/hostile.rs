//! Ops HTTP and callers that are silent, slow or many. gRPC's listener is the same; its calls are tried on standalone.

use crate::guarded::Guarded;
use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::{get, post};
use service_runtime::listen::ops::{HEAD_TIMEOUT, MAX_CONCURRENT};
use service_runtime::listen::{GREETING, RECEIVE_TIMEOUT, SILENCE};
use service_runtime::{ServiceConfig, Status, TlsConfig};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use test_support::http::{self, Answer};
use test_support::{Authority, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// On a busy machine, beside the deadlines themselves.
const PATIENCE: Duration = Duration::from_secs(20);
const HANG: &str = "GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n";

async fn started(config: &ServiceConfig) -> Guarded {
    let routes = Router::new()
        .route("/things", get(async || "things"))
        .route("/hang", get(hang))
        .route("/change", post(async |body: String| body));
    Guarded::start(tempfile::tempdir().unwrap(), config, routes).await
}

/// Whose requests hang.
static HANGING: Mutex<Vec<SocketAddr>> = Mutex::new(Vec::new());

async fn hang(ConnectInfo(peer): ConnectInfo<SocketAddr>) {
    HANGING.lock().unwrap().push(peer);
    std::future::pending::<()>().await;
}

impl Guarded {
    async fn connect(&self, sent: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.addr).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        stream
    }

    async fn ask(&self, path: &str) -> anyhow::Result<Answer> {
        http::send(&self.addr, &format!("GET {path}"), &[], "").await
    }

    /// So many requests that hang, each on a connection of its own. The server knows each of them before somebody else comes,
    /// for whom a connection without a call would give way.
    async fn hanging(&self, number: usize) -> Vec<TcpStream> {
        let mut all = Vec::new();
        for _ in 0..number {
            let stream = self.connect(HANG).await;
            let from = stream.local_addr().unwrap();
            let known = async || if HANGING.lock().unwrap().contains(&from) { Ok(()) } else { Err(from) };
            eventually(PATIENCE, "a request that hangs", known).await;
            all.push(stream);
        }
        let answer = self.ask("/things").await.unwrap();
        assert_eq!(answer.status, 503, "{answer:?}");
        all
    }
}

/// What still comes until the end, and how long that takes.
async fn end(stream: &mut TcpStream, within: Duration) -> (String, Duration) {
    let (began, mut rest) = (Instant::now(), Vec::new());
    // A reset is an end, too.
    let _ = tokio::time::timeout(within, stream.read_to_end(&mut rest)).await.expect("the connection does not end");
    (String::from_utf8_lossy(&rest).into_owned(), began.elapsed())
}

#[tokio::test]
async fn silent_connections_lock_nobody_out_and_end() {
    let ops = started(&ServiceConfig {
        max_connections: 64,
        max_connections_per_address: Some(64),
        ..ServiceConfig::default()
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(ops.connect("").await);
    }
    for _ in 0..3 {
        assert_eq!(ops.ask("/things").await.unwrap().status, 200);
    }
    let part = ops.context.health.report().await.parts["connections"].clone();
    assert_eq!(part.status, Status::Degraded, "{part:?}");
    assert!(part.detail.starts_with("http: service.max_connections: 64 are open, idle ones give way"), "{part:?}");
    // Three gave way at once; the others had their time.
    let (first, last) = (end(&mut silent[0], PATIENCE).await, end(&mut silent[63], SILENCE + PATIENCE).await);
    assert!(first.1 < SILENCE && first.0.is_empty() && last.0.is_empty(), "{first:?} {last:?}");
}

#[tokio::test]
async fn a_silent_connection_ends_soon_also_where_there_is_room() {
    let ops = started(&ServiceConfig::default()).await;
    let (_, took) = end(&mut ops.connect("").await, SILENCE + PATIENCE).await;
    assert!(took >= SILENCE, "{took:?}");
}

#[tokio::test]
async fn a_handshake_that_goes_on_forever_ends() {
    let ca = Authority::new("ours").unwrap();
    let server = ca.issue("server").unwrap();
    let tls = TlsConfig { cert_file: Some(server.cert), key_file: Some(server.key), ..TlsConfig::default() };
    let ops = started(&ServiceConfig { tls, ..ServiceConfig::default() }).await;
    // A record of TLS that announces 512 bytes and has one.
    let (_, took) = end(&mut ops.connect("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}").await, GREETING + PATIENCE).await;
    assert!(took >= SILENCE, "{took:?}");
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_ends() {
    let ops = started(&ServiceConfig::default()).await;
    let (mut read, mut write) = ops.connect("GET /things HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await.into_split();
    let slowly = tokio::spawn(async move {
        while write.write_all(b"y").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut rest = String::new();
    let ended = tokio::time::timeout(HEAD_TIMEOUT + PATIENCE, read.read_to_string(&mut rest)).await;
    assert!(ended.is_ok() && !rest.contains(" 200 "), "{ended:?} {rest}");
    slowly.abort();
}

#[tokio::test]
async fn a_body_that_does_not_come_ends() {
    let ops = started(&ServiceConfig::default()).await;
    let head =
        "POST /change HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{";
    let (answer, took) = end(&mut ops.connect(head).await, RECEIVE_TIMEOUT + PATIENCE).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("was not complete within 10s"), "{answer}");
    assert!(took + Duration::from_secs(1) >= RECEIVE_TIMEOUT, "{took:?}");
}

#[tokio::test]
async fn beyond_the_bytes_of_unfinished_bodies_the_oldest_gives_way() {
    let ops = started(&ServiceConfig { max_unfinished_bytes: 1 << 20, ..ServiceConfig::default() }).await;
    let head =
        "POST /change HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 500001\r\n\r\n";
    let part = format!("{head}{}", "x".repeat(500_000));
    let mut bodies = [ops.connect(&part).await, ops.connect(&part).await, ops.connect(&part).await];
    // Two fit. Which of them is the oldest depends on whom the server has read first.
    let [one, two, three] = &bodies;
    let refused = tokio::time::timeout(Duration::from_secs(5), async {
        tokio::select! {
            _ = one.readable() => 0,
            _ = two.readable() => 1,
            _ = three.readable() => 2,
        }
    });
    let refused = refused.await.expect("all three are kept");
    for (number, stream) in bodies.iter_mut().enumerate() {
        if number != refused {
            stream.write_all(b"x").await.unwrap();
        }
        let mut start = [0; 16];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut start)).await.unwrap().unwrap();
        let expected = if number == refused { "HTTP/1.1 503 " } else { "HTTP/1.1 200 " };
        assert!(start.starts_with(expected.as_bytes()), "{number}: {}", String::from_utf8_lossy(&start));
    }
}

#[tokio::test]
async fn requests_that_hang_take_nothing_from_probes() {
    let ops = started(&ServiceConfig::default()).await;
    let mut hanging = Vec::new();
    for _ in 0..MAX_CONCURRENT {
        hanging.push(ops.connect(HANG).await);
    }
    // One more waits: all slots are taken.
    eventually(PATIENCE, "all slots to be taken", async || {
        match tokio::time::timeout(Duration::from_millis(300), ops.ask("/things")).await {
            Err(_) => Ok(()),
            Ok(answer) => Err(anyhow::anyhow!("{answer:?}")),
        }
    })
    .await;
    for path in ["/health/live", "/health"] {
        let answer = tokio::time::timeout(Duration::from_secs(5), ops.ask(path)).await;
        assert_eq!(answer.expect("it waits for a slot").unwrap().status, 200, "{path}");
    }
}

#[tokio::test]
async fn where_every_connection_is_busy_probes_are_still_answered() {
    let ops = started(&ServiceConfig {
        max_connections: 4,
        max_connections_per_address: Some(4),
        ..ServiceConfig::default()
    })
    .await;
    let hanging = ops.hanging(4).await;
    // Silent ones do not fill what is kept for probes.
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(ops.connect("").await);
    }
    for path in ["/health/live", "/health"] {
        assert_eq!(ops.ask(path).await.unwrap().status, 200, "{path}");
    }
    let refused = ops.ask("/things").await.unwrap();
    assert!(refused.status == 503 && refused.body.contains("(service.max_connections)"), "{refused:?}");
    let part = ops.context.health.report().await.parts["connections"].clone();
    assert!(part.detail.contains("none is idle"), "{part:?}");
    drop(hanging);
    eventually(PATIENCE, "a free place", async || match ops.ask("/things").await?.status {
        200 => Ok(()),
        other => Err(anyhow::anyhow!("{other}")),
    })
    .await;
}

#[tokio::test]
async fn one_address_has_a_share_only() {
    let config =
        ServiceConfig { max_connections: 10, max_connections_per_address: Some(2), ..ServiceConfig::default() };
    let ops = started(&config).await;
    let _hanging = ops.hanging(2).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
    let neighbour = socket.connect(ops.addr.parse().unwrap()).await.unwrap();
    let answer = http::send_over(neighbour, "localhost", "GET /things", &[], "").await.unwrap();
    assert_eq!(answer.status, 200);
    let refused = ops.ask("/things").await.unwrap();
    assert!(refused.status == 503 && refused.body.contains("(service.max_connections_per_address)"), "{refused:?}");
}

/// Requests that were served, and most of them that were served before somebody else, who waits since one of them, had a turn.
static SERVED: AtomicUsize = AtomicUsize::new(0);
static BETWEEN: AtomicUsize = AtomicUsize::new(0);

#[tokio::test]
async fn between_requests_that_were_sent_ahead_others_have_their_turn() {
    let serve = async || {
        let this = SERVED.fetch_add(1, Ordering::Relaxed) + 1;
        tokio::spawn(async move { BETWEEN.fetch_max(SERVED.load(Ordering::Relaxed) - this, Ordering::Relaxed) });
        "things"
    };
    let routes = Router::new().route("/things", get(serve));
    let ops = Guarded::start(tempfile::tempdir().unwrap(), &ServiceConfig::default(), routes).await;
    let all = 100;
    let mut stream = ops.connect(&"GET /things HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(all)).await;
    let mut answers = String::new();
    while answers.matches("HTTP/1.1 200 ").count() < all {
        let mut some = [0; 4096];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut some)).await.unwrap().unwrap();
        assert_ne!(read, 0, "{answers}");
        answers += std::str::from_utf8(&some[..read]).unwrap();
    }
    assert_eq!(SERVED.load(Ordering::Relaxed), all);
    assert!(BETWEEN.load(Ordering::Relaxed) <= 1, "{BETWEEN:?} before anybody else's turn");
}
