//! A database that became what it once was: the cache is evidence, and is not made what the database is.

use crate::rig::{Rig, quick};
use consistency::{Kind, Strategy, Verdict};
use domain::cache::CachedCount;
use domain::{Action, LikeEvent, Origin, Pair, PairState};
use event_store::FailedEvent;
use std::collections::BTreeSet;
use sync_engine::SyncConfig;
use sync_engine::apply::Applier;
use sync_engine::recover::lost_pairs::LostPairs;
use test_support::build::{intent, video_pair};
use tokio_util::sync::CancellationToken;

const VIDEOS: i64 = 4;

/// Two likes of each video stay, two more and an unlike are lost.
async fn went_back(rig: &Rig) {
    for video in 1..=VIDEOS {
        rig.like(video_pair(1, video)).await;
        rig.like(video_pair(2, video)).await;
    }
    rig.settled().await;
    rig.deployment.copy_database().await.unwrap();
    for video in 1..=VIDEOS {
        rig.like(video_pair(3, video)).await;
        rig.like(video_pair(4, video)).await;
        rig.act(video_pair(1, video), Action::Unlike).await;
    }
    rig.settled().await;
    rig.deployment.restore_database().await.unwrap();
}

async fn counts(rig: &Rig) -> Vec<CachedCount> {
    let resources: Vec<_> = (1..=VIDEOS).map(|id| video_pair(1, id).resource).collect();
    rig.stores.cache.counts(&resources).await.unwrap().into_iter().flatten().collect()
}

async fn found(rig: &Rig) -> BTreeSet<(String, String)> {
    rig.found().await.into_iter().map(|one| (one.kind, one.verdict)).collect()
}

fn verdicts<const N: usize>(verdicts: [(Kind, Verdict); N]) -> BTreeSet<(String, String)> {
    verdicts.into_iter().map(|(kind, verdict)| (kind.name().to_owned(), verdict.name().to_owned())).collect()
}

/// Nobody has noticed yet but the checker, by revisions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn newer_caches_are_evidence_and_stay() {
    let rig = Rig::new().await;
    went_back(&rig).await;
    let before = counts(&rig).await;
    assert!(before.iter().all(|count| count.served == 3), "{before:?}");
    let checker = rig.repairing(Strategy::DatabaseFirst).await;
    let run = checker.sweep(&CancellationToken::new()).await.unwrap().unwrap();
    assert_eq!(run.repaired, 0, "{:#?}", rig.found().await);
    assert_eq!(
        found(&rig).await,
        verdicts([(Kind::CachedCount, Verdict::WentBack), (Kind::CachedPair, Verdict::Missing)])
    );
    assert_eq!(counts(&rig).await, before);
}

/// The process that had committed it is gone: the cache was told how far it had come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_lost_once_the_database_is_known_to_have_gone_back() {
    let rig = Rig::new().await;
    went_back(&rig).await;
    let other = rig.other_stores().await;
    other.prepare().await.unwrap();
    let evidence = other.history.went_back().expect("nobody noticed");
    assert!(evidence.found.is_some_and(|(found, _)| found < evidence.known.number), "{evidence}");

    let before = counts(&rig).await;
    let checker = rig.checker_of(other, quick(Strategy::DatabaseFirst));
    assert!(checker.leader().hold().await.unwrap());
    let run = checker.sweep(&CancellationToken::new()).await.unwrap().unwrap();
    assert_eq!(run.repaired, 0, "{:#?}", rig.found().await);
    assert_eq!(
        found(&rig).await,
        verdicts([(Kind::CachedCount, Verdict::WentBack), (Kind::CachedPair, Verdict::WentBack)])
    );
    assert_eq!(counts(&rig).await, before);

    // A counter that disagrees with its rows is not recounted over the evidence either.
    rig.sql("UPDATE like_counts SET like_count = 77").await;
    checker.sweep(&CancellationToken::new()).await.unwrap().unwrap();
    assert_eq!(counts(&rig).await, before);
    rig.sql("UPDATE like_counts SET like_count = 2").await;

    // What is written now is believed at once, and older words that only the cache has are still there.
    rig.like(video_pair(9, 1)).await;
    rig.settled().await;
    let count = counts(&rig).await[0];
    assert_eq!((count.served, count.stored), (3, 3));
    let pairs = [video_pair(3, 1), video_pair(1, 1)];
    let liked: Vec<_> =
        rig.stores.cache.states(&pairs).await.unwrap().into_iter().flatten().map(|pair| pair.liked).collect();
    assert_eq!(liked, [true, false]);
}

/// What only cached pairs have comes back by version, as often as one likes; counts follow; and the verdict goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_lost_comes_back_from_cached_pairs() {
    let rig = Rig::new().await;
    went_back(&rig).await;
    // One waits in the ledger, and so is nobody's to decide here.
    let waits = rig.stores.cache.states(&[video_pair(4, 1)]).await.unwrap()[0].unwrap();
    let failed = FailedEvent { event: event(&video_pair(4, 1), waits), error: "x".into(), next_retry_at: None };
    let now = chrono::DateTime::from(test_support::wall_clock());
    rig.stores.database.park(&[failed], 1, now).await.unwrap();
    // It has noticed, and tells the others.
    assert!(rig.stores.history.went_back().is_some());
    rig.stores.prepare_database().await.unwrap();
    let stores = rig.other_stores().await;
    stores.prepare().await.unwrap();
    assert!(stores.history.went_back().is_some());
    let recover = async |dry_run| {
        let applier = Applier::new(stores.clone(), SyncConfig::default().retry.into());
        let pairs = LostPairs::new(stores.clone(), applier, 1_000_000, dry_run);
        pairs.run(&CancellationToken::new(), |_| {}).await.unwrap()
    };
    let lost = VIDEOS.unsigned_abs() * 3 - 1;
    let said = recover(true).await;
    assert_eq!((said.lost, said.applied, said.in_ledger, said.finished), (lost, 0, 1, true), "{said:?}");
    assert!(stores.history.went_back().is_some(), "a dry run takes nothing away");

    let done = recover(false).await;
    assert_eq!((done.lost, done.applied, done.finished), (lost, lost, true), "{done:?}");
    stores.prepare_database().await.unwrap();
    assert_eq!(stores.history.went_back(), None);
    // The process whose commits were lost has given up their lanes.
    rig.stores.prepare_database().await.unwrap();
    assert_eq!(rig.stores.history.went_back(), None);
    let count = rig.number("SELECT COUNT(*) FROM user_behaviors").await;
    let again = recover(false).await;
    assert_eq!((again.lost, again.recounted), (0, 0), "{again:?}");
    assert_eq!(rig.number("SELECT COUNT(*) FROM user_behaviors").await, count);
    rig.assert_agreement(1..=VIDEOS).await;
    let live = "SELECT COUNT(*) FROM video_likes WHERE deleted_at IS NULL";
    assert_eq!(rig.number(live).await, VIDEOS * 3 - 1);
}

fn event(pair: &Pair, state: PairState) -> LikeEvent {
    let intent = intent(*pair, Action::from_liked(state.liked));
    LikeEvent { intent, version: state.version, origin: Origin::Journal }
}
