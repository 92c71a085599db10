//! Errors of a server that cannot do its work now, or is not the one that does it: each is produced by a real one.

use crate::meanings::{of_no_use, works_again};
use crate::support::{PATIENCE, Raw, config, private};
use anyhow::{Context, Result, ensure};
use deadpool_redis::redis::cmd;
use domain::cache::{Answer, CacheError, FirstAnswer, LikeCache};
use std::path::PathBuf;
use test_support::build::video_pair;
use test_support::cache_contract::{like, roomy_rules};
use test_support::{Redis, RedisOptions, eventually, lease_port};

/// Its disk does not take the snapshot: nothing is written any more, by scripts, pipelines and transactions alike.
#[tokio::test]
async fn a_disk_that_takes_no_snapshot_refuses_writes() -> Result<()> {
    let (_redis, cache, raw) = private(roomy_rules()).await?;
    let mut setting = cmd("CONFIG");
    setting.arg("SET").arg("save").arg("3600 1000000");
    raw.query::<()>(&setting).await?;
    let (_, dir): (String, String) = raw.run("CONFIG GET dir").await?;
    let in_the_way = PathBuf::from(dir).join("dump.rdb");
    std::fs::create_dir(&in_the_way)?;
    raw.run::<String>("BGSAVE").await?;
    let saved = async |state: &str| {
        let info: String = raw.run("INFO persistence").await.map_err(|error| error.to_string())?;
        if info.contains(&format!("rdb_last_bgsave_status:{state}")) && info.contains("rdb_bgsave_in_progress:0") {
            return Ok(());
        }
        Err(info)
    };
    eventually(PATIENCE, "a snapshot that failed", async || saved("err").await).await;
    of_no_use(&cache, "its disk does not take").await?;
    let key = FirstAnswer {
        pair: video_pair(1, 1),
        key: "k".to_owned(),
        liked: true,
        answer: Answer { count: None, version: domain::Version(1) },
        changed: true,
        age: std::time::Duration::ZERO,
    };
    let error = cache.remember(std::slice::from_ref(&key)).await.err().context("remembered")?;
    ensure!(error.is_unavailable() && error.to_string().contains("its disk does not take"), "{error}");
    // Reads go on.
    cache.counts(&[video_pair(1, 1).resource]).await?;

    std::fs::remove_dir(&in_the_way)?;
    raw.run::<String>("BGSAVE").await?;
    eventually(PATIENCE, "a snapshot", async || saved("ok").await).await;
    works_again(&cache).await;
    cache.remember(&[key]).await?;
    Ok(())
}

/// It answers, and has not read its data yet: an empty answer would be a wrong one.
#[tokio::test]
async fn a_server_that_reads_its_data_is_waited_for() -> Result<()> {
    // Slow, and with a look at its clients after every kilobyte.
    let slow = ["--key-load-delay", "200", "--loading-process-events-interval-bytes", "1024"];
    let redis = Redis::start_with_arguments(RedisOptions::default(), &slow).await?;
    let cache = config(redis.url(), "").build(roomy_rules())?;
    cache.prepare().await?;
    cache.accept(&[like(video_pair(1, 1))]).await.remove(0)?;
    let raw = Raw::connect(redis.url(), String::new()).await?;
    for part in 0..30 {
        let mut call = cmd("EVAL");
        call.arg("for i = 1, 1000 do redis.call('SET', 'filler' .. ARGV[1] .. ':' .. i, i) end").arg(0).arg(part);
        raw.query::<()>(&call).await?;
    }

    redis.stop().await?;
    // It looks at its clients now and then, so that some calls time out.
    let says_so = |refused: Option<CacheError>| match refused {
        Some(error) if error.is_unavailable() && error.to_string().to_lowercase().contains("loading") => Ok(()),
        other => Err(format!("{other:?}")),
    };
    let loading = async {
        eventually(PATIENCE, "a probe", async || says_so(cache.ping().await.err())).await;
        let like = async || cache.accept(&[like(video_pair(1, 1))]).await.remove(0).err();
        eventually(PATIENCE, "a like", async || says_so(like().await)).await;
        eventually(PATIENCE, "a read", async || says_so(cache.states(&[video_pair(1, 1)]).await.err())).await;
    };
    let (restarted, ()) = tokio::join!(redis.restart(), loading);
    restarted?;
    works_again(&cache).await;
    ensure!(cache.states(&[video_pair(1, 1)]).await?[0].is_some_and(|state| state.liked), "the like is gone");
    Ok(())
}

/// Two nodes of a Redis Cluster: one has half of the slots, and is about to give one away.
#[tokio::test]
async fn a_node_that_sends_elsewhere_is_named() -> Result<()> {
    let (bus, other_bus) = (lease_port()?, lease_port()?);
    let node = async |port: u16| {
        let port = port.to_string();
        let arguments = ["--cluster-enabled", "yes", "--cluster-port", &port];
        let redis = Redis::start_with_arguments(RedisOptions::default(), &arguments).await?;
        let raw = Raw::connect(redis.url(), String::new()).await?;
        anyhow::Ok((redis, raw))
    };
    let (redis, raw) = node(bus.port()).await?;
    let (other, other_raw) = node(other_bus.port()).await?;
    raw.run::<()>("CLUSTER ADDSLOTSRANGE 0 8191").await?;
    other_raw.run::<()>("CLUSTER ADDSLOTSRANGE 8192 16383").await?;
    let address = other.addr()?.replace(':', " ");
    raw.run::<()>(&format!("CLUSTER MEET {address} {}", other_bus.port())).await?;
    eventually(PATIENCE, "the cluster", async || {
        let info: String = raw.run("CLUSTER INFO").await.map_err(|error| error.to_string())?;
        if info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384") { Ok(()) } else { Err(info) }
    })
    .await;

    let cache = config(redis.url(), "").build(roomy_rules())?;
    let slot = async |video: i64| {
        let key = cache.keys().clock(roomy_rules().shards.of(video_pair(1, video).resource));
        raw.run::<u16>(&format!("CLUSTER KEYSLOT {key}")).await
    };
    let (mut here, mut elsewhere) = (None, None);
    for video in 1..100 {
        if slot(video).await? < 8192 { here = here.or(Some(video)) } else { elsewhere = elsewhere.or(Some(video)) }
    }
    let (here, elsewhere) = (here.context("no slot here")?, elsewhere.context("no slot elsewhere")?);
    let refused = async |video: i64, code: &str| {
        let error = cache.accept(&[like(video_pair(1, video))]).await.remove(0).err().context("accepted")?;
        let text = error.to_string();
        ensure!(error.is_unavailable() && text.contains("Redis Cluster"), "{text}");
        ensure!(text.to_lowercase().contains(code), "{text} does not say {code}");
        anyhow::Ok(())
    };
    refused(elsewhere, "moved").await?;
    let id: String = other_raw.run("CLUSTER MYID").await?;
    raw.run::<()>(&format!("CLUSTER SETSLOT {} MIGRATING {id}", slot(here).await?)).await?;
    refused(here, "ask").await?;
    Ok(())
}
