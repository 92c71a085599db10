//! Bounded deletes.

use crate::support::{TestDb, at, like, on_both, unlike, video_pair};
use domain::{LikeEvent, PairState, ResourceType};
use event_store::FailedEvent;
use uuid::{NoContext, Timestamp, Uuid};

const HOUR: i64 = 3_600_000_000;

on_both!(only_old_completed_events_are_deleted, only_old_tombstones_are_deleted);

/// An event made and accepted `hours` after 2023-11-14.
fn made(hours: i64, mut event: LikeEvent) -> LikeEvent {
    let seconds = 1_700_000_000 + hours * 3_600;
    event.version.0 = seconds * 1_000_000;
    event.intent.id = Uuid::new_v7(Timestamp::from_unix(NoContext, u64::try_from(seconds).unwrap(), 0));
    event
}

fn hour(hours: i64) -> chrono::DateTime<chrono::Utc> {
    at(1_700_000_000_000_000 + hours * HOUR)
}

async fn only_old_completed_events_are_deleted(db: TestDb) {
    let events: Vec<_> = (0..10).map(|n| made(n, like(n + 1, 7, 1))).collect();
    db.store.apply(&events, hour(10)).await.unwrap();
    let dead = made(0, like(99, 7, 1));
    let parked = FailedEvent { event: dead.clone(), error: "poison".to_owned(), next_retry_at: None };
    db.store.park(&[parked], 3, hour(10)).await.unwrap();

    assert_eq!(db.store.purge_completed(hour(5), 3).await.unwrap(), 3);
    assert_eq!(db.store.purge_completed(hour(5), 3).await.unwrap(), 2);
    assert_eq!(db.store.purge_completed(hour(5), 3).await.unwrap(), 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events").await, 6);
    assert!(db.store.event(dead.intent.id).await.unwrap().is_some());
    assert!(db.store.event(events[5].intent.id).await.unwrap().is_some());
    // A replay of a deleted event is still harmless.
    assert_eq!(db.store.apply(&events[..5], hour(11)).await.unwrap().changed_pairs, 0);
}

async fn only_old_tombstones_are_deleted(db: TestDb) {
    let mut events: Vec<_> = (1..=6).map(|user| made(0, like(user, 7, 1))).collect();
    events.extend([made(1, unlike(2, 7, 1)), made(1, unlike(4, 7, 1)), made(9, unlike(5, 7, 1))]);
    db.store.apply(&events, hour(10)).await.unwrap();

    let (mut purged, mut after, mut steps) = (0, None, 0);
    loop {
        let step = db.store.purge_tombstones(ResourceType::Video, hour(5), after, 2).await.unwrap();
        purged += step.purged;
        steps += 1;
        after = step.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((purged, steps), (2, 4));
    assert_eq!(db.numbers("SELECT user_id FROM video_likes ORDER BY user_id").await, [1, 3, 5, 6]);
    let states = db.store.load_states(&[video_pair(2, 7), video_pair(1, 7)]).await.unwrap();
    assert_eq!((states[0], states[1].liked), (PairState::UNTOUCHED, true));
    db.assert_counts_are_live_rows().await;
}
