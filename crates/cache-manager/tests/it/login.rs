//! Another login without a restart.

use crate::support::{PATIENCE, Raw, config, in_cluster, private};
use anyhow::{Context, Result, ensure};
use cache_manager::RedisConfig;
use domain::cache::{CacheError, LikeCache};
use secrecy::SecretString;
use test_support::build::video_pair;
use test_support::cache_contract::{like, roomy_rules};
use test_support::{RedisCluster, RedisOptions, eventually};

#[tokio::test]
async fn user_and_password_change_while_the_cache_is_used() -> Result<()> {
    let (redis, _, raw) = private(roomy_rules()).await?;
    let url = |login: &str| redis.url().replace("redis://", &format!("redis://{login}@"));
    raw.run::<()>("ACL SETUSER one on >old ~* +@all").await?;
    raw.run::<()>("ACL SETUSER other on >new ~* +@all").await?;
    let cache = config(&url("one:old"), "").build(roomy_rules())?;
    let used = async || -> Result<()> {
        cache.ping().await?;
        cache.accept(&[like(video_pair(1, 1))]).await.remove(0)?;
        cache.counts(&[video_pair(1, 1).resource]).await?;
        cache.shard_status().await?;
        Ok(())
    };
    used().await?;

    // What Redis does not take changes nothing, nor does what leads elsewhere.
    let refused = cache.renew_login(url("one:wrong").into()).await.err().context("taken")?;
    ensure!(refused.to_string().contains("password"), "{refused}");
    let refused = cache.renew_login(format!("{}/1", url("one:old").trim_end_matches('/')).into()).await;
    ensure!(matches!(refused, Err(CacheError::Rejected(_))), "{refused:?}");
    raw.run::<()>("CLIENT KILL USER one").await?;
    eventually(PATIENCE, "the cache", async || used().await.map_err(|error| error.to_string())).await;

    // The password: the old one is worth nothing as soon as the new one is taken.
    raw.run::<()>("ACL SETUSER one >changed").await?;
    cache.renew_login(url("one:changed").into()).await?;
    raw.run::<()>("ACL SETUSER one <old").await?;
    used().await?;
    // The user: whoever was connected as the other one is so no more after its next use, and may go.
    cache.renew_login(url("other:new").into()).await?;
    used().await?;
    raw.run::<i64>("ACL DELUSER one").await?;
    for _ in 0..3 {
        used().await?;
    }
    Ok(())
}

/// Each of its primaries has users of its own, so each must know the new password.
#[tokio::test]
async fn every_primary_of_a_cluster_must_take_it() -> Result<()> {
    const PRIMARIES: usize = 3;
    let cluster = RedisCluster::start(RedisOptions::default(), PRIMARIES, false).await?;
    let on_node = async |number: usize, change: &str| -> Result<()> {
        Raw::connect(cluster.node(number)?.url(), String::new()).await?.run::<()>(change).await
    };
    for number in 0..PRIMARIES {
        on_node(number, "ACL SETUSER likes on >old ~* +@all").await?;
    }
    let with = |password: &str| SecretString::from(format!("redis://likes:{password}@127.0.0.1:1"));
    let cache = RedisConfig { url: with("old"), ..in_cluster(&cluster, "")? }.build(roomy_rules())?;
    cache.prepare().await?;

    for number in 0..PRIMARIES {
        let refused = cache.renew_login(with("new")).await.err().context("taken before all knew it")?;
        ensure!(refused.to_string().contains("password"), "{refused}");
        on_node(number, "ACL SETUSER likes >new").await?;
    }
    cache.renew_login(with("new")).await?;
    for number in 0..PRIMARIES {
        on_node(number, "ACL SETUSER likes <old").await?;
    }
    // Shards of all primaries.
    for id in 1..50 {
        cache.accept(&[like(video_pair(1, id))]).await.remove(0)?;
    }
    cache.ping().await?;
    Ok(())
}
