//! Another number of shards: steps on the keys of the old one and of the new one, which share no key. Who calls them in which order,
//! and why that loses nothing, is with `syncctl reshard`.
//!
//! Each step may be repeated, and stopped anywhere.

use crate::keys::Keys;
use crate::meaning::{cache_error, shard_error};
use crate::read::scan;
use crate::redis_cache::RedisCache;
use crate::script::Script;
use deadpool_redis::redis::{Cmd, cmd};
use domain::cache::{CacheError, CacheResult, LikeCache};
use domain::{ShardCount, ShardId, Version};
use std::collections::BTreeMap;

/// Keys that are asked about at a time.
const AT_ONCE: usize = 256;

/// What the closing of a shard came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// Nothing is unsettled in it, and nobody accepts there any more. Its clock as it was, zero if it is not kept any longer.
    Closed(Version),
    /// So many entries are unsettled: it stays as it was.
    Holds(u64),
}

/// How a shard stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Whoever knows the number of shards may accept in it.
    Open,
    /// Until it is opened again.
    Closed,
    /// For good.
    Sealed,
    /// Something else is written in its place.
    Foreign(String),
}

/// Where the slots of a cluster are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlotsNow {
    /// One is on its way from one primary to another.
    pub moving: bool,
    /// By primary.
    of_whom: BTreeMap<String, String>,
}

/// Pairs are kept for so long after a reshard: they are all that has a like which a failover of the database forgets.
const KEPT_S: u64 = 3_600;

/// What stands where a closed shard had its journal and its clock.
fn word(next: ShardCount) -> String {
    format!("closed by syncctl reshard: the data has {next} shards; do not delete this")
}

impl RedisCache {
    /// Closes one of our shards if nothing in it is unsettled; `next` will be the number of shards.
    pub async fn close_shard(&self, shard: ShardId, next: ShardCount) -> CacheResult<Closing> {
        let script = Script::new(include_str!("scripts/close_shard.lua"));
        let (entries, clock): (u64, i64) = self.on_shard(&script, shard, next).await?;
        Ok(if entries == 0 { Closing::Closed(Version(clock)) } else { Closing::Holds(entries) })
    }

    /// Opens it again; false if there was nothing to open.
    pub async fn open_shard(&self, shard: ShardId, next: ShardCount) -> CacheResult<bool> {
        let script = Script::new(include_str!("scripts/open_shard.lua"));
        Ok(self.on_shard::<i64>(&script, shard, next).await? == 1)
    }

    /// It is not opened again by anybody; false if it is open.
    pub async fn seal_shard(&self, shard: ShardId, next: ShardCount) -> CacheResult<bool> {
        let script = Script::new(include_str!("scripts/seal_shard.lua"));
        Ok(self.on_shard::<i64>(&script, shard, next).await? == 1)
    }

    /// How it stands; nothing is changed.
    pub async fn standing(&self, shard: ShardId, next: ShardCount) -> CacheResult<Standing> {
        let script = Script::new(include_str!("scripts/shard_standing.lua"));
        let (standing, word): (i64, String) = self.on_shard(&script, shard, next).await?;
        Ok(match standing {
            _ if !word.is_empty() => Standing::Foreign(word),
            0 => Standing::Open,
            1 => Standing::Closed,
            _ => Standing::Sealed,
        })
    }

    /// Whether something was handed over to our shards, which nobody uses yet.
    pub async fn was_begun(&self) -> CacheResult<bool> {
        for shard in self.number().all() {
            let mut exists = cmd("EXISTS");
            exists.arg(self.keys().clock(shard));
            if self.ask_about::<i64>(shard, &exists).await? == 1 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes what was handed over to our shards, about so many keys at a time, but clocks; where to go on.
    pub async fn remove_handed_over(&self, cursor: u64, about: u32) -> CacheResult<u64> {
        let (names, next) = scan(&self.routes, &self.keys().any_of_shards(), cursor, about).await?;
        for name in names.iter().filter_map(|name| std::str::from_utf8(name).ok()) {
            if let Some((shard, rest)) = self.keys().shard_of(name)
                && rest != "t"
            {
                let mut remove = cmd("DEL");
                remove.arg(name);
                self.ask_about::<u64>(shard, &remove).await?;
            }
        }
        Ok(next)
    }

    /// How many shards are ours.
    pub const fn number(&self) -> ShardCount {
        self.rules.shards
    }

    /// Which primary has which slots, and whether one is on its way now; nothing of a single server. Needs `+cluster|nodes`.
    pub async fn slots_now(&self) -> CacheResult<SlotsNow> {
        let mut now = SlotsNow::default();
        if !self.routes.is_cluster() {
            return Ok(now);
        }
        self.routes.look().await?;
        let mut nodes = cmd("CLUSTER");
        nodes.arg("NODES");
        for primary in self.routes.in_order().await?.1 {
            let said: String = primary.run(&nodes).await?;
            let own = said.lines().find(|line| line.split(' ').nth(2).is_some_and(|flags| flags.contains("myself")));
            // Its id, address, flags, primary, pings and epoch come before the slots it has, and those that come or go.
            let own: Vec<&str> = own.unwrap_or_default().split(' ').collect();
            let slots = own.get(8..).unwrap_or_default();
            now.moving |= slots.iter().any(|slot| slot.starts_with('['));
            now.of_whom.insert(own.first().copied().unwrap_or_default().to_owned(), slots.join(" "));
        }
        Ok(now)
    }

    async fn on_shard<T: deadpool_redis::redis::FromRedisValue>(
        &self,
        script: &Script,
        shard: ShardId,
        next: ShardCount,
    ) -> CacheResult<T> {
        let keys = self.keys();
        let mut call = script.call(3);
        call.arg(keys.journal(shard)).arg(keys.clock(shard)).arg(keys.closed_clock(shard)).arg(word(next));
        let answer = script.run(&self.routes, self.routes.slot(shard), &call).await;
        answer.map_err(|error| shard_error(error, keys, shard))
    }

    /// Ours is the number of shards of the data from now on, unless a later one is recorded.
    pub async fn record_shards(&self) -> CacheResult<()> {
        let script = Script::new(include_str!("scripts/record_shards.lua"));
        let meta = self.keys().meta();
        let slot = self.routes.slot_of(&meta);
        let mut call = script.call(1);
        call.arg(&meta).arg(self.number().to_string()).arg(self.number().epoch());
        script.run::<i64>(&self.routes, slot, &call).await.map(drop).map_err(cache_error)
    }

    /// Hands over what the shards know beside journals and copies of rows: erased users, deleted resources, commits that were settled.
    pub async fn hand_over(&self, to: &Self) -> CacheResult<()> {
        let mut cursor = 0;
        loop {
            let (fences, next) = self.kept_fences(cursor, 1_000).await?;
            to.keep_fences(&fences).await?;
            cursor = next;
            if next == 0 {
                break;
            }
        }
        loop {
            let (marks, next) = self.kept_deleted(cursor, 1_000).await?;
            to.keep_deleted(&marks).await?;
            cursor = next;
            if next == 0 {
                break;
            }
        }
        let mut newest: BTreeMap<String, (u64, String)> = BTreeMap::new();
        for shard in self.number().all() {
            let mut all = cmd("HGETALL");
            all.arg(self.keys().writers(shard));
            let told: BTreeMap<String, String> = self.ask_about(shard, &all).await?;
            for (lane, last) in told {
                let number = last.split(':').next().and_then(|number| number.parse().ok()).unwrap_or(0);
                let held = newest.entry(lane).or_default();
                if held.0 <= number {
                    *held = (number, last);
                }
            }
        }
        for (lane, (_, last)) in newest {
            let mut set = cmd("HSET");
            set.arg(to.keys().writers(Keys::FENCES)).arg(lane).arg(last);
            to.ask_about::<i64>(Keys::FENCES, &set).await?;
        }
        Ok(())
    }

    /// Hands over about so many answers to idempotency keys, with what is left of their lives: how many, and where to go on.
    pub async fn hand_over_answers(&self, to: &Self, cursor: u64, about: u32) -> CacheResult<(u64, u64)> {
        let (names, next) = scan(&self.routes, &self.keys().any_of(&[]), cursor, about).await?;
        let answers: Vec<(ShardId, String, ShardId, String)> = names
            .iter()
            .filter_map(|name| {
                let name = std::str::from_utf8(name).ok()?;
                let (shard, pair) = self.keys().place_of(name)?;
                let (_, rest) = self.keys().shard_of(name)?;
                // `<v or c><user>:<id>:<key>`; a key may have colons.
                let key = rest.strip_prefix("i:")?.splitn(3, ':').nth(2)?;
                let theirs = to.number().of(pair.resource);
                Some((shard, name.to_owned(), theirs, to.keys().idempotency(pair, key)))
            })
            .collect();
        // Of two answers the newer one holds, so this may be done again.
        let remember = &Script::new(include_str!("scripts/remember.lua"));
        let mut handed = 0;
        for some in answers.chunks(AT_ONCE) {
            let each = some.iter().map(|(shard, name, theirs, new)| async move {
                let of_key = |command: &str| {
                    let mut command = cmd(command);
                    command.arg(name);
                    command
                };
                let (get, left) = (of_key("GET"), of_key("PTTL"));
                let (answer, left) = futures::future::try_join(
                    self.ask_about::<Option<Vec<u8>>>(*shard, &get),
                    self.ask_about::<i64>(*shard, &left),
                )
                .await?;
                let Some(answer) = answer.filter(|_| left > 0) else { return Ok(0) };
                let version = std::str::from_utf8(&answer).ok().and_then(|text| text.split(':').nth(2));
                // Somebody else's value.
                let Some(version) = version.and_then(|version| version.parse::<i64>().ok()) else { return Ok(0) };
                let mut call = remember.call(2);
                call.arg(to.keys().clock(*theirs)).arg(new).arg(&answer).arg(version).arg(left);
                let kept = remember.run::<u64>(&to.routes, to.routes.slot(*theirs), &call).await;
                kept.map_err(|error| shard_error(error, to.keys(), *theirs))?;
                Ok::<u64, CacheError>(1)
            });
            handed += futures::future::try_join_all(each).await?.into_iter().sum::<u64>();
        }
        Ok((handed, next))
    }

    /// Removes about so many keys of our shards, which are closed: all but what keeps them closed, and pairs, which go within an hour. How
    /// many, and where to go on.
    pub async fn remove_closed(&self, cursor: u64, about: u32) -> CacheResult<(u64, u64)> {
        let (names, next) = scan(&self.routes, &self.keys().any_of_shards(), cursor, about).await?;
        let removable: Vec<(ShardId, &str)> = names
            .iter()
            .filter_map(|name| {
                let name = std::str::from_utf8(name).ok()?;
                let (shard, rest) = self.keys().shard_of(name)?;
                (rest != "j" && rest != "t").then_some((shard, name))
            })
            .collect();
        let mut removed = 0;
        for some in removable.chunks(AT_ONCE) {
            let each = some.iter().map(|(shard, name)| async move {
                let (mut remove, mut expire) = (cmd("DEL"), cmd("EXPIRE"));
                if self.keys().pair_of(name).is_some() {
                    expire.arg(name).arg(KEPT_S);
                    return self.ask_about::<u64>(*shard, &expire).await.map(|_| 0);
                }
                remove.arg(name);
                self.ask_about::<u64>(*shard, &remove).await
            });
            removed += futures::future::try_join_all(each).await?.into_iter().sum::<u64>();
        }
        Ok((removed, next))
    }

    async fn ask_about<T: deadpool_redis::redis::FromRedisValue>(
        &self,
        shard: ShardId,
        command: &Cmd,
    ) -> CacheResult<T> {
        self.routes.ask(self.routes.slot(shard), command).await.map_err(|error| shard_error(error, self.keys(), shard))
    }
}
