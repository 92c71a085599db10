//! What the redo log lacks is found again, whoever dies: it is marked where it is written.

use crate::direct::soon;
use crate::support::{TestDb, at, intent, like, video_pair};
use domain::{Action, LikeEvent};
use event_store::{EventFilter, EventStore, FailedEvent, Marks};
use std::collections::HashSet;
use uuid::Uuid;

const ALL: u32 = 1_000;

const UNLOGGED: Marks = Marks { unlogged: true, unpublished: false };

async fn users(store: &EventStore) -> Vec<i64> {
    store.unlogged(ALL).await.unwrap().iter().map(|event| event.pair().user.get()).collect()
}

fn ids(events: &[LikeEvent]) -> Vec<Uuid> {
    events.iter().map(|event| event.intent.id).collect()
}

#[tokio::test]
async fn what_the_log_lacks_is_marked_until_the_log_has_it() {
    let db = TestDb::mysql().await;
    let store = &db.store;
    store.apply_marked(&[like(1, 7, 1)], UNLOGGED, at(1)).await.unwrap();
    assert_eq!(users(store).await, [0; 0], "nobody wants them");

    store.keep_unlogged(true);
    let (published, around) = (vec![like(2, 7, 2)], vec![like(3, 7, 3), like(4, 7, 4)]);
    store.apply(&published, at(2)).await.unwrap();
    store.apply_marked(&around, UNLOGGED, at(3)).await.unwrap();
    store.apply_direct(&[intent(video_pair(5, 7), Action::Like)], at(5), soon(), true).await.unwrap();
    assert_eq!(users(store).await, [3, 4, 5]);
    assert_eq!(store.unlogged_backlog(2).await.unwrap(), 2);
    let found = store.unlogged(2).await.unwrap();
    assert_eq!(found, around);

    // Another copy of it by the queue takes no mark away; a copy of what the queue brought may have come around it.
    store.apply(&around, at(6)).await.unwrap();
    store.apply_marked(&published, UNLOGGED, at(7)).await.unwrap();
    assert_eq!(users(store).await, [3, 4, 5, 2]);
    // A mark is nobody's retry.
    assert!(store.claim_due(at(1_000), ALL, std::time::Duration::from_secs(60)).await.unwrap().is_empty());
    let listed = store.list_events(&EventFilter::default(), 10, None).await.unwrap();
    assert!(listed.events.iter().all(|entry| entry.next_retry_at.is_none()));

    store.logged(&ids(&around)).await.unwrap();
    assert_eq!(users(store).await, [5, 2]);
    db.assert_counts_are_live_rows().await;
}

#[tokio::test]
async fn what_was_refused_at_first_is_marked_when_it_completes_and_a_discarded_one_never() {
    let db = TestDb::mysql().await;
    let store = &db.store;
    store.keep_unlogged(true);
    let (late, discarded) = (like(1, 7, 1), like(2, 7, 2));
    let parked =
        |event: &LikeEvent| FailedEvent { event: event.clone(), error: "poison".to_owned(), next_retry_at: None };
    store.park(&[parked(&late), parked(&discarded)], 3, at(1)).await.unwrap();
    db.execute("UPDATE sync_events SET status = 'discarded' WHERE user_id = 2").await;
    store.apply_marked(&[late, discarded.clone()], UNLOGGED, at(2)).await.unwrap();
    assert_eq!(users(store).await, [1]);
    let row = store.event(discarded.intent.id).await.unwrap().unwrap();
    assert_eq!((row.status, row.next_retry_at), (event_store::EventStatus::Discarded, None));
}

/// The log forgets at some time, too: what waits for longer than completed events are kept goes with them.
#[tokio::test]
async fn what_waits_for_too_long_is_deleted_with_its_row() {
    let db = TestDb::mysql().await;
    let store = &db.store;
    store.keep_unlogged(true);
    store.apply_marked(&[like(1, 7, 1), like(2, 7, 2)], UNLOGGED, at(1)).await.unwrap();
    store.apply_marked(&[like(3, 7, 3)], UNLOGGED, at(1_000)).await.unwrap();
    assert_eq!(store.purge_completed(at(500), 1).await.unwrap(), 1);
    assert_eq!(store.purge_completed(at(500), 10).await.unwrap(), 1);
    assert_eq!(users(store).await, [3]);
}

#[tokio::test]
async fn an_event_is_known_by_ledger_or_history() {
    let db = TestDb::mysql().await;
    let events: Vec<_> = (1..=4).map(|user| like(user, 7, user)).collect();
    db.store.apply(&events[..2], at(1)).await.unwrap();
    let failed = FailedEvent { event: events[2].clone(), error: "poison".to_owned(), next_retry_at: Some(at(9)) };
    db.store.park(&[failed], 3, at(1)).await.unwrap();
    // Old ones leave the ledger.
    db.execute("DELETE FROM sync_events WHERE user_id = 1").await;
    let known = db.store.known_events(&ids(&events)).await.unwrap();
    assert_eq!(known, ids(&events[..3]).into_iter().collect::<HashSet<_>>());
}
