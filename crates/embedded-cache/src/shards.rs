//! All shards: which one a resource belongs to, and its lock.

use crate::EmbeddedConfig;
use crate::recovery::KeptEntry;
use crate::segment::Accounting;
use crate::shard::Shard;
use domain::cache::CacheRules;
use domain::{Resource, ShardCount, ShardId};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// All shards; each has its own lock.
pub(crate) struct Shards {
    count: ShardCount,
    list: Vec<Mutex<Shard>>,
}

impl Shards {
    pub(crate) fn new(
        config: &EmbeddedConfig,
        rules: &CacheRules,
        accounting: &[Accounting],
        journals: Vec<BTreeMap<i64, KeptEntry>>,
    ) -> Self {
        let list = rules.shards.all().zip(accounting).zip(journals).map(|((id, accounting), journal)| {
            let mut shard = Shard::new(id.0, config, rules, *accounting);
            for (version, kept) in journal {
                shard.take_back(version, kept, rules);
            }
            Mutex::new(shard)
        });
        Self { count: rules.shards, list: list.collect() }
    }

    pub(crate) fn of(&self, resource: Resource) -> MutexGuard<'_, Shard> {
        self.get(self.count.of(resource))
    }

    pub(crate) fn get(&self, shard: ShardId) -> MutexGuard<'_, Shard> {
        lock(&self.list[usize::from(shard.0) % self.list.len()])
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.list.iter().map(lock)
    }

    /// Whether no unsettled entry is as old as its shard's clock in `clocks`.
    pub(crate) fn settled_up_to(&self, clocks: &[i64]) -> bool {
        self.each().zip(clocks).all(|(shard, clock)| shard.is_settled_up_to(*clock))
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
