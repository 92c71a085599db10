//! Warm-up: fills what is missing, at its rate, and never anything newer.

use crate::racing::Racing;
use crate::rig::{PATIENCE, Rig};
use domain::{Action, Pair, PairState, Resource, Version};
use std::sync::Arc;
use std::time::{Duration, Instant};
use sync_engine::Stores;
use sync_engine::read::Reader;
use sync_engine::read::warm_up::{Warmer, WarmupConfig, WarmupError, WarmupPlan};
use sync_engine::recover::recheck::Recheck;
use test_support::build::{event_of, intent, video_pair};
use test_support::{eventually, expect_eq};
use tokio_util::sync::CancellationToken;

fn video(id: i64) -> Resource {
    video_pair(1, id).resource
}

fn listed(resources: Vec<Resource>) -> WarmupPlan {
    WarmupPlan { resources, ..WarmupPlan::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cached_stays_as_it_is() {
    let rig = Rig::new().await;
    let process = rig.process().await;
    process
        .applier
        .apply(&[event_of(video_pair(1, 1), Action::Like, 5), event_of(video_pair(2, 2), Action::Like, 6)])
        .await
        .unwrap();
    // Accepted and relayed by nobody: the database does not know it.
    process.dying_server().accept_one(intent(video_pair(3, 1), Action::Like)).await.unwrap();
    let before = process.cached(video(1)).await.unwrap();
    assert_eq!((before.served, before.pending), (2, 1));
    let warmer = Warmer::new(process.stores.clone(), process.recheck(), WarmupConfig::default());
    let report = warmer.warm(&listed(vec![video(1), video(2), video(2), video(3)])).await.unwrap();
    assert_eq!((report.counters, report.counters_filled), (3, 2), "{report:?}");
    assert_eq!(process.cached(video(1)).await, Some(before), "never written to");
    assert_eq!(process.cached(video(2)).await.unwrap().served, 1);
    let report = warmer.warm(&WarmupPlan { recent_events: 10, ..WarmupPlan::default() }).await.unwrap();
    assert_eq!((report.pairs, report.pairs_filled), (2, 2), "{report:?}");
    let states = process.stores.cache.states(&[video_pair(1, 1), video_pair(2, 2)]).await.unwrap();
    let liked = |version| Some(PairState { liked: true, version: Version(version) });
    assert_eq!(states, [liked(5), liked(6)]);
    let report = warmer.warm(&WarmupPlan { top_resources: 5, recent_events: 10, resources: vec![] }).await.unwrap();
    assert_eq!((report.counters_filled, report.pairs_filled), (0, 0), "{report:?}");
    rig.end().await;
}

/// Somebody commits between the warm-up's reading the database and its filling the cache.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_old_when_it_was_filled_is_put_right() {
    let rig = Rig::new().await;
    let other = rig.process().await;
    let pair: Pair = video_pair(7, 1);
    other.applier.apply(&[event_of(video_pair(8, 1), Action::Like, 5)]).await.unwrap();
    let late = event_of(pair, Action::Like, 9);
    let cache = Arc::new(Racing::new(rig.cache(), other.applier.clone(), late));
    let stores = Stores::new(cache, other.stores.database.clone(), rig.sync.shards, rig.sync.circuit);
    let process = rig.process_with(stores);
    process.stores.prepare().await.unwrap();
    let warmer = Warmer::new(process.stores.clone(), process.recheck(), WarmupConfig::default());
    let report = warmer.warm(&listed(vec![pair.resource])).await.unwrap();
    assert_eq!(report.counters_filled, 1, "{report:?}");
    eventually(PATIENCE, "the committed count", async || {
        expect_eq(process.cached(pair.resource).await.map(|count| (count.served, count.pending)), Some((2, 0)))
    })
    .await;
    rig.end().await;
}

/// The same of a reader that is gone before anybody looked again.
#[tokio::test]
async fn what_a_reader_filled_last_is_looked_at_again() {
    let rig = Rig::new().await;
    let other = rig.process().await;
    let pair: Pair = video_pair(7, 1);
    other.applier.apply(&[event_of(video_pair(8, 1), Action::Like, 5)]).await.unwrap();
    let late = event_of(pair, Action::Like, 9);
    let cache = Arc::new(Racing::new(rig.cache(), other.applier.clone(), late));
    let stores = Stores::new(cache, other.stores.database.clone(), rig.sync.shards, rig.sync.circuit);
    stores.prepare().await.unwrap();
    let (recheck, task) = Recheck::new(stores.clone());
    let read = Reader::new(stores, recheck).counts(&[pair.resource]).await.unwrap();
    assert_eq!(read.values, [1]);
    task.run(CancellationToken::new()).await;
    let cached = other.cached(pair.resource).await.map(|count| (count.served, count.pending));
    assert_eq!(cached, Some((2, 0)));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_at_a_time_at_its_rate_and_not_while_a_store_is_away() {
    let rig = Rig::new().await;
    let process = rig.process().await;
    let config = WarmupConfig { max_rate: 100, ..WarmupConfig::default() };
    let warmer = Warmer::new(process.stores.clone(), process.recheck(), config);
    let began = Instant::now();
    let running = tokio::spawn({
        let warmer = warmer.clone();
        async move { warmer.warm(&listed((1..=50).map(video).collect())).await }
    });
    eventually(PATIENCE, "the first fill", async || process.cached(video(1)).await.is_some()).await;
    let second = warmer.warm(&listed(vec![video(1)])).await;
    assert!(matches!(second, Err(WarmupError::Busy)), "{second:?}");
    let report = running.await.unwrap().unwrap();
    assert_eq!(report.counters_filled, 50);
    assert!(began.elapsed() >= Duration::from_millis(490), "50 at 100 per second in {:?}", began.elapsed());

    process.stores.database_circuit.trip(&"test");
    let unreachable = warmer.warm(&listed(vec![video(1)])).await;
    assert!(matches!(&unreachable, Err(error) if error.is_unavailable()), "{unreachable:?}");
    rig.end().await;
}
