//! Every server starts, dies, stops, pauses and comes back on its port, with its data or without.

use anyhow::{Context, Result, ensure};
use std::time::Duration;
use test_support::{MariaDb, RabbitMq, Redis, RedisOptions, Server, execute_sql, fresh_database, try_eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const QUICK: Duration = Duration::from_secs(5);

/// One inline command, one answer.
pub(crate) async fn redis(server: &Redis, command: &str) -> Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(server.addr()?).await?;
        stream.write_all(format!("{command}\r\n").as_bytes()).await?;
        let mut answer = [0; 256];
        let length = stream.read(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    };
    timeout(QUICK, exchange).await.context("redis does not answer")?
}

async fn connects(server: &Server) -> bool {
    let Ok(addr) = server.addr() else { return false };
    TcpStream::connect(addr).await.is_ok()
}

#[tokio::test]
async fn redis_keeps_what_it_acknowledged_through_a_kill() -> Result<()> {
    let server = Redis::start(RedisOptions::default()).await?;
    let url = server.url().to_owned();
    assert_eq!(redis(&server, "SET a 1").await?, "+OK\r\n");
    server.kill9()?;
    assert!(!connects(&server).await, "still listening after the kill");
    server.restart().await?;
    assert_eq!(server.url(), url);
    assert_eq!(redis(&server, "GET a").await?, "$1\r\n1\r\n");
    assert!(redis(&server, "CONFIG GET maxmemory-policy").await?.contains("noeviction"));

    server.wipe_and_restart().await?;
    assert_eq!(redis(&server, "GET a").await?, "$-1\r\n");
    server.stop().await?;
    assert!(!connects(&server).await, "still listening after the stop");
    Ok(())
}

#[tokio::test]
async fn a_paused_server_is_silent_until_resumed() -> Result<()> {
    let server = Redis::start(RedisOptions { appendonly: false, ..RedisOptions::default() }).await?;
    server.pause()?;
    let mut stream = TcpStream::connect(server.addr()?).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 16];
    let silence = timeout(Duration::from_millis(200), stream.read(&mut answer)).await;
    ensure!(silence.is_err(), "a paused server answered");
    server.resume()?;
    let length = timeout(QUICK, stream.read(&mut answer)).await??;
    assert_eq!(&answer[..length], b"+PONG\r\n");

    server.pause()?;
    server.stop().await?;
    assert!(!connects(&server).await, "a paused server must be stoppable");
    Ok(())
}

#[tokio::test]
async fn mariadb_restarts_with_its_data_and_wipes() -> Result<()> {
    let server = MariaDb::start().await?;
    let url = fresh_database(server.url()).await?;
    let schema = url.rsplit('/').next().context("no schema")?.to_owned();
    execute_sql(&url, &format!("CREATE TABLE {schema}.t (a INT); INSERT INTO {schema}.t VALUES (7)")).await?;
    server.kill9()?;
    assert!(execute_sql(&url, "SELECT 1").await.is_err());
    server.restart().await?;
    assert_eq!(execute_sql(&url, &format!("SELECT a FROM {schema}.t")).await?.trim(), "7");

    server.wipe_and_restart().await?;
    let schemas = execute_sql(server.url(), "SHOW DATABASES").await?;
    ensure!(!schemas.contains(&schema), "survived the wipe: {schemas}");
    ensure!(schemas.contains("test"), "the url's database is missing: {schemas}");
    server.stop().await?;
    assert!(!connects(&server).await);
    Ok(())
}

#[tokio::test]
async fn rabbitmq_restarts_after_a_kill_and_a_stop_and_wipes() -> Result<()> {
    let server = RabbitMq::start().await?;
    server.kill9()?;
    assert!(!connects(&server).await, "still listening after the kill");
    server.restart().await?;
    server.stop().await?;
    assert!(!connects(&server).await, "still listening after the stop");
    server.wipe_and_restart().await?;
    server.pause()?;
    server.resume()?;
    try_eventually(QUICK, "rabbitmq accepts", async || connects(&server).await).await
}

#[tokio::test]
async fn an_external_server_is_not_touched() -> Result<()> {
    let server = Redis::external("redis://example:6379/0");
    assert!(server.is_external());
    assert_eq!(server.addr()?, "example:6379");
    let error = server.kill9().unwrap_err().to_string();
    assert!(error.contains("external"), "{error}");
    assert!(server.pause().is_err());
    assert!(server.restart().await.is_err());
    Ok(())
}
