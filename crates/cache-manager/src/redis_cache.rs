//! [`LikeCache`] on Redis.

use crate::accept::{Accept, first_answer};
use crate::combine::Combiner;
use crate::config::RedisConfig;
use crate::confirm::Confirm;
use crate::connection::Connections;
use crate::fill::Fill;
use crate::keys::Keys;
use crate::lease::Lease;
use crate::mark::Marks;
use crate::meaning::{
    Spoiled, cache_error, has_no_room, is_elsewhere, is_misconfigured, is_shut_journal, naming, shard_error,
};
use crate::repair::Repair;
use crate::script::Script;
use crate::settle::{self, Settle};
use crate::{journal, read};
use deadpool_redis::redis::{cmd, pipe};
use domain::cache::{
    AcceptOutcome, AcceptRequest, CacheError, CacheResult, CacheRules, CachedCount, CountRepair, Durability,
    FirstAnswer, LikeCache, PairRepair, RepairOutcome, SettleReport, Settlement, ShardStanding, ShardStatus,
    ToldCommit,
};
use domain::codec::EncodedEvent;
use domain::{Pair, PairState, Resource, ShardId, StoredCount, Version};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a probe wrote goes when nobody probes any more.
const PROBE_TTL_SECS: u64 = 60;

/// The cache on a Redis server.
pub struct RedisCache {
    connections: Arc<Connections>,
    accept: Arc<Accept>,
    marks: Arc<Marks>,
    confirm: Option<Arc<Confirm>>,
    combiner: Combiner,
    settle: Settle,
    fill: Fill,
    lease: Lease,
    repair: Repair,
    probe: Script,
    probe_shard: Script,
    status: Script,
    /// What the last probe found: it takes no like, and all else goes on.
    full: AtomicBool,
    /// Warnings of this process that were given.
    said: Mutex<BTreeSet<&'static str>>,

    keys: Keys,
    rules: CacheRules,
}

impl RedisCache {
    pub(crate) fn new(config: &RedisConfig, rules: CacheRules) -> CacheResult<Self> {
        let connections = Arc::new(Connections::new(config, rules.shards)?);
        let keys = Keys::new(config.key_prefix.clone(), rules.shards);
        let marks = Arc::new(Marks::new(rules.shards));
        let confirm = Confirm::new(config, &keys, || connections.another());
        let accept = Arc::new(Accept::new(
            Arc::clone(&connections),
            Arc::clone(&marks),
            confirm.clone(),
            keys.clone(),
            rules.clone(),
        ));
        Ok(Self {
            connections,
            combiner: Combiner::new(Arc::clone(&accept), rules.shards.get()),
            accept,
            marks,
            confirm,
            settle: Settle::new(),
            fill: Fill::new(),
            lease: Lease::new(),
            repair: Repair::new(),
            probe: Script::new(include_str!("scripts/probe.lua")),
            probe_shard: Script::new(include_str!("scripts/probe_shard.lua")),
            status: journal::status_script(),
            full: AtomicBool::new(false),
            said: Mutex::default(),
            keys,
            rules,
        })
    }

    /// Refuses a server that cannot be the one that writes, or that may evict the journal. What a user may not ask, nobody can say.
    async fn look_at_server(&self) -> CacheResult<()> {
        let info: String = match self.connections.run(&cmd("INFO")).await {
            Ok(info) => info,
            Err(error) if self.connections.is_alone() && is_elsewhere(&error) => {
                return Err(CacheError::Unsafe(error.to_string()));
            }
            Err(error) if is_misconfigured(&error) => {
                self.say_once("INFO", "redis does not let us look at its settings (+info): its maxmemory-policy must be noeviction or volatile-*");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if info_field(&info, "cluster_enabled") == Some("1") {
            return Err(CacheError::Unsafe(
                "redis.url is a node of a Redis Cluster, which is not supported; use one primary with replicas"
                    .to_owned(),
            ));
        }
        let policy = info_field(&info, "maxmemory_policy").unwrap_or("unknown");
        if !(policy == "noeviction" || policy.starts_with("volatile-")) {
            return Err(CacheError::Unsafe(format!(
                "maxmemory-policy is {policy}, which may evict the journal; use noeviction or volatile-*"
            )));
        }
        if policy.starts_with("volatile-") && info_field(&info, "maxmemory").is_some_and(|most| most != "0") {
            self.say_once(
                "EVICTION",
                "redis may evict idempotency keys before their time: maxmemory-policy noeviction keeps them",
            );
        }
        if info_field(&info, "aof_enabled") == Some("0") {
            self.say_once("AOF", "redis runs without AOF: likes that are not yet published are lost if it is killed");
        }
        if let Some(confirm) = &self.confirm {
            let attached = attached(&info);
            confirm.saw_replicas(attached);
            if attached < confirm.replicas() {
                self.say_once(
                    "REPLICAS",
                    &format!("redis.confirm_replicas asks for {}, and {attached} follow", confirm.replicas()),
                );
            }
            // Changes nothing; says whether we may wait.
            if let Err(error) = self.connections.run::<u32>(cmd("WAIT").arg(0).arg(1)).await {
                self.say_once("WAIT", &format!("redis.confirm_replicas: replicas cannot be asked: {error}"));
            }
        }
        Ok(())
    }

    /// Whether the journals and clocks of all shards take what comes next: somebody else may have written there.
    async fn look_at_shards(&self) -> CacheResult<()> {
        let shards = self.rules.shards.all().map(|shard| async move {
            let mut call = self.probe_shard.call(2);
            call.arg(self.keys.journal(shard)).arg(self.keys.clock(shard)).arg(Version::MAX.0);
            // On the connection of likes, like the rest of the probe.
            let found = self.probe_shard.run::<i64>(&self.connections, &call).await;
            match found.map_err(|error| shard_error(error, &self.keys, shard))? {
                1 => Err(Spoiled::Journal(self.keys.journal(shard)).into()),
                2 => Err(Spoiled::Clock(self.keys.clock(shard)).into()),
                _ => Ok(()),
            }
        });
        futures::future::try_join_all(shards).await.map(drop)
    }

    fn of_meta(&self, error: CacheError) -> CacheError {
        naming(error, |_| format!("{} (ours is a hash)", self.keys.meta()))
    }

    /// It is looked at again whenever it comes back.
    fn say_once(&self, topic: &'static str, warning: &str) {
        if self.said.lock().unwrap_or_else(PoisonError::into_inner).insert(topic) {
            tracing::warn!("{warning}");
        }
    }

    /// Names of the keys that this cache uses.
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }
}

#[async_trait::async_trait]
impl LikeCache for RedisCache {
    async fn prepare(&self) -> CacheResult<()> {
        self.look_at_server().await?;
        let meta = self.keys.meta();
        let mut ask = cmd("HGET");
        ask.arg(&meta).arg("shards");
        let configured = self.rules.shards.get();
        let stored = match self.connections.run::<Option<u16>>(&ask).await.map_err(|error| self.of_meta(error))? {
            Some(stored) => stored,
            None => {
                let mut commands = pipe();
                commands.cmd("HSETNX").arg(&meta).arg("shards").arg(configured).ignore();
                commands.cmd("HGET").arg(&meta).arg("shards");
                let (stored,): (u16,) = self.connections.run_all(&commands).await?;
                stored
            }
        };
        if stored == configured { Ok(()) } else { Err(CacheError::ShardMismatch { stored, configured }) }
    }

    /// Writes, because that is what likes need; and measures the clock.
    async fn ping(&self) -> CacheResult<()> {
        let mut call = self.probe.call(3);
        call.arg(&self.keys.probe()).arg(PROBE_TTL_SECS);
        let probed = self.probe.run::<i64>(&self.connections, &call).await;
        let no_room = probed.as_ref().err().is_some_and(has_no_room);
        let looked = match probed {
            Ok(_) => self.look_at_shards().await,
            Err(error) => Err(naming(cache_error(error), |_| self.keys.probe().join(" or "))),
        };
        self.full.store(no_room || looked.as_ref().is_err_and(is_shut_journal), Ordering::Relaxed);
        looked?;
        self.connections.shared.way().confirm().await.map_err(cache_error)?;
        self.connections.shared.measure_clock().await.map_err(cache_error)
    }

    fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    fn clock(&self) -> Option<Version> {
        self.connections.shared.clock()
    }

    fn clock_for(&self, resources: &[Resource]) -> Option<(Version, Duration)> {
        self.connections.shared.clock_for(resources.iter().map(|resource| self.rules.shards.of(*resource)))
    }

    fn own_clock(&self) -> Option<(Version, Version)> {
        self.connections.shared.own_clock()
    }

    fn learn_clock(&self, time: Version) {
        self.connections.shared.learn_clock(time);
    }

    async fn durability(&self) -> CacheResult<Option<Durability>> {
        // The mark of the data, too: an emptied Redis has lost it.
        let mut commands = pipe();
        commands.cmd("INFO").arg("persistence");
        commands.cmd("INFO").arg("memory");
        commands.cmd("INFO").arg("replication");
        commands.cmd("HSETNX").arg(self.keys.meta()).arg("shards").arg(self.rules.shards.get()).ignore();
        let told = self.connections.run_all(&commands).await;
        let (disk, memory, replication): (String, String, String) = told.map_err(|error| self.of_meta(error))?;
        let replicas = self.confirm.as_ref().map(|confirm| {
            let attached = attached(&replication);
            confirm.saw_replicas(attached);
            confirm.standing(attached)
        });
        Ok(Some(Durability { replicas, ..durability_of(&(disk + &memory)) }))
    }

    fn clock_uncertainty(&self) -> Duration {
        self.connections.shared.clock_uncertainty()
    }

    async fn accept(&self, requests: &[AcceptRequest]) -> Vec<CacheResult<AcceptOutcome>> {
        match requests {
            [only] => {
                let shard = self.rules.shards.of(only.intent.pair.resource);
                vec![self.combiner.accept(shard, only.clone()).await]
            }
            batch => self.accept.run(batch).await,
        }
    }

    async fn remember(&self, answers: &[FirstAnswer]) -> CacheResult<()> {
        let mut commands = pipe();
        for first in answers {
            let left = self.rules.idempotency_ttl.saturating_sub(first.age).as_millis();
            if left == 0 {
                continue;
            }
            let key = self.keys.idempotency(first.pair, &first.key);
            commands.cmd("SET").arg(key).arg(first_answer(first)).arg("PX").arg(left.to_string()).arg("NX").ignore();
        }
        if commands.is_empty() {
            return Ok(());
        }
        self.connections.run_all(&commands).await
    }

    async fn settle(&self, settlement: &Settlement) -> CacheResult<SettleReport> {
        self.settle.run(&self.connections, &self.keys, &self.rules, settlement).await
    }

    async fn counts(&self, resources: &[Resource]) -> CacheResult<Vec<Option<CachedCount>>> {
        read::counts(&self.connections, &self.keys, resources).await
    }

    async fn fill_counts(&self, counts: &[(Resource, StoredCount)]) -> CacheResult<()> {
        self.fill.counts(&self.connections, &self.keys, &self.rules, counts).await
    }

    async fn states(&self, pairs: &[Pair]) -> CacheResult<Vec<Option<PairState>>> {
        read::states(&self.connections, &self.keys, pairs).await
    }

    async fn cached_pairs(&self, cursor: u64, about: u32) -> CacheResult<(Vec<Pair>, u64)> {
        match read::cached_pairs(&self.connections, &self.keys, cursor, about).await {
            // Not even checkers need this: whoever may not list goes without.
            Err(error) if is_misconfigured(&error) => {
                self.say_once(
                    "SCAN",
                    "redis does not let us list (+scan): cached likes without rows are not looked for",
                );
                Ok((Vec::new(), 0))
            }
            listed => listed,
        }
    }

    async fn fill_states(&self, states: &[(Pair, PairState)]) -> CacheResult<()> {
        self.fill.states(&self.connections, &self.keys, &self.rules, states).await
    }

    async fn forget_states(&self, states: &[(Pair, Version)]) -> CacheResult<()> {
        self.repair.forget(&self.connections, &self.keys, states).await
    }

    async fn shard_status(&self) -> CacheResult<Vec<ShardStatus>> {
        journal::status(&self.status, &self.connections, &self.keys, &self.rules).await
    }

    async fn standings(&self) -> CacheResult<Vec<ShardStanding>> {
        journal::standings(&self.connections, &self.keys, &self.rules, &self.marks).await
    }

    async fn commits(&self) -> CacheResult<Vec<ToldCommit>> {
        settle::commits(&self.connections, &self.keys, &self.rules).await
    }

    async fn journal_page(&self, shard: ShardId, after: Version, limit: usize) -> CacheResult<Vec<EncodedEvent>> {
        journal::page(&self.connections, &self.keys, shard, after, limit).await
    }

    async fn acquire_lease(&self, name: &str, owner: &str, ttl: Duration) -> CacheResult<Option<u64>> {
        self.lease.acquire(&self.connections, &self.keys, name, owner, ttl).await
    }

    async fn release_lease(&self, name: &str, owner: &str) -> CacheResult<()> {
        self.lease.release(&self.connections, &self.keys, name, owner).await
    }

    async fn fence_repairs(&self, token: u64) -> CacheResult<()> {
        self.repair.fence(&self.connections, &self.keys, self.rules.shards.all(), token).await
    }

    async fn repair_count(&self, repair: &CountRepair, token: u64) -> CacheResult<RepairOutcome> {
        self.repair.count(&self.connections, &self.keys, &self.rules, repair, token).await
    }

    async fn repair_pair(&self, repair: &PairRepair, token: u64) -> CacheResult<RepairOutcome> {
        self.repair.pair(&self.connections, &self.keys, &self.rules, repair, token).await
    }
}

fn durability_of(info: &str) -> Durability {
    let number = |name| info_field(info, name)?.parse::<u64>().ok();
    let limit = number("maxmemory").filter(|limit| *limit > 0);
    let percent = |(used, limit): (u64, u64)| u8::try_from(used.saturating_mul(100) / limit).unwrap_or(u8::MAX);
    Durability {
        persistent: info_field(info, "aof_enabled") != Some("0"),
        writable: info_field(info, "aof_last_write_status").is_none_or(|status| status == "ok"),
        delayed_syncs: number("aof_delayed_fsync").unwrap_or(0),
        memory_percent: number("used_memory").zip(limit).map(percent),
        replicas: None,
    }
}

/// Replicas that have a copy and follow it.
fn attached(info: &str) -> u32 {
    let follows = |line: &&str| line.starts_with("slave") && line.contains("state=online");
    u32::try_from(info.lines().filter(follows).count()).unwrap_or(u32::MAX)
}

fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_says_of_its_disk() {
        let delayed = "# Persistence\r\naof_enabled:1\r\naof_last_write_status:ok\r\naof_delayed_fsync:7\r\n";
        let of = |persistent, writable, delayed_syncs| Durability {
            persistent,
            writable,
            delayed_syncs,
            memory_percent: None,
            replicas: None,
        };
        assert_eq!(durability_of(delayed), of(true, true, 7));
        let off = "aof_enabled:0\r\naof_last_write_status:err\r\n";
        assert_eq!(durability_of(off), of(false, false, 0));
        let memory = |used: &str, limit: &str| {
            durability_of(&format!("used_memory:{used}\r\nused_memory_peak:9\r\nmaxmemory:{limit}\r\n")).memory_percent
        };
        assert_eq!(memory("1000", "0"), None);
        assert_eq!(memory("912", "1000"), Some(91));
        assert_eq!(memory("90000", "1"), Some(255));
    }

    #[test]
    fn a_replica_follows_when_it_has_its_copy() {
        let info = "role:master\r\nconnected_slaves:2\r\nslave0:ip=::1,port=1,state=online,offset=4,lag=0\r\n\
                    slave1:ip=::1,port=2,state=send_bulk,offset=0,lag=0\r\nmaster_replid:0\r\n";
        assert_eq!((attached(info), attached("role:master\r\nconnected_slaves:0\r\n")), (1, 0));
    }
}
