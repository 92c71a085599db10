//! Scripts called with too little or too much write nothing.

use crate::support::{Raw, on_shared};
use anyhow::Result;
use deadpool_redis::redis::cmd;
use domain::cache::LikeCache;
use test_support::build::video_pair;
use test_support::cache_contract::{like, roomy_rules};

/// Name, code, and a call of the right shape: number of keys and arguments.
const SCRIPTS: [(&str, &str, usize, &[&str]); 23] = [
    (
        "settle",
        include_str!("../../src/scripts/settle.lua"),
        5,
        &["1", "1", "60", "10", "60", "30", "w:0", "1", "2", "1", "5", "7", "100", "101", "20"],
    ),
    ("fill_counts", include_str!("../../src/scripts/fill_counts.lua"), 3, &["60", "30", "5", "1", "7", "6", "1", "8"]),
    ("fill_states", include_str!("../../src/scripts/fill_states.lua"), 2, &["60", "30", "20", "30"]),
    ("acquire_lease", include_str!("../../src/scripts/acquire_lease.lua"), 2, &["me", "1000"]),
    ("release_lease", include_str!("../../src/scripts/release_lease.lua"), 1, &["me"]),
    ("fence_repairs", include_str!("../../src/scripts/fence_repairs.lua"), 1, &["1"]),
    (
        "repair_count",
        include_str!("../../src/scripts/repair_count.lua"),
        2,
        &["1", "0", "5", "0", "7", "5", "1", "6", "1", "60"],
    ),
    ("repair_accounting", include_str!("../../src/scripts/repair_accounting.lua"), 2, &["1", "0", "0", "0"]),
    ("forget_pair", include_str!("../../src/scripts/forget_pair.lua"), 1, &["10"]),
    ("remember", include_str!("../../src/scripts/remember.lua"), 2, &["0:1:5:1", "5", "1000"]),
    ("probe", include_str!("../../src/scripts/probe.lua"), 3, &["60"]),
    ("take_token", include_str!("../../src/scripts/take_token.lua"), 1, &["1000", "5000", "1"]),
    ("probe_shard", include_str!("../../src/scripts/probe_shard.lua"), 2, &["9"]),
    ("shard_status", include_str!("../../src/scripts/shard_status.lua"), 2, &[]),
    ("repair_pair", include_str!("../../src/scripts/repair_pair.lua"), 2, &["1", "20", "21"]),
    ("raise_clock", include_str!("../../src/scripts/raise_clock.lua"), 1, &["9"]),
    ("sweep", include_str!("../../src/scripts/sweep.lua"), 2, &["2", "1", "9", "9"]),
    ("keep_fences", include_str!("../../src/scripts/keep_fences.lua"), 1, &["7", "9"]),
    ("close_shard", include_str!("../../src/scripts/close_shard.lua"), 3, &["closed"]),
    ("open_shard", include_str!("../../src/scripts/open_shard.lua"), 3, &["closed"]),
    ("seal_shard", include_str!("../../src/scripts/seal_shard.lua"), 3, &["closed"]),
    ("record_shards", include_str!("../../src/scripts/record_shards.lua"), 1, &["64@1", "1"]),
    ("keep_deleted", include_str!("../../src/scripts/keep_deleted.lua"), 2, &["v7", "9", "8", "1"]),
];

/// The accept script stands behind its table of names; its item has every option that adds a key or an argument.
fn scripts() -> Vec<(&'static str, String, usize, &'static [&'static str])> {
    let accept: &[&str] = &[
        "1",
        "100",
        "60",
        "60",
        "60",
        "1",
        "1",
        "0",
        "0",
        "m:1",
        "0",
        "run",
        "0",
        "143",
        "payload",
        "5",
        "1",
        "7",
        "9000000000000000",
    ];
    let mut all = vec![("accept", cache_manager::accept_script(), 7, accept)];
    let reads = include_str!("../../src/scripts/reads.lua");
    all.extend(SCRIPTS.map(|(name, code, keys, arguments)| (name, format!("{reads}{code}"), keys, arguments)));
    all
}

async fn eval(raw: &Raw, code: &str, prefix: &str, keys: usize, arguments: &[&str]) -> Result<()> {
    let mut call = cmd("EVAL");
    call.arg(code).arg(keys);
    (0..keys).for_each(|index| {
        call.arg(format!("{prefix}{index}"));
    });
    arguments.iter().for_each(|argument| {
        call.arg(*argument);
    });
    raw.query(&call).await
}

#[tokio::test]
async fn wrong_arity_writes_nothing() -> Result<()> {
    let (cache, raw) = on_shared(roomy_rules()).await?;
    let prefix = cache.keys().pair(video_pair(1, 1));
    let before = raw.everything().await?;
    for (name, code, keys, arguments) in scripts() {
        let mut longer = arguments.to_vec();
        longer.push("1");
        let fewer = arguments.split_last().map_or(&longer[..], |(_, fewer)| fewer);
        let wrong: [(usize, &[&str]); 6] =
            [(0, arguments), (keys - 1, arguments), (keys + 1, arguments), (keys, fewer), (keys, &longer), (0, &[])];
        for (keys, arguments) in wrong {
            let error = eval(&raw, &code, &prefix, keys, arguments).await.expect_err(name).to_string();
            assert!(error.contains(name), "{name} with {keys} keys and {arguments:?}: {error}");
        }
        assert_eq!(raw.everything().await?, before, "{name} wrote something");
    }
    // The same shapes, right: so that the calls above fail for the reason given.
    for (name, code, keys, arguments) in scripts() {
        eval(&raw, &code, &format!("{prefix}{name}"), keys, arguments).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_number_that_is_none_writes_nothing() -> Result<()> {
    let (cache, raw) = on_shared(roomy_rules()).await?;
    let prefix = cache.keys().pair(video_pair(1, 1));
    let before = raw.everything().await?;
    for (name, code, keys, arguments) in scripts().into_iter().take(2) {
        let mut garbled = arguments.to_vec();
        garbled[0] = "many";
        eval(&raw, &code, &prefix, keys, &garbled).await.expect_err(name);
        assert_eq!(raw.everything().await?, before, "{name} wrote something");
    }
    Ok(())
}

#[tokio::test]
async fn forgotten_scripts_are_loaded_again() -> Result<()> {
    let (cache, raw) = on_shared(roomy_rules()).await?;
    let pair = video_pair(1, 1);
    for round in 0..3 {
        raw.run::<()>("SCRIPT FLUSH").await?;
        cache.accept(&[like(video_pair(round + 1, 1))]).await.remove(0)?;
        raw.run::<()>("SCRIPT FLUSH").await?;
        cache.settle(&domain::cache::Settlement::default()).await?;
        raw.run::<()>("SCRIPT FLUSH").await?;
        cache.fill_counts(&[(video_pair(1, 2).resource, Default::default())]).await?;
        raw.run::<()>("SCRIPT FLUSH").await?;
        cache.fill_states(&[(video_pair(1, 3), Default::default())]).await?;
        raw.run::<()>("SCRIPT FLUSH").await?;
        cache.acquire_lease("l", "me", std::time::Duration::from_secs(5)).await?;
        raw.run::<()>("SCRIPT FLUSH").await?;
        cache.release_lease("l", "me").await?;
    }
    assert_eq!(cache.counts(&[pair.resource]).await?[0].map(|count| count.pending), Some(3));
    Ok(())
}
