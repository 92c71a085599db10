//! One server of each kind for all tests of a process.
//!
//! `TEST_REDIS_URL`, `TEST_DATABASE_URL` and `TEST_AMQP_URL` name servers to use instead, so that a whole test run can
//! share one set. Never kill or pause a shared server: start a private one for that.

use crate::{MariaDb, MariaDbOptions, RabbitMq, Redis, RedisOptions};
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
