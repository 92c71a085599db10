//! Shards of the cache whose server is unreachable while others are not: each shard has a circuit of its own.
//!
//! Only where the cache [is partitioned](domain::cache::LikeCache::is_partitioned). The circuit of the whole cache is then the
//! prober's: it opens when no server answers. A call about many shards says nothing against any of them.

use super::Stores;
use super::circuit_breaker::Circuit;
use crate::metrics;
use domain::cache::LikeCache;
use domain::{Resource, ShardCount, ShardId};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// See the head of the module.
#[derive(Debug)]
pub struct ShardCircuits {
    /// None where the cache is one server.
    circuits: Box<[Circuit]>,
    open: AtomicUsize,
}

impl ShardCircuits {
    /// All closed, each opening after so many failures in a row.
    pub(crate) fn new(cache: &dyn LikeCache, shards: ShardCount, threshold: u32) -> Self {
        let circuits = if cache.is_partitioned() {
            shards.all().map(|_| Circuit::quiet("shard of the cache", threshold)).collect()
        } else {
            Box::default()
        };
        Self { circuits, open: AtomicUsize::new(0) }
    }

    /// Whether there is one for each shard.
    pub(crate) fn are_there(&self) -> bool {
        !self.circuits.is_empty()
    }

    /// Whether any shard is away.
    pub fn any(&self) -> bool {
        self.open.load(Ordering::Acquire) > 0
    }

    /// Whether this one is.
    pub fn is_open(&self, shard: ShardId) -> bool {
        self.any() && self.circuits.get(usize::from(shard.0)).is_some_and(Circuit::is_open)
    }

    /// Shards that are away.
    pub fn away(&self) -> Vec<ShardId> {
        self.all().filter(|(_, circuit)| circuit.is_open()).map(|(shard, _)| shard).collect()
    }

    /// Which shards are away, and the last of what was said against one of them.
    pub fn trouble(&self) -> Option<String> {
        let away = self.away();
        let first = away.first()?;
        let said = self.circuits[usize::from(first.0)].last_error().map(|error| error.text).unwrap_or_default();
        let names: Vec<String> = away.iter().map(ToString::to_string).collect();
        Some(format!("shards {} are away, their likes are written to the database: {said}", names.join(", ")))
    }

    /// The shortest time for which one of those stays open, whatever a probe finds.
    pub(crate) fn held(&self) -> Duration {
        let open = self.all().filter(|(_, circuit)| circuit.is_open());
        open.map(|(_, circuit)| circuit.held()).min().unwrap_or_default()
    }

    /// Those that a probe may close now.
    pub(crate) fn may_close(&self) -> Vec<ShardId> {
        let open = self.all().filter(|(_, circuit)| circuit.is_open() && circuit.held().is_zero());
        open.map(|(shard, _)| shard).collect()
    }

    pub(crate) fn failure(&self, shard: ShardId, error: &dyn Display) {
        self.change(shard, |circuit| circuit.failure(error));
    }

    pub(crate) fn trip(&self, shard: ShardId, error: &dyn Display) {
        self.change(shard, |circuit| circuit.trip(error));
    }

    pub(crate) fn close(&self, shard: ShardId) {
        self.change(shard, Circuit::close);
    }

    fn success(&self, shard: ShardId) {
        if let Some(circuit) = self.circuits.get(usize::from(shard.0)) {
            circuit.success();
        }
    }

    fn change(&self, shard: ShardId, change: impl FnOnce(&Circuit)) {
        if let Some(circuit) = self.circuits.get(usize::from(shard.0)) {
            change(circuit);
            let open = self.circuits.iter().filter(|circuit| circuit.is_open()).count();
            self.open.store(open, Ordering::Release);
            metrics::shards_away(open);
        }
    }

    fn all(&self) -> impl Iterator<Item = (ShardId, &Circuit)> {
        (0..).map(ShardId).zip(&self.circuits)
    }
}

impl Stores {
    /// Whether likes of this resource go around the cache.
    pub(crate) fn is_away(&self, resource: Resource) -> bool {
        self.cache_circuit.is_open() || self.shard_circuits.is_open(self.shards.of(resource))
    }

    /// The cache answered a call about these resources.
    pub(crate) fn cache_answered(&self, resources: impl IntoIterator<Item = Resource>) {
        self.cache_circuit.success();
        if self.shard_circuits.are_there() {
            resources.into_iter().for_each(|resource| self.shard_circuits.success(self.shards.of(resource)));
        }
    }

    /// It did not answer a call about these, all of one shard or not.
    pub(crate) fn cache_failed(&self, resources: impl IntoIterator<Item = Resource>, error: &dyn Display) {
        if !self.shard_circuits.are_there() {
            return self.cache_circuit.failure(error);
        }
        let shards: BTreeSet<ShardId> = resources.into_iter().map(|resource| self.shards.of(resource)).collect();
        match shards.first() {
            Some(only) if shards.len() == 1 => self.shard_circuits.failure(*only, error),
            _ => self.cache_failed_somewhere(error),
        }
    }

    /// It did not answer a call about many shards.
    pub fn cache_failed_somewhere(&self, error: &dyn Display) {
        if self.shard_circuits.are_there() {
            tracing::debug!(%error, "some shard of the cache is away");
        } else {
            self.cache_circuit.failure(error);
        }
    }

    /// It could not be told what was written around it: nobody believes these shards until it was.
    pub(crate) fn cache_untold(&self, resources: impl IntoIterator<Item = Resource>, error: &dyn Display) {
        if !self.shard_circuits.are_there() {
            return self.cache_circuit.trip(error);
        }
        resources.into_iter().for_each(|resource| self.shard_circuits.trip(self.shards.of(resource), error));
    }
}
