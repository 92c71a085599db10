//! A database that became what it once was: the cache is evidence, and is not made what the database is.

use crate::rig::{Rig, quick};
use consistency::{Kind, Strategy, Verdict};
use domain::Action;
use domain::cache::CachedCount;
use std::collections::BTreeSet;
use test_support::build::video_pair;
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
