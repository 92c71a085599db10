//! Killed anywhere: what was answered is there again, what was settled is not, versions never go back.

use crate::support::{Home, accepted, journal, one_shard};
use anyhow::Result;
use domain::cache::{
    AcceptOutcome, AcceptRequest, CacheRules, LikeCache, MissingCount, SettledResource, Settlement, UserLimit,
};
use domain::codec::encode_payload;
use domain::{PairState, StoredCount, Version};
use embedded_cache::{Durability, EmbeddedConfig};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use test_support::build::video_pair;
use test_support::cache_contract::{like, roomy_rules, unlike};

const SHARDS_HEADER: u64 = 8 + 8 + 2 + 4 * 32 + 4;

fn settle_one(pair: domain::Pair, version: Version, stored: Option<StoredCount>) -> Settlement {
    let resource = SettledResource { resource: pair.resource, entries: vec![version], stored };
    Settlement { resources: vec![resource], pairs: Vec::new(), commit: None }
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Like {
        user: i64,
        video: i64,
        liked: bool,
    },
    /// Settles the n-th of the unsettled entries.
    Settle(usize),
    /// Closes and opens in between, as a calm restart does.
    Reopen,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (1..6i64, 1..5i64, any::<bool>()).prop_map(|(user, video, liked)| Op::Like { user, video, liked }),
        4 => (0..8usize).prop_map(Op::Settle),
        1 => Just(Op::Reopen),
    ];
    prop::collection::vec(op, 1..60)
}

/// What must be there if the last file ends at `bytes`.
#[derive(Debug, Clone)]
struct Mark {
    file: std::path::PathBuf,
    bytes: u64,
    unsettled: BTreeMap<Version, AcceptRequest>,
    highest: Version,
}

/// Runs the operations; after each one, notes how long the last file is and what must be recovered from it.
async fn run(home: &Home, ops: &[Op]) -> Vec<Mark> {
    let mut cache = home.open(roomy_rules()).unwrap();
    let mut unsettled: BTreeMap<Version, AcceptRequest> = BTreeMap::new();
    let mut highest = Version::ZERO;
    let mut marks = Vec::new();
    for op in ops {
        match *op {
            Op::Like { user, video, liked } => {
                let pair = video_pair(user, video);
                let request = if liked { like(pair) } else { unlike(pair) };
                match cache.accept(std::slice::from_ref(&request)).await.pop().unwrap().unwrap() {
                    AcceptOutcome::Accepted(answer) => {
                        unsettled.insert(answer.version, request);
                        highest = highest.max(answer.version);
                    }
                    AcceptOutcome::Unchanged(answer) => assert!(answer.version <= highest),
                    other => panic!("{other:?}"),
                }
            }
            Op::Settle(n) if n < unsettled.len() => {
                let (version, request) = unsettled.iter().nth(n).map(|(v, r)| (*v, r.clone())).unwrap();
                unsettled.remove(&version);
                let settlement = settle_one(request.intent.pair, version, None);
                assert_eq!(cache.settle(&settlement).await.unwrap().removed, 1);
            }
            Op::Settle(_) => {}
            Op::Reopen => {
                drop(cache);
                cache = home.open(roomy_rules()).unwrap();
            }
        }
        cache.flush().await.unwrap();
        let (file, bytes) = home.files().pop().unwrap();
        marks.push(Mark { file, bytes, unsettled: unsettled.clone(), highest });
    }
    // Killed here, not closed: a copy is taken while it runs, and the rest happens in the copy.
    let copy = home.copy();
    drop(cache);
    for (file, _) in home.files() {
        std::fs::remove_file(file).unwrap();
    }
    for (file, _) in copy.files() {
        std::fs::copy(&file, home.path().join(file.file_name().unwrap())).unwrap();
    }
    marks
}

async fn check(home: &Home, mark: &Mark) {
    let long_ago = Version(1_000);
    let cache = home.config.open_with_clock(home.path(), roomy_rules(), move || long_ago).unwrap();
    let found: BTreeMap<Version, _> =
        journal(&cache).await.into_iter().map(|entry| (entry.version, entry.payload)).collect();
    let expected: BTreeMap<Version, _> =
        mark.unsettled.iter().map(|(version, request)| (*version, request.payload.clone())).collect();
    assert_eq!(found, expected);
    assert_eq!(cache.recovered().unsettled, expected.len() as u64);
    // The newest unsettled state of every pair is known again, and the next version is above everything answered.
    let mut newest = BTreeMap::new();
    for (version, request) in &mark.unsettled {
        newest.insert(request.intent.pair, PairState { liked: request.intent.action.liked(), version: *version });
    }
    for (pair, state) in newest {
        assert_eq!(cache.states(&[pair]).await.unwrap(), [Some(state)]);
    }
    assert!(cache.clock() > Some(mark.highest));
    for video in 1..=12 {
        let version = accepted(&cache, like(video_pair(99, video))).await.version;
        let of_shard = mark.unsettled.iter().filter(|(_, request)| {
            let shards = roomy_rules().shards;
            shards.of(request.intent.pair.resource) == shards.of(video_pair(99, video).resource)
        });
        assert!(of_shard.map(|(version, _)| *version).all(|before| before < version));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Killed at any byte of the last file: everything recorded before that byte counts, nothing after it.
    #[test]
    fn killed_at_any_byte(ops in ops(), segment_bytes in 256..3_000u64, cut in any::<prop::sample::Index>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut home = Home::new();
            home.config = EmbeddedConfig { segment_bytes, durability: Durability::Process, ..home.config };
            let marks = run(&home, &ops).await;
            let (last, length) = home.files().pop().unwrap();
            // A file's header is on the disk before the file is used.
            let cut = SHARDS_HEADER + cut.index((length - SHARDS_HEADER) as usize + 1) as u64;
            std::fs::OpenOptions::new().write(true).open(&last).unwrap().set_len(cut).unwrap();
            let nothing = Mark { file: last.clone(), bytes: 0, unsettled: BTreeMap::new(), highest: Version::ZERO };
            let mark = marks.iter().rev().find(|mark| mark.file != last || mark.bytes <= cut).unwrap_or(&nothing);
            check(&home, mark).await;
            // And once more, after a start that was calm.
            let cache = home.open(roomy_rules()).unwrap();
            assert_eq!(cache.recovered().torn_bytes, 0);
        });
    }
}

/// A clock that went back between two starts, and again while running.
#[tokio::test]
async fn versions_stay_above_everything_answered() -> Result<()> {
    let home = Home::new();
    let time = Arc::new(AtomicI64::new(5_000_000_000_000));
    let clock = |time: &Arc<AtomicI64>| {
        let time = Arc::clone(time);
        move || Version(time.load(Ordering::Relaxed))
    };
    let cache = home.config.open_with_clock(home.path(), one_shard(), clock(&time))?;
    let first = accepted(&cache, like(video_pair(1, 1))).await.version;
    assert_eq!(first.0, 5_000_000_000_000);
    time.fetch_sub(3_600_000_000, Ordering::Relaxed);
    assert_eq!(accepted(&cache, unlike(video_pair(1, 1))).await.version.0, first.0 + 1);
    // Ages grow all the same.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let status = cache.shard_status().await?.pop().unwrap();
    assert!(status.oldest_age().is_some_and(|age| age >= Duration::from_millis(20)), "{status:?}");
    // Settled, so that no entry is left to tell the clock: the file's header must.
    for version in [first, Version(first.0 + 1)] {
        cache.settle(&settle_one(video_pair(1, 1), version, None)).await?;
    }
    drop(cache);
    for _ in 0..3 {
        drop(home.config.open_with_clock(home.path(), one_shard(), clock(&time))?);
    }
    let cache = home.config.open_with_clock(home.path(), one_shard(), clock(&time))?;
    assert_eq!(journal(&cache).await, []);
    assert_eq!(accepted(&cache, like(video_pair(2, 2))).await.version.0, first.0 + 2);
    Ok(())
}

/// Counters are filled anew and right once quiet; a recovered like is no reason for "unchanged".
#[tokio::test]
async fn counts_are_right_once_quiet() -> Result<()> {
    let home = Home::new();
    let cache = home.open(one_shard())?;
    let pair = video_pair(1, 1);
    let version = accepted(&cache, like(pair)).await.version;
    drop(cache);
    let cache = home.open(one_shard())?;
    assert_eq!(cache.counts(&[pair.resource]).await?, [None]);
    // The database may hold something newer than what was recovered: it decides.
    let again = accepted(&cache, like(pair)).await;
    assert_eq!((again.count, again.version > version), (Some(0), true));
    let stored = |count, revision| Some(StoredCount { count, revision, last_version: Version::ZERO });
    let report = cache.settle(&settle_one(pair, version, stored(1, 1))).await?;
    assert_eq!((report.removed, report.corrections), (1, 0), "one is still pending");
    assert_eq!(cache.counts(&[pair.resource]).await?[0].map(|count| (count.served, count.pending)), Some((0, 1)));
    cache.settle(&settle_one(pair, again.version, stored(1, 2))).await?;
    assert_eq!(cache.counts(&[pair.resource]).await?[0].map(|count| (count.served, count.pending)), Some((1, 0)));
    Ok(())
}

#[tokio::test]
async fn keys_of_unsettled_likes_are_remembered_and_limits_forgotten() -> Result<()> {
    let home = Home::new();
    let limit = UserLimit { actions: 1, period: Duration::from_secs(3_600) };
    let rules = CacheRules { user_limit: Some(limit), ..one_shard() };
    let cache = home.open(rules.clone())?;
    let mut request = like(video_pair(1, 1));
    request.intent.idempotency_key = Some("once".to_owned());
    request.payload = encode_payload(&request.intent);
    request.limited = true;
    request.missing = MissingCount::Fill(StoredCount { count: 4, revision: 1, last_version: Version::ZERO });
    let answer = accepted(&cache, request.clone()).await;
    let limited = AcceptRequest { limited: true, ..like(video_pair(1, 2)) };
    let outcome = cache.accept(std::slice::from_ref(&limited)).await.pop().unwrap()?;
    assert!(matches!(outcome, AcceptOutcome::RateLimited { .. }), "{outcome:?}");
    drop(cache);
    let cache = home.open(rules)?;
    let again = cache.accept(&[request]).await.pop().unwrap()?;
    assert_eq!(again, AcceptOutcome::Repeated { answer, changed: true });
    accepted(&cache, limited).await;
    Ok(())
}

/// Many callers share few writes, and each one's like is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_likes_are_kept() -> Result<()> {
    let mut home = Home::new();
    home.config.segment_bytes = 20_000;
    let cache = Arc::new(home.open(roomy_rules())?);
    let mut tasks = tokio::task::JoinSet::new();
    for user in 1..=32 {
        let cache = Arc::clone(&cache);
        tasks.spawn(async move {
            let mut versions = Vec::new();
            for video in 1..=30 {
                versions.push(accepted(&cache, like(video_pair(user, video))).await.version);
            }
            versions
        });
    }
    let mut answered: Vec<Version> = tasks.join_all().await.into_iter().flatten().collect();
    let killed = home.copy();
    let found = killed.open(roomy_rules())?;
    let mut kept: Vec<Version> = journal(&found).await.into_iter().map(|entry| entry.version).collect();
    answered.sort_unstable();
    kept.sort_unstable();
    assert_eq!(kept, answered);
    Ok(())
}

/// Little room: pinned counters stay, the rest is forgotten, and nothing of the journal is.
#[tokio::test]
async fn memory_is_bounded() -> Result<()> {
    let mut home = Home::new();
    home.config = EmbeddedConfig { max_pairs: 40, max_counters: 40, durability: Durability::Process, ..home.config };
    let cache = home.open(one_shard())?;
    let pinned = accepted(&cache, like(video_pair(1, 1))).await;
    for video in 2..=500 {
        let pair = video_pair(1, video);
        let stored = StoredCount { count: 3, revision: 1, last_version: Version::ZERO };
        cache.fill_counts(&[(pair.resource, stored)]).await?;
        cache.fill_states(&[(pair, PairState { liked: true, version: Version(7) })]).await?;
    }
    let resources: Vec<_> = (1..=500).map(|video| video_pair(1, video).resource).collect();
    let counts = cache.counts(&resources).await?;
    assert_eq!(counts[0].map(|count| count.pending), Some(1));
    let cached = counts.iter().flatten().count();
    assert!((2..=45).contains(&cached), "{cached} counters cached");
    assert_eq!(journal(&cache).await.first().map(|entry| entry.version), Some(pinned.version));
    Ok(())
}
