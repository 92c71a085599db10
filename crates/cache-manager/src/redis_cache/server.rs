//! What one server says of itself.

use super::{PROBE_TTL_SECS, RedisCache};
use crate::connection::Connections;
use crate::journal;
use crate::meaning::{
    Spoiled, cache_error, has_no_room, is_misconfigured, is_of_a_sentinel, is_shut_journal, naming, shard_error,
};
use crate::slots::redirect;
use crate::word::ShardWord;
use deadpool_redis::redis::{RedisError, cmd, pipe};
use domain::cache::{CacheError, CacheResult, Durability};
use domain::{ShardId, Version};
use futures::TryFutureExt;

impl RedisCache {
    /// Refuses what waiting cannot cure: no server at all, a node of a cluster that is not taken for one, a server that may evict
    /// the journal. What a user may not ask, nobody can say.
    pub(super) async fn look_at_server(&self, server: &Connections) -> CacheResult<()> {
        let info: String = match server.run(&cmd("INFO")).await {
            Ok(info) => info,
            Err(error) if server.is_alone() && is_of_a_sentinel(&error) => {
                return Err(CacheError::Unsafe(error.to_string()));
            }
            Err(error) if is_misconfigured(&error) => {
                self.say_once("INFO", "redis does not let us look at its settings (+info): its maxmemory-policy must be noeviction or volatile-*");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if info_field(&info, "cluster_enabled") == Some("1") && !self.routes.is_cluster() {
            return Err(CacheError::Unsafe(
                "redis.url is a node of a Redis Cluster: redis.cluster must be true".to_owned(),
            ));
        }
        let policy = info_field(&info, "maxmemory_policy").unwrap_or("unknown");
        if may_evict(policy) {
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
        if let Some(confirm) = &server.confirm {
            let attached = attached(&info);
            confirm.saw_replicas(attached);
            if attached < confirm.replicas() {
                self.say_once(
                    "REPLICAS",
                    &format!("redis.confirm_replicas asks for {}, and {attached} follow", confirm.replicas()),
                );
            }
            // Changes nothing; says whether we may wait.
            if let Err(error) = server.run::<u32>(cmd("WAIT").arg(0).arg(1)).await {
                self.say_once("WAIT", &format!("redis.confirm_replicas: replicas cannot be asked: {error}"));
            }
        }
        Ok(())
    }

    /// What a probe meets, and whether likes find no room; and what the shards say.
    pub(super) async fn probe(
        &self,
        server: &Connections,
        shards: &[ShardId],
    ) -> Result<Vec<ShardWord>, (CacheError, bool)> {
        server.drop_former();
        let shared = &server.shared;
        // All at once: over a slow link one after the other would take longer than a probe may.
        let written = async {
            for shard in shards {
                let mut call = self.probe.call(3);
                call.arg(&self.keys.probe(*shard)).arg(PROBE_TTL_SECS);
                match self.probe.run_on::<i64>(shared.way(), &call, false).await {
                    Ok(_) => break,
                    Err(error) if self.is_on_its_way(&error) => self.routes.look_soon(),
                    Err(error) => {
                        let full = has_no_room(&error);
                        return Err((naming(cache_error(error), |_| self.keys.probe(*shard).join(" or ")), full));
                    }
                }
            }
            Ok(())
        };
        let looks = shards.iter().map(|shard| self.look_at_shard(server, *shard));
        let looked = futures::future::try_join_all(looks).map_err(|error| {
            let full = is_shut_journal(&error);
            (error, full)
        });
        let clock = async {
            shared.way().confirm().await?;
            shared.measure_clock().await
        };
        let clock = clock.map_err(|error| (cache_error(error), false));
        let ((), looked, ()) = tokio::try_join!(written, looked, clock)?;
        Ok(looked.into_iter().flatten().collect())
    }

    /// Whether journal and clock of a shard take what comes next, as somebody else may have written there; and what it says.
    async fn look_at_shard(&self, server: &Connections, shard: ShardId) -> CacheResult<Option<ShardWord>> {
        let mut call = self.probe_shard.call(2);
        call.arg(self.keys.journal(shard)).arg(self.keys.clock(shard)).arg(Version::MAX.0);
        // On the connection of likes, like the rest of the probe.
        match self.probe_shard.run_on::<(i64, journal::Status)>(server.shared.way(), &call, false).await {
            Ok((1, _)) => Err(Spoiled::Journal(self.keys.journal(shard)).into()),
            Ok((2, _)) => Err(Spoiled::Clock(self.keys.clock(shard)).into()),
            Ok((_, status)) => journal::told(shard, status).map(Some),
            Err(error) if self.is_on_its_way(&error) => Ok(None),
            Err(error) => Err(shard_error(error, &self.keys, shard)),
        }
    }

    /// Whether a shard is on its way to another node, which says nothing about the server.
    pub(super) fn is_on_its_way(&self, error: &RedisError) -> bool {
        self.routes.is_cluster() && redirect(error).is_some()
    }

    /// What a server says of its disk, its memory, and its replicas.
    pub(super) async fn durability_of(&self, server: &Connections) -> CacheResult<(Durability, u32)> {
        let mut commands = pipe();
        commands.cmd("INFO").arg("persistence");
        commands.cmd("INFO").arg("memory");
        commands.cmd("INFO").arg("replication");
        let (disk, memory, replication): (String, String, String) =
            server.run_all(&commands).await.map_err(cache_error)?;
        Ok((durability_of(&(disk + &memory)), attached(&replication)))
    }
}

/// Whether it drops keys that do not expire.
fn may_evict(policy: &str) -> bool {
    !(policy == "noeviction" || policy.starts_with("volatile-"))
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
        may_evict: info_field(info, "maxmemory_policy").is_some_and(may_evict),
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
            may_evict: false,
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
