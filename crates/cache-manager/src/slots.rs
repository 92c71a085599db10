//! What there is to know of slots: which one a key is in, who has them, and where a node sends those that asked the wrong one.

use deadpool_redis::redis::{RedisError, ServerErrorKind, Value};
use domain::addresses::join;

/// Slots of every Redis Cluster.
const SLOTS: u16 = 16_384;

/// One slot; keys of one are always on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(pub(crate) u16);

impl Slot {
    /// The slot of a key, by its hash tag if it has one.
    pub(crate) fn of(key: &str) -> Self {
        let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
        let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
        Self(crc16(hashed.as_bytes()) % SLOTS)
    }
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8)
            .fold(crc ^ (u16::from(*byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    })
}

/// A node that did not do what it was asked, and who would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// That one has the slot. Without a host it is the host that was asked.
    Moved(String),
    /// That one is given the slot, key by key, and has these keys already, or will.
    Ask(String),
    /// One has some of the keys, the other one has the others.
    TryAgain,
}

/// Where the answer sends us; none if it is no such answer. Whoever was sent elsewhere ran nothing.
pub(crate) fn redirect(error: &RedisError) -> Option<Redirect> {
    // Commands of one pipeline are of one slot here: what the first of them met, all did, or can be asked again.
    let failed = error.clone().into_server_errors()?;
    let (_, first) = failed.first()?;
    let there = || address(first.details()?.split_ascii_whitespace().nth(1)?);
    match first.kind()? {
        ServerErrorKind::Moved => there().map(Redirect::Moved),
        ServerErrorKind::Ask => there().map(Redirect::Ask),
        ServerErrorKind::TryAgain => Some(Redirect::TryAgain),
        _ => None,
    }
}

/// A version 6 address has no brackets there.
fn address(told: &str) -> Option<String> {
    let (host, port) = told.rsplit_once(':')?;
    let port = port.parse().ok()?;
    Some(join(host.trim_start_matches('[').trim_end_matches(']'), port))
}

/// Slots from, to, and the address of the primary that has them; in their order.
pub(crate) type Ranges = Vec<(Slot, Slot, String)>;

/// What `CLUSTER SLOTS` answered to a question to this host. An unknown host is that one.
pub(crate) fn ranges(answer: &Value, asked: &str) -> Ranges {
    let Value::Array(ranges) = answer else { return Ranges::new() };
    let mut ranges: Ranges = ranges.iter().filter_map(|range| range_of(range, asked)).collect();
    ranges.sort_unstable();
    ranges
}

fn range_of(range: &Value, asked: &str) -> Option<(Slot, Slot, String)> {
    let Value::Array(parts) = range else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &parts[..] else { return None };
    let [host, Value::Int(port), ..] = &primary[..] else { return None };
    let host = match host {
        Value::BulkString(host) => String::from_utf8_lossy(host).into_owned(),
        Value::SimpleString(host) => host.clone(),
        _ => String::new(),
    };
    let host = match host.as_str() {
        // It does not know its own address yet.
        "" => asked,
        "?" => return None,
        host => host,
    };
    let slot = |number: &i64| u16::try_from(*number).ok().filter(|slot| *slot < SLOTS).map(Slot);
    Some((slot(first)?, slot(last)?, join(host, u16::try_from(*port).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_that_of_the_tag() {
        // As `CLUSTER KEYSLOT` says.
        for (key, slot) in [("123456789", 12_739), ("foo", 12_182), ("somekey", 11_058), ("bar", 5_061), ("", 0)] {
            assert_eq!(Slot::of(key), Slot(slot), "{key}");
        }
        assert_eq!(Slot::of("app:{foo}:j"), Slot(12_182));
        assert_eq!(Slot::of("{foo}{bar}"), Slot(12_182));
        assert_eq!(Slot::of("x}{foo}"), Slot(12_182));
        assert_ne!(Slot::of("{}{foo}"), Slot(12_182));
        assert_ne!(Slot::of("{foo"), Slot(12_182));
    }

    #[test]
    fn addresses_of_redirects_are_those_of_the_configuration() {
        for (told, there) in [("10.0.0.1:7", "10.0.0.1:7"), ("::1:7", "[::1]:7"), ("[::1]:7", "[::1]:7"), (":7", ":7")]
        {
            assert_eq!(address(told).as_deref(), Some(there));
        }
        assert_eq!((address("h"), address("h:x")), (None, None));
    }

    #[test]
    fn ranges_are_what_the_cluster_says() {
        let range = |first, last, host: Value, port| {
            let node = |port| Value::Array(vec![host.clone(), Value::Int(port), Value::BulkString(b"id".to_vec())]);
            Value::Array(vec![Value::Int(first), Value::Int(last), node(port), node(9)])
        };
        let host = |host: &str| Value::BulkString(host.as_bytes().to_vec());
        let answer = Value::Array(vec![
            range(8_192, 16_383, host("::1"), 2),
            range(0, 5, host("a"), 1),
            range(6, 9, Value::Nil, 3),
            range(10, 11, host("?"), 4),
            range(12, 99_999, host("b"), 5),
            Value::Nil,
        ]);
        let expected = [(0, 5, "a:1"), (6, 9, "asked:3"), (8_192, 16_383, "[::1]:2")]
            .map(|(first, last, at)| (Slot(first), Slot(last), at.to_owned()));
        assert_eq!(ranges(&answer, "asked"), expected);
        assert!(ranges(&Value::Okay, "asked").is_empty());
    }
}
