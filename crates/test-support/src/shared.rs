//! One server of each kind for all tests of a process.
//!
//! `TEST_REDIS_URL`, `TEST_DATABASE_URL` and `TEST_AMQP_URL` name servers to use instead, so that a whole test run can
//! share one set. Never kill or pause a shared server: start a private one for that.

use crate::{MariaDb, MariaDbOptions, RabbitMq, Redis, RedisCluster, RedisOptions};
use anyhow::Result;
use std::env;
use tokio::sync::OnceCell;

/// The shared redis; keep apart by a key prefix from [`crate::unique_name`]. No FLUSHALL here.
pub async fn redis() -> Result<&'static Redis> {
    static SHARED: OnceCell<Redis> = OnceCell::const_new();
    SHARED
        .get_or_try_init(async || match external("TEST_REDIS_URL") {
            Some(url) => Ok(Redis::external(url)),
            None => Redis::start(RedisOptions { appendonly: false, ..RedisOptions::default() }).await,
        })
        .await
}

/// The shared Redis Cluster, always of this process: three primaries without replicas. Keep apart as in [`redis`].
pub async fn redis_cluster() -> Result<&'static RedisCluster> {
    static SHARED: OnceCell<RedisCluster> = OnceCell::const_new();
    let node = RedisOptions { appendonly: false, ..RedisOptions::default() };
    SHARED.get_or_try_init(async || RedisCluster::start(node, 3, false).await).await
}

/// The shared mariadb; keep apart by [`crate::fresh_database`].
pub async fn mariadb() -> Result<&'static MariaDb> {
    static SHARED: OnceCell<MariaDb> = OnceCell::const_new();
    SHARED
        .get_or_try_init(async || match external("TEST_DATABASE_URL") {
            Some(url) => Ok(MariaDb::external(url)),
            None => MariaDb::start_with(MariaDbOptions { durable: false, ..MariaDbOptions::default() }).await,
        })
        .await
}

/// The shared rabbitmq; keep apart by a queue and exchange prefix from [`crate::unique_name`].
pub async fn rabbitmq() -> Result<&'static RabbitMq> {
    static SHARED: OnceCell<RabbitMq> = OnceCell::const_new();
    SHARED
        .get_or_try_init(async || match external("TEST_AMQP_URL") {
            Some(url) => Ok(RabbitMq::external(url)),
            None => RabbitMq::start().await,
        })
        .await
}

fn external(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|url| !url.is_empty())
}
