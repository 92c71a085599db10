//! Events as bytes: the payload kept in the journal, and the body of an AMQP message.
//!
//! All integers are big-endian. A payload is what the server encodes before acceptance, so it has no version:
//!
//! ```text
//! payload  u8 format (1) | 16 event id | u8 resource type | u8 action | i64 user | i64 resource
//!          | u8 key length | key (UTF-8) | u8 has trace | if 1: 16 trace id, 8 span id, u8 flags
//! batch    u8 format (1) | u16 count | count × ( i64 version | u8 origin | u16 payload length | payload )
//! ```
//!
//! Decoding checks everything: bytes from a queue are input. A batch is decoded whole or not at all.

use crate::{Action, Invalid, LikeEvent, LikeIntent, Origin, Pair, ResourceType, TraceContext, Version};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use uuid::Uuid;

const FORMAT: u8 = 1;

/// Most events that one batch carries.
pub const MAX_BATCH: usize = 4096;

/// Longest body that is decoded, in bytes: a full batch of longest payloads.
pub const MAX_BODY_LEN: usize = 3 + MAX_BATCH * (11 + MAX_PAYLOAD_LEN);

const MAX_PAYLOAD_LEN: usize = 36 + LikeIntent::MAX_KEY_LEN + 26;

/// Why bytes are not an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Ends before the named part.
    #[error("truncated at {0}")]
    Truncated(&'static str),
    /// Bytes left over.
    #[error("{0} bytes too many")]
    Trailing(usize),
    /// Written by an unknown version of this code.
    #[error("unknown format {0}")]
    UnknownFormat(u8),
    /// A count or length beyond its bound.
    #[error("{field}: {value} is beyond the bound of {bound}")]
    Bound {
        /// Which one.
        field: &'static str,
        /// What was found.
        value: usize,
        /// What is allowed.
        bound: usize,
    },
    /// A value that breaks a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Encodes an intent for the journal.
pub fn encode_payload(intent: &LikeIntent) -> Bytes {
    let key = intent.idempotency_key.as_deref().unwrap_or("").as_bytes();
    let key = &key[..key.len().min(LikeIntent::MAX_KEY_LEN)];
    let mut out = BytesMut::with_capacity(37 + key.len() + if intent.trace.is_some() { 25 } else { 0 });
    out.put_u8(FORMAT);
    out.put_slice(intent.id.as_bytes());
    out.put_u8(intent.pair.resource.kind as u8);
    out.put_u8(intent.action as u8);
    out.put_i64(intent.pair.user.get());
    out.put_i64(intent.pair.resource.id.get());
    out.put_u8(key.len() as u8);
    out.put_slice(key);
    match &intent.trace {
        None => out.put_u8(0),
        Some(trace) => {
            out.put_u8(1);
            out.put_slice(&trace.trace_id);
            out.put_slice(&trace.span_id);
            out.put_u8(trace.flags);
        }
    }
    out.freeze()
}

/// Decodes a payload.
pub fn decode_payload(mut bytes: &[u8]) -> Result<LikeIntent, DecodeError> {
    let format = take_u8(&mut bytes, "format")?;
    if format != FORMAT {
        return Err(DecodeError::UnknownFormat(format));
    }
    let id = Uuid::from_bytes(take_array(&mut bytes, "event id")?);
    let kind = ResourceType::from_code(take_u8(&mut bytes, "resource type")?)?;
    let action = Action::from_code(take_u8(&mut bytes, "action")?)?;
    let user = take_i64(&mut bytes, "user")?;
    let resource = take_i64(&mut bytes, "resource")?;
    let pair = Pair::new(user, kind, resource)?;
    let key_len = usize::from(take_u8(&mut bytes, "key length")?);
    if key_len > LikeIntent::MAX_KEY_LEN {
        return Err(DecodeError::Bound { field: "idempotency_key", value: key_len, bound: LikeIntent::MAX_KEY_LEN });
    }
    if bytes.len() < key_len {
        return Err(DecodeError::Truncated("key"));
    }
    let (key, rest) = bytes.split_at(key_len);
    bytes = rest;
    let key = std::str::from_utf8(key).map_err(|error| Invalid::new("idempotency_key", error.to_string()))?;
    let trace = match take_u8(&mut bytes, "trace flag")? {
        0 => None,
        1 => Some(TraceContext {
            trace_id: take_array(&mut bytes, "trace id")?,
            span_id: take_array(&mut bytes, "span id")?,
            flags: take_u8(&mut bytes, "trace flags")?,
        }),
        other => return Err(Invalid::new("trace flag", format!("expected 0 or 1, got {other}")).into()),
    };
    if !bytes.is_empty() {
        return Err(DecodeError::Trailing(bytes.len()));
    }
    Ok(LikeIntent { id, pair, action, idempotency_key: (!key.is_empty()).then(|| key.to_owned()), trace })
}

/// One journal entry on its way: the payload stays encoded from acceptance to apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedEvent {
    /// Version given at acceptance.
    pub version: Version,
    /// Which way it came.
    pub origin: Origin,
    /// As [`encode_payload`] wrote it.
    pub payload: Bytes,
}

impl EncodedEvent {
    /// Decodes the payload.
    pub fn decode(&self) -> Result<LikeEvent, DecodeError> {
        if !(1..=Version::MAX.0).contains(&self.version.0) {
            return Err(Invalid::new("version", format!("{} is out of range", self.version)).into());
        }
        Ok(LikeEvent { intent: decode_payload(&self.payload)?, version: self.version, origin: self.origin })
    }

    /// Encodes an event again, for example to publish it to the dead-letter exchange.
    pub fn from_event(event: &LikeEvent) -> Self {
        Self { version: event.version, origin: event.origin, payload: encode_payload(&event.intent) }
    }
}

/// Encodes at most [`MAX_BATCH`] events as one message body.
pub fn encode_batch(events: &[EncodedEvent]) -> Bytes {
    debug_assert!(events.len() <= MAX_BATCH);
    let size: usize = events.iter().map(|event| 11 + event.payload.len()).sum();
    let mut out = BytesMut::with_capacity(3 + size);
    out.put_u8(FORMAT);
    out.put_u16(events.len() as u16);
    for event in events {
        out.put_i64(event.version.0);
        out.put_u8(event.origin as u8);
        out.put_u16(event.payload.len() as u16);
        out.put_slice(&event.payload);
    }
    out.freeze()
}

/// Decodes a message body.
pub fn decode_batch(body: &[u8]) -> Result<Vec<LikeEvent>, DecodeError> {
    if body.len() > MAX_BODY_LEN {
        return Err(DecodeError::Bound { field: "body", value: body.len(), bound: MAX_BODY_LEN });
    }
    let mut bytes = body;
    let format = take_u8(&mut bytes, "format")?;
    if format != FORMAT {
        return Err(DecodeError::UnknownFormat(format));
    }
    let count = usize::from(u16::from_be_bytes(take_array(&mut bytes, "count")?));
    if count > MAX_BATCH {
        return Err(DecodeError::Bound { field: "count", value: count, bound: MAX_BATCH });
    }
    let mut events = Vec::with_capacity(count);
    for _ in 0..count {
        let version = Version(take_i64(&mut bytes, "version")?);
        if !(1..=Version::MAX.0).contains(&version.0) {
            return Err(Invalid::new("version", format!("{version} is out of range")).into());
        }
        let origin = Origin::from_code(take_u8(&mut bytes, "origin")?)?;
        let len = usize::from(u16::from_be_bytes(take_array(&mut bytes, "payload length")?));
        if bytes.len() < len {
            return Err(DecodeError::Truncated("payload"));
        }
        let (payload, rest) = bytes.split_at(len);
        bytes = rest;
        events.push(LikeEvent { intent: decode_payload(payload)?, version, origin });
    }
    if !bytes.is_empty() {
        return Err(DecodeError::Trailing(bytes.len()));
    }
    Ok(events)
}

fn take_u8(bytes: &mut &[u8], what: &'static str) -> Result<u8, DecodeError> {
    bytes.try_get_u8().map_err(|_| DecodeError::Truncated(what))
}

fn take_i64(bytes: &mut &[u8], what: &'static str) -> Result<i64, DecodeError> {
    bytes.try_get_i64().map_err(|_| DecodeError::Truncated(what))
}

fn take_array<const N: usize>(bytes: &mut &[u8], what: &'static str) -> Result<[u8; N], DecodeError> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or(DecodeError::Truncated(what))?;
    *bytes = rest;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn intents() -> impl Strategy<Value = LikeIntent> {
        (
            any::<u128>(),
            1..=i64::MAX,
            1..=i64::MAX,
            any::<(bool, bool)>(),
            "[ -~]{0,100}",
            any::<Option<([u8; 16], [u8; 8], u8)>>(),
        )
            .prop_map(|(id, user, resource, (video, like), key, trace)| LikeIntent {
                id: Uuid::from_u128(id),
                pair: Pair::new(user, if video { ResourceType::Video } else { ResourceType::Comment }, resource)
                    .unwrap(),
                action: Action::from_liked(like),
                idempotency_key: (!key.is_empty()).then_some(key),
                trace: trace.map(|(trace_id, span_id, flags)| TraceContext { trace_id, span_id, flags }),
            })
    }

    proptest! {
        #[test]
        fn batches_survive_the_wire(intents in proptest::collection::vec((intents(), 1..Version::MAX.0), 0..20)) {
            let events: Vec<_> = intents
                .into_iter()
                .map(|(intent, version)| LikeEvent { intent, version: Version(version), origin: Origin::Journal })
                .collect();
            let encoded: Vec<_> = events.iter().map(EncodedEvent::from_event).collect();
            prop_assert_eq!(decode_batch(&encode_batch(&encoded)), Ok(events));
        }

        #[test]
        fn garbage_is_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_batch(&bytes);
            let _ = decode_payload(&bytes);
        }

        /// Every truncation of a good batch is refused: half a message must not become fewer events.
        #[test]
        fn truncation_is_refused(intent in intents(), cut in any::<proptest::sample::Index>()) {
            let body = encode_batch(&[EncodedEvent { version: Version(7), origin: Origin::Direct, payload: encode_payload(&intent) }]);
            let cut = cut.index(body.len());
            prop_assert!(decode_batch(&body[..cut]).is_err());
        }
    }

    #[test]
    fn unknown_enums_are_named() {
        let intent = LikeIntent {
            id: Uuid::nil(),
            pair: Pair::new(1, ResourceType::Video, 1).unwrap(),
            action: Action::Like,
            idempotency_key: None,
            trace: None,
        };
        let mut bytes = encode_payload(&intent).to_vec();
        bytes[17] = 9;
        assert_eq!(decode_payload(&bytes).unwrap_err().to_string(), "resource_type: unknown code 9");
    }
}
