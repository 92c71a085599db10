//! A key whose first answer could not be remembered in the cache.

use crate::rig::{Rig, like, unlike};
use domain::{LikeIntent, PairState};
use planted_bugs::plant_here;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use sync_engine::accept::{LikeAnswer, LikeError};
use sync_engine::read::Reader;
use test_support::build::video_pair;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};

/// A script with two keys, of which the second is an idempotency key, after its hash.
fn keeps_a_key(command: &[u8]) -> bool {
    let name = b"EVALSHA\r\n$40\r\n";
    let scripts = command.windows(name.len()).enumerate().filter(|(_, part)| part == name);
    scripts.map(|(at, _)| at + name.len() + 42).any(|after_hash| {
        let keys = command.get(after_hash..).and_then(|rest| rest.strip_prefix(b"$1\r\n2\r\n"));
        keys.is_some_and(|rest| rest.split(|byte| *byte == b'\n').nth(3).is_some_and(has_name_of_a_key))
    })
}

fn has_name_of_a_key(line: &[u8]) -> bool {
    line.windows(3).any(|part| part == b":i:")
}

/// A link before Redis on which a connection breaks when a key is to be kept.
struct Breaking {
    url: String,
    /// How many connections will break.
    armed: Arc<AtomicU32>,
    broken: Arc<AtomicU32>,
}

impl Breaking {
    async fn before(redis: &test_support::Redis) -> Self {
        let upstream = redis.addr().unwrap().to_string();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let (armed, broken) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (arms, breaks) = (Arc::clone(&armed), Arc::clone(&broken));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&upstream).await.unwrap();
                tokio::spawn(pass(client, server, Arc::clone(&arms), Arc::clone(&breaks)));
            }
        });
        Self { url, armed, broken }
    }
}

async fn pass(client: TcpStream, server: TcpStream, armed: Arc<AtomicU32>, broken: Arc<AtomicU32>) {
    let ((mut asks, mut hears), (mut answers, mut told)) = (client.into_split(), server.into_split());
    let back = tokio::spawn(async move { copy(&mut answers, &mut hears).await });
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = asks.read(&mut buffer).await {
        if keeps_a_key(&buffer[..length])
            && armed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
        {
            broken.fetch_add(1, Ordering::SeqCst);
            break;
        }
        if told.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
    back.abort();
}

struct Told {
    first: Result<LikeAnswer, LikeError>,
    unlike: LikeAnswer,
    repeated: LikeAnswer,
    state: PairState,
    broken: u32,
}

/// Likes; likes with a key, which is "unchanged" and whose key so many connections fail to keep; takes it back; repeats the key.
async fn repeated_after_breaks(breaks: u32) -> Told {
    let mut rig = Rig::new().await;
    let link = Breaking::before(rig.deployment.redis()).await;
    rig.redis.url = link.url.clone().into();
    let process = rig.process().await;
    let accept = process.server();
    process.consume();
    accept.accept_one(like(1, 1)).await.unwrap();
    process.settled().await;

    let tap = LikeIntent { idempotency_key: Some("k".to_owned()), ..like(1, 1) };
    link.armed.store(breaks, Ordering::SeqCst);
    let first = accept.accept_one(tap.clone()).await;
    link.armed.store(0, Ordering::SeqCst);
    let unlike = accept.accept_one(unlike(1, 1)).await.unwrap();
    let repeated = accept.accept_one(tap).await.unwrap();
    let reader = Reader::new(process.stores.clone(), process.recheck());
    let state = reader.states(&[video_pair(1, 1)]).await.unwrap().values[0];
    let broken = link.broken.load(Ordering::SeqCst);
    drop(accept);
    process.stop().await;
    rig.end().await;
    Told { first, unlike, repeated, state, broken }
}

#[tokio::test]
async fn what_is_acknowledged_with_a_key_is_repeated_by_it() {
    // The first one fails "unchanged"; the second one the answer of the write that comes instead.
    for breaks in [1, 2] {
        let Told { first, unlike, repeated, state, broken } = repeated_after_breaks(breaks).await;
        assert_eq!(broken, breaks);
        let first = first.unwrap();
        assert!(first.liked && unlike.version > first.version, "{first:?}, {unlike:?}");
        assert_eq!((repeated.liked, repeated.version), (true, first.version), "after {breaks} breaks");
        assert_eq!(state, PairState { liked: false, version: unlike.version }, "after {breaks} breaks");
    }
}

#[tokio::test]
async fn an_acknowledged_answer_whose_key_is_unknown_is_found() {
    let _planted = plant_here("unremembered_acknowledged");
    let Told { first, unlike, state, broken, .. } = repeated_after_breaks(1).await;
    assert!(first.is_ok() && broken == 1, "{first:?}");
    assert!(state.liked && state.version > unlike.version, "the bug does not show: {state:?}");
}
