//! A row that somebody deleted, while ledger, history and cache still have its like: for one resource it means what it means for
//! all.

use crate::rig::{Rig, is, video_of};
use consistency::{Kind, RepairAction, RepairResult, Strategy, Verdict};
use test_support::build::video_pair;
use tokio_util::sync::CancellationToken;

const VIDEO: i64 = 7;

async fn one_deleted(rig: &Rig) {
    for user in 1..=6 {
        rig.like(video_pair(user, VIDEO)).await;
    }
    rig.settled().await;
    rig.sql(&format!("DELETE FROM video_likes WHERE user_id = 5 AND video_id = {VIDEO}")).await;
}

async fn rows(rig: &Rig) -> i64 {
    rig.number(&format!("SELECT COUNT(*) FROM video_likes WHERE video_id = {VIDEO} AND deleted_at IS NULL")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_of_one_resource_brings_it_back_before_anything_is_counted() {
    let rig = Rig::new().await;
    one_deleted(&rig).await;
    let checker = rig.repairing(Strategy::DatabaseFirst).await;
    let seen = checker.check(video_of(VIDEO), true).await.unwrap();
    let row = seen.findings.iter().find(|one| one.kind == Kind::Row).unwrap_or_else(|| panic!("{seen:#?}"));
    let note = row.repair.as_ref().unwrap();
    assert_eq!(
        (row.verdict, note.action, note.outcome),
        (Verdict::Missing, RepairAction::Restore, RepairResult::DryRun)
    );
    assert_eq!(rows(&rig).await, 5, "a look writes nothing");

    let done = checker.check(video_of(VIDEO), false).await.unwrap();
    assert!(done.findings.iter().all(|one| one.repair.as_ref().is_some_and(|note| note.is_repaired())), "{done:#?}");
    assert!(done.findings.iter().all(|one| one.kind != Kind::StoredCount), "counted without the row: {done:#?}");
    assert_eq!(rows(&rig).await, 6);
    rig.assert_agreement([VIDEO].into_iter()).await;
    let again = checker.check(video_of(VIDEO), true).await.unwrap();
    assert_eq!(again.findings, [], "all is well");
}

/// Of a pair that is open as missing in the cache only, from a time when its event was not found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cached_pair_whose_event_was_applied_is_not_said_to_be_unknown() {
    let rig = Rig::new().await;
    one_deleted(&rig).await;
    let checker = rig.repairing(Strategy::DatabaseFirst).await;
    // The newest pairs alone: nothing else leads to the row.
    checker.check_hot().await.unwrap();
    let found = rig.found().await;
    assert!(found.iter().any(|one| is(one, Kind::Row, Verdict::Missing, VIDEO)), "{found:#?}");
    assert!(!found.iter().any(|one| one.kind == Kind::CachedPair.name()), "{found:#?}");
    assert_eq!(rows(&rig).await, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_missing_pair_is_told_once() {
    let rig = Rig::new().await;
    one_deleted(&rig).await;
    let checker = rig.repairing(Strategy::DatabaseFirst).await;
    let mut told = Vec::new();
    checker.audit(false, &CancellationToken::new(), |_, findings| told.extend(findings)).await.unwrap().unwrap();
    let pairs: Vec<_> = told.iter().filter(|one| matches!(one.kind, Kind::Row | Kind::CachedPair)).collect();
    assert_eq!(pairs.len(), 1, "{told:#?}");
    assert_eq!(pairs[0].kind, Kind::Row);
    assert_eq!(rows(&rig).await, 5, "a look writes nothing");
}
