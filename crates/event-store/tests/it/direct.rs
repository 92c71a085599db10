//! Degraded and synchronous writes.

use crate::support::{TestDb, at, intent, like, on_both, video, video_pair};
use domain::{Action, LikeIntent, Origin, PairState, Version};
use event_store::{DirectOutcome, DirectResult, Reserved, StoreError};
use std::time::{Duration, Instant};

on_both!(
    direct_writes_take_the_next_version,
    a_repeated_direct_write_changes_nothing,
    an_intent_that_a_cache_accepted_unheard_is_answered_as_a_change,
    a_wish_that_the_row_fulfils_outlives_older_events,
    intents_of_one_call_follow_each_other,
    refreshes_are_remembered_until_deleted,
    direct_writes_and_batches_meet_on_one_resource,
    a_synchronous_write_keeps_its_version,
    a_synchronous_write_that_comes_too_late_writes_nothing,
    a_key_is_answered_around_the_cache,
    the_key_of_a_word_that_changes_nothing_is_kept,
    a_key_lives_for_its_time_by_the_databases_clock,
    a_replay_of_a_call_whose_key_was_used_anew_keeps_the_new_answer,
    a_direct_write_whose_time_is_over_writes_nothing,
);

/// Far enough away for every test.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

pub(crate) fn decided(results: Vec<DirectResult>) -> Vec<DirectOutcome> {
    let outcome = |result| match result {
        DirectResult::Decided(outcome) => outcome,
        refused => panic!("no key was used twice, nothing was deleted: {refused:?}"),
    };
    results.into_iter().map(outcome).collect()
}

async fn direct_writes_take_the_next_version(db: TestDb) {
    db.store.apply(&[like(1, 7, 5_000)], at(1_000)).await.unwrap();
    // The clock is behind the row: the version still grows.
    let unlike = intent(video_pair(1, 7), Action::Unlike);
    let outcome =
        decided(db.store.apply_direct(std::slice::from_ref(&unlike), at(1_000), soon(), false).await.unwrap())[0];
    assert!(outcome.changed && !outcome.liked);
    assert_eq!(outcome.version, Version(5_001));
    assert_eq!((outcome.stored.count, outcome.stored.last_version), (0, Version(5_001)));
    assert_eq!(db.store.event(unlike.id).await.unwrap().unwrap().event.origin, Origin::Direct);

    let other = intent(video_pair(2, 7), Action::Like);
    let outcome = decided(db.store.apply_direct(&[other], at(9_000), soon(), false).await.unwrap())[0];
    assert_eq!(outcome.version, Version(9_000));
    assert_eq!(outcome.stored.count, 1);
    assert_eq!(db.store.take_refreshes(10).await.unwrap(), []);
}

async fn a_repeated_direct_write_changes_nothing(db: TestDb) {
    let first = intent(video_pair(1, 7), Action::Like);
    decided(db.store.apply_direct(std::slice::from_ref(&first), at(1_000), soon(), false).await.unwrap());
    decided(
        db.store.apply_direct(&[intent(video_pair(1, 7), Action::Unlike)], at(3_000), soon(), false).await.unwrap(),
    );
    let same_event = decided(db.store.apply_direct(&[first], at(4_000), soon(), true).await.unwrap())[0];
    // Its own answer again, and not the row, which is another word's by now.
    assert_eq!((same_event.changed, same_event.liked, same_event.version), (true, true, Version(1_000)));
    let state = db.store.load_states(&[video_pair(1, 7)]).await.unwrap()[0];
    assert_eq!((state.liked, state.version), (false, Version(3_000)));
    assert_eq!(db.number("SELECT COUNT(*) FROM user_behaviors").await, 2);
    assert_eq!(db.store.take_refreshes(10).await.unwrap(), []);
}

async fn an_intent_that_a_cache_accepted_unheard_is_answered_as_a_change(db: TestDb) {
    // The answer got lost, the event did not: it is applied before its server turns to the database.
    let event = like(1, 7, 5_000);
    db.store.apply(std::slice::from_ref(&event), at(1_000)).await.unwrap();
    let outcome = decided(db.store.apply_direct(&[event.intent], at(9_000), soon(), true).await.unwrap())[0];
    assert_eq!((outcome.changed, outcome.liked, outcome.version), (true, true, Version(5_000)));
    assert_eq!(db.number("SELECT COUNT(*) FROM user_behaviors").await, 1);
    assert_eq!(db.store.take_refreshes(10).await.unwrap(), []);
}

async fn a_wish_that_the_row_fulfils_outlives_older_events(db: TestDb) {
    // The like is accepted at 5 and still on its way when the user takes it back at 9, directly.
    let unlike = intent(video_pair(1, 7), Action::Unlike);
    let outcome = decided(db.store.apply_direct(&[unlike], at(9_000), soon(), true).await.unwrap())[0];
    assert_eq!((outcome.changed, outcome.liked, outcome.version), (true, false, Version(9_000)));
    db.store.apply(&[like(1, 7, 5_000)], at(1_000)).await.unwrap();
    let state = db.store.load_states(&[video_pair(1, 7)]).await.unwrap()[0];
    assert_eq!((state.liked, state.version), (false, Version(9_000)));
    assert_eq!(db.store.load_counts(&[video(7)]).await.unwrap()[0].count, 0);
    db.assert_counts_are_live_rows().await;
}

async fn intents_of_one_call_follow_each_other(db: TestDb) {
    let pair = video_pair(1, 7);
    let intents = [Action::Like, Action::Like, Action::Unlike, Action::Like].map(|action| intent(pair, action));
    let outcomes = decided(db.store.apply_direct(&intents, at(1_000), soon(), true).await.unwrap());
    let seen: Vec<_> = outcomes.iter().map(|outcome| (outcome.changed, outcome.liked, outcome.version.0)).collect();
    assert_eq!(seen, [(true, true, 1_000), (false, true, 1_000), (true, false, 1_001), (true, true, 1_002)]);
    assert!(outcomes.iter().all(|outcome| outcome.stored.count == 1));
    assert_eq!(db.store.take_refreshes(10).await.unwrap().len(), 1);
    db.assert_counts_are_live_rows().await;
}

async fn refreshes_are_remembered_until_deleted(db: TestDb) {
    for user in 1..=3 {
        decided(
            db.store.apply_direct(&[intent(video_pair(user, 7), Action::Like)], at(1_000), soon(), true).await.unwrap(),
        );
    }
    let two = db.store.take_refreshes(2).await.unwrap();
    assert_eq!(two.iter().map(|refresh| refresh.pair).collect::<Vec<_>>(), [video_pair(1, 7), video_pair(2, 7)]);
    assert_eq!(db.store.take_refreshes(2).await.unwrap(), two);
    db.store.delete_refreshes(&two.iter().map(|refresh| refresh.id).collect::<Vec<_>>()).await.unwrap();
    let rest = db.store.take_refreshes(10).await.unwrap();
    assert_eq!(
        rest.iter().map(|refresh| (refresh.pair, refresh.version)).collect::<Vec<_>>(),
        [(video_pair(3, 7), Version(1_000))]
    );
}

async fn direct_writes_and_batches_meet_on_one_resource(db: TestDb) {
    let (direct, batches) = (db.store.clone(), db.store.clone());
    let direct = tokio::spawn(async move {
        for n in 0..60 {
            let intents: Vec<_> =
                (1..=4).map(|id| intent(video_pair(1 + n % 9, id), Action::from_liked(n % 2 == 0))).collect();
            decided(direct.apply_direct(&intents, at(1_000 + n), soon(), true).await.unwrap());
        }
    });
    let batches = tokio::spawn(async move {
        for n in 0..60 {
            let events: Vec<_> = (1..=40).map(|i| like(1 + (n + i) % 20, 1 + i % 4, 1_000 + n * 40 + i)).collect();
            batches.apply(&events, at(1_000)).await.unwrap();
        }
    });
    direct.await.unwrap();
    batches.await.unwrap();
    db.assert_counts_are_live_rows().await;
    assert!(db.store.load_counts(&[video(1)]).await.unwrap()[0].revision > 1);
}

async fn a_synchronous_write_keeps_its_version(db: TestDb) {
    db.store.apply(&[like(1, 7, 4_000)], at(1_000)).await.unwrap();
    let unlike = intent(video_pair(1, 7), Action::Unlike);
    let outcome =
        decided(db.store.apply_synchronous(&[unlike], &[Version(5_000).into()], at(900_000), soon()).await.unwrap())[0];
    assert_eq!((outcome.changed, outcome.liked, outcome.version), (true, false, Version(5_000)));
    assert_eq!(db.store.take_refreshes(10).await.unwrap().len(), 1);
    // What was accepted after the version was taken, and is applied only now, wins.
    db.store.apply(&[like(1, 7, 5_001)], at(1_000)).await.unwrap();
    let state = db.store.load_states(&[video_pair(1, 7)]).await.unwrap()[0];
    assert_eq!((state.liked, state.version), (true, Version(5_001)));
    db.assert_counts_are_live_rows().await;
    let missing = db.store.apply_synchronous(&[intent(video_pair(1, 7), Action::Like)], &[], at(1), soon()).await;
    assert!(missing.is_err(), "{missing:?}");
}

async fn a_synchronous_write_that_comes_too_late_writes_nothing(db: TestDb) {
    db.store.apply(&[like(1, 7, 6_000)], at(1_000)).await.unwrap();
    let intents = [intent(video_pair(1, 7), Action::Unlike), intent(video_pair(2, 7), Action::Like)];
    let versions = [Version(5_000).into(), Version(5_001).into()];
    let outcomes = decided(db.store.apply_synchronous(&intents, &versions, at(900_000), soon()).await.unwrap());
    assert_eq!((outcomes[0].changed, outcomes[0].liked, outcomes[0].version), (false, true, Version(6_000)));
    assert_eq!((outcomes[1].changed, outcomes[1].version, outcomes[1].stored.count), (true, Version(5_001), 2));
    assert_eq!(db.number("SELECT COUNT(*) FROM user_behaviors").await, 2);
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events").await, 2);
    db.assert_counts_are_live_rows().await;
}

fn with_key(user: i64, action: Action) -> LikeIntent {
    LikeIntent { idempotency_key: Some("k".to_owned()), ..intent(video_pair(user, 7), action) }
}

async fn a_key_is_answered_around_the_cache(db: TestDb) {
    // Used on the usual way; the repetition comes directly, after the user has changed the pair.
    let mut used = like(1, 7, 5_000);
    used.intent.idempotency_key = Some("k".to_owned());
    db.store.apply(&[used, like(2, 7, 5_001)], at(1_000)).await.unwrap();
    db.store.apply_direct(&[intent(video_pair(1, 7), Action::Unlike)], at(6_000), soon(), true).await.unwrap();
    let again = decided(db.store.apply_direct(&[with_key(1, Action::Like)], at(7_000), soon(), true).await.unwrap())[0];
    assert_eq!((again.changed, again.liked, again.version), (true, true, Version(5_000)));
    let state = db.store.load_states(&[video_pair(1, 7)]).await.unwrap()[0];
    assert_eq!((state.liked, state.version), (false, Version(6_000)), "the later word stays");
    // The key of a like is no key of an unlike, on either path.
    let versions = [Version(9_000).into()];
    let other = [with_key(1, Action::Unlike)];
    let refused = db.store.apply_direct(&other, at(8_000), soon(), true).await.unwrap();
    assert_eq!(refused, [DirectResult::KeyReused]);
    let refused = db.store.apply_synchronous(&other, &versions, at(8_000), soon()).await.unwrap();
    assert_eq!(refused, [DirectResult::KeyReused]);
    // Used directly, twice in one call and once more later.
    let twice = [with_key(3, Action::Like), with_key(3, Action::Like)];
    let first = decided(db.store.apply_direct(&twice, at(9_000), soon(), true).await.unwrap());
    let later = decided(db.store.apply_direct(&twice[..1], at(9_500), soon(), true).await.unwrap())[0];
    assert!(first[0].changed && first[0].version == first[1].version && first[0].version == later.version);
    let pairs = [video_pair(1, 7), video_pair(3, 7)];
    let (keys, next) = db.store.load_keys(&pairs, 0, 10).await.unwrap();
    assert_eq!(next, None);
    let (page, next) = db.store.load_keys(&pairs, 0, 1).await.unwrap();
    let (rest, _) = db.store.load_keys(&pairs, next.unwrap(), 1).await.unwrap();
    assert!(page.len() == 1 && rest.len() == 1 && page != rest, "{page:?} {rest:?}");
    assert_eq!(keys.iter().map(|key| (key.key.as_str(), key.liked)).collect::<Vec<_>>(), [("k", true), ("k", true)]);
    db.assert_counts_are_live_rows().await;
    // In time they are forgotten.
    db.execute("UPDATE idempotency_keys SET created_at = '2001-01-01 00:00:00' WHERE user_id = 1").await;
    assert_eq!(db.store.purge_keys(at(1_000_000_000_000_000), 10).await.unwrap(), 1);
    let anew = decided(db.store.apply_direct(&[with_key(1, Action::Like)], at(9_900), soon(), true).await.unwrap())[0];
    assert_eq!((anew.changed, anew.version), (true, Version(9_900)));
}

const HOUR: Duration = Duration::from_secs(3_600);

impl TestDb {
    /// As if all keys were written so long ago.
    async fn age_keys(&self, age: Duration) {
        let then = (self.store.now().await.unwrap() - age).format("%Y-%m-%d %H:%M:%S%.6f");
        self.execute(&format!("UPDATE idempotency_keys SET created_at = '{then}'")).await;
    }
}

async fn a_key_lives_for_its_time_by_the_databases_clock(db: TestDb) {
    let store = db.store.clone().with_idempotency_ttl(HOUR);
    // Processes whose clocks are wrong, on all three ways.
    let mut used = like(1, 7, 5_000);
    used.intent.idempotency_key = Some("k".to_owned());
    store.apply(&[used], at(1_000)).await.unwrap();
    store.apply_direct(&[with_key(2, Action::Like)], at(6_000), soon(), true).await.unwrap();
    store.apply_synchronous(&[with_key(3, Action::Like)], &[Version(7_000).into()], at(1), soon()).await.unwrap();
    let now = store.now().await.unwrap();
    assert_eq!(store.purge_keys(now - HOUR, 10).await.unwrap(), 0, "by the clock of a process");
    let pairs = [1, 2, 3].map(|user| video_pair(user, 7));
    db.age_keys(HOUR / 2).await;
    let (keys, _) = store.load_keys(&pairs, 0, 10).await.unwrap();
    assert_eq!(keys.len(), 3);
    let about_half = HOUR / 2 - Duration::from_secs(1)..HOUR;
    assert!(keys.iter().all(|key| about_half.contains(&key.age)), "{keys:?}");
    let again = decided(store.apply_direct(&[with_key(2, Action::Like)], at(8_000), soon(), true).await.unwrap())[0];
    assert!(again.version == Version(6_000) && about_half.contains(&again.key_age), "{again:?}");

    // Over, although nobody has deleted them: the other action is a call like any other, and has the key from now on.
    db.age_keys(HOUR + Duration::from_secs(1)).await;
    assert_eq!(store.load_keys(&pairs, 0, 10).await.unwrap(), (vec![], None));
    let direct = [with_key(1, Action::Unlike), with_key(2, Action::Unlike)];
    let anew = decided(store.apply_direct(&direct, at(9_000), soon(), true).await.unwrap());
    assert!(anew.iter().all(|one| one.changed && one.version == Version(9_000) && one.key_age.is_zero()), "{anew:?}");
    let synchronous = [with_key(3, Action::Unlike)];
    let anew =
        decided(store.apply_synchronous(&synchronous, &[Version(9_000).into()], at(1), soon()).await.unwrap())[0];
    assert!(anew.changed && !anew.liked, "{anew:?}");
    let (keys, _) = store.load_keys(&pairs, 0, 10).await.unwrap();
    assert_eq!(keys.iter().map(|key| (key.liked, key.answer.version.0)).collect::<Vec<_>>(), [(false, 9_000); 3]);
    let refused = store.apply_direct(&[with_key(1, Action::Like)], at(9_500), soon(), true).await.unwrap();
    assert_eq!(refused, [DirectResult::KeyReused]);
}

async fn a_replay_of_a_call_whose_key_was_used_anew_keeps_the_new_answer(db: TestDb) {
    let mut first = like(1, 7, 5_000);
    first.intent.idempotency_key = Some("k".to_owned());
    db.store.apply(std::slice::from_ref(&first), at(1_000)).await.unwrap();
    db.age_keys(30 * HOUR).await;
    db.store.apply_direct(&[with_key(1, Action::Unlike)], at(9_000), soon(), true).await.unwrap();
    db.age_keys(30 * HOUR).await;
    db.store.apply(&[first], at(1_000)).await.unwrap();
    assert_eq!(db.number("SELECT version FROM idempotency_keys").await, 9_000);
}

/// What the caller saw may be another row by the time of the locks: only then the word is written.
async fn the_key_of_a_word_that_changes_nothing_is_kept(db: TestDb) {
    db.store.apply(&[like(1, 7, 5_000), like(2, 7, 5_001)], at(1_000)).await.unwrap();
    let seen = |version| Some(PairState { liked: true, version: Version(version) });
    let reserved = [
        Reserved { version: Version(6_000), unless: seen(5_000) },
        Reserved { version: Version(6_001), unless: seen(4_000) },
        // As wanted by a newer word.
        Reserved { version: Version(4_999), unless: None },
    ];
    let other = LikeIntent { idempotency_key: Some("other".to_owned()), ..with_key(1, Action::Like) };
    let intents = [with_key(1, Action::Like), with_key(2, Action::Like), other];
    let outcomes = decided(db.store.apply_synchronous(&intents, &reserved, at(6_000), soon()).await.unwrap());
    let told: Vec<_> = outcomes.iter().map(|outcome| (outcome.changed, outcome.liked, outcome.version.0)).collect();
    assert_eq!(told, [(false, true, 5_000), (true, true, 6_001), (false, true, 5_000)]);
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events").await, 3);
    let mut listed: Vec<_> = db.store.take_refreshes(10).await.unwrap().iter().map(|one| one.version.0).collect();
    listed.sort_unstable();
    assert_eq!(listed, [5_000, 5_000, 6_001], "the cache has to hear of every key");

    // Later, and around the cache: the first answers, and the other action refused.
    db.store.apply_direct(&[intent(video_pair(1, 7), Action::Unlike)], at(7_000), soon(), true).await.unwrap();
    let again = decided(db.store.apply_direct(&intents, at(8_000), soon(), true).await.unwrap());
    let told: Vec<_> = again.iter().map(|outcome| (outcome.changed, outcome.liked, outcome.version.0)).collect();
    assert_eq!(told, [(false, true, 5_000), (true, true, 6_001), (false, true, 5_000)]);
    let refused = db.store.apply_direct(&[with_key(1, Action::Unlike)], at(8_000), soon(), true).await.unwrap();
    assert_eq!(refused, [DirectResult::KeyReused]);
    assert_eq!(db.store.load_states(&[video_pair(1, 7)]).await.unwrap()[0].version, Version(7_000));
    db.assert_counts_are_live_rows().await;
}

async fn a_direct_write_whose_time_is_over_writes_nothing(db: TestDb) {
    db.store.apply(&[like(1, 7, 5_000)], at(1_000)).await.unwrap();
    let unlike = [intent(video_pair(1, 7), Action::Unlike)];
    let late = db.store.apply_direct(&unlike, at(6_000), Instant::now(), true).await;
    assert!(
        matches!(&late, Err(late) if late.decided.is_empty() && matches!(late.error, StoreError::TooLate)),
        "{late:?}"
    );
    let late = db.store.apply_synchronous(&unlike, &[Version(6_000).into()], at(6_000), Instant::now()).await;
    assert!(
        matches!(&late, Err(late) if late.decided.is_empty() && matches!(late.error, StoreError::TooLate)),
        "{late:?}"
    );
    assert_eq!(db.store.load_states(&[video_pair(1, 7)]).await.unwrap()[0].version, Version(5_000));
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events").await, 1);
    // Nothing is left locked.
    decided(db.store.apply_direct(&unlike, at(6_000), soon(), true).await.unwrap());
}
