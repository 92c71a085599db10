//! Connections that say nothing, or not all, or all of it slowly: to gRPC, to ops HTTP and to the broker's port. Many are open at
//! a time; most are left by their caller, and the others must be ended by whoever listens.

use super::generate::one_of;
use super::http2::{CONTINUATION, DATA, END_HEADERS, HEADERS, PREFACE, SETTINGS, frame, head, header};
use super::{Tally, count};
use crate::client::PATIENCE;
use std::collections::BTreeSet;
use std::time::Duration;
use test_support::{Program, Random};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Open at a time: each costs a descriptor here and there.
const OPEN: usize = 200;

/// Besides the first of each kind every so many is not left by its caller.
const STUBBORN: u64 = 50;

/// Beyond every deadline of a listener; the broker's is 10 s.
const DEADLINES: Duration = Duration::from_secs(30);

/// Where they connect.
pub(super) struct Places {
    grpc: String,
    http: String,
    amqp: String,
}

impl Places {
    pub(super) fn of(server: &Program, amqp_url: &str) -> Self {
        let amqp = amqp_url.split('@').next_back().unwrap().split('/').next().unwrap();
        Self { grpc: server.grpc(), http: server.http(), amqp: amqp.to_owned() }
    }
}

/// What is sent at once, what then comes one by one, and whether whoever listens ends it.
struct Slow {
    kind: &'static str,
    address: String,
    begin: Vec<u8>,
    drops: Vec<u8>,
    ends: bool,
}

/// What became of them, and the most memory that `resident` has seen meanwhile.
pub(super) async fn throw(
    places: &Places,
    mut random: Random,
    inputs: u64,
    resident: impl Fn() -> u64,
) -> (Tally, u64) {
    let (mut tally, mut most, mut open) = (Tally::new(), 0, JoinSet::new());
    let mut kinds = BTreeSet::new();
    for input in 0..inputs {
        if open.len() == OPEN {
            count(&mut tally, open.join_next().await.unwrap().unwrap());
        }
        let slow = slow(places, &mut random);
        let stubborn = slow.ends && (kinds.insert(slow.kind) || input % STUBBORN == 0);
        let stays = Duration::from_millis(random.below(3_000) as u64);
        open.spawn(hold(slow, stubborn, stays));
        if input % 100 == 0 {
            most = most.max(resident());
        }
    }
    most = most.max(resident());
    while let Some(end) = open.join_next().await {
        count(&mut tally, end.unwrap());
    }
    (tally, most)
}

async fn hold(slow: Slow, stubborn: bool, stays: Duration) -> String {
    let Slow { kind, address, begin, drops, .. } = slow;
    let stream = TcpStream::connect(&address).await.expect("nobody takes connections");
    let (mut read, mut write) = stream.into_split();
    let dripping = async {
        let mut alive = write.write_all(&begin).await.is_ok();
        for byte in drops.iter().cycle() {
            if !alive {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            alive = write.write_all(&[*byte]).await.is_ok();
        }
        // The other side is told nothing more.
        std::future::pending().await
    };
    let ended = async {
        let mut answer = Vec::new();
        let _ = read.read_to_end(&mut answer).await;
    };
    let limit = if stubborn { DEADLINES + PATIENCE } else { stays };
    let ended = tokio::select! {
        () = dripping => false,
        () = ended => true,
        () = tokio::time::sleep(limit) => false,
    };
    assert!(ended || !stubborn, "{kind}: the connection is not ended");
    format!("slow {kind}, {}", if ended { "ended" } else { "left" })
}

fn slow(places: &Places, random: &mut Random) -> Slow {
    let Places { grpc, http, amqp } = places;
    let begin = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let path = one_of(random, &["/grpc.health.v1.Health/Check", "/interaction.v1.InteractionService/ApplyLikes"]);
    let request = frame(HEADERS, END_HEADERS, 1, &head(path));
    let slow = |kind, address: &String, begin: Vec<u8>, drops: &[u8], ends| Slow {
        kind,
        address: address.clone(),
        begin,
        drops: drops.to_vec(),
        ends,
    };
    match random.below(11) {
        0 => slow("gRPC, silent", grpc, vec![], &[], true),
        1 => slow("gRPC, part of the preface", grpc, PREFACE[..random.below(24) as usize + 1].to_vec(), &[], true),
        2 => slow("gRPC, part of the settings", grpc, [PREFACE, &[0, 0, 60, SETTINGS]].concat(), &[0], true),
        // A connection may be kept for later.
        3 => slow("gRPC, no call", grpc, begin, &[], false),
        4 => {
            let headers = frame(HEADERS, 0, 1, &head("/x"));
            let more = frame(CONTINUATION, 0, 1, &header("x-more", "y"));
            // Ended by the pings that are not answered.
            slow("gRPC, headers drop by drop", grpc, [begin, headers].concat(), &more, false)
        }
        5 => {
            let len = random.below(2_000) as usize;
            let part = [&[0, 0, 0, 0x0f, 0xff][..], &vec![0xff; len]].concat();
            // The call ends; the connection is as good as any.
            slow("gRPC, part of a message", grpc, [begin, request, frame(DATA, 0, 1, &part)].concat(), &[], false)
        }
        6 => slow("gRPC, a frame drop by drop", grpc, [begin, request, vec![0, 0x20, 0, DATA]].concat(), &[0], false),
        7 => slow("HTTP, silent", http, vec![], &[], true),
        8 => {
            slow("HTTP, a head drop by drop", http, b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ".to_vec(), b"y", true)
        }
        9 => {
            let head =
                "POST /v1/likes HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 999";
            slow("HTTP, a body drop by drop", http, format!("{head}\r\n\r\n").into_bytes(), b"{", true)
        }
        _ => {
            let begin = if random.below(2) == 0 { vec![] } else { b"AMQP\x00\x00\x09\x01".to_vec() };
            slow("AMQP, half open", amqp, begin, &[], true)
        }
    }
}
