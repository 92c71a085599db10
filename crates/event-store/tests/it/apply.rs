//! Batches: duplicates, order, concurrency, tombstones.

use crate::support::{TestDb, at, comment_event, event_of, like, on_both, unlike, video, video_pair};
use domain::{Action, LikeEvent, PairState, Resource, StoredCount, Version};
use event_store::{Applied, EventStatus, EventStore};
use test_support::Random;

on_both!(
    a_like_reaches_every_table,
    times_are_exact_to_the_microsecond,
    duplicates_in_a_batch_and_across_batches_change_nothing,
    reordered_events_end_as_the_newest_says,
    an_unlike_keeps_a_tombstone,
    old_events_are_recorded_and_change_no_row,
    any_order_and_grouping_gives_the_same_database,
    concurrent_appliers_on_hot_resources_stay_exact,
    a_batch_larger_than_one_statement,
    too_large_a_batch_is_refused,
    revisions_are_beyond_those_of_a_database_that_was_thrown_away,
);

async fn a_like_reaches_every_table(db: TestDb) {
    let mut first = like(1, 7, 1_700_000_000_000_001);
    first.intent.idempotency_key = Some("clé-1'\\".to_owned());
    let comment = comment_event(2, 7, Action::Like, 1_700_000_000_000_002);
    let now = at(1_700_000_005_000_000);
    let applied = db.store.apply(&[first.clone(), comment.clone()], now).await.unwrap();

    let one = |version| (1, Version(version));
    assert_eq!(
        counted(&applied),
        [(video(7), one(1_700_000_000_000_001)), (comment.pair().resource, one(1_700_000_000_000_002))]
    );
    assert_eq!(applied.pairs.len(), 2);
    assert_eq!(applied.changed_pairs, 2);

    let entry = db.store.event(first.intent.id).await.unwrap().unwrap();
    assert_eq!(entry.event, first);
    assert_eq!(entry.status, EventStatus::Completed);
    assert_eq!((entry.created_at, entry.processed_at), (at(1_700_000_000_000_001), Some(now)));
    assert_eq!(db.words("SELECT event_type FROM sync_events ORDER BY version").await, ["video_like", "comment_like"]);
    assert_eq!(db.words("SELECT behavior_type FROM user_behaviors ORDER BY version").await, ["like", "comment_like"]);
    assert_eq!(db.number("SELECT COUNT(*) FROM video_likes WHERE user_id = 1 AND video_id = 7").await, 1);
    assert_eq!(db.number("SELECT COUNT(*) FROM comment_likes WHERE user_id = 2 AND comment_id = 7").await, 1);
    let stored = applied.counts.first().unwrap().1;
    assert_eq!(db.store.load_counts(&[video(7), video(8)]).await.unwrap(), [stored, StoredCount::default()]);
}

async fn times_are_exact_to_the_microsecond(db: TestDb) {
    // A floating-point number would not hold them; the first is changed twice in a batch, so its row has two times.
    let like_and_unlike = [like(1, 7, 1_700_000_000_999_999), unlike(1, 7, 1_700_000_001_000_001)];
    let liked = [like(2, 7, 1_700_000_000_000_001), like(3, 7, 4_102_444_799_123_457)];
    let now = at(1_700_000_005_000_003);
    db.store.apply(&[&like_and_unlike[..], &liked[..]].concat(), now).await.unwrap();
    for event in like_and_unlike.iter().chain(&liked) {
        let entry = db.store.event(event.intent.id).await.unwrap().unwrap();
        assert_eq!((entry.created_at, entry.processed_at, entry.updated_at), (at(event.version.0), Some(now), now));
    }
    let text = async |sql: &str| db.words(sql).await;
    let behaviors = text("SELECT CAST(behavior_time AS CHAR) FROM user_behaviors ORDER BY version").await;
    let times = [
        "2023-11-14 22:13:20.000001",
        "2023-11-14 22:13:20.999999",
        "2023-11-14 22:13:21.000001",
        "2099-12-31 23:59:59.123457",
    ];
    assert_eq!(behaviors, times);
    let created = text("SELECT CAST(created_at AS CHAR) FROM video_likes ORDER BY user_id").await;
    assert_eq!(created, [times[1], times[0], times[3]]);
    let updated = text("SELECT CAST(updated_at AS CHAR) FROM video_likes ORDER BY user_id").await;
    assert_eq!(updated, [times[2], times[0], times[3]]);
    let deleted = text("SELECT COALESCE(CAST(deleted_at AS CHAR), '') FROM video_likes ORDER BY user_id").await;
    assert_eq!(deleted, [times[2], "", ""]);
    assert_eq!(text("SELECT CAST(updated_at AS CHAR) FROM like_counts").await, ["2023-11-14 22:13:25.000003"]);

    // Liked again in a batch without an unlike: the tombstone's time goes.
    db.store.apply(&[like(1, 7, 1_700_000_002_000_001)], now).await.unwrap();
    assert_eq!(db.number("SELECT COUNT(*) FROM video_likes WHERE deleted_at IS NULL").await, 3);
    let created = text("SELECT CAST(created_at AS CHAR) FROM video_likes WHERE user_id = 1").await;
    assert_eq!(created, [times[1]], "what it was is kept");
    db.assert_counts_are_live_rows().await;
}

/// Counts and last versions; revisions are times.
fn counted(applied: &Applied) -> Vec<(Resource, (i64, Version))> {
    let of = |(resource, stored): &(Resource, StoredCount)| (*resource, (stored.count, stored.last_version));
    applied.counts.iter().map(of).collect()
}

async fn revisions_are_beyond_those_of_a_database_that_was_thrown_away(db: TestDb) {
    let first = db.store.apply(&[like(1, 7, 100)], at(1_000)).await.unwrap().counts.first().unwrap().1;
    let lost = db.store.apply(&[like(2, 7, 200), like(3, 7, 201)], at(1_000)).await.unwrap().counts.first().unwrap().1;
    assert!(lost.revision > first.revision, "{lost:?} after {first:?}");
    db.execute("DELETE FROM video_likes WHERE user_id > 1").await;
    db.execute(&format!("UPDATE like_counts SET like_count = 1, revision = {}", first.revision)).await;
    let again = db.store.apply(&[like(4, 7, 300)], at(1_000)).await.unwrap().counts.first().unwrap().1;
    assert_eq!(again.count, 2);
    assert!(again.revision > lost.revision, "{again:?} after {lost:?}");
    // A clock that stands still, or is behind, makes no two states equal.
    let ahead = again.revision + 3_600_000_000;
    db.execute(&format!("UPDATE like_counts SET revision = {ahead}")).await;
    let behind = db.store.apply(&[like(5, 7, 400)], at(1_000)).await.unwrap().counts.first().unwrap().1;
    assert_eq!(behind.revision, ahead + 1);
}

async fn duplicates_in_a_batch_and_across_batches_change_nothing(db: TestDb) {
    let event = like(1, 7, 100);
    let first = db.store.apply(&[event.clone(), event.clone(), event.clone()], at(1_000)).await.unwrap();
    let again = db.store.apply(&[event.clone(), event], at(2_000)).await.unwrap();
    assert_eq!((first.changed_pairs, again.changed_pairs), (1, 0));
    assert_eq!(counted(&again), [(video(7), (1, Version(100)))]);
    assert_eq!(again.counts, first.counts);
    assert_eq!(db.number("SELECT COUNT(*) FROM user_behaviors").await, 1);
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events").await, 1);
}

async fn reordered_events_end_as_the_newest_says(db: TestDb) {
    db.store.apply(&[unlike(1, 7, 300)], at(1_000)).await.unwrap();
    let applied = db.store.apply(&[like(1, 7, 200), like(1, 7, 100)], at(1_000)).await.unwrap();
    assert_eq!(applied.pairs, [(video_pair(1, 7), PairState { liked: false, version: Version(300) })]);
    assert_eq!(applied.counts.first().unwrap().1.count, 0);
    let applied = db.store.apply(&[like(1, 7, 500), unlike(1, 7, 400)], at(1_000)).await.unwrap();
    assert_eq!(applied.pairs, [(video_pair(1, 7), PairState { liked: true, version: Version(500) })]);
    assert_eq!(applied.counts.first().unwrap().1.count, 1);
    assert_eq!(db.number("SELECT COUNT(*) FROM user_behaviors").await, 5);
}

async fn an_unlike_keeps_a_tombstone(db: TestDb) {
    let (first, second, third) = (1_700_000_000_000_001, 1_700_000_000_000_002, 1_700_000_000_000_003);
    db.store.apply(&[like(1, 7, first)], at(third)).await.unwrap();
    db.store.apply(&[unlike(1, 7, second)], at(third)).await.unwrap();
    let times = "SELECT CONCAT(created_at, ' ', updated_at, ' ', COALESCE(deleted_at, '-')) FROM video_likes";
    let base = "2023-11-14 22:13:20.00000";
    assert_eq!(db.words(times).await, [format!("{base}1 {base}2 {base}2")]);
    let state = PairState { liked: false, version: Version(second) };
    assert_eq!(
        db.store.load_states(&[video_pair(1, 7), video_pair(2, 7)]).await.unwrap(),
        [state, PairState::UNTOUCHED]
    );

    db.store.apply(&[like(1, 7, third)], at(third)).await.unwrap();
    assert_eq!(db.words(times).await, [format!("{base}1 {base}3 -")]);
    let stored = db.store.load_counts(&[video(7)]).await.unwrap()[0];
    assert_eq!((stored.count, stored.last_version), (1, Version(third)));
}

async fn old_events_are_recorded_and_change_no_row(db: TestDb) {
    db.store.apply(&[like(1, 7, 900)], at(1_000)).await.unwrap();
    let applied = db.store.apply(&[unlike(1, 7, 800)], at(1_000)).await.unwrap();
    assert_eq!(applied.changed_pairs, 0);
    assert_eq!(counted(&applied), [(video(7), (1, Version(900)))]);
    assert_eq!(db.number("SELECT COUNT(*) FROM user_behaviors").await, 2);
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events WHERE status = 'completed'").await, 2);
}

async fn any_order_and_grouping_gives_the_same_database(db: TestDb) {
    let mut random = Random(7);
    let events = history(&mut random, 400, 6, 5);
    let mut deliveries: Vec<LikeEvent> = events.iter().chain(&events).cloned().collect();
    random.shuffle(&mut deliveries);
    for batch in deliveries.chunks(37) {
        db.store.apply(batch, at(1_000)).await.unwrap();
    }
    assert_newest_won(&db.store, &events).await;
    db.assert_counts_are_live_rows().await;
    assert_eq!(db.number("SELECT COUNT(*) FROM user_behaviors").await, 400);
}

async fn concurrent_appliers_on_hot_resources_stay_exact(db: TestDb) {
    let mut random = Random(11);
    let events = history(&mut random, 3_000, 40, 8);
    let mut appliers = Vec::new();
    for seed in 0..4 {
        let mut deliveries = events.clone();
        Random(seed).shuffle(&mut deliveries);
        let store = db.store.clone();
        appliers.push(tokio::spawn(async move {
            for batch in deliveries.chunks(100) {
                store.apply(batch, at(1_000)).await.unwrap();
            }
        }));
    }
    for applier in appliers {
        applier.await.unwrap();
    }
    assert_newest_won(&db.store, &events).await;
    db.assert_counts_are_live_rows().await;
    assert_eq!(db.number("SELECT COUNT(*) FROM user_behaviors").await, 3_000);
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events WHERE status = 'completed'").await, 3_000);
}

async fn a_batch_larger_than_one_statement(db: TestDb) {
    let events: Vec<LikeEvent> = (1..=1_700).map(|n| like(n, 1 + n % 1_100, n)).collect();
    let applied = db.store.apply(&events, at(5_000)).await.unwrap();
    assert_eq!((applied.changed_pairs, applied.counts.len()), (1_700, 1_100));
    let states = db.store.load_states(&applied.pairs.iter().map(|(pair, _)| *pair).collect::<Vec<_>>()).await.unwrap();
    assert!(states.iter().all(|state| state.liked));
    db.assert_counts_are_live_rows().await;
}

async fn too_large_a_batch_is_refused(db: TestDb) {
    let events = vec![like(1, 7, 100); domain::codec::MAX_BATCH + 1];
    let error = db.store.apply(&events, at(1_000)).await.unwrap_err();
    assert!(matches!(error, event_store::StoreError::Rejected(_)), "{error}");
}

/// Events with distinct versions about few pairs of both kinds.
fn history(random: &mut Random, len: i64, users: u64, resources: u64) -> Vec<LikeEvent> {
    (1..=len)
        .map(|version| {
            let (user, id) = (1 + random.below(users), 1 + random.below(resources));
            let action = Action::from_liked(random.below(2) == 1);
            if random.below(3) == 0 {
                comment_event(user, id, action, version)
            } else {
                event_of(video_pair(user, id), action, version)
            }
        })
        .collect()
}

async fn assert_newest_won(store: &EventStore, events: &[LikeEvent]) {
    let mut newest = std::collections::BTreeMap::new();
    for event in events {
        newest
            .entry(event.pair())
            .and_modify(|order: &mut (Version, Action)| *order = (*order).max(event.order()))
            .or_insert(event.order());
    }
    let pairs: Vec<_> = newest.keys().copied().collect();
    let states = store.load_states(&pairs).await.unwrap();
    for ((pair, (version, action)), state) in newest.into_iter().zip(states) {
        assert_eq!(state, PairState { liked: action.liked(), version }, "{pair}");
    }
}
