//! Messages in the event queue: bodies that are no events, events that were tampered with, headers of any kind.

use super::generate::{bytes, chance, tamper};
use super::{Tally, count};
use domain::codec::{EncodedEvent, decode_batch, encode_batch};
use domain::{Action, LikeIntent};
use std::collections::{BTreeMap, BTreeSet};
use test_support::build::event;
use test_support::{Random, Wire};

/// Ids of events that anybody who reads the message as we do must apply.
pub(super) type Events = BTreeSet<[u8; 16]>;

/// Bodies of messages, and how many have it.
pub(super) type Bodies = BTreeMap<Vec<u8>, u32>;

/// Every so many a message that the client library cannot read: the broker gives it up after some deliveries.
const UNREADABLE: u64 = 500;

/// A time that ids begin with.
const IN_2100_MS: u64 = 4_102_444_800_000;

/// Sent and not waited for.
const WINDOW: u64 = 200;

/// Publishes them; what they were, the events among them, and what has to become a dead letter.
pub(super) async fn throw(wire: &mut Wire, prefix: &str, mut random: Random, inputs: u64) -> (Tally, Events, Bodies) {
    let (mut tally, mut events, mut undecodable) = (Tally::new(), Events::new(), Bodies::new());
    let exchange = format!("{prefix}.events");
    for input in 1..=inputs {
        let body = body(&mut random);
        match decode_batch(&body) {
            Ok(decoded) => {
                count(&mut tally, "amqp events");
                events.extend(decoded.iter().map(|event| *event.intent.id.as_bytes()));
            }
            Err(_) => {
                count(&mut tally, "amqp undecodable");
                *undecodable.entry(body.clone()).or_default() += 1;
            }
        }
        wire.send(&exchange, &properties(&mut random), &body).await.unwrap();
        if input.is_multiple_of(UNREADABLE) {
            count(&mut tally, "amqp unreadable");
            *undecodable.entry(b"x".to_vec()).or_default() += 1;
            // Of the properties only a message id, which has to be UTF-8.
            wire.send(&exchange, &[0, 0x80, 2, 0xff, 0xfe], b"x").await.unwrap();
        }
        if input.is_multiple_of(WINDOW) {
            wire.confirmed().await.unwrap();
        }
    }
    wire.confirmed().await.unwrap();
    (tally, events, undecodable)
}

fn body(random: &mut Random) -> Vec<u8> {
    if chance(random, 25) {
        return bytes(random, 400);
    }
    let events = (0..random.below(4)).map(|_| {
        let action = if chance(random, 70) { Action::Like } else { Action::Unlike };
        let version = 1_700_000_000_000_000 + random.below(1 << 40);
        let mut event = event(1 + random.below(500), 1 + random.below(500), action, version);
        // Ids are from the seed, too, but their time is not: what is old the retention takes out of the ledger.
        let mut id: Vec<u8> = (0..16).map(|_| random.below(256) as u8).collect();
        id[..6].copy_from_slice(&IN_2100_MS.to_be_bytes()[2..]);
        event.intent = LikeIntent { id: uuid::Builder::from_slice(&id).unwrap().into_uuid(), ..event.intent };
        EncodedEvent::from_event(&event)
    });
    let valid = encode_batch(&events.collect::<Vec<_>>()).to_vec();
    if chance(random, 10) { valid } else { tamper(random, valid) }
}

/// Flags and values of a content header: a table of headers, a delivery mode, a message id.
fn properties(random: &mut Random) -> Vec<u8> {
    if chance(random, 30) {
        return vec![0, 0];
    }
    let mut table = Vec::new();
    for _ in 0..random.below(6) {
        let name = match random.below(4) {
            0 => b"x-delivery-count".to_vec(),
            1 => b"traceparent".to_vec(),
            _ => short(random),
        };
        table.push(name.len() as u8);
        table.extend(name);
        let value = bytes(random, 100);
        match random.below(5) {
            0 => table.extend([&b"S"[..], &(value.len() as u32).to_be_bytes(), &value].concat()),
            1 => table.extend([&b"l"[..], &random.0.to_be_bytes()].concat()),
            2 => table.extend([b't', random.below(2) as u8]),
            3 => table.push(b'V'),
            _ => table.extend([&b"x"[..], &(value.len() as u32).to_be_bytes(), &value].concat()),
        }
    }
    // In the order of the flags: headers, delivery mode, message id.
    let id = short(random);
    let flags: u16 = 1 << 13 | 1 << 12 | 1 << 7;
    let mode = 1 + random.below(2) as u8;
    [&flags.to_be_bytes()[..], &(table.len() as u32).to_be_bytes(), &table, &[mode, id.len() as u8], &id].concat()
}

/// A short string: at most 255 bytes of UTF-8.
fn short(random: &mut Random) -> Vec<u8> {
    String::from_utf8_lossy(&bytes(random, 60)).into_owned().into_bytes()
}
