//! [`LikeCache`] on Redis.

mod server;
mod shared;

use crate::accept::Accept;
use crate::combine::Combiner;
use crate::config::RedisConfig;
use crate::deleted::Deleted;
use crate::erase::Erase;
use crate::fill::Fill;
use crate::keys::Keys;
use crate::lease::Lease;
use crate::limit::Limit;
use crate::mark::Marks;
use crate::meaning::{is_misconfigured, naming};
use crate::remember::Remember;
use crate::repair::Repair;
use crate::routes::Routes;
use crate::script::Script;
use crate::settle::{self, Settle};
use crate::{journal, read};
use deadpool_redis::redis::cmd;
use domain::cache::{
    AcceptOutcome, AcceptRequest, CacheError, CacheResult, CacheRules, CachedCount, CountRepair, Durability,
    FirstAnswer, LikeCache, PairRepair, RepairOutcome, SettleReport, Settlement, ShardStanding, ShardStatus, Sweep,
    Swept, ToldCommit,
};
use domain::codec::EncodedEvent;
use domain::{DeletedMark, Pair, PairState, Resharded, Resource, ShardCount, ShardId, StoredCount, UserId, Version};
use secrecy::SecretString;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a probe wrote goes when nobody probes any more.
const PROBE_TTL_SECS: u64 = 60;

/// The cache on a Redis server, or on those of a cluster.
pub struct RedisCache {
    pub(crate) routes: Arc<Routes>,
    accept: Arc<Accept>,
    marks: Arc<Marks>,
    combiner: Combiner,
    limit: Option<Limit>,
    settle: Settle,
    fill: Fill,
    lease: Lease,
    remember: Remember,
    repair: Repair,
    erase: Erase,
    deleted: Deleted,
    probe: Script,
    probe_shard: Script,
    status: Script,
    /// What the last probe found: it takes no like, and all else goes on.
    full: AtomicBool,
    /// Warnings of this process that were given.
    said: Mutex<BTreeSet<&'static str>>,
    /// A guess at the number of shards: see [`Self::guessing`].
    guesses: AtomicBool,

    keys: Keys,
    pub(crate) rules: CacheRules,
}

impl RedisCache {
    pub(crate) fn new(config: &RedisConfig, rules: CacheRules) -> CacheResult<Self> {
        let keys = Keys::new(config.key_prefix.clone(), rules.shards);
        let routes = Routes::new(config, &keys, rules.shards)?;
        let marks = Arc::new(Marks::new(rules.shards));
        let accept = Arc::new(Accept::new(Arc::clone(&routes), Arc::clone(&marks), keys.clone(), rules.clone()));
        Ok(Self {
            limit: Limit::new(&routes, &keys, &rules),
            routes,
            combiner: Combiner::new(Arc::clone(&accept), rules.shards.get()),
            accept,
            marks,
            settle: Settle::new(),
            fill: Fill::new(),
            lease: Lease::new(),
            remember: Remember::new(),
            repair: Repair::new(),
            erase: Erase::new(),
            deleted: Deleted::new(),
            probe: Script::new(include_str!("scripts/probe.lua")),
            probe_shard: Script::new(include_str!("scripts/probe_shard.lua")),
            status: journal::status_script(),
            full: AtomicBool::new(false),
            said: Mutex::default(),
            guesses: AtomicBool::new(false),
            keys,
            rules,
        })
    }

    /// Whether the data has as many shards as it should have.
    async fn look_at_data(&self) -> CacheResult<()> {
        let ours = self.rules.shards;
        let stored = match self.recorded_shards().await? {
            Some(stored) if stored.epoch() < ours.epoch() => {
                // The database knows better, and had it first.
                self.record_shards().await?;
                self.recorded_shards().await?
            }
            Some(stored) => Some(stored),
            // Whoever likes now would be looked for elsewhere later.
            None if self.guesses.load(Ordering::Acquire) => return Err(unknown_shards()),
            None => {
                self.mark_data().await?;
                self.recorded_shards().await?
            }
        };
        match stored {
            Some(now) if now.epoch() > ours.epoch() => Err(Resharded { now, ours }.into()),
            Some(now) if now != ours => Err(CacheError::ShardMismatch { stored: now.get(), configured: ours.get() }),
            _ => Ok(()),
        }
    }

    /// Whether our number of shards is a guess. With one, nothing is accepted where nobody has recorded a number: an emptied Redis does not
    /// say how many shards the data has, and what is accepted under a wrong number is found by nobody.
    pub fn guessing(&self, guesses: bool) {
        self.guesses.store(guesses, Ordering::Release);
    }

    /// The number of shards that the data has; none if nobody has written it yet.
    ///
    /// # Errors
    /// If Redis does not answer, or holds what is no number of shards.
    pub async fn recorded_shards(&self) -> CacheResult<Option<ShardCount>> {
        let meta = self.keys.meta();
        let mut ask = cmd("HGET");
        ask.arg(&meta).arg("shards");
        let slot = self.routes.slot_of(&meta);
        let text = self.routes.ask_calmly::<Option<String>>(slot, &ask).await.map_err(|error| self.of_meta(error))?;
        let read = text.map(|text| text.parse()).transpose();
        read.map_err(|error: domain::Invalid| CacheError::Rejected(Arc::new(error)))
    }

    /// The mark of the data: an emptied Redis has lost it.
    async fn mark_data(&self) -> CacheResult<()> {
        let meta = self.keys.meta();
        let mut mark = cmd("HSETNX");
        mark.arg(&meta).arg("shards").arg(self.rules.shards.to_string());
        let marked = self.routes.ask_calmly::<i64>(self.routes.slot_of(&meta), &mark).await;
        marked.map(drop).map_err(|error| self.of_meta(error))
    }

    async fn accept_as_limited(&self, requests: &[AcceptRequest]) -> Vec<CacheResult<AcceptOutcome>> {
        match requests {
            [only] => {
                let shard = self.rules.shards.of(only.intent.pair.resource);
                vec![self.combiner.accept(shard, only.clone()).await]
            }
            batch => self.accept.run(batch).await,
        }
    }

    /// Likes whose limit is asked beforehand.
    async fn accept_limited(&self, limit: &Limit, requests: &[AcceptRequest]) -> Vec<CacheResult<AcceptOutcome>> {
        let mut outcomes = limit.take(requests).await;
        let allowed: Vec<usize> = (0..requests.len()).filter(|i| outcomes[*i].is_none()).collect();
        let asked: Vec<AcceptRequest> =
            allowed.iter().map(|i| AcceptRequest { limited: false, ..requests[*i].clone() }).collect();
        if !asked.is_empty() {
            let mut answers = self.accept_as_limited(&asked).await;
            let unanswered = allowed.iter().zip(&answers).filter(|(_, answer)| !Limit::is_answer(answer));
            limit.give_back(unanswered.map(|(i, _)| &requests[*i]).filter(|request| request.limited)).await;
            for (i, answer) in allowed.into_iter().zip(answers.drain(..)) {
                outcomes[i] = Some(answer);
            }
        }
        outcomes.into_iter().map(|outcome| outcome.unwrap_or(Ok(AcceptOutcome::Expired))).collect()
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

    /// From now on every connection logs in with user and password of this url, if Redis takes them. It must lead to the same place
    /// as before.
    pub async fn renew_login(&self, url: SecretString) -> CacheResult<()> {
        self.routes.renew_login(url).await
    }

    /// Names of the keys that this cache uses.
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }
}

#[async_trait::async_trait]
impl LikeCache for RedisCache {
    async fn prepare(&self) -> CacheResult<()> {
        self.routes.look().await?;
        let servers = self.routes.primaries().await?;
        let looks = servers.iter().map(|(server, _)| self.look_at_server(server));
        let looked = futures::future::join_all(looks).await;
        // One of several that is away is looked at when it comes back.
        let enough = looked.iter().any(Result::is_ok);
        for error in looked.into_iter().filter_map(Result::err) {
            if !(enough && error.is_unavailable()) {
                return Err(error);
            }
        }
        match self.look_at_data().await {
            Err(error) if enough && self.routes.is_cluster() && error.is_unavailable() => Ok(()),
            looked => looked,
        }
    }

    /// Writes, because that is what likes need; and measures the clock. Every primary is asked.
    async fn ping(&self) -> CacheResult<()> {
        self.ping_shards().await?.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    fn is_partitioned(&self) -> bool {
        self.routes.is_cluster()
    }

    async fn ping_shards(&self) -> CacheResult<Vec<(ShardId, CacheError)>> {
        self.look_at_shards(false).await
    }

    async fn watch_shards(&self) -> CacheResult<Vec<(ShardId, CacheError)>> {
        self.look_at_shards(true).await
    }

    fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    fn clock(&self) -> Option<Version> {
        self.routes.clock()
    }

    fn clock_for(&self, resources: &[Resource]) -> Option<(Version, Duration)> {
        self.routes.clock_for(resources.iter().map(|resource| self.rules.shards.of(*resource)))
    }

    fn own_clock(&self) -> Option<(Version, Version)> {
        self.routes.own_clock()
    }

    fn learn_clock(&self, time: Version) {
        self.routes.common().learn_clock(time);
    }

    async fn durability(&self) -> CacheResult<Option<Durability>> {
        let servers = self.routes.primaries().await?;
        if let Some(told) = self.durability_as_told(&servers) {
            return Ok(Some(told));
        }
        self.mark_data().await?;
        let told = servers.iter().map(|(server, _)| async move {
            let told = self.durability_of(server).await?;
            if let Some(confirm) = &server.confirm {
                confirm.saw_replicas(told.1);
            }
            CacheResult::Ok(shared::with_replicas(server, told))
        });
        Ok(futures::future::try_join_all(told).await?.into_iter().reduce(Durability::and))
    }

    fn clock_uncertainty(&self) -> Duration {
        self.routes.clock_for(self.rules.shards.all()).map_or(Duration::ZERO, |(_, uncertainty)| uncertainty)
    }

    async fn accept(&self, requests: &[AcceptRequest]) -> Vec<CacheResult<AcceptOutcome>> {
        match &self.limit {
            Some(limit) if requests.iter().any(|request| request.limited) => self.accept_limited(limit, requests).await,
            _ => self.accept_as_limited(requests).await,
        }
    }

    async fn remember(&self, answers: &[FirstAnswer]) -> CacheResult<()> {
        self.remember.run(&self.routes, &self.keys, &self.rules, answers).await
    }

    async fn settle(&self, settlement: &Settlement) -> CacheResult<SettleReport> {
        self.settle.run(&self.routes, &self.keys, &self.rules, settlement).await
    }

    async fn counts(&self, resources: &[Resource]) -> CacheResult<Vec<Option<CachedCount>>> {
        read::counts(&self.routes, &self.keys, &self.rules, resources).await
    }

    async fn served_counts(&self, resources: &[Resource]) -> CacheResult<Vec<Option<i64>>> {
        read::served_counts(&self.routes, &self.keys, &self.rules, resources).await
    }

    async fn fill_counts(&self, counts: &[(Resource, StoredCount)]) -> CacheResult<()> {
        self.fill.counts(&self.routes, &self.keys, &self.rules, counts).await
    }

    async fn states(&self, pairs: &[Pair]) -> CacheResult<Vec<Option<PairState>>> {
        read::states(&self.routes, &self.keys, &self.rules, pairs).await
    }

    async fn cached_pairs(&self, cursor: u64, about: u32) -> CacheResult<(Vec<Pair>, u64)> {
        match read::cached_pairs(&self.routes, &self.keys, cursor, about).await {
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

    async fn pairs_of_before(&self, cursor: u64, about: u32) -> CacheResult<(Vec<(Pair, PairState)>, u64)> {
        match read::pairs_of_before(&self.routes, &self.keys, &self.rules, cursor, about).await {
            Err(error) if is_misconfigured(&error) => Ok((Vec::new(), 0)),
            listed => listed,
        }
    }

    async fn fill_states(&self, states: &[(Pair, PairState)]) -> CacheResult<()> {
        self.fill.states(&self.routes, &self.keys, &self.rules, states).await
    }

    async fn forget_states(&self, states: &[(Pair, Version)]) -> CacheResult<()> {
        self.repair.forget(&self.routes, &self.keys, &self.rules, states).await
    }

    async fn shard_status(&self) -> CacheResult<Vec<ShardStatus>> {
        journal::status(&self.status, &self.routes, &self.keys, &self.rules).await
    }

    async fn shard_status_lately(&self) -> CacheResult<Vec<ShardStatus>> {
        match self.status_as_told(&self.routes.primaries().await?) {
            Some(told) => Ok(told),
            None => self.shard_status().await,
        }
    }

    async fn standings(&self) -> CacheResult<Vec<ShardStanding>> {
        journal::standings(&self.routes, &self.keys, &self.rules, &self.marks).await
    }

    async fn commits(&self) -> CacheResult<Vec<ToldCommit>> {
        settle::commits(&self.routes, &self.keys, &self.rules).await
    }

    async fn journal_page(&self, shard: ShardId, after: Version, limit: usize) -> CacheResult<Vec<EncodedEvent>> {
        journal::page(&self.routes, &self.keys, shard, after, limit).await
    }

    async fn acquire_lease(&self, name: &str, owner: &str, ttl: Duration) -> CacheResult<Option<u64>> {
        self.lease.acquire(&self.routes, &self.keys, name, owner, ttl).await
    }

    async fn release_lease(&self, name: &str, owner: &str) -> CacheResult<()> {
        self.lease.release(&self.routes, &self.keys, name, owner).await
    }

    async fn fence_repairs(&self, token: u64) -> CacheResult<()> {
        self.repair.fence(&self.routes, &self.keys, self.rules.shards.all(), token).await
    }

    async fn repair_count(&self, repair: &CountRepair, token: u64) -> CacheResult<RepairOutcome> {
        self.repair.count(&self.routes, &self.keys, &self.rules, repair, token).await
    }

    async fn repair_accounting(&self, seen: &ShardStatus, token: u64) -> CacheResult<RepairOutcome> {
        self.repair.accounting(&self.routes, &self.keys, seen, token).await
    }

    async fn repair_pair(&self, repair: &PairRepair, token: u64) -> CacheResult<RepairOutcome> {
        self.repair.pair(&self.routes, &self.keys, &self.rules, repair, token).await
    }
    async fn raise_clocks(&self, at_least: Version) -> CacheResult<Version> {
        self.erase.raise_clocks(&self.routes, &self.keys, self.rules.shards.all(), at_least).await
    }

    async fn sweep(&self, sweep: &Sweep<'_>, cursor: u64, about: u32) -> CacheResult<(Vec<Swept>, u64)> {
        self.erase.sweep(&self.routes, &self.keys, sweep, (cursor, about)).await
    }

    async fn keep_fences(&self, fences: &[(UserId, Version)]) -> CacheResult<()> {
        self.erase.keep_fences(&self.routes, &self.keys, fences).await
    }

    async fn kept_fences(&self, cursor: u64, about: u32) -> CacheResult<(Vec<(UserId, Version)>, u64)> {
        self.erase.kept_fences(&self.routes, &self.keys, cursor, about).await
    }

    async fn keep_deleted(&self, marks: &[(Resource, DeletedMark)]) -> CacheResult<()> {
        self.deleted.keep(&self.routes, &self.keys, self.rules.shards, marks).await
    }

    async fn kept_deleted(&self, cursor: u64, about: u32) -> CacheResult<(Vec<(Resource, DeletedMark)>, u64)> {
        self.deleted.kept(&self.routes, &self.keys, self.rules.shards, (cursor, about)).await
    }
}

fn unknown_shards() -> CacheError {
    let why = "nobody has recorded a number of shards here, and the database has not said which the data has";
    CacheError::Unavailable(Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(why)))
}
