//! Caches on the shared server or a private one, and a plain connection beside them.

use anyhow::{Context, Result};
use cache_manager::{RedisCache, RedisConfig};
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{Client, Cmd, FromRedisValue};
use domain::cache::{CacheRules, LikeCache};
use std::time::Duration;
use test_support::{Redis, RedisCluster, RedisOptions, shared, unique_name};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn config(url: &str, prefix: &str) -> RedisConfig {
    RedisConfig { url: url.to_owned().into(), key_prefix: prefix.to_owned(), ..RedisConfig::default() }
}

/// A cache on the shared server under a prefix of its own, and a connection to look at its keys.
pub(crate) async fn on_shared(rules: CacheRules) -> Result<(RedisCache, Raw)> {
    let url = shared::redis().await?.url();
    let prefix = format!("{}:", unique_name("cache"));
    let cache = config(url, &prefix).build(rules)?;
    cache.prepare().await?;
    Ok((cache, Raw::connect(url, prefix).await?))
}

/// The way into a cluster by all its nodes.
pub(crate) fn in_cluster(cluster: &RedisCluster, prefix: &str) -> Result<RedisConfig> {
    // Nobody listens at the url.
    Ok(RedisConfig { nodes: cluster.addrs()?, cluster: true, ..config("redis://127.0.0.1:1", prefix) })
}

/// A server that may be killed, paused and misconfigured, with a cache.
pub(crate) async fn private(rules: CacheRules) -> Result<(Redis, RedisCache, Raw)> {
    let redis = Redis::start(RedisOptions::default()).await?;
    let cache = config(redis.url(), "").build(rules)?;
    cache.prepare().await?;
    let raw = Raw::connect(redis.url(), String::new()).await?;
    Ok((redis, cache, raw))
}

/// A plain connection.
pub(crate) struct Raw {
    connection: MultiplexedConnection,
    prefix: String,
}

impl Raw {
    pub(crate) async fn connect(url: &str, prefix: String) -> Result<Self> {
        let connection = Client::open(url)?.get_multiplexed_async_connection().await.context("connect")?;
        Ok(Self { connection, prefix })
    }

    pub(crate) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        Ok(command.query_async(&mut self.connection.clone()).await?)
    }

    /// One command, words separated by spaces.
    pub(crate) async fn run<T: FromRedisValue>(&self, words: &str) -> Result<T> {
        let mut command = Cmd::new();
        words.split(' ').for_each(|word| {
            command.arg(word);
        });
        self.query(&command).await.with_context(|| words.to_owned())
    }

    /// Lifetime in seconds: -1 is none, -2 no such key.
    pub(crate) async fn ttl(&self, key: &str) -> Result<i64> {
        self.run(&format!("TTL {key}")).await
    }

    /// Every key of this cache with the bytes that DUMP gives.
    pub(crate) async fn everything(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut keys: Vec<String> = self.run(&format!("KEYS {}*", self.prefix)).await?;
        keys.sort();
        let mut all = Vec::new();
        for key in keys {
            let dump = self.run(&format!("DUMP {key}")).await?;
            all.push((key, dump));
        }
        Ok(all)
    }
}
