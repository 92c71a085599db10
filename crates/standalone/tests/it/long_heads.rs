//! Heads of calls that are longer than callers need, at the real program: all of them together are read at a rate.

use crate::access::with_tokens;
use crate::deployment::{PATIENCE, Standalone, like};
use crate::hostile::{WRITER, metric, writing};
use crate::wire;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use test_support::eventually;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const LEN: usize = 14 << 10;
const LIKE: &str = "/interaction.v1.InteractionService/Like";

/// Connections that send long heads without end.
struct Crowd {
    answers: Arc<AtomicU64>,
    began: Instant,
    connections: JoinSet<std::io::Result<()>>,
}

impl Crowd {
    async fn of(standalone: &Standalone, connections: u64, token: Option<&'static str>) -> Self {
        let mut crowd = Self { answers: Arc::default(), began: Instant::now(), connections: JoinSet::new() };
        for _ in 0..connections {
            let stream = TcpStream::connect(standalone.grpc_addr()).await.unwrap();
            let (reader, mut writer) = stream.into_split();
            let answers = Arc::clone(&crowd.answers);
            crowd.connections.spawn(async move {
                let sending = async {
                    use tokio::io::AsyncWriteExt;
                    writer.write_all(&wire::greeting()).await?;
                    if token.is_some() {
                        // Then it is no stranger's.
                        let first = [wire::head(1, LIKE, token), wire::message(1, b"no message")].concat();
                        writer.write_all(&first).await?;
                        while answers.load(Ordering::Relaxed) < connections {
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                    }
                    for call in (3..).step_by(2) {
                        writer.write_all(&wire::long_head(call, LIKE, token, LEN)).await?;
                        if token.is_some() {
                            // Else it is a call that never ends, and there are only so many of these.
                            writer.write_all(&wire::message(call, b"no message")).await?;
                        }
                    }
                    Ok::<_, std::io::Error>(())
                };
                tokio::try_join!(sending, wire::count_answers(reader, &answers)).map(drop)
            });
        }
        crowd
    }

    /// That these and no more than that many a second are answered.
    async fn is_answered_at(&self, ahead: u64, per_second: u64) {
        let wanted = ahead + per_second;
        eventually(PATIENCE, "a second's worth of them", async || {
            let answered = self.answers.load(Ordering::Relaxed);
            if answered >= wanted { Ok(()) } else { Err(answered.to_string()) }
        })
        .await;
        let (answered, took) = (self.answers.load(Ordering::Relaxed), self.began.elapsed());
        let most = ahead + per_second * u64::try_from(took.as_millis()).unwrap() / 1_000;
        assert!(answered <= most, "{answered} in {took:?}");
    }
}

async fn slowed(standalone: &Standalone) -> f64 {
    metric(standalone, r#"interaction_connections_limited_total{surface="grpc",reason="long_heads"}"#).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_of_strangers_are_read_at_a_rate() {
    const CONNECTIONS: u64 = 16;
    /// What a connection may have sent before it waits: what is read at once.
    const AHEAD: u64 = 8;
    let standalone = with_tokens(Standalone::new().await);
    let server = standalone.start_ready().await;
    let mut crowd = Crowd::of(&standalone, CONNECTIONS, None).await;
    crowd.is_answered_at(CONNECTIONS * AHEAD, (4 << 20) / LEN as u64).await;
    // A machine that is busy otherwise may hold up one of them.
    eventually(PATIENCE, "a like beside them", async || {
        standalone.client().await.like(writing(like(1, 1))).await.map(drop)
    })
    .await;
    assert!(slowed(&standalone).await >= CONNECTIONS as f64);
    crowd.connections.abort_all();
    server.end(PATIENCE).await.unwrap();
}

/// They cost as much when a caller sends them, and before any quota: of each what is beyond 8 KiB is read at the same rate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_of_a_caller_are_read_at_a_rate() {
    const CONNECTIONS: u64 = 16;
    const AHEAD: u64 = 16;
    let standalone = with_tokens(Standalone::new().await);
    let server = standalone.start_ready().await;
    let mut crowd = Crowd::of(&standalone, CONNECTIONS, Some(WRITER)).await;
    crowd.is_answered_at(CONNECTIONS * AHEAD, (4 << 20) / (LEN as u64 - (8 << 10))).await;
    assert!(slowed(&standalone).await >= CONNECTIONS as f64);
    crowd.connections.abort_all();
    server.end(PATIENCE).await.unwrap();
}

/// A gateway connects anew with its calls in hand: what it sends at once is more than a stranger may, and is not a stranger's any
/// more when its first call is let in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_with_many_calls_does_not_wait_for_strangers() {
    const CONNECTIONS: u64 = 950;
    const CALLS: i64 = 100;
    /// Strangers wait for longer: as many read so much at a time.
    const PATIENT: Duration = Duration::from_millis(1_500);
    let standalone = with_tokens(Standalone::new().await);
    let server = standalone.start_ready().await;
    let mut crowd = Crowd::of(&standalone, CONNECTIONS, None).await;
    eventually(PATIENCE, "all of them wait", async || {
        let slowed = slowed(&standalone).await;
        if slowed >= CONNECTIONS as f64 { Ok(()) } else { Err(slowed.to_string()) }
    })
    .await;
    let newcomer = standalone.client().await;
    let began = Instant::now();
    let mut likes = JoinSet::new();
    for user in 1..=CALLS {
        let mut newcomer = newcomer.clone();
        let mut request = writing(like(user, 1));
        // Together more than a stranger may send, however well they are compressed.
        let trace = format!("{user}{}", "~!".repeat(300));
        request.metadata_mut().insert("x-baggage", trace.parse().unwrap());
        request.set_timeout(PATIENT);
        likes.spawn(async move { newcomer.like(request).await.map(drop) });
    }
    let answers = likes.join_all().await;
    let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(refused.is_empty(), "{} refused: {:?}", refused.len(), refused.first());
    eprintln!("answered after {:?}", began.elapsed());
    crowd.connections.abort_all();
    server.end(PATIENCE).await.unwrap();
}
