//! Parking, retries, listing.

use crate::support::{TestDb, at, comment_event, like, on_both, video};
use domain::{Action, LikeEvent, UserId};
use event_store::{EventFilter, EventStatus, FailedEvent, Operation, Pace, RetryFailure};
use std::collections::HashSet;
use std::time::Duration;
use uuid::Uuid;

const LEASE: Duration = Duration::from_secs(30);
const SECOND: i64 = 1_000_000;

on_both!(
    a_parked_event_is_retried_dies_and_is_replayed,
    parking_never_downgrades_a_completed_event,
    apply_completes_a_parked_event,
    an_expired_lease_can_be_claimed_again,
    two_workers_never_claim_the_same_event,
    events_are_listed_by_filter_and_page,
    errors_are_searched_and_grouped_without_their_numbers,
    statuses_are_counted_up_to_a_limit,
    hostile_text_is_kept_as_it_is,
);

fn failed(event: &LikeEvent, due: Option<i64>) -> FailedEvent {
    FailedEvent { event: event.clone(), error: "no such \u{1F41B}".to_owned(), next_retry_at: due.map(at) }
}

async fn a_parked_event_is_retried_dies_and_is_replayed(db: TestDb) {
    let mut event = like(1, 7, 100);
    event.intent.idempotency_key = Some("key".to_owned());
    let id = event.intent.id;
    db.store.park(&[failed(&event, Some(10 * SECOND))], 2, at(SECOND)).await.unwrap();
    let entry = db.store.event(id).await.unwrap().unwrap();
    assert_eq!((entry.status, entry.retry_count, entry.max_retries), (EventStatus::Failed, 0, 2));
    assert_eq!(entry.error.as_deref(), Some("no such \u{1F41B}"));

    assert_eq!(db.store.claim_due(at(9 * SECOND), 10, LEASE).await.unwrap(), []);
    let claimed = db.store.claim_due(at(10 * SECOND), 10, LEASE).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!((&claimed[0].event, claimed[0].retry_count, claimed[0].max_retries), (&event, 0, 2));
    assert_eq!(db.store.claim_due(at(11 * SECOND), 10, LEASE).await.unwrap(), []);

    let fails = async |error: &str, next: Option<i64>, seconds: i64| {
        let failure = RetryFailure { id, error: error.to_owned(), next_retry_at: next.map(|next| at(next * SECOND)) };
        db.store.record_retry_failures(&[failure], at(seconds * SECOND)).await.unwrap();
    };
    fails("again", Some(20), 11).await;
    let claimed = db.store.claim_due(at(20 * SECOND), 10, LEASE).await.unwrap();
    assert_eq!((claimed[0].retry_count, claimed[0].error.as_deref()), (1, Some("again")));
    fails("for the last time", None, 21).await;
    let entry = db.store.event(id).await.unwrap().unwrap();
    assert_eq!((entry.status, entry.retry_count, entry.next_retry_at), (EventStatus::Dead, 2, None));
    assert_eq!(db.store.claim_due(at(9_000 * SECOND), 10, LEASE).await.unwrap(), []);

    let replay = async |ids: &[Uuid], seconds: i64| {
        let now = at(seconds * SECOND);
        db.store.replay(ids, &Operation::default(), Pace { from: now, per_second: 10 }, now).await.unwrap().len()
    };
    assert_eq!(replay(&[id, Uuid::now_v7()], 30).await, 1);
    let claimed = db.store.claim_due(at(30 * SECOND), 10, LEASE).await.unwrap();
    assert_eq!((claimed.len(), claimed[0].retry_count), (1, 0));
    db.store.apply(&[claimed[0].event.clone()], at(31 * SECOND)).await.unwrap();
    let entry = db.store.event(id).await.unwrap().unwrap();
    assert_eq!((entry.status, entry.next_retry_at), (EventStatus::Completed, None));
    // A worker that comes late does no harm.
    fails("late", None, 32).await;
    assert_eq!(replay(&[id], 33).await, 0);
    assert_eq!(db.store.event(id).await.unwrap().unwrap().status, EventStatus::Completed);
}

async fn parking_never_downgrades_a_completed_event(db: TestDb) {
    let event = like(1, 7, 100);
    db.store.apply(std::slice::from_ref(&event), at(SECOND)).await.unwrap();
    let before = db.store.event(event.intent.id).await.unwrap().unwrap();
    db.store.park(&[failed(&event, Some(SECOND))], 2, at(2 * SECOND)).await.unwrap();
    assert_eq!(db.store.event(event.intent.id).await.unwrap().unwrap(), before);
}

async fn apply_completes_a_parked_event(db: TestDb) {
    let (failed_one, dead_one) = (like(1, 7, 100), like(2, 7, 101));
    db.store.park(&[failed(&failed_one, Some(SECOND)), failed(&dead_one, None)], 2, at(SECOND)).await.unwrap();
    // The same failure again keeps the retries that were used.
    db.store.park(&[failed(&dead_one, Some(SECOND))], 2, at(SECOND)).await.unwrap();
    assert_eq!(db.store.event(dead_one.intent.id).await.unwrap().unwrap().status, EventStatus::Dead);

    let applied = db.store.apply(&[failed_one.clone(), dead_one.clone()], at(2 * SECOND)).await.unwrap();
    assert_eq!(applied.counts.first().unwrap().1.count, 2);
    for event in [failed_one, dead_one] {
        let entry = db.store.event(event.intent.id).await.unwrap().unwrap();
        assert_eq!((entry.status, entry.processed_at), (EventStatus::Completed, Some(at(2 * SECOND))));
    }
    assert_eq!(db.store.claim_due(at(90 * SECOND), 10, LEASE).await.unwrap(), []);
}

async fn an_expired_lease_can_be_claimed_again(db: TestDb) {
    db.store.park(&[failed(&like(1, 7, 100), Some(SECOND))], 2, at(SECOND)).await.unwrap();
    assert_eq!(db.store.claim_due(at(SECOND), 10, LEASE).await.unwrap().len(), 1);
    assert_eq!(db.store.claim_due(at(30 * SECOND), 10, LEASE).await.unwrap().len(), 0);
    assert_eq!(db.store.claim_due(at(31 * SECOND), 10, LEASE).await.unwrap().len(), 1);
}

async fn two_workers_never_claim_the_same_event(db: TestDb) {
    let parked: Vec<_> = (1..=300).map(|n| failed(&like(n, 7, n), Some(SECOND + n))).collect();
    db.store.park(&parked, 2, at(SECOND)).await.unwrap();
    let mut workers = Vec::new();
    for _ in 0..4 {
        let store = db.store.clone();
        workers.push(tokio::spawn(async move {
            let mut mine = Vec::new();
            loop {
                let claimed = store.claim_due(at(2 * SECOND), 7, LEASE).await.unwrap();
                if claimed.is_empty() {
                    break mine;
                }
                assert!(claimed.len() <= 7);
                mine.extend(claimed.into_iter().map(|claimed| claimed.event.intent.id));
            }
        }));
    }
    let mut all = Vec::new();
    for worker in workers {
        all.extend(worker.await.unwrap());
    }
    // A worker that saw only locked rows stops early, so the rest may be left for one more look.
    all.extend(db.store.claim_due(at(2 * SECOND), 300, LEASE).await.unwrap().into_iter().map(|c| c.event.intent.id));
    assert_eq!(all.len(), 300);
    assert_eq!(all.into_iter().collect::<HashSet<_>>().len(), 300);
}

async fn events_are_listed_by_filter_and_page(db: TestDb) {
    let now = 1_700_000_000 * SECOND;
    let id = |n: i64| {
        let (seconds, nanos) = (u64::try_from((now + n * SECOND) / SECOND).unwrap(), 0);
        Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos))
    };
    let events: Vec<LikeEvent> = (1..=10)
        .map(|n| {
            let mut event = if n == 5 {
                comment_event(n, 7, Action::Unlike, now + n * SECOND)
            } else {
                like(n, 7 + n % 2, now + n * SECOND)
            };
            event.intent.id = id(n);
            event
        })
        .collect();
    db.store.apply(&events[..8], at(now)).await.unwrap();
    let late: Vec<_> = events[8..].iter().map(|event| failed(event, Some(now))).collect();
    db.store.park(&late, 3, at(now)).await.unwrap();

    let users = async |filter: EventFilter, limit, after| {
        let page = db.store.list_events(&filter, limit, after).await.unwrap();
        let users: Vec<i64> = page.events.iter().map(|entry| entry.event.pair().user.get()).collect();
        (users, page.next)
    };
    let all = EventFilter::default();
    let (first, next) = users(all.clone(), 4, None).await;
    assert_eq!(first, [10, 9, 8, 7]);
    let (second, next) = users(all.clone(), 4, next).await;
    assert_eq!(second, [6, 5, 4, 3]);
    let (third, next) = users(all.clone(), 4, next).await;
    assert_eq!((third, next), (vec![2, 1], None));

    let of = |status| EventFilter { status: Some(status), ..all.clone() };
    assert_eq!(users(of(EventStatus::Failed), 9, None).await.0, [10, 9]);
    assert_eq!(users(of(EventStatus::Dead), 9, None).await, (vec![], None));
    assert_eq!(users(EventFilter { resource: Some(video(7)), ..all.clone() }, 9, None).await.0, [10, 8, 6, 4, 2]);
    assert_eq!(users(EventFilter { user: Some(UserId::new(3).unwrap()), ..all.clone() }, 9, None).await.0, [3]);
    let window = EventFilter { since: Some(at(now + 3 * SECOND)), until: Some(at(now + 6 * SECOND)), ..all.clone() };
    assert_eq!(users(window, 9, None).await.0, [5, 4, 3]);
    let one = EventFilter { id: Some(events[4].intent.id), ..all.clone() };
    assert_eq!(users(one, 9, None).await.0, [5]);
}

async fn errors_are_searched_and_grouped_without_their_numbers(db: TestDb) {
    let errors = [
        "Column 'user_7' is 100% wrong: row 7",
        "column 'user_8' is 100% wrong: row 8",
        "Column 'user_9' is 100% wrong: row 9",
        "no connection",
    ];
    let fails = errors
        .iter()
        .zip(1..)
        .map(|(error, n)| FailedEvent { error: (*error).to_owned(), ..failed(&like(n, 7, n * SECOND), None) });
    db.store.park(&fails.collect::<Vec<_>>(), 3, at(9 * SECOND)).await.unwrap();
    db.store.apply(&[like(9, 7, 9)], at(9 * SECOND)).await.unwrap();
    let listed = async |filter: EventFilter, limit| {
        let page = db.store.list_events(&filter, limit, None).await.unwrap();
        let mut users: Vec<i64> = page.events.iter().map(|entry| entry.event.pair().user.get()).collect();
        users.sort_unstable();
        users
    };
    let all = EventFilter::default();
    let by_text = |text: &str| EventFilter { error: Some(text.to_owned()), ..EventFilter::default() };
    assert_eq!(listed(by_text("100% WRONG"), 9).await, [1, 2, 3]);
    assert_eq!(listed(by_text("_8'"), 9).await, [2], "an underscore is an underscore");
    assert_eq!(listed(by_text("'; --"), 9).await, [0; 0]);

    let groups = db.store.error_groups(&all).await.unwrap();
    let seen: Vec<_> = groups.groups.iter().map(|one| (one.group.as_str(), one.events)).collect();
    let wrong = "Column 'user_#' is #% wrong: row #";
    assert_eq!(seen, [(wrong, 2), ("column 'user_#' is #% wrong: row #", 1), ("no connection", 1)]);
    assert!(!groups.capped && groups.groups[0].example.starts_with("Column 'user_"), "{groups:?}");
    let group = EventFilter { error_group: Some(wrong.to_owned()), ..all };
    assert_eq!(listed(group.clone(), 9).await, [1, 3], "what is written otherwise is another group");
    assert_eq!(db.store.error_groups(&group).await.unwrap().groups.len(), 1);
}

async fn statuses_are_counted_up_to_a_limit(db: TestDb) {
    let events: Vec<_> = (1..=5).map(|n| like(n, 7, n)).collect();
    db.store.apply(&events, at(SECOND)).await.unwrap();
    db.store.park(&[failed(&like(9, 7, 9), Some(SECOND)), failed(&like(10, 7, 9), None)], 3, at(SECOND)).await.unwrap();
    let counts = db.store.count_by_status(4).await.unwrap();
    let seen: Vec<_> = counts.iter().map(|count| (count.status.name(), count.count, count.capped)).collect();
    assert_eq!(
        seen,
        [
            ("pending", 0, false),
            ("processing", 0, false),
            ("completed", 4, true),
            ("failed", 1, false),
            ("dead", 1, false),
            ("discarded", 0, false)
        ]
    );
}

async fn hostile_text_is_kept_as_it_is(db: TestDb) {
    let text = "'; DROP TABLE sync_events; -- \\ \" \u{0} \u{1F600}";
    let mut event = like(1, 7, 100);
    event.intent.idempotency_key = Some(text.to_owned());
    let parked = FailedEvent { event: event.clone(), error: text.repeat(200), next_retry_at: None };
    db.store.park(&[parked], 2, at(SECOND)).await.unwrap();
    let entry = db.store.event(event.intent.id).await.unwrap().unwrap();
    assert_eq!(entry.event, event);
    let error = entry.error.unwrap();
    assert!(error.starts_with(text) && error.len() <= 2_000, "{} bytes", error.len());
}
