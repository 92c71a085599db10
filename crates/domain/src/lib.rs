//! Types and rules of likes: no I/O, no clock, no async runtime.
//!
//! Everything that must be true whatever the stores are is decided here: what an event is ([`event`]), how events
//! fold into a row ([`fold()`]), where a resource lives ([`shard`]), when a failed event is tried again ([`retry`]),
//! how an event is written to bytes ([`codec`]), what events of erased users and deleted resources come to ([`mod@fence`]), what
//! a cache must be able to do ([`cache`]), how the address of a store is read ([`store_url`]), with whose name it is connected to
//! ([`login`]), and how those of several nodes are written ([`addresses`]).
//!
//! Deliberately absent: clocks and randomness (both are arguments), and any knowledge of Redis, RabbitMQ or SQL.

pub mod addresses;
pub mod cache;
pub mod codec;
pub mod event;
pub mod fence;
pub mod fold;
pub mod login;
pub mod resource;
pub mod retry;
pub mod shard;
pub mod store_url;
pub mod write_path;

pub use event::{Action, LikeEvent, LikeIntent, Origin, StoredCount, TraceContext, Version};
pub use fence::{DeletedMark, Erased, Fence};
pub use fold::{Folded, PairState, fold};
pub use login::Login;
pub use resource::{Pair, Resource, ResourceId, ResourceType, UserId};
pub use shard::{Resharded, ShardCount, ShardId, ShardName};
pub use store_url::StoreUrl;
pub use write_path::WritePath;

/// A value that breaks a rule of the domain; the message names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// Field as callers know it, for example `user_id`.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl Invalid {
    /// An error about `field`.
    pub fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self { field, reason: reason.into() }
    }
}
