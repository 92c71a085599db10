//! Bounded deletes, and tombstones that move and are never forgotten.

use crate::direct::{decided, soon};
use crate::support::{TestDb, at, event, like, on_both, unlike, video_pair};
use domain::{Action, LikeEvent, Pair, PairState, ResourceType};
use event_store::{FailedEvent, Fenced, ImportOptions};
use std::collections::BTreeMap;
use test_support::Random;
use uuid::{NoContext, Timestamp, Uuid};

const HOUR: i64 = 3_600_000_000;

on_both!(
    only_old_completed_events_are_deleted,
    only_old_tombstones_are_moved,
    an_archived_tombstone_beats_older_events_whatever_their_way,
    no_order_of_events_and_moves_matters,
    moving_beside_writers_loses_no_tombstone,
    ages_are_those_of_the_databases_clock,
);

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

async fn only_old_tombstones_are_moved(db: TestDb) {
    let mut events: Vec<_> = (1..=6).map(|user| made(0, like(user, 7, 1))).collect();
    events.extend([made(1, unlike(2, 7, 1)), made(1, unlike(4, 7, 1)), made(9, unlike(5, 7, 1))]);
    db.store.apply(&events, hour(10)).await.unwrap();

    let (mut archived, mut after, mut steps) = (0, None, 0);
    loop {
        let step = db.store.archive_tombstones(ResourceType::Video, hour(5), after, 2).await.unwrap();
        archived += step.archived;
        steps += 1;
        after = step.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((archived, steps), (2, 4));
    assert_eq!(db.numbers("SELECT user_id FROM video_likes ORDER BY user_id").await, [1, 3, 5, 6]);
    let states = db.store.load_states(&[video_pair(2, 7), video_pair(1, 7)]).await.unwrap();
    assert_eq!((states[0], states[1].liked), (PairState::UNTOUCHED, true));
    db.assert_counts_are_live_rows().await;
}

/// Journal, queue, replay, restored row or direct write: whoever brings an old event finds the tombstone.
async fn an_archived_tombstone_beats_older_events_whatever_their_way(db: TestDb) {
    let video = |user| video_pair(user, 7);
    for user in 1..=5 {
        db.store.apply(&[made(1, unlike(user, 7, 1))], hour(1)).await.unwrap();
    }
    let moved = db.store.archive_tombstones(ResourceType::Video, hour(5), None, 100).await.unwrap().archived;
    assert_eq!((moved, db.number("SELECT COUNT(*) FROM video_likes").await), (5, 0));

    let late = |user| made(0, like(user, 7, 1));
    assert_eq!(db.store.apply(&[late(1)], hour(900)).await.unwrap().changed_pairs, 0);
    let token = db.store.take_repair_token().await.unwrap();
    let Fenced::Done(restored) = db.store.restore(&[late(2)], token, hour(900)).await.unwrap() else {
        panic!("fenced");
    };
    assert_eq!(restored.changed_pairs, 0);
    let synchronous = decided(
        db.store.apply_synchronous(&[late(3).intent], &[late(3).version.into()], hour(900), soon()).await.unwrap(),
    );
    assert!(!synchronous[0].changed, "{synchronous:?}");
    // A direct write comes now, by a clock that is behind: it is newer than what it follows all the same.
    let direct = decided(db.store.apply_direct(&[late(4).intent], hour(0), soon(), false).await.unwrap());
    assert!(direct[0].changed && direct[0].version > made(1, unlike(4, 7, 1)).version, "{direct:?}");
    assert_eq!(db.store.apply(&[made(6, like(5, 7, 1))], hour(900)).await.unwrap().changed_pairs, 1);
    let liked: Vec<bool> =
        db.store.load_states(&(1..=5).map(video).collect::<Vec<_>>()).await.unwrap().iter().map(|s| s.liked).collect();
    assert_eq!(liked, [false, false, false, true, true]);
    assert_eq!(db.number("SELECT like_count FROM like_counts").await, 2);
    db.assert_counts_are_live_rows().await;
}

/// Events in any order, tombstones that move at any time: the newest event of a pair decides, and the counters know it.
async fn no_order_of_events_and_moves_matters(db: TestDb) {
    let mut random = Random(11);
    let mut events: Vec<LikeEvent> = (0..600)
        .map(|n| {
            let action = Action::from_liked(random.below(2) == 1);
            event(random.below(9) + 1, random.below(4) + 1, action, 1_000 + random.below(3_000) * 1_000 + n)
        })
        .collect();
    let mut newest = BTreeMap::new();
    for event in &events {
        let order = newest.entry(event.pair()).or_insert(event.order());
        *order = (*order).max(event.order());
    }
    random.shuffle(&mut events);
    let mut archived = 0;
    let quiet = ImportOptions { history: true, tell_cache: false, progress: ("job", "1") };
    for (n, batch) in events.chunks(20).enumerate() {
        if n % 2 == 0 {
            db.store.apply(batch, at(1)).await.unwrap();
        } else {
            db.store.import(batch, quiet, at(1)).await.unwrap();
        }
        let before = at(random.below(3_000) * 1_000);
        archived += db.store.archive_tombstones(ResourceType::Video, before, None, 100).await.unwrap().archived;
    }
    assert!(archived > 20, "{archived} moved");
    let pairs: Vec<Pair> = newest.keys().copied().collect();
    let rows = db.store.load_states(&pairs).await.unwrap();
    let liked: Vec<bool> = rows.iter().map(|row| row.liked).collect();
    assert_eq!(liked, newest.values().map(|(_, action)| action.liked()).collect::<Vec<_>>());
    db.assert_counts_are_live_rows().await;
}

/// Writers and moves at the same time: whichever comes first, a tombstone is found.
async fn moving_beside_writers_loses_no_tombstone(db: TestDb) {
    for round in 0..40 {
        let user = round + 1;
        db.store.apply(&[made(1, unlike(user, 7, 1))], hour(1)).await.unwrap();
        let (mover, writer) = (db.store.clone(), db.store.clone());
        let moving = tokio::spawn(async move {
            mover.archive_tombstones(ResourceType::Video, hour(5), None, 100).await.unwrap().archived
        });
        if round % 3 == 0 {
            tokio::task::yield_now().await;
        }
        let late = made(0, like(user, 7, 1));
        let writing = tokio::spawn(async move { writer.apply(&[late], hour(900)).await.unwrap().changed_pairs });
        assert_eq!((moving.await.unwrap(), writing.await.unwrap()), (1, 0), "round {round}");
    }
    assert_eq!(db.number("SELECT COUNT(*) FROM video_likes").await, 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM archived_tombstones").await, 40);
}

async fn ages_are_those_of_the_databases_clock(db: TestDb) {
    let wall = || Timestamp::now(NoContext).to_unix();
    let wall = || i64::try_from(wall().0).unwrap() * 1_000_000 + i64::from(wall().1 / 1_000);
    let before = wall();
    let now = db.store.now().await.unwrap().timestamp_micros();
    // The servers of tests run here; SQLite counts milliseconds.
    assert!((before - 1_000..=wall()).contains(&now), "{now} is not after {before}");
}
