//! Full disks, foreign holders, damage, and files that go when they are done.

use crate::support::{Home, accepted, journal, one_shard};
use anyhow::Result;
use domain::cache::{AcceptOutcome, CacheRules, LikeCache, SettledResource, Settlement};
use domain::{ShardCount, Version};
use embedded_cache::{Durability, EmbeddedConfig, OpenError};
use std::time::Duration;
use test_support::build::video_pair;
use test_support::cache_contract::{like, roomy_rules};
use test_support::eventually;

fn settled(user: i64, version: Version) -> Settlement {
    let resource = video_pair(user, 1).resource;
    Settlement {
        resources: vec![SettledResource { resource, entries: vec![version], stored: None }],
        pairs: vec![],
        commit: None,
    }
}

#[tokio::test]
async fn a_second_process_is_refused() -> Result<()> {
    let home = Home::new();
    let first = home.open(roomy_rules())?;
    let refused = home.open(roomy_rules()).err().expect("the directory is in use");
    let expected = format!("in use by another process (pid {})", std::process::id());
    assert!(refused.to_string().ends_with(&expected), "{refused}");
    accepted(&first, like(video_pair(1, 1))).await;
    drop(first);
    assert_eq!(journal(&home.open(roomy_rules())?).await.len(), 1);
    Ok(())
}

#[tokio::test]
async fn another_number_of_shards_is_refused() -> Result<()> {
    let home = Home::new();
    assert_eq!(EmbeddedConfig::shards_in(home.path()), None);
    drop(home.open(roomy_rules())?);
    assert_eq!(EmbeddedConfig::shards_in(home.path()), Some(ShardCount::new(4)?));
    let eight = CacheRules { shards: ShardCount::new(8)?, ..roomy_rules() };
    let refused = home.open(eight).err().expect("other shards");
    assert!(matches!(refused, OpenError::ShardMismatch { stored: 4, configured: 8, .. }), "{refused}");
    Ok(())
}

/// Files go once their likes are settled, and only then; the space is free for likes again.
#[tokio::test]
async fn settled_files_are_deleted_and_the_bound_holds() -> Result<()> {
    let mut home = Home::new();
    home.config = EmbeddedConfig { segment_bytes: 1_000, max_journal_bytes: 70_000, ..home.config };
    home.config.durability = Durability::Process;
    let cache = home.open(one_shard())?;
    let mut versions = Vec::new();
    let refused = loop {
        let user = versions.len() as i64 + 1;
        match cache.accept(&[like(video_pair(user, 1))]).await.pop().expect("an answer")? {
            AcceptOutcome::Accepted(answer) => versions.push(answer.version),
            other => break other,
        }
        assert!(versions.len() < 10_000, "never full");
    };
    assert_eq!(refused, AcceptOutcome::Overloaded);
    let (files, bytes) = (home.files().len(), home.files().iter().map(|(_, bytes)| bytes).sum::<u64>());
    assert!(files > 10 && bytes < 75_000, "{files} files of {bytes} bytes");

    // The oldest one unsettled: nothing may go.
    for (user, version) in (1..).zip(&versions).skip(1) {
        cache.settle(&settled(user, *version)).await?;
    }
    cache.flush().await?;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(home.files().len() >= files);
    drop(cache);
    let cache = home.open(one_shard())?;
    assert_eq!(journal(&cache).await.iter().map(|entry| entry.version).collect::<Vec<_>>(), versions[..1]);

    cache.settle(&settled(1, versions[0])).await?;
    eventually(Duration::from_secs(20), "one file is left", async || {
        let files = home.files();
        if files.len() == 1 { Ok(()) } else { Err(format!("{} files", files.len())) }
    })
    .await;
    let accounting = cache.shard_status().await?.pop().expect("one shard");
    assert_eq!((accounting.accepted, accounting.settled), (versions.len() as u64, versions.len() as u64));
    accepted(&cache, like(video_pair(1, 1))).await;
    Ok(())
}

#[tokio::test]
async fn damage_that_no_crash_explains_is_refused() -> Result<()> {
    let mut home = Home::new();
    home.config.segment_bytes = 300;
    let cache = home.open(one_shard())?;
    for user in 1..=20 {
        accepted(&cache, like(video_pair(user, 1))).await;
    }
    drop(cache);
    let (file, bytes) = home.files()[1].clone();
    let mut content = std::fs::read(&file)?;
    content[bytes as usize - 3] ^= 1;
    std::fs::write(&file, content)?;
    let refused = home.open(one_shard()).err().expect("a damaged file");
    assert!(matches!(&refused, OpenError::Damaged { path, .. } if *path == file), "{refused}");
    Ok(())
}

/// A device that is always full stands for the disk: likes are refused, nothing is answered, the cache lives.
#[tokio::test]
async fn a_full_disk_refuses_and_comes_back() -> Result<()> {
    let mut home = Home::new();
    home.config = EmbeddedConfig { segment_bytes: 256, durability: Durability::Process, ..home.config };
    let cache = home.open(one_shard())?;
    let kept = accepted(&cache, like(video_pair(1, 1))).await;
    while home.files()[0].1 < 256 {
        accepted(&cache, like(video_pair(home.files()[0].1 as i64, 1))).await;
    }
    // The next file cannot be created: its name is taken by a directory.
    let next = home.path().join("journal-0000000000000002.log");
    std::fs::create_dir(&next)?;
    let before = journal(&cache).await.len();
    for user in 5_001..=5_003 {
        let outcome = cache.accept(&[like(video_pair(user, 1))]).await.pop().expect("an answer");
        let error = outcome.expect_err("a like was answered that is not kept");
        assert!(error.is_unavailable() && error.to_string().contains("cannot be written"), "{error}");
    }
    assert!(cache.ping().await.is_err());
    // Only what was on its way when the disk failed may take effect later.
    assert!(journal(&cache).await.len() <= before + 1);
    assert_eq!(cache.states(&[video_pair(1, 1)]).await?[0].map(|state| state.version), Some(kept.version));

    std::fs::remove_dir(&next)?;
    eventually(Duration::from_secs(20), "the disk takes it again", async || {
        cache.ping().await.map_err(|error| error.to_string())
    })
    .await;
    let later = accepted(&cache, like(video_pair(6_000, 1))).await;
    let expected = journal(&cache).await;
    drop(cache);
    let cache = home.open(one_shard())?;
    assert_eq!(journal(&cache).await, expected);
    assert!(expected.iter().any(|entry| entry.version == later.version));
    Ok(())
}
