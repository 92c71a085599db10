//! The life of what the checkers find, and where ledger and findings stand.

use crate::support::{TestDb, at, like, on_both};
use event_store::{ClosedBy, EventStatus, FailedEvent, FindingRecord};
use uuid::Uuid;

on_both!(a_finding_is_opened_seen_again_and_closed, unfinished_events_and_open_subjects_are_counted);

const NOW: i64 = 1_700_000_000_000_000;

fn finding(kind: &str, user: Option<i64>, seen: i64) -> FindingRecord {
    FindingRecord {
        run_id: Uuid::from_u128(1),
        resource_type: "video".to_owned(),
        resource_id: 7,
        user_id: user,
        kind: kind.to_owned(),
        verdict: "stuck".to_owned(),
        cache_value: Some(seen - NOW),
        stored_value: None,
        details: "{}".to_owned(),
        repaired_at: None,
        created_at: at(seen),
    }
}

async fn a_finding_is_opened_seen_again_and_closed(db: TestDb) {
    let store = &db.store;
    let video = crate::support::video(7);
    for seen in [NOW, NOW + 10] {
        for one in [finding("ledger", Some(3), seen), finding("cached_pair", Some(3), seen), finding("row", None, seen)]
        {
            store.record_finding(&one).await.unwrap();
        }
    }
    let totals = store.finding_totals(at(NOW)).await.unwrap();
    assert_eq!((totals.open, totals.opened, totals.closed), (2, 3, 0), "two subjects, three findings, six looks");
    let open = store.open_findings(Some(video), 10).await.unwrap();
    assert_eq!(open.len(), 3);
    for life in &open {
        assert_eq!((life.sightings, life.opened_at, life.seen_at), (2, at(NOW), at(NOW + 10)), "{life:?}");
        assert_eq!((life.cache_value, &life.outcome, life.closed_at), (Some(10), &None, None), "{life:?}");
    }
    assert!(store.open_findings(Some(crate::support::video(8)), 10).await.unwrap().is_empty());

    // A repair that wrote nothing leaves it open.
    let mut row = finding("row", None, NOW + 10);
    store.record_repair(&row).await.unwrap();
    assert_eq!(store.finding_totals(at(0)).await.unwrap().open, 2);
    row.repaired_at = Some(at(NOW + 20));
    store.record_repair(&row).await.unwrap();
    let ledger: Vec<_> = open.into_iter().filter(|life| life.kind == "ledger").collect();
    store.close_findings(&ledger, ClosedBy::Consistent, at(NOW + 30)).await.unwrap();
    let lives = store.finding_lives(at(0), 10).await.unwrap();
    let mut ended: Vec<_> = lives.iter().map(|life| (life.kind.as_str(), life.outcome.as_deref())).collect();
    assert_eq!(ended[0], ("cached_pair", None), "what is open comes first");
    ended.sort_unstable();
    assert_eq!(ended, [("cached_pair", None), ("ledger", Some("consistent")), ("row", Some("repaired"))]);
    assert_eq!(store.finding_totals(at(NOW + 30)).await.unwrap().closed, 1);

    // Wrong again: a new life.
    store.record_finding(&finding("ledger", Some(3), NOW + 40)).await.unwrap();
    // Who saw it before it was seen again does not close it.
    store.close_findings(&ledger, ClosedBy::Consistent, at(NOW + 50)).await.unwrap();
    let open = store.open_findings(None, 10).await.unwrap();
    let again = open.iter().find(|life| life.kind == "ledger").unwrap();
    assert_eq!((again.sightings, again.opened_at, again.earlier), (1, at(NOW + 40), 1));
    // The one before it is still known, as it ended.
    let both = async || {
        let mut lives = store.finding_lives(at(0), 10).await.unwrap();
        lives.retain(|life| life.kind == "ledger");
        lives.into_iter().map(|life| (life.opened_at, life.earlier, life.outcome)).collect::<Vec<_>>()
    };
    let first = (at(NOW), 0, Some("consistent".to_owned()));
    assert_eq!(both().await, [(at(NOW + 40), 1, None), first.clone()]);
    assert_eq!(store.findings_of(video, &["ledger"], 10).await.unwrap().len(), 2);
    store.record_finding(&finding("ledger", Some(3), NOW + 41)).await.unwrap();
    assert_eq!(both().await, [(at(NOW + 40), 1, None), first], "seen again is no new life");
    let totals = store.finding_totals(at(NOW)).await.unwrap();
    assert_eq!((totals.opened, totals.closed), (4, 2), "the same thing, wrong twice, is two findings");
    // A look at everything that began between the two.
    store.close_findings_not_seen_since(at(NOW + 20), at(NOW + 60)).await.unwrap();
    let open = store.open_findings(None, 10).await.unwrap();
    assert_eq!(open.iter().map(|life| life.kind.as_str()).collect::<Vec<_>>(), ["ledger"]);

    store.purge_reports(at(NOW + 100), 100).await.unwrap();
    let kept = store.finding_lives(at(0), 10).await.unwrap();
    assert_eq!((kept.len(), kept[0].closed_at), (1, None), "what is open is not forgotten: {kept:?}");
}

async fn unfinished_events_and_open_subjects_are_counted(db: TestDb) {
    let store = &db.store;
    let none = store.standing(10).await.unwrap();
    assert!(none.ledger.iter().all(|one| one.count == 0 && one.oldest.is_none()), "{none:?}");
    assert_eq!((none.open_findings, none.oldest_finding), (0, None));

    store.apply(&[like(1, 7, NOW)], at(NOW)).await.unwrap();
    let failed = |user: i64, next: Option<i64>| {
        let mut event = like(user, 7, NOW + user);
        let made = uuid::Timestamp::from_unix(uuid::NoContext, 1_700_000_000 + user.unsigned_abs(), 0);
        event.intent.id = Uuid::new_v7(made);
        FailedEvent { event, error: "refused".to_owned(), next_retry_at: next.map(at) }
    };
    store.park(&[failed(2, None), failed(3, None), failed(4, Some(NOW * 2))], 1, at(NOW)).await.unwrap();
    store.record_finding(&finding("ledger", Some(2), NOW)).await.unwrap();
    store.record_finding(&finding("ledger", Some(3), NOW + 5)).await.unwrap();
    let standing = store.standing(10).await.unwrap();
    let of = |status| *standing.ledger.iter().find(|one| one.status == status).unwrap();
    assert_eq!(of(EventStatus::Dead).count, 2);
    assert_eq!(of(EventStatus::Dead).oldest, Some(at((1_700_000_000 + 2) * 1_000_000)));
    assert_eq!(of(EventStatus::Failed).count, 1);
    assert_eq!(of(EventStatus::Processing).count, 0);
    assert_eq!((standing.open_findings, standing.oldest_finding), (2, Some(at(NOW))));
    assert_eq!(store.standing(1).await.unwrap().ledger[3].count, 1, "no more than asked for");
}
