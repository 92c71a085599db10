//! Roles of groups change without loss, and replicas fall behind when they are told to.

use anyhow::{Result, ensure};
use std::time::Duration;
use test_support::{
    MariaDbGroup, MariaDbOptions, RedisGroup, RedisGroupOptions, RedisOptions, execute_sql, try_eventually,
};

const PATIENCE: Duration = Duration::from_secs(30);
const NODE: RedisOptions = RedisOptions { appendonly: false, preload: false };

#[tokio::test]
async fn a_redis_group_switches_and_its_replica_can_be_behind() -> Result<()> {
    let group = RedisGroup::start(RedisGroupOptions { node: NODE, replicas: 2, sentinels: 0 }).await?;
    group.node(0)?.cli(&["SET", "a", "1"]).await?;
    group.switch_to(1).await?;
    assert_eq!(group.node(1)?.cli(&["GET", "a"]).await?, "1");
    assert_eq!(group.primary().await?, 1);
    let refused = group.node(0)?.cli(&["SET", "a", "2"]).await?;
    ensure!(refused.contains("READONLY"), "{refused}");
    group.switch_to(0).await?;

    // The link of the third one is as at the start once it is led there again.
    let addr = group.link(2)?.addr();
    group.node(2)?.cli(&["REPLICAOF", "127.0.0.1", &addr.port().to_string()]).await?;
    group.node(0)?.cli(&["SET", "b", "before"]).await?;
    let third = group.node(2)?;
    let copied = async || match third.cli(&["GET", "b"]).await {
        Ok(said) if said == "before" => Ok(()),
        other => Err(format!("{other:?}")),
    };
    try_eventually(PATIENCE, "a copy", copied).await?;
    group.link(2)?.freeze();
    group.node(0)?.cli(&["SET", "b", "behind"]).await?;
    group.promote(2).await?;
    assert_eq!(group.node(2)?.cli(&["GET", "b"]).await?, "before");
    Ok(())
}

#[tokio::test]
async fn sentinels_elect_another_primary_after_a_kill() -> Result<()> {
    let group = RedisGroup::start(RedisGroupOptions { node: NODE, replicas: 2, sentinels: 3 }).await?;
    assert_eq!(group.sentinel_addrs()?.len(), 3);
    group.node(0)?.kill9()?;
    let elected = async || group.primary().await.map_err(|error| format!("{error:#}"));
    assert_ne!(try_eventually(PATIENCE, "a new primary", elected).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_mariadb_group_switches_and_its_replica_can_be_behind() -> Result<()> {
    let options = MariaDbOptions { durable: false, ..MariaDbOptions::default() };
    let group = MariaDbGroup::start(options, 2).await?;
    group.sql(0, "CREATE DATABASE d; CREATE TABLE d.t (a INT)").await?;
    let app = group.node(0)?.url().replace("root@", MariaDbGroup::APP);
    execute_sql(&app, "INSERT INTO d.t VALUES (1)").await?;
    group.switch(0, 1).await?;
    assert_eq!(group.sql(1, "SELECT a FROM d.t").await?.trim(), "1");
    let refused = execute_sql(&app, "INSERT INTO d.t VALUES (2)").await.unwrap_err().to_string();
    ensure!(refused.contains("read-only"), "{refused}");
    group.sql(1, "INSERT INTO d.t VALUES (3)").await?;
    group.caught_up(0, 1).await?;
    group.switch(1, 0).await?;
    assert_eq!(group.sql(0, "SELECT SUM(a) FROM d.t").await?.trim(), "4");

    group.caught_up(2, 0).await?;
    group.link(2)?.freeze();
    group.sql(0, "INSERT INTO d.t VALUES (5)").await?;
    group.promote(2).await?;
    assert_eq!(group.sql(2, "SELECT SUM(a) FROM d.t").await?.trim(), "4");
    Ok(())
}
