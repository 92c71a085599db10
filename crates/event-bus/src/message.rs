//! What travels, and what a queue says about itself: the same with and without the client.

use bytes::Bytes;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Header that says why a message was published to the dead-letter exchange.
pub const REASON_HEADER: &str = "x-reason";

/// Headers by name. At most 16 short ones are sent; the rest is dropped, because headers carry nothing that correctness
/// depends on.
pub type Headers = BTreeMap<String, String>;

/// A message in the hands of the caller, until acknowledged or until the consumer falls.
#[derive(Debug)]
pub struct Delivery {
    /// As published; may be anything.
    pub body: Bytes,
    /// The body is longer than any of ours, and this is only its beginning. The broker has the rest: whoever publishes this
    /// again publishes something else.
    pub cut: bool,
    /// Whether it was delivered before, to anyone.
    pub redelivered: bool,
    /// How often it was delivered before, where the broker says so.
    pub delivery_count: Option<u64>,
    /// The publisher's id of the message.
    pub message_id: Option<String>,
    /// Why the broker itself moved it to the dead letters, in its word: `expired`, `maxlen`, `delivery_limit`, `rejected`. None
    /// if nobody but a publisher put it here.
    pub moved: Option<String>,
    /// Whether the redo log has a copy, or had one.
    pub logged: bool,
    /// Its textual headers.
    pub headers: Headers,
    /// Connection that it came by, and its number there.
    #[cfg_attr(not(feature = "amqp"), expect(dead_code, reason = "read by the client, which is not built in"))]
    pub(crate) tag: (Uuid, u64),
}

/// One message of the exchange of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeMessage {
    /// What listeners choose by.
    pub key: String,
    /// Events of that key.
    pub body: Vec<u8>,
}

/// What a queue says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueDepth {
    /// Messages that wait for a consumer; those delivered and not acknowledged are not counted.
    pub ready: u32,
    /// Consumers now.
    pub consumers: u32,
    /// Whether this is known. A queue whose leader nobody knows says that it is empty and has no consumer; only one that does
    /// something on our behalf is believed.
    pub known: bool,
}
