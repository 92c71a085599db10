//! Slow disks are slow, wrong clocks are wrong, and both only as long as they are told to.

use crate::servers::redis;
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};
use test_support::{MariaDb, MariaDbOptions, RabbitMq, Redis, RedisOptions, execute_sql, try_eventually};

const DELAY: Duration = Duration::from_millis(400);

async fn took<T>(work: impl Future<Output = Result<T>>) -> Result<Duration> {
    let begin = Instant::now();
    work.await?;
    Ok(begin.elapsed())
}

#[tokio::test]
async fn a_slow_disk_makes_redis_wait_that_syncs_every_write() -> Result<()> {
    let server = Redis::start(RedisOptions { preload: true, ..RedisOptions::default() }).await?;
    assert_eq!(redis(&server, "CONFIG SET appendfsync always").await?, "+OK\r\n");
    server.preload()?.slow_sync(DELAY)?;
    let before = server.preload()?.delayed_syncs()?;
    let slow = took(redis(&server, "SET a 1")).await?;
    ensure!(slow >= DELAY, "a write took {slow:?}");
    ensure!(server.preload()?.delayed_syncs()? > before, "no sync was counted");

    server.preload()?.slow_sync(Duration::ZERO)?;
    // One that began before that may still wait.
    redis(&server, "SET a 2").await?;
    let count = server.preload()?.delayed_syncs()?;
    redis(&server, "SET a 3").await?;
    assert_eq!(server.preload()?.delayed_syncs()?, count, "a sync was delayed afterwards");
    Ok(())
}

#[tokio::test]
async fn a_slow_disk_makes_commits_of_mariadb_wait() -> Result<()> {
    let server = MariaDb::start_with(MariaDbOptions { durable: true, preload: true }).await?;
    execute_sql(server.url(), "CREATE TABLE test.t (a INT)").await?;
    server.preload()?.slow_sync(DELAY)?;
    let slow = took(execute_sql(server.url(), "INSERT INTO test.t VALUES (1)")).await?;
    ensure!(slow >= DELAY, "a commit took {slow:?}");
    server.preload()?.slow_sync(Duration::ZERO)
}

#[tokio::test]
async fn rabbitmq_syncs_on_a_slow_disk_too() -> Result<()> {
    let server = RabbitMq::start_preloaded().await?;
    server.preload()?.slow_sync(Duration::from_millis(1))?;
    let before = server.preload()?.delayed_syncs()?;
    // Its tables are written at every start.
    server.restart().await?;
    ensure!(server.preload()?.delayed_syncs()? > before, "no sync was delayed");
    Ok(())
}

/// Seconds since 1970, as Redis tells them.
async fn time_of(server: &Redis) -> Result<i64> {
    let answer = redis(server, "TIME").await?;
    let seconds = answer.lines().nth(2).and_then(|line| line.trim().parse().ok());
    seconds.with_context(|| format!("TIME answered {answer:?}"))
}

#[tokio::test]
async fn a_clock_is_set_ahead_and_back_while_the_server_runs() -> Result<()> {
    let server = Redis::start(RedisOptions { preload: true, ..RedisOptions::default() }).await?;
    let pid = server.pid();
    let first = time_of(&server).await?;
    for ahead in [7_200, -30] {
        server.preload()?.set_clock(ahead * 1_000_000)?;
        // Redis keeps the time of its last turn for a moment.
        let seen = try_eventually(Duration::from_secs(10), "the clock", async || match time_of(&server).await {
            Ok(now) if (now - first - ahead).abs() <= 10 => Ok(now),
            other => Err(format!("{other:?}")),
        });
        seen.await?;
    }
    // Keys live by that clock.
    redis(&server, "SET a 1 EX 3600").await?;
    server.preload()?.set_clock(7_200 * 1_000_000)?;
    assert_eq!(redis(&server, "GET a").await?, "$-1\r\n");
    server.preload()?.set_clock(0)?;
    ensure!((time_of(&server).await? - first).abs() < 60, "the clock stayed wrong");
    assert_eq!(server.pid(), pid);
    Ok(())
}

#[tokio::test]
async fn a_server_that_was_started_without_says_so() -> Result<()> {
    let server = Redis::start(RedisOptions::default()).await?;
    ensure!(server.preload().is_err());
    Ok(())
}
