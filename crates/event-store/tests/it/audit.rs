//! What the checker reads and writes.

use crate::support::{TestDb, at, like, on_both, unlike, video};
use domain::{Action, LikeEvent, ResourceType, StoredCount, Version};
use event_store::{Fenced, FindingRecord, RecentLags, RunRecord, RunStatus};
use uuid::Uuid;

on_both!(
    counts_are_compared_with_live_rows_and_repaired,
    a_smaller_token_writes_nothing,
    history_and_ledger_are_walked,
    lags_are_those_of_a_range,
    reports_are_kept_and_purged,
);

const NOW: i64 = 1_700_000_000_000_000;

async fn some_likes(db: &TestDb) {
    let mut events: Vec<_> =
        (1..=6).flat_map(|id| (1..=id).map(move |user| like(user, id, NOW + id * 100 + user))).collect();
    events.push(unlike(1, 6, NOW + 5_000));
    db.store.apply(&events, at(NOW + 10_000)).await.unwrap();
}

async fn counts_are_compared_with_live_rows_and_repaired(db: TestDb) {
    some_likes(&db).await;
    let step = db.store.audit_page(ResourceType::Video, 0, 4).await.unwrap();
    assert_eq!((step.resources.len(), step.suspects.len(), step.next), (4, 0, Some(4)));
    let step = db.store.audit_page(ResourceType::Video, 4, 4).await.unwrap();
    assert_eq!((step.resources, step.suspects, step.next), (vec![video(5), video(6)], vec![], None));

    db.execute("UPDATE like_counts SET like_count = 9 WHERE resource_id = 2").await;
    db.execute("DELETE FROM like_counts WHERE resource_id = 3").await;
    db.execute("DELETE FROM video_likes WHERE video_id = 4").await;
    let step = db.store.audit_page(ResourceType::Video, 0, 100).await.unwrap();
    assert_eq!((step.resources.len(), step.suspects), (6, vec![video(2), video(3), video(4)]));

    let seen = db.store.audit_counts(&[video(6), video(3), video(2), video(77)]).await.unwrap();
    let seen: Vec<_> = seen.iter().map(|audit| (audit.stored.map(|stored| stored.count), audit.live)).collect();
    assert_eq!(seen, [(Some(5), 5), (None, 3), (Some(9), 2), (None, 0)]);

    let token = db.store.take_repair_token().await.unwrap();
    let revision = db.number("SELECT revision FROM like_counts WHERE resource_id = 2").await;
    let ahead = revision + 3_600_000_000;
    for (id, live, least) in [(2, 2, revision + 1), (3, 3, ahead + 1), (4, 0, ahead + 1)] {
        let above = if id == 2 { 0 } else { ahead };
        let Fenced::Done(repaired) = db.store.repair_count(video(id), above, token, at(NOW)).await.unwrap() else {
            panic!("refused");
        };
        assert!(repaired.changed());
        assert_eq!(repaired.before.is_none(), id == 3);
        assert_eq!(repaired.after.count, live, "video {id}");
        assert!(repaired.after.revision >= least, "video {id}: {repaired:?}");
        assert_eq!(db.store.load_counts(&[video(id)]).await.unwrap(), [repaired.after]);
        let again = db.store.repair_count(video(id), 0, token, at(NOW)).await.unwrap();
        assert!(matches!(again, Fenced::Done(again) if !again.changed()), "{again:?}");
    }
    assert_eq!(db.store.load_counts(&[video(3)]).await.unwrap()[0].last_version, Version(NOW + 303));
    db.assert_counts_are_live_rows().await;
}

async fn a_smaller_token_writes_nothing(db: TestDb) {
    some_likes(&db).await;
    let old = db.store.take_repair_token().await.unwrap();
    let new = db.store.take_repair_token().await.unwrap();
    assert!(new > old);
    db.execute("UPDATE like_counts SET like_count = 9 WHERE resource_id = 2").await;
    assert_eq!(db.store.repair_count(video(2), 0, old, at(NOW)).await.unwrap(), Fenced::Refused);
    assert_eq!(db.store.restore(&[like(50, 2, NOW)], old, at(NOW)).await.unwrap(), Fenced::Refused);
    assert_eq!(db.store.load_counts(&[video(2)]).await.unwrap()[0].count, 9);
    assert!(matches!(db.store.restore(&[like(50, 2, NOW)], new, at(NOW)).await.unwrap(), Fenced::Done(_)));
    assert_eq!(db.store.load_counts(&[video(2)]).await.unwrap()[0].count, 10);
}

async fn history_and_ledger_are_walked(db: TestDb) {
    some_likes(&db).await;
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let (step, next) = db.store.behaviors_after(after, at(0), 5).await.unwrap();
        seen.extend(step);
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 22);
    assert!(seen.is_sorted_by(|one, two| one.event_id < two.event_id));
    assert_eq!(seen.iter().filter(|behavior| behavior.action == Action::Unlike).count(), 1);

    assert!(db.store.ledger_after(None, at(0), 100).await.unwrap().iter().all(|audit| audit.in_history));
    db.execute("DELETE FROM user_behaviors WHERE video_id = 1").await;
    let ledger = db.store.ledger_after(None, at(0), 100).await.unwrap();
    let lost: Vec<_> =
        ledger.iter().filter(|audit| !audit.in_history).map(|audit| audit.entry.event.pair().resource).collect();
    assert_eq!((ledger.len(), lost), (22, vec![video(1)]));
    assert_eq!(db.store.latest_pairs(5).await.unwrap().len(), 5);
    assert_eq!(db.store.commit_lags(3).await.unwrap().len(), 3);
}

async fn lags_are_those_of_a_range(db: TestDb) {
    const SECOND: i64 = 1_000_000;
    assert_eq!(db.store.recent_lags(at(NOW), at(NOW + SECOND)).await.unwrap(), RecentLags::default());
    // One a second for a minute, each committed half a second later; the last one after nine seconds.
    let accepted = |second: i64| {
        let mut event = like(second + 1, 1, NOW + second * SECOND);
        let made = uuid::Timestamp::from_unix(uuid::NoContext, (NOW / SECOND + second).unsigned_abs(), 0);
        event.intent.id = Uuid::new_v7(made);
        event
    };
    for second in 0..60 {
        let took = if second == 59 { 9 * SECOND } else { SECOND / 2 };
        db.store.apply(&[accepted(second)], at(NOW + second * SECOND + took)).await.unwrap();
    }
    let all = db.store.recent_lags(at(NOW), at(NOW + 60 * SECOND)).await.unwrap();
    // An attempt of which this machine makes a long one took longer.
    let took =
        |lags: &RecentLags, least: i64| lags.newest.is_some_and(|newest| (least..least + 8_000).contains(&newest));
    assert!(all.lags.len() == 60 && took(&all, 9_000), "{all:?}");
    assert_eq!(all.lags.iter().filter(|lag| (500..9_000).contains(*lag)).count(), 59, "{all:?}");
    let some = db.store.recent_lags(at(NOW + 30 * SECOND), at(NOW + 90 * SECOND)).await.unwrap();
    assert!(some.lags.len() == 30 && took(&some, 9_000), "what was accepted before is left out: {some:?}");
    // What a repair brought in is as old as it is.
    let mut old = accepted(61);
    old.origin = domain::Origin::Import;
    db.store.apply(&[old], at(NOW + 900 * SECOND)).await.unwrap();
    assert_eq!(db.store.recent_lags(at(NOW + 30 * SECOND), at(NOW + 90 * SECOND)).await.unwrap(), some);
    // Of a burst some are enough, and the quiet time before it is not forgotten.
    let burst: Vec<_> = (0..2_000)
        .map(|user| LikeEvent { version: Version(NOW + 89 * SECOND), ..of_user(accepted(89), user) })
        .collect();
    db.store.apply(&burst, at(NOW + 90 * SECOND)).await.unwrap();
    let bursting = db.store.recent_lags(at(NOW + 30 * SECOND), at(NOW + 90 * SECOND)).await.unwrap();
    assert!(bursting.lags.len() == 130 && took(&bursting, 1_000), "{bursting:?}");
}

/// The same in another user's name, as an event of its own.
fn of_user(mut event: LikeEvent, user: i64) -> LikeEvent {
    event.intent.pair = test_support::build::video_pair(1_000 + user, 1);
    let id = event.intent.id.as_u128();
    event.intent.id = Uuid::from_u128((id & !0xFFFF) | u128::from(user.unsigned_abs()));
    event
}

async fn reports_are_kept_and_purged(db: TestDb) {
    let run = |id: u128, started: i64| RunRecord {
        id: Uuid::from_u128(id),
        kind: "full".to_owned(),
        strategy: "report_only".to_owned(),
        status: "running".to_owned(),
        started_at: at(started),
        finished_at: None,
        checked: 0,
        inconsistent: 0,
        repaired: 0,
        coverage: None,
    };
    let save = async |run: &RunRecord, status| db.store.save_run(run, "full", "report_only", status).await.unwrap();
    let old = run(1, NOW - 10_000_000_000);
    let new = RunRecord { checked: 10, inconsistent: 2, repaired: 1, coverage: Some(0.5), ..run(2, NOW) };
    save(&old, RunStatus::Running).await;
    save(&run(2, NOW), RunStatus::Running).await;
    save(&new, RunStatus::Finished).await;
    let mut finding = FindingRecord {
        run_id: new.id,
        resource_type: "video".to_owned(),
        resource_id: 7,
        user_id: Some(3),
        kind: "cached_pair".to_owned(),
        verdict: "drift".to_owned(),
        cache_value: Some(1),
        stored_value: None,
        details: "{\"it's\": 1}".to_owned(),
        repaired_at: None,
        created_at: at(NOW),
    };
    db.store.record_finding(&finding).await.unwrap();
    db.store.record_finding(&FindingRecord { user_id: None, ..finding.clone() }).await.unwrap();
    finding.repaired_at = Some(at(NOW + 5));
    finding.details = "{}".to_owned();
    db.store.record_repair(&finding).await.unwrap();
    let found = db.store.findings_since(at(NOW), 10).await.unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[1], finding);
    let kinds = db.store.findings_by_kind(at(0)).await.unwrap();
    assert_eq!((kinds.len(), kinds[0].found, kinds[0].repaired), (1, 2, 1));

    assert_eq!(db.store.runs_since(at(NOW), 10).await.unwrap(), [RunRecord { status: "finished".to_owned(), ..new }]);
    let hours = db.store.runs_by_hour(at(0)).await.unwrap();
    assert_eq!((hours.len(), hours[1].checked, hours[1].hour.as_str()), (2, 10, "2023-11-14 22"));
    assert_eq!(db.store.purge_reports(at(NOW), 10).await.unwrap(), 1);
    assert_eq!(db.store.purge_reports(at(NOW + 1), 1).await.unwrap(), 2);
    assert_eq!(db.store.runs_since(at(0), 10).await.unwrap(), []);

    // However many single checks came after it: the latest sweep of each kind that came to its end.
    let ran = |kind: &str, started: i64, status: RunStatus| RunRecord {
        id: Uuid::now_v7(),
        kind: kind.to_owned(),
        strategy: "report_only".to_owned(),
        status: status.name().to_owned(),
        started_at: at(NOW + started),
        finished_at: None,
        checked: 1,
        inconsistent: 0,
        repaired: 0,
        coverage: None,
    };
    let (finished, aborted) = (RunStatus::Finished, RunStatus::Aborted);
    let mut runs = vec![("full", 1, finished), ("full", 2, finished), ("full", 3, aborted)];
    runs.extend((4..20).map(|started| ("demand", started, finished)));
    let mut second = None;
    for (kind, started, status) in runs {
        let run = ran(kind, started, status);
        db.store.save_run(&run, kind, "report_only", status).await.unwrap();
        second = second.or((started == 2).then_some(run));
    }
    let latest = db.store.latest_finished(&["full", "hot"], at(NOW)).await.unwrap();
    assert_eq!(latest, [second.unwrap()]);
    assert_eq!(db.store.latest_finished(&["full"], at(NOW + 3)).await.unwrap(), []);

    assert_eq!(db.store.remembered("sweep").await.unwrap(), None);
    db.store.remember("sweep", "video:1").await.unwrap();
    db.store.remember("sweep", "video:2").await.unwrap();
    assert_eq!(db.store.remembered("sweep").await.unwrap().as_deref(), Some("video:2"));
    assert_eq!(db.store.load_counts(&[video(1)]).await.unwrap(), [StoredCount::default()]);
}
