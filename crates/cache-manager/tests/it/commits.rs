//! Commits of writers, as settlements told the shards.

use crate::support::{on_shared, private};
use anyhow::Result;
use domain::cache::{CommitNumber, LikeCache, Settlement};
use domain::{PairState, Version};
use std::collections::BTreeSet;
use test_support::build::video_pair;
use test_support::cache_contract::roomy_rules;
use uuid::Uuid;

/// A settlement that touches this many resources, so shards.
fn settling(commit: CommitNumber, resources: i64) -> Settlement {
    let row = PairState { liked: true, version: Version(7) };
    let pairs = (1..=resources).map(|id| (video_pair(1, id), row)).collect();
    Settlement { resources: Vec::new(), pairs, commit: Some(commit) }
}

#[tokio::test]
async fn the_newest_commit_of_each_lane_is_remembered() -> Result<()> {
    let (cache, _) = on_shared(roomy_rules()).await?;
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    let commit = |writer, lane, number| CommitNumber { writer, lane, number };
    // In other shards, late, twice, and by a settlement of many shards.
    for (commit, resources) in [
        (commit(one, 0, 1), 1),
        (commit(one, 0, 4), 20),
        (commit(one, 0, 3), 1),
        (commit(one, 0, 2), 3),
        (commit(one, 1, 9), 1),
        (commit(one, 1, 9), 1),
        (commit(other, 0, 2), 2),
    ] {
        cache.settle(&settling(commit, resources)).await?;
    }
    cache.settle(&Settlement { commit: None, ..settling(commit(other, 5, 5), 1) }).await?;
    let told = cache.commits().await?;
    assert!(told.iter().all(|told| told.at > Version(1_700_000_000_000_000)), "{told:?}");
    let told: BTreeSet<CommitNumber> = told.into_iter().map(|told| told.commit).collect();
    assert_eq!(told, BTreeSet::from([commit(one, 0, 4), commit(one, 1, 9), commit(other, 0, 2)]));
    Ok(())
}

#[tokio::test]
async fn only_so_many_lanes_are_remembered_and_what_others_wrote_is_none() -> Result<()> {
    let (_redis, cache, raw) = private(roomy_rules()).await?;
    let shard = roomy_rules().shards.of(video_pair(1, 1).resource);
    let key = format!("{{s{shard}}}:w");
    raw.run::<()>(&format!("SET {key} nonsense")).await?;
    let old: Vec<_> = (0..512).map(|lane| CommitNumber { writer: Uuid::now_v7(), lane, number: 1 }).collect();
    for commit in &old {
        cache.settle(&settling(*commit, 1)).await?;
    }
    for lane in ["x", "x:1", "0:0"] {
        raw.run::<()>(&format!("HSET {key} {lane} 5:5")).await?;
    }
    assert_eq!(cache.commits().await?.len(), 512);
    // The first are older than all others, so they go before them. The others are of a clock that was ahead: who comes is never
    // the one who goes.
    for (number, commit) in old.iter().enumerate() {
        let field = format!("{}:{}", commit.writer.simple(), commit.lane);
        let at = if number < 200 { 1_000 } else { 9_000_000_000_u64 };
        raw.run::<()>(&format!("HSET {key} {field} 1:{at}")).await?;
    }
    let newest = CommitNumber { writer: Uuid::now_v7(), lane: 0, number: 1 };
    cache.settle(&settling(newest, 1)).await?;
    let told: BTreeSet<CommitNumber> = cache.commits().await?.into_iter().map(|told| told.commit).collect();
    assert!(told.contains(&newest), "the newest one has gone");
    assert!(old[..200].iter().all(|commit| !told.contains(commit)), "an old one stays");
    assert_eq!(raw.run::<u64>(&format!("HLEN {key}")).await?, 516 - 256);
    Ok(())
}
