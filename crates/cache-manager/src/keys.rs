//! Names of keys. The hash tag `{s<N>}` keeps all keys of a shard together.

use domain::{Pair, Resource, ShardCount, ShardId, UserId};
use std::fmt::Write;

/// Builds key names.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
    shards: ShardCount,
}

impl Keys {
    /// Keys of data with `shards` shards, all starting with `prefix`.
    pub fn new(prefix: impl Into<String>, shards: ShardCount) -> Self {
        Self { prefix: prefix.into(), shards }
    }

    /// Journal stream of a shard.
    pub fn journal(&self, shard: ShardId) -> String {
        format!("{}{{s{shard}}}:j", self.prefix)
    }

    /// Clock and accounting of a shard.
    pub fn clock(&self, shard: ShardId) -> String {
        format!("{}{{s{shard}}}:t", self.prefix)
    }

    /// Counter of a resource.
    pub fn counter(&self, resource: Resource) -> String {
        let mut key = self.start(self.shards.of(resource), 48);
        let _ = write!(key, "c:{}{}", resource.kind.letter(), resource.id);
        key
    }

    /// State of a pair.
    pub fn pair(&self, pair: Pair) -> String {
        let mut key = self.start(self.shards.of(pair.resource), 64);
        let _ = write!(key, "p:{}{}:{}", pair.resource.kind.letter(), pair.user, pair.resource.id);
        key
    }

    pub(crate) fn idempotency(&self, pair: Pair, key_of_caller: &str) -> String {
        let mut key = self.start(self.shards.of(pair.resource), 64 + key_of_caller.len());
        let _ = write!(key, "i:{}{}:{}:{key_of_caller}", pair.resource.kind.letter(), pair.user, pair.resource.id);
        key
    }

    pub(crate) fn user_limit(&self, user: UserId) -> String {
        format!("{}r:{user}", self.prefix)
    }

    pub(crate) fn lease(&self, name: &str) -> (String, String) {
        (format!("{}{{l:{name}}}:o", self.prefix), format!("{}{{l:{name}}}:t", self.prefix))
    }

    /// Stream, hash and string of a probe, beside the keys of the first shard.
    pub(crate) fn probe(&self) -> [String; 3] {
        ["hj", "ht", "h"].map(|name| format!("{}{{s0}}:{name}", self.prefix))
    }

    pub(crate) fn meta(&self) -> String {
        format!("{}meta", self.prefix)
    }

    fn start(&self, shard: ShardId, capacity: usize) -> String {
        let mut key = String::with_capacity(self.prefix.len() + capacity);
        let _ = write!(key, "{}{{s{shard}}}:", self.prefix);
        key
    }
}
