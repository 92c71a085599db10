//! Replay and discard: who may be touched, what is written down, and that nothing brings a discarded event back.

use crate::support::{TestDb, at, like, on_both, unlike, video, video_pair};
use domain::{LikeEvent, PairState, Version};
use event_store::{EventFilter, EventStatus, FailedEvent, Operation, Pace};
use std::collections::HashSet;
use std::time::Duration;
use uuid::Uuid;

const SECOND: i64 = 1_000_000;
const LEASE: Duration = Duration::from_secs(30);

on_both!(
    a_replay_is_paced_written_down_and_touches_only_what_failed,
    a_discarded_event_is_final_whoever_brings_it,
    a_batch_goes_on_without_its_discarded_events,
    discarding_beside_an_apply_is_one_or_the_other,
    what_was_discarded_stays_for_good,
    a_story_has_all_events_of_the_pair_and_no_other,
    a_story_is_not_torn_by_what_is_applied_meanwhile,
);

async fn park(db: &TestDb, event: &LikeEvent, due: Option<i64>) {
    let failed = FailedEvent { event: event.clone(), error: "poison".to_owned(), next_retry_at: due.map(at) };
    db.store.park(&[failed], 2, at(SECOND)).await.unwrap();
}

async fn status(db: &TestDb, event: &LikeEvent) -> EventStatus {
    db.store.event(event.intent.id).await.unwrap().unwrap().status
}

fn by(actor: &str) -> Operation {
    Operation { actor: actor.to_owned(), reason: Some("because".to_owned()), selection: Some("by id".to_owned()) }
}

async fn a_replay_is_paced_written_down_and_touches_only_what_failed(db: TestDb) {
    let events: Vec<LikeEvent> = (1..=5).map(|user| like(user, 7, 100 + user)).collect();
    let [dead, failed, claimed, completed, unknown] = &events[..] else { unreachable!() };
    park(&db, claimed, Some(SECOND)).await;
    assert_eq!(db.store.claim_due(at(2 * SECOND), 9, LEASE).await.unwrap().len(), 1);
    park(&db, dead, None).await;
    park(&db, failed, Some(9_000 * SECOND)).await;
    db.store.apply(std::slice::from_ref(completed), at(SECOND)).await.unwrap();

    let ids: Vec<Uuid> = events.iter().map(|event| event.intent.id).collect();
    let pace = Pace { from: at(10 * SECOND), per_second: 1 };
    let replayed =
        db.store.replay(&[ids.clone(), ids.clone()].concat(), &by("ann"), pace, at(3 * SECOND)).await.unwrap();
    let seen: HashSet<Uuid> = replayed.iter().map(|entry| entry.event.intent.id).collect();
    assert_eq!(seen, HashSet::from([dead.intent.id, failed.intent.id]));
    assert_eq!(status(&db, claimed).await, EventStatus::Processing);
    assert_eq!(status(&db, completed).await, EventStatus::Completed);
    assert_eq!(db.store.event(unknown.intent.id).await.unwrap(), None);
    // One at once, the other a second later.
    assert_eq!(db.store.claim_due(at(10 * SECOND), 9, LEASE).await.unwrap().len(), 1);
    assert_eq!(db.store.claim_due(at(11 * SECOND), 9, LEASE).await.unwrap().len(), 1);

    let written = db.store.operator_actions(9).await.unwrap();
    assert_eq!(written.len(), 1);
    let said = (written[0].action.as_str(), written[0].actor.as_str(), written[0].reason.as_deref(), written[0].events);
    assert_eq!((said, written[0].at), (("replay", "ann", Some("because"), 2), at(3 * SECOND)));
    let on = db.store.actions_on(&ids).await.unwrap();
    assert_eq!(on.iter().map(|(id, _)| *id).collect::<HashSet<_>>(), seen);
    // Nothing to do is not written down twice over; it is, as nothing.
    assert!(db.store.replay(&[completed.intent.id], &by("ann"), pace, at(4 * SECOND)).await.unwrap().is_empty());
    assert_eq!(db.store.operator_actions(1).await.unwrap()[0].events, 0);
}

async fn a_discarded_event_is_final_whoever_brings_it(db: TestDb) {
    let (dead, claimed, done) = (like(1, 7, 100), like(2, 7, 101), like(3, 7, 102));
    park(&db, &claimed, Some(SECOND)).await;
    db.store.claim_due(at(2 * SECOND), 9, LEASE).await.unwrap();
    park(&db, &dead, None).await;
    db.store.apply(std::slice::from_ref(&done), at(SECOND)).await.unwrap();
    let ids = [&dead, &claimed, &done].map(|event| event.intent.id);
    let discarded = db.store.discard(&ids, &by("ann"), at(3 * SECOND)).await.unwrap();
    assert_eq!(discarded.iter().map(|entry| entry.event.intent.id).collect::<Vec<_>>(), [dead.intent.id]);
    assert_eq!(discarded[0].status, EventStatus::Dead, "as it was before");
    assert_eq!(status(&db, &claimed).await, EventStatus::Processing);
    assert_eq!(status(&db, &done).await, EventStatus::Completed);
    let told: Vec<_> = db.store.take_refreshes(9).await.unwrap().iter().map(|one| (one.pair, one.version)).collect();
    assert_eq!(told, [(dead.pair(), dead.version)]);

    // A redelivery, one that fails, a replay, a retry.
    for _ in 0..2 {
        let applied = db.store.apply(std::slice::from_ref(&dead), at(4 * SECOND)).await.unwrap();
        assert_eq!((applied.changed_pairs, applied.pairs.len()), (0, 0));
        park(&db, &dead, Some(SECOND)).await;
        let pace = Pace { from: at(4 * SECOND), per_second: 10 };
        assert!(db.store.replay(&[dead.intent.id], &by("bob"), pace, at(4 * SECOND)).await.unwrap().is_empty());
        assert!(db.store.discard(&[dead.intent.id], &by("bob"), at(4 * SECOND)).await.unwrap().is_empty());
        assert!(db.store.claim_due(at(5 * SECOND), 9, LEASE).await.unwrap().is_empty());
    }
    let entry = db.store.event(dead.intent.id).await.unwrap().unwrap();
    assert_eq!((entry.status, entry.processed_at), (EventStatus::Discarded, Some(at(3 * SECOND))));
    assert_eq!((entry.next_retry_at, entry.error.as_deref()), (None, Some("poison")));
    assert_eq!(db.store.load_states(&[video_pair(1, 7)]).await.unwrap(), [PairState::UNTOUCHED]);
    assert_eq!(db.number("SELECT COUNT(*) FROM user_behaviors WHERE user_id = 1").await, 0);
    db.assert_counts_are_live_rows().await;
    // The user goes on as if it had never been.
    db.store.apply(&[like(1, 7, 200)], at(6 * SECOND)).await.unwrap();
    assert_eq!(db.store.load_states(&[video_pair(1, 7)]).await.unwrap()[0].version, Version(200));
}

async fn a_batch_goes_on_without_its_discarded_events(db: TestDb) {
    let events: Vec<LikeEvent> = (1..=9).map(|user| like(user, 1 + user % 2, 100 + user)).collect();
    let discarded: Vec<Uuid> = events.iter().step_by(2).map(|event| event.intent.id).collect();
    for event in events.iter().step_by(2) {
        park(&db, event, None).await;
    }
    assert_eq!(db.store.discard(&discarded, &by("ann"), at(SECOND)).await.unwrap().len(), 5);
    let applied = db.store.apply(&[events.clone(), events.clone()].concat(), at(2 * SECOND)).await.unwrap();
    assert_eq!((applied.changed_pairs, applied.pairs.len(), applied.counts.len()), (4, 4, 1));
    let users = db.numbers("SELECT user_id FROM video_likes ORDER BY user_id").await;
    assert_eq!(users, [2, 4, 6, 8]);
    assert_eq!(db.number("SELECT COUNT(*) FROM user_behaviors").await, 4);
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events WHERE status = 'completed'").await, 4);
    db.assert_counts_are_live_rows().await;
}

/// Two transactions on one row of the ledger: whoever is first decides, and nothing is in between.
async fn discarding_beside_an_apply_is_one_or_the_other(db: TestDb) {
    let mut outcomes = HashSet::new();
    for round in 0..60 {
        let event = like(1 + round, 7, 1_000 + round);
        park(&db, &event, None).await;
        let (one, other, id) = (db.store.clone(), db.store.clone(), event.intent.id);
        let alone = event.clone();
        let apply = tokio::spawn(async move { one.apply(&[alone], at(2 * SECOND)).await.unwrap().changed_pairs });
        // Now one, now the other has a head start.
        if round % 3 == 0 {
            tokio::task::yield_now().await;
        }
        let discard =
            tokio::spawn(async move { other.discard(&[id], &by("ann"), at(2 * SECOND)).await.unwrap().len() });
        let (applied, discarded) = (apply.await.unwrap(), discard.await.unwrap());
        assert_eq!(applied + discarded, 1, "round {round}: {applied} applied, {discarded} discarded");
        let history = format!("SELECT COUNT(*) FROM user_behaviors WHERE user_id = {}", 1 + round);
        assert_eq!(db.number(&history).await, applied as i64, "round {round}");
        let liked = db.store.load_states(&[event.pair()]).await.unwrap()[0].liked;
        assert_eq!(liked, applied == 1, "round {round}");
        outcomes.insert(status(&db, &event).await);
    }
    db.assert_counts_are_live_rows().await;
    assert!(outcomes.iter().all(|status| [EventStatus::Completed, EventStatus::Discarded].contains(status)));
}

async fn what_was_discarded_stays_for_good(db: TestDb) {
    let (discarded, dead) = (like(1, 7, 100), like(3, 7, 102));
    for event in [&discarded, &dead] {
        park(&db, event, None).await;
    }
    db.store.discard(&[discarded.intent.id], &by("ann"), at(10 * SECOND)).await.unwrap();
    let any_day = at(i64::MAX / 2);
    assert_eq!(db.store.purge_completed(any_day, 9).await.unwrap(), 0);
    assert_eq!(status(&db, &dead).await, EventStatus::Dead);
    // A queue that was restored years later brings it again, beside what is new.
    let batch: Vec<LikeEvent> = (4..9).map(|user| like(user, 7, 103)).chain([discarded.clone()]).collect();
    assert_eq!(db.store.apply(&batch, any_day).await.unwrap().changed_pairs, 5);
    assert_eq!(status(&db, &discarded).await, EventStatus::Discarded);
    assert!(!db.store.load_states(&[discarded.pair()]).await.unwrap()[0].liked);

    let tomorrow = chrono::DateTime::<chrono::Utc>::from(test_support::wall_clock()) + chrono::TimeDelta::days(1);
    let yesterday = tomorrow - chrono::TimeDelta::days(2);
    assert_eq!(db.store.purge_operator_actions(yesterday, 9).await.unwrap(), 0);
    assert_eq!(db.store.purge_operator_actions(tomorrow, 9).await.unwrap(), 1);
    assert_eq!(db.number("SELECT COUNT(*) FROM operator_events").await, 0);
}

/// Right after a replay an event that was completed between two reads seemed to have left no row.
async fn a_story_is_not_torn_by_what_is_applied_meanwhile(db: TestDb) {
    for user in 1..=60 {
        let event = like(user, 7, 100 + user);
        park(&db, &event, None).await;
        let batch = [event.clone()];
        let apply = async { db.store.apply(&batch, at(SECOND)).await.unwrap() };
        let ask = async {
            loop {
                let story = db.store.pair_history(event.pair(), &[], 50).await.unwrap();
                if story.events.iter().any(|one| one.status == EventStatus::Completed) {
                    assert!(story.row.is_some(), "user {user}: {story:?}");
                    break;
                }
            }
        };
        tokio::join!(ask, apply);
    }
}

async fn a_story_has_all_events_of_the_pair_and_no_other(db: TestDb) {
    // Ids carry the time: events that know when they were made.
    let now = 1_700_000_000 * SECOND;
    let made = |n: i64, mut event: LikeEvent| {
        let seconds = u64::try_from(1_700_000_000 + n * 3_600).unwrap();
        event.version = Version(now + n * 3_600 * SECOND);
        event.intent.id = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, 0));
        event
    };
    let mine = [made(0, like(1, 7, 1)), made(1, unlike(1, 7, 1)), made(2, like(1, 7, 1)), made(3, unlike(1, 7, 1))];
    let others = [made(0, like(2, 7, 1)), made(1, like(1, 8, 1))];
    db.store.apply(&[&mine[..2], &others].concat(), at(now)).await.unwrap();
    park(&db, &mine[2], None).await;
    park(&db, &mine[3], Some(now)).await;

    let story = db.store.pair_history(video_pair(1, 7), &[], 50).await.unwrap();
    let ids: Vec<Uuid> = story.events.iter().map(|entry| entry.event.intent.id).collect();
    assert_eq!(ids, [3, 2, 1, 0].map(|n| mine[n].intent.id));
    assert_eq!(story.history.iter().map(|entry| entry.version).collect::<Vec<_>>(), [1, 0].map(|n| mine[n].version));
    let row = story.row.unwrap();
    assert_eq!((row.liked, row.version, story.searched_since), (false, mine[1].version, None));
    assert_eq!(db.store.pair_history(video_pair(1, 7), &[], 2).await.unwrap().events.len(), 2);

    // The ledger forgets; the row still leads to the history.
    db.execute("DELETE FROM sync_events WHERE status = 'completed'").await;
    let story = db.store.pair_history(video_pair(1, 7), &[], 50).await.unwrap();
    assert_eq!((story.events.len(), story.history.len()), (2, 2), "the row knows when it began and changed last");
    let nothing = db.store.pair_history(video_pair(9, 9), &[], 50).await.unwrap();
    assert_eq!((nothing.row, nothing.events.len(), nothing.history.len()), (None, 0, 0));
    let page = db.store.list_events(&EventFilter { resource: Some(video(7)), ..EventFilter::default() }, 9, None).await;
    assert_eq!(page.unwrap().events.len(), 2);
}
