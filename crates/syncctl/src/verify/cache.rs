//! Reads the cache's keys as they are.

use super::served::Counter;
use crate::UsageError;
use anyhow::Context;
use cache_manager::RedisConfig;
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{AsyncConnectionConfig, cmd, pipe};
use domain::{Pair, PairState, Resource, ShardCount, Version};
use std::time::Duration;

/// Keys read in one round trip.
const CHUNK: usize = 2_000;

/// The cache, read only.
pub(super) struct Cache {
    connection: MultiplexedConnection,
    prefix: String,
    shards: ShardCount,
}

impl Cache {
    /// Connects and learns the number of shards.
    pub(super) async fn connect(url: &str, prefix: &str) -> anyhow::Result<Self> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(10)))
            .set_response_timeout(Some(Duration::from_secs(60)));
        let redis = RedisConfig { url: url.into(), ..RedisConfig::default() };
        redis.validate().map_err(UsageError)?;
        let client = redis.client().context("redis url")?;
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .context("could not connect to the cache")?;
        let stored: Option<u16> =
            cmd("HGET").arg(format!("{prefix}meta")).arg("shards").query_async(&mut connection).await?;
        let shards = stored.map_or_else(|| Ok(ShardCount::default()), ShardCount::new)?;
        Ok(Self { connection, prefix: prefix.to_owned(), shards })
    }

    /// Unsettled entries of all journals.
    pub(super) async fn journal_len(&mut self) -> anyhow::Result<u64> {
        let mut pipeline = pipe();
        for shard in self.shards.all() {
            pipeline.cmd("XLEN").arg(format!("{}{{s{shard}}}:j", self.prefix));
        }
        let lengths: Vec<u64> = pipeline.query_async(&mut self.connection).await.context("journals")?;
        Ok(lengths.iter().sum())
    }

    /// Calls `each` with every counter that is cached.
    pub(super) async fn counters(
        &mut self,
        resources: &[Resource],
        mut each: impl FnMut(usize, Counter),
    ) -> anyhow::Result<()> {
        for (chunk_number, chunk) in resources.chunks(CHUNK).enumerate() {
            let mut pipeline = pipe();
            for resource in chunk {
                let key = format!("{}c:{}{}", self.start(*resource), resource.kind.letter(), resource.id);
                pipeline.cmd("HMGET").arg(key).arg("n").arg("p");
            }
            let found: Vec<(Option<i64>, Option<i64>)> =
                pipeline.query_async(&mut self.connection).await.context("counters")?;
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
            let mut pipeline = pipe();
            for pair in chunk {
                let letter = pair.resource.kind.letter();
                pipeline.cmd("GET").arg(format!(
                    "{}p:{letter}{}:{}",
                    self.start(pair.resource),
                    pair.user,
                    pair.resource.id
                ));
            }
            let found: Vec<Option<i64>> = pipeline.query_async(&mut self.connection).await.context("pairs")?;
            // Negative: it was only seen in the database.
            let state = |value: i64| PairState { liked: value & 1 == 1, version: Version(value.saturating_abs() >> 1) };
            states.extend(found.into_iter().map(|value| value.map(state)));
        }
        Ok(states)
    }

    fn start(&self, resource: Resource) -> String {
        format!("{}{{s{}}}:", self.prefix, self.shards.of(resource))
    }
}
