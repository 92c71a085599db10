//! Reads the cache's keys as they are.

use super::nodes::Nodes;
use super::served::Counter;
use crate::UsageError;
use anyhow::Context;
use cache_manager::RedisConfig;
use deadpool_redis::redis::cmd;
use domain::{Pair, PairState, Resource, ShardCount, ShardId, Version};

/// Keys read in one round trip.
const CHUNK: usize = 2_000;

/// The cache, read only.
pub(super) struct Cache {
    nodes: Nodes,
    prefix: String,
    shards: ShardCount,
    /// By shard.
    slots: Vec<u16>,
}

impl Cache {
    /// Connects and learns the number of shards.
    pub(super) async fn connect(url: &str, prefix: &str) -> anyhow::Result<Self> {
        let redis = RedisConfig { url: url.into(), ..RedisConfig::default() };
        redis.validate().map_err(UsageError)?;
        let mut nodes = Nodes::connect(redis).await?;
        let meta = format!("{prefix}meta");
        let slot = nodes.slots_of(std::slice::from_ref(&meta)).await?.remove(0);
        let mut ask = cmd("HGET");
        ask.arg(meta).arg("shards");
        let stored = nodes.ask::<Option<String>>(vec![(slot, ask)]).await?.remove(0);
        let shards: ShardCount = stored.map_or_else(|| Ok(ShardCount::default()), |text| text.parse())?;
        let journals: Vec<String> = shards.all().map(|shard| journal(prefix, shards, shard)).collect();
        let slots = nodes.slots_of(&journals).await?;
        Ok(Self { nodes, prefix: prefix.to_owned(), shards, slots })
    }

    /// Unsettled entries of all journals.
    pub(super) async fn journal_len(&mut self) -> anyhow::Result<u64> {
        let length = |shard| {
            let mut command = cmd("XLEN");
            command.arg(journal(&self.prefix, self.shards, shard));
            (self.slot(shard), command)
        };
        let commands = self.shards.all().map(length).collect();
        let lengths: Vec<u64> = self.nodes.ask(commands).await.context("journals")?;
        Ok(lengths.iter().sum())
    }

    /// Calls `each` with every counter that is cached.
    pub(super) async fn counters(
        &mut self,
        resources: &[Resource],
        mut each: impl FnMut(usize, Counter),
    ) -> anyhow::Result<()> {
        for (chunk_number, chunk) in resources.chunks(CHUNK).enumerate() {
            let command = |resource: &Resource| {
                let key = format!("{}c:{}{}", self.start(*resource), resource.kind.letter(), resource.id);
                let mut command = cmd("HMGET");
                command.arg(key).arg("n").arg("p");
                (self.slot(self.shards.of(*resource)), command)
            };
            let commands = chunk.iter().map(command).collect();
            let found: Vec<(Option<i64>, Option<i64>)> = self.nodes.ask(commands).await.context("counters")?;
            for (number, (served, pending)) in found.into_iter().enumerate() {
                if let Some(served) = served {
                    each(chunk_number * CHUNK + number, Counter { served, pending: pending.unwrap_or(0) });
                }
            }
        }
        Ok(())
    }

    /// States of pairs, where they are cached.
    pub(super) async fn pairs(&mut self, pairs: &[Pair]) -> anyhow::Result<Vec<Option<PairState>>> {
        let mut states = Vec::with_capacity(pairs.len());
        for chunk in pairs.chunks(CHUNK) {
            let command = |pair: &Pair| {
                let (letter, id) = (pair.resource.kind.letter(), pair.resource.id);
                let mut command = cmd("GET");
                command.arg(format!("{}p:{letter}{}:{id}", self.start(pair.resource), pair.user));
                (self.slot(self.shards.of(pair.resource)), command)
            };
            let commands = chunk.iter().map(command).collect();
            let found: Vec<Option<i64>> = self.nodes.ask(commands).await.context("pairs")?;
            // Negative: it was only seen in the database.
            let state = |value: i64| PairState { liked: value & 1 == 1, version: Version(value.saturating_abs() >> 1) };
            states.extend(found.into_iter().map(|value| value.map(state)));
        }
        Ok(states)
    }

    fn start(&self, resource: Resource) -> String {
        format!("{}{{{}}}:", self.prefix, self.shards.name_of(self.shards.of(resource)))
    }

    fn slot(&self, shard: ShardId) -> u16 {
        self.slots.get(usize::from(shard.0)).copied().unwrap_or_default()
    }
}

fn journal(prefix: &str, shards: ShardCount, shard: ShardId) -> String {
    format!("{prefix}{{{}}}:j", shards.name_of(shard))
}
