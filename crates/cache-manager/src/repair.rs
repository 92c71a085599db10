//! `repair_count.lua`, `repair_pair.lua`, `repair_accounting.lua`, `fence_repairs.lua`: what the checker writes, each as compare-and-set; and
//! `forget_pair.lua`, for discarded events.

use crate::keys::Keys;
use crate::meaning::{cache_error, shard_error};
use crate::routes::Routes;
use crate::script::Script;
use crate::settle::encode_state;
use domain::cache::{CacheResult, CacheRules, CountRepair, PairRepair, RepairOutcome, ShardStatus};
use domain::{Pair, ShardId, Version};
use std::sync::Arc;

pub(crate) struct Repair {
    fence: Script,
    count: Script,
    pair: Script,
    accounting: Script,
    forget: Script,
}

impl Repair {
    pub(crate) fn new() -> Self {
        Self {
            fence: Script::new(include_str!("scripts/fence_repairs.lua")),
            count: Script::new(include_str!("scripts/repair_count.lua")),
            pair: Script::new(include_str!("scripts/repair_pair.lua")),
            accounting: Script::new(include_str!("scripts/repair_accounting.lua")),
            forget: Script::new(include_str!("scripts/forget_pair.lua")),
        }
    }

    pub(crate) async fn fence(
        &self,
        routes: &Arc<Routes>,
        keys: &Keys,
        shards: impl Iterator<Item = ShardId>,
        token: u64,
    ) -> CacheResult<()> {
        let calls = shards.map(|shard| async move {
            let mut call = self.fence.call(1);
            call.arg(keys.clock(shard)).arg(token);
            let fenced = self.fence.run::<u64>(routes, routes.slot(shard), &call).await;
            fenced.map_err(|error| shard_error(error, keys, shard))
        });
        futures::future::try_join_all(calls).await.map(drop)
    }

    pub(crate) async fn count(
        &self,
        routes: &Arc<Routes>,
        keys: &Keys,
        rules: &CacheRules,
        repair: &CountRepair,
        token: u64,
    ) -> CacheResult<RepairOutcome> {
        let CountRepair { resource, seen, stored, abandoned } = repair;
        let shard = rules.shards.of(*resource);
        let mut call = self.count.call(2);
        call.arg(keys.clock(shard)).arg(keys.counter(*resource));
        call.arg(token).arg(i64::from(*abandoned));
        call.arg(seen.served).arg(seen.pending).arg(seen.last_version.0).arg(seen.stored).arg(seen.stored_revision);
        call.arg(stored.count).arg(stored.revision).arg(rules.counter_ttl.as_secs().max(1));
        let repaired = self.count.run(routes, routes.slot(shard), &call).await;
        repaired.map(outcome).map_err(|error| shard_error(error, keys, shard))
    }

    pub(crate) async fn pair(
        &self,
        routes: &Arc<Routes>,
        keys: &Keys,
        rules: &CacheRules,
        repair: &PairRepair,
        token: u64,
    ) -> CacheResult<RepairOutcome> {
        let shard = rules.shards.of(repair.pair.resource);
        let mut call = self.pair.call(2);
        call.arg(keys.clock(shard)).arg(keys.pair(repair.pair));
        call.arg(token).arg(encode_state(repair.seen)).arg(encode_state(repair.row));
        let repaired = self.pair.run(routes, routes.slot(shard), &call).await;
        repaired.map(outcome).map_err(|error| shard_error(error, keys, shard))
    }

    pub(crate) async fn accounting(
        &self,
        routes: &Arc<Routes>,
        keys: &Keys,
        seen: &ShardStatus,
        token: u64,
    ) -> CacheResult<RepairOutcome> {
        let shard = seen.shard;
        let mut call = self.accounting.call(2);
        call.arg(keys.journal(shard)).arg(keys.clock(shard));
        call.arg(token).arg(seen.accepted).arg(seen.settled).arg(seen.journal_len);
        let repaired = self.accounting.run(routes, routes.slot(shard), &call).await;
        repaired.map(outcome).map_err(|error| shard_error(error, keys, shard))
    }

    pub(crate) async fn forget(
        &self,
        routes: &Arc<Routes>,
        keys: &Keys,
        rules: &CacheRules,
        states: &[(Pair, Version)],
    ) -> CacheResult<()> {
        let calls = states.iter().map(|(pair, version)| async move {
            let mut call = self.forget.call(1);
            call.arg(keys.pair(*pair)).arg(version.0);
            self.forget.run::<i64>(routes, routes.slot(rules.shards.of(pair.resource)), &call).await
        });
        futures::future::try_join_all(calls).await.map(drop).map_err(cache_error)
    }
}

const fn outcome(code: i64) -> RepairOutcome {
    match code {
        1 => RepairOutcome::Repaired,
        0 => RepairOutcome::Changed,
        _ => RepairOutcome::Fenced,
    }
}
