//! Which primary has which shard: one for all, or those of a Redis Cluster.
//!
//! In a cluster every shard is one slot, because all its keys have one hash tag. So each call goes to one node, and this is
//! all that a router has to do: know which node that is, and follow it where it is sent. The cluster client of the library
//! does more, and hides what we need: which server ran a call (its clock dates the likes), which connections ended together,
//! and that a call that was sent elsewhere ran nothing.
//!
//! Nodes are asked for their slots when one of them fails or sends a call elsewhere for good; the map that most of them
//! give counts. A `MOVED` holds for its slot at once. A slot that is on its way from one node to another one is on neither
//! as a whole: a call whose keys are on both is told `TRYAGAIN`, and waits here as long as its caller allows. A command of one
//! key is never on both, so commands outside of scripts have one key each there, and go their ways one by one: whoever is
//! sent on (`ASK`) together with a key that has not left yet would find nothing where it comes, and could write it twice.

mod journey;
mod login;
mod table;

pub(crate) use journey::Journey;

use crate::config::RedisConfig;
use crate::confirm::Confirm;
use crate::connection::{Common, Connections, wall_clock};
use crate::keys::Keys;
use crate::meaning::cache_error;
use crate::primary::ask_for_slots;
use crate::slots::{Ranges, Slot, ranges};
use arc_swap::ArcSwap;
use deadpool_redis::redis::{Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult};
use domain::addresses::split;
use domain::cache::{CacheError, CacheResult};
use domain::{ShardCount, ShardId, Version};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use table::Table;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Between two attempts of a call whose slot is on its way.
const PAUSE: Duration = Duration::from_millis(10);

/// Nodes are asked for their slots at most this often.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Bulk reads that are under way at a time; the others wait for their turn.
const BULK_READS: usize = 4;

/// So many of the primaries that are known are asked, beside the nodes of the configuration.
const ASKED: usize = 16;

/// For so long the clock of a primary that lost its slots counts, as that of a server before this one does.
const FORMER: Duration = Duration::from_secs(600);

/// See the head of the module.
pub(crate) struct Routes {
    table: ArcSwap<Table>,
    common: Common,
    shards: ShardCount,
    /// How long a call waits for a slot that is on its way.
    pub(crate) patience: Duration,
    /// Of bulk reads of a cluster.
    pub(crate) turns: Semaphore,
    config: RedisConfig,
    cluster: Option<Cluster>,
}

/// What leads to a cluster.
struct Cluster {
    config: RedisConfig,
    keys: Keys,
    of_shard: Box<[Slot]>,
    /// Held by whoever asks the nodes; when that was last.
    looking: tokio::sync::Mutex<Option<Instant>>,
    /// Held while the table is changed.
    changing: Mutex<()>,
}

/// Where a call goes.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) connections: Arc<Connections>,
    /// It was sent there for this once.
    pub(crate) asking: bool,
}

impl Routes {
    pub(crate) fn new(config: &RedisConfig, keys: &Keys, shards: ShardCount) -> CacheResult<Arc<Self>> {
        let common = Common::new(shards);
        let (mut table, mut cluster) = (Table::default(), None);
        if config.cluster {
            cluster = Some(Cluster {
                config: config.clone(),
                keys: keys.clone(),
                of_shard: shards.all().map(|shard| Slot::of(&keys.journal(shard))).collect(),
                looking: tokio::sync::Mutex::new(None),
                changing: Mutex::new(()),
            });
        } else {
            let only = Arc::new(Connections::new(config, keys)?);
            table.ranges.push((Slot(0), Slot(0), Arc::clone(&only)));
            table.primaries.push(only);
        }
        Ok(Arc::new(Self {
            table: ArcSwap::from_pointee(table),
            common,
            shards,
            patience: config.response_timeout,
            turns: Semaphore::new(BULK_READS),
            config: config.clone(),
            cluster,
        }))
    }

    /// What is known whichever primary answers.
    pub(crate) fn common(&self) -> &Common {
        &self.common
    }

    pub(crate) const fn is_cluster(&self) -> bool {
        self.cluster.is_some()
    }

    /// The slot of a shard; all are one where one primary has them.
    pub(crate) fn slot(&self, shard: ShardId) -> Slot {
        self.cluster.as_ref().map_or(Slot(0), |cluster| cluster.of_shard[usize::from(shard.0)])
    }

    /// The slot of a key that belongs to no shard.
    pub(crate) fn slot_of(&self, key: &str) -> Slot {
        if self.is_cluster() { Slot::of(key) } else { Slot(0) }
    }

    /// A call to this slot, whose caller waits until then for a slot that is on its way.
    pub(crate) fn journey(self: &Arc<Self>, slot: Slot, until: Instant) -> Journey<'_> {
        Journey { routes: self, slot, until, next: None, hops: 0 }
    }

    /// The primary, where one has all shards; in a cluster any of them.
    pub(crate) async fn only(self: &Arc<Self>) -> RedisResult<Arc<Connections>> {
        Ok(self.journey(Slot(0), Instant::now()).way().await?.connections)
    }

    /// Who confirms likes of this shard, where replicas do.
    pub(crate) fn confirm(&self, shard: ShardId) -> Option<Arc<Confirm>> {
        self.table.load().of(self.slot(shard))?.confirm.clone()
    }

    /// Asks about one key of this slot, beside likes and reads.
    pub(crate) async fn ask<T: FromRedisValue>(self: &Arc<Self>, slot: Slot, command: &Cmd) -> RedisResult<T> {
        self.follow(slot, |to| async move { to.connections.bulk.query(command, to.asking).await }).await
    }

    /// The same for background work, on a connection of its own.
    pub(crate) async fn ask_calmly<T: FromRedisValue>(self: &Arc<Self>, slot: Slot, command: &Cmd) -> CacheResult<T> {
        let run = |to: Way| async move { to.connections.run_as(command, to.asking).await };
        self.follow(slot, run).await.map_err(cache_error)
    }

    /// Calls where the slot is, and where the call is sent from there.
    pub(crate) async fn follow<T, F: Future<Output = RedisResult<T>>>(
        self: &Arc<Self>,
        slot: Slot,
        call: impl Fn(Way) -> F,
    ) -> RedisResult<T> {
        let mut journey = self.journey(slot, Instant::now() + self.patience);
        loop {
            match call(journey.way().await?).await {
                Ok(answer) => return Ok(answer),
                Err(error) => journey.turned_away(error).await?,
            }
        }
    }

    /// Every primary that has shards, with these. In a cluster that was not asked yet it is asked first.
    pub(crate) async fn primaries(self: &Arc<Self>) -> CacheResult<Vec<(Arc<Connections>, Vec<ShardId>)>> {
        if self.table.load().primaries.is_empty() {
            self.look().await?;
        }
        let table = self.table.load();
        let mut all: Vec<(Arc<Connections>, Vec<ShardId>)> = Vec::new();
        for shard in self.shards.all() {
            let Some(has) = table.of(self.slot(shard)) else {
                return Err(cache_error(nobody_has(self.slot(shard))));
            };
            match all.iter_mut().find(|(known, _)| Arc::ptr_eq(known, has)) {
                Some((_, shards)) => shards.push(shard),
                None => all.push((Arc::clone(has), vec![shard])),
            }
        }
        Ok(all)
    }

    /// All primaries in a fixed order, and a number that changes when they do.
    pub(crate) async fn in_order(self: &Arc<Self>) -> CacheResult<(u8, Vec<Arc<Connections>>)> {
        if self.table.load().primaries.is_empty() {
            self.look().await?;
        }
        let table = self.table.load();
        Ok((table.version, table.primaries.clone()))
    }

    /// Asks the nodes which of them has what. Who comes while somebody asks waits for that answer.
    pub(crate) async fn look(self: &Arc<Self>) -> CacheResult<()> {
        let Some(cluster) = &self.cluster else { return Ok(()) };
        let mut last = cluster.looking.lock().await;
        if last.is_some_and(|at| at.elapsed() < LOOK_PAUSE) && !self.table.load().primaries.is_empty() {
            return Ok(());
        }
        let known: Vec<String> = self.table.load().primaries.iter().map(|known| known.address.clone()).collect();
        let mut asked = cluster.config.members();
        asked.extend(known.into_iter().take(ASKED));
        asked.sort_unstable();
        asked.dedup();
        let answers = ask_for_slots(&cluster.config, &asked).await.map_err(cache_error)?;
        *last = Some(Instant::now());
        let (mut maps, mut failure): (Vec<(Ranges, usize)>, _) = (Vec::new(), None);
        for (address, answer) in answers {
            let host = split(&address).map_or("", |(host, _)| host);
            let map = match answer {
                Ok(answer) => ranges(&answer, host),
                Err(error) => {
                    failure = Some(error);
                    continue;
                }
            };
            match maps.iter_mut().find(|(told, _)| *told == map) {
                Some((_, votes)) => *votes += 1,
                None => maps.push((map, 1)),
            }
        }
        // Of two that as many nodes give it is the fuller one: nodes that are new know little.
        match maps.into_iter().max_by_key(|(map, votes)| (*votes, map.len())) {
            Some((map, _)) if !map.is_empty() => self.learn(cluster, &map),
            _ => Err(match failure {
                Some(error) if error.to_string().contains("cluster support disabled") => {
                    CacheError::Unsafe("redis.cluster is true, and this is no node of a Redis Cluster".to_owned())
                }
                Some(error) => cache_error(error),
                None => cache_error(RedisError::from((ErrorKind::Io, "no node tells who has which slot"))),
            }),
        }
    }

    /// The same in the background.
    pub(crate) fn look_soon(self: &Arc<Self>) {
        let Some(cluster) = &self.cluster else { return };
        // Somebody does already.
        let Ok(last) = cluster.looking.try_lock() else { return };
        if last.is_some_and(|at| at.elapsed() < LOOK_PAUSE) {
            return;
        }
        let routes = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = routes.look().await {
                tracing::debug!(%error, "the nodes of redis do not say who has which slot");
            }
        });
    }

    fn learn(&self, cluster: &Cluster, map: &Ranges) -> CacheResult<()> {
        let _changing = held(&cluster.changing);
        let before = self.table.load_full();
        let mut table = Table { version: before.version, former: before.former.clone(), ..Table::default() };
        for (first, last, address) in map {
            let connections = self.at(cluster, &before, address)?;
            table.include(&connections);
            table.ranges.push((*first, *last, connections));
        }
        self.replace(&before, table);
        Ok(())
    }

    /// A node says that the node at this address has the slot now.
    fn moved(self: &Arc<Self>, slot: Slot, address: &str) -> RedisResult<Way> {
        let Some(cluster) = &self.cluster else { return Err(nobody_has(slot)) };
        let connections = self.known_at(cluster, address).map_err(refused)?;
        {
            let _changing = held(&cluster.changing);
            let before = self.table.load_full();
            let mut table = Table::clone(&before);
            table.include(&connections);
            table.moved.insert(slot, Arc::clone(&connections));
            self.replace(&before, table);
        }
        // Seldom is it the only one.
        self.look_soon();
        Ok(Way { connections, asking: false })
    }

    /// The node at this address, which is kept although it may have no slot yet.
    fn known_at(&self, cluster: &Cluster, address: &str) -> CacheResult<Arc<Connections>> {
        let _changing = held(&cluster.changing);
        let before = self.table.load_full();
        let connections = self.at(cluster, &before, address)?;
        if !before.known().any(|known| Arc::ptr_eq(known, &connections)) {
            let mut table = Table::clone(&before);
            table.include(&connections);
            self.replace(&before, table);
        }
        Ok(connections)
    }

    fn replace(&self, before: &Table, mut table: Table) {
        let now = Instant::now();
        let gone: Vec<_> = before.primaries.iter().filter(|primary| !table.has(primary)).collect();
        table.former.extend(gone.into_iter().map(|primary| (now, Arc::clone(primary))));
        let primaries = &table.primaries;
        let is_one = |former: &Arc<Connections>| primaries.iter().any(|primary| Arc::ptr_eq(primary, former));
        table.former.retain(|(since, former)| now.duration_since(*since) < FORMER && !is_one(former));
        let same = before.primaries.len() == table.primaries.len() && before.primaries.iter().all(|old| table.has(old));
        if !same {
            let addresses: Vec<&str> = table.primaries.iter().map(|primary| primary.address.as_str()).collect();
            tracing::info!(primaries = addresses.join(", "), "found the primaries of the cluster");
            table.version = before.version % u8::MAX + 1;
        }
        self.table.store(Arc::new(table));
    }

    /// Connections to this address, those that there are if there are.
    fn at(&self, cluster: &Cluster, table: &Table, address: &str) -> CacheResult<Arc<Connections>> {
        if let Some(known) = table.known().find(|known| known.address == address) {
            return Ok(Arc::clone(known));
        }
        Connections::at(address.to_owned(), &cluster.config, &cluster.keys).map(Arc::new)
    }

    /// Not below the clock of any primary, unless that was set ahead of all others, and above every version that was answered.
    pub(crate) fn clock(&self) -> Option<Version> {
        self.clock_of(self.shards.all()).map(|(most, _)| most)
    }

    /// The same as far as these shards are concerned, and how far that may be ahead of their primaries' clocks.
    pub(crate) fn clock_for(&self, shards: impl Iterator<Item = ShardId> + Clone) -> Option<(Version, Duration)> {
        self.clock_of(shards).map(|(most, least)| (most, most.since(least)))
    }

    fn clock_of(&self, shards: impl Iterator<Item = ShardId> + Clone) -> Option<(Version, Version)> {
        let table = self.table.load();
        let theirs = shards.clone().map(|shard| table.of(self.slot(shard))?.shared.own_clock());
        // One that nobody has asked yet may show what any of the others does.
        let bounds = theirs.collect::<Option<Vec<_>>>().filter(|theirs| !theirs.is_empty());
        let bounds = bounds.unwrap_or_else(|| table.known().filter_map(|known| known.shared.own_clock()).collect());
        let least = bounds.iter().map(|(least, _)| *least).min()?;
        let most = bounds.iter().map(|(_, most)| *most).max()?;
        let above = Version(self.common.highest(shards).0 + 1);
        Some((most.min(self.common.ceiling()).max(above), least))
    }

    /// The clock of a primary now, between two bounds: of the one that is furthest from ours.
    pub(crate) fn own_clock(&self) -> Option<(Version, Version)> {
        let (table, ours) = (self.table.load(), wall_clock().0);
        let clocks = table.primaries.iter().filter_map(|primary| primary.shared.own_clock());
        clocks.max_by_key(|(least, most)| (least.0 - ours).max(ours - most.0))
    }

    /// No version of a server before this one was above this: what a shard goes on from that has another server than before.
    pub(crate) fn carried(&self) -> Version {
        let table = self.table.load();
        let highest = table.known().map(|known| known.shared.highest_ever()).max().unwrap_or_default();
        highest.min(self.common.ceiling())
    }
}

fn nobody_has(slot: Slot) -> RedisError {
    RedisError::from((ErrorKind::Io, "no node has the slot", slot.0.to_string()))
}

/// What is no error of a server.
fn refused(error: CacheError) -> RedisError {
    RedisError::from((ErrorKind::Io, "no way to redis", error.to_string()))
}

fn held(changing: &Mutex<()>) -> MutexGuard<'_, ()> {
    changing.lock().unwrap_or_else(PoisonError::into_inner)
}
