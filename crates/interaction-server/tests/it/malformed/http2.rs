//! Connections to the gRPC port that break the rules of HTTP/2, or keep them around a broken message.
//!
//! No message here can be a like: methods that write get bytes that no protobuf begins with.

use super::generate::{bytes, chance, message, tamper};
use super::grpc::method;
use super::{Tally, count};
use crate::client::PATIENCE;
use test_support::Random;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// One connection per input; each must be answered or closed.
pub(super) async fn throw(url: String, mut random: Random, inputs: u64) -> Tally {
    let mut tally = Tally::new();
    let address = url.trim_start_matches("http://").to_owned();
    for input in 0..inputs {
        let (kind, sent) = connection(&mut random);
        let exchange = exchange(&address, &sent);
        let Ok(answer) = tokio::time::timeout(PATIENCE, exchange).await else {
            panic!("input {input}, {kind}: the connection is not closed: {sent:02x?}");
        };
        count(&mut tally, format!("http2 {kind}, {}", if answer { "answered" } else { "closed" }));
    }
    tally
}

/// Whether anything came back. The server may close whenever it likes, also while we send.
async fn exchange(address: &str, sent: &[u8]) -> bool {
    let mut stream = TcpStream::connect(address).await.expect("the server takes no connections");
    let _ = stream.write_all(sent).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    !answer.is_empty()
}

fn connection(random: &mut Random) -> (&'static str, Vec<u8>) {
    let begin = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    match random.below(8) {
        0 => ("noise", bytes(random, 400)),
        1 => ("noise after the preface", [PREFACE, &bytes(random, 400)].concat()),
        2 => {
            let frames = (0..random.below(20)).map(|_| {
                let (kind, flags, stream) = (random.below(12), random.below(256), random.below(8));
                frame(kind as u8, flags as u8, stream as u32, &bytes(random, 60))
            });
            ("frames of all kinds", [begin, frames.collect::<Vec<_>>().concat()].concat())
        }
        3 => {
            let mut sent = begin;
            for stream in (1..100).step_by(2) {
                sent.extend(frame(HEADERS, END_HEADERS, stream, &head("/interaction.v1.InteractionService/Like")));
                sent.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
            }
            ("streams given up at once", sent)
        }
        4 => {
            let mut sent = [begin, frame(HEADERS, 0, 1, &head("/x"))].concat();
            for _ in 0..random.below(60) {
                sent.extend(frame(CONTINUATION, 0, 1, &header("x-more", &"y".repeat(100))));
            }
            ("headers without end", sent)
        }
        5 => {
            let text =
                format!("POST /interaction.v1.InteractionService/Like HTTP/1.1\r\nHost: x\r\n{}\r\n\r\n", random.0);
            ("HTTP/1.1", text.into_bytes())
        }
        kind => {
            let mut sent = begin;
            for call in 0..=random.below(4) {
                let stream = 1 + 2 * call as u32;
                let (path, name) = method(random);
                sent.extend(frame(HEADERS, END_HEADERS, stream, &head(&path)));
                sent.extend(frame(DATA, END_STREAM, stream, &body(random, name)));
            }
            if kind == 6 { ("broken messages", sent) } else { ("broken connections", tamper(random, sent)) }
        }
    }
}

/// A gRPC message whose prefix may lie about its length and compression.
fn body(random: &mut Random, method: &str) -> Vec<u8> {
    let writes = ["Like", "Unlike", "ApplyLikes"].contains(&method);
    let message = if writes { [&[0xff; 12][..], &bytes(random, 30)].concat() } else { message(random, method) };
    let message = &message[..message.len().min(4000)];
    let length = if chance(random, 40) { message.len() as u32 } else { random.below(1 << 32) as u32 };
    let compressed = if chance(random, 50) { 0 } else { random.below(256) as u8 };
    [&[compressed][..], &length.to_be_bytes(), message].concat()
}

pub(crate) fn head(path: &str) -> Vec<u8> {
    [
        header(":method", "POST"),
        header(":scheme", "http"),
        header(":path", path),
        header(":authority", "x"),
        header("content-type", "application/grpc"),
        header("grpc-encoding", "gzip"),
        header("te", "trailers"),
    ]
    .concat()
}

/// Literal, never indexed, no Huffman; both shorter than 127 bytes.
pub(super) fn header(name: &str, value: &str) -> Vec<u8> {
    [&[0x10, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}
