//! The life of a finding: opened by the first look that sees it, closed by a repair or by a look that finds nothing wrong.

use crate::rig::{Rig, quick, video_of};
use consistency::{Kind, Strategy, Verdict};
use domain::Action;
use event_store::{FailedEvent, FindingLife};
use test_support::build::{event, video_pair};
use tokio_util::sync::CancellationToken;

async fn lives(rig: &Rig) -> Vec<FindingLife> {
    rig.stores.database.finding_lives(chrono::DateTime::UNIX_EPOCH, 1_000).await.unwrap()
}

fn now() -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from(test_support::wall_clock())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_like_is_one_open_finding_until_it_is_applied() {
    let rig = Rig::new().await;
    for user in 1..=3 {
        rig.like(video_pair(user, 3)).await;
    }
    rig.settled().await;
    let dead = event(50, 3, Action::Like, rig.stores.now().0);
    let parked = FailedEvent { event: dead.clone(), error: "poison\nand more".to_owned(), next_retry_at: None };
    rig.stores.database.park(&[parked], 1, now()).await.unwrap();
    // The cache shows what was accepted.
    let shown = dead.version.0 * 2 + 1;
    rig.redis::<()>(&format!("SET {} {shown}", rig.keys.pair(dead.pair()))).await;

    let checker = rig.repairing(Strategy::DatabaseFirst).await;
    for _ in 0..3 {
        let checked = checker.check(video_of(3), false).await.unwrap();
        assert_eq!((checked.verdict, checked.findings.len()), (Verdict::Stuck, 1), "{checked:?}");
        let finding = &checked.findings[0];
        assert_eq!(finding.kind, Kind::Ledger, "{finding:?}");
        assert!(finding.detail.ends_with(": poison; remove the reason, then replay it"), "{finding:?}");
        checker.check_hot().await.unwrap();
        checker.sweep(&CancellationToken::new()).await.unwrap().unwrap();
    }
    let report = checker.report(1).await.unwrap();
    assert_eq!((report.open, report.opened, report.closed), (1, 1, 0), "however often it was seen");
    assert_eq!(report.inconsistent, 9);
    assert_eq!(report.consistency_rate, Some(1.0), "late is not different");
    // How quick this machine is is no matter here.
    let of_likes = |report: consistency::Report| {
        let kinds = report.troubles.into_iter().map(|one| one.kind.name());
        kinds.filter(|kind| *kind != "commit_lag").collect::<Vec<_>>()
    };
    assert_eq!(of_likes(report), ["dead_events", "open_findings"]);
    let open = &lives(&rig).await[0];
    assert_eq!((open.sightings, open.user_id, &open.outcome), (9, Some(50), &None), "{open:?}");

    // As the retries do after a replay.
    rig.stores.database.apply(&[dead], now()).await.unwrap();
    checker.check_hot().await.unwrap();
    let closed = lives(&rig).await.into_iter().find(|life| life.kind == "ledger").unwrap();
    assert_eq!(closed.outcome.as_deref(), Some("consistent"), "{closed:?}");
    let report = checker.report(1).await.unwrap();
    assert_eq!((report.open, of_likes(report).len()), (0, 0), "{:#?}", lives(&rig).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_repaired_or_put_right_by_somebody_is_closed() {
    let rig = Rig::new().await;
    for video in 1..=3 {
        rig.like(video_pair(1, video)).await;
    }
    rig.settled().await;
    rig.redis::<()>(&format!("HINCRBY {} n 3", rig.counter(1))).await;
    rig.redis::<()>(&format!("HINCRBY {} n 3", rig.counter(2))).await;
    rig.sql("INSERT INTO video_likes VALUES (900, 77, '2150-01-01', '2150-01-01', NULL, 5700000000000000)").await;
    rig.sql("INSERT INTO like_counts VALUES ('video', 77, 1, 1, 5700000000000000, '2026-01-01')").await;
    let looking = rig.checker_with(quick(Strategy::ReportOnly)).await;
    looking.sweep(&CancellationToken::new()).await.unwrap().unwrap();
    assert_eq!(looking.report(1).await.unwrap().open, 3, "{:#?}", lives(&rig).await);

    let repairing = rig.repairing(Strategy::DatabaseFirst).await;
    repairing.check(video_of(1), false).await.unwrap();
    // Somebody else puts the second one right; the third is a row, which only a full sweep comes to.
    rig.redis::<()>(&format!("HINCRBY {} n -3", rig.counter(2))).await;
    rig.sql("DELETE FROM video_likes WHERE video_id = 77; DELETE FROM like_counts WHERE resource_id = 77").await;
    looking.check_hot().await.unwrap();
    let ended = async || {
        let mut ended: Vec<_> = lives(&rig).await.into_iter().map(|life| (life.resource_id, life.outcome)).collect();
        ended.sort();
        ended
    };
    let (repaired, consistent) = (Some("repaired".to_owned()), Some("consistent".to_owned()));
    assert_eq!(ended().await, [(1, repaired.clone()), (2, consistent.clone()), (77, None)]);
    looking.sweep(&CancellationToken::new()).await.unwrap().unwrap();
    assert_eq!(ended().await, [(1, repaired), (2, consistent.clone()), (77, consistent)]);
}
