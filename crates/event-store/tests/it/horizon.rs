//! Rows that somebody else dated far ahead of every clock.

use crate::support::{TestDb, at, intent, like, on_both, unlike, video, video_pair};
use domain::{Action, Pair, PairState, ResourceType, Version};
use event_store::DirectResult;
use std::time::{Duration, Instant};

on_both!(
    a_row_from_the_far_future_counts_as_the_oldest,
    a_row_that_an_honest_clock_may_have_dated_keeps_its_place,
    the_audit_names_rows_from_the_far_future,
);

const DAY: i64 = 86_400_000_000;
/// Beyond what any version may be: in the year 2150.
const IMPOSSIBLE: i64 = 5_700_000_000_000_000;

async fn set_row(db: &TestDb, version: i64) {
    db.execute(&format!("UPDATE video_likes SET version = {version} WHERE user_id = 1 AND video_id = 7")).await;
    db.execute(&format!("UPDATE like_counts SET last_version = {version} WHERE resource_id = 7")).await;
}

async fn stored_version(db: &TestDb) -> i64 {
    db.number("SELECT version FROM video_likes WHERE user_id = 1 AND video_id = 7").await
}

async fn a_row_from_the_far_future_counts_as_the_oldest(db: TestDb) {
    let now = db.store.now().await.unwrap().timestamp_micros();
    let pair: Pair = video_pair(1, 7);
    db.store.apply(&[like(1, 7, now - 100), like(2, 7, now - 90)], at(now)).await.unwrap();
    for (n, future) in [now + 3 * DAY, now + 400 * DAY, IMPOSSIBLE].into_iter().enumerate() {
        let n = i64::try_from(n).unwrap() * 10;
        set_row(&db, future).await;
        // Whoever is told of it, for example a cache, hears of no version from then.
        assert_eq!(db.store.load_states(&[pair]).await.unwrap(), [PairState { liked: true, version: Version(1) }]);
        assert!(db.store.load_counts(&[video(7)]).await.unwrap()[0].last_version <= Version(now));
        assert!(db.store.audit_counts(&[video(7)]).await.unwrap()[0].stored.unwrap().last_version <= Version(now));

        let applied = db.store.apply(&[unlike(1, 7, now + n)], at(now)).await.unwrap();
        assert_eq!(applied.changed_pairs, 1, "dated {future}");
        assert_eq!(applied.pairs, [(pair, PairState { liked: false, version: Version(now + n) })]);
        assert_eq!((applied.counts[0].1.count, applied.counts[0].1.last_version), (1, Version(now + n)));
        assert_eq!(stored_version(&db).await, now + n);
        db.assert_counts_are_live_rows().await;

        // A tombstone from then, and a word that the database itself dates.
        set_row(&db, future).await;
        let soon = Instant::now() + Duration::from_secs(30);
        let word = intent(pair, Action::Like);
        let results = db.store.apply_direct(&[word], at(now + n + 1), soon, false).await.unwrap();
        let DirectResult::Decided(outcome) = results[0] else { panic!("{results:?}") };
        assert!(outcome.changed && outcome.liked, "{outcome:?}");
        assert_eq!((outcome.version, outcome.stored.count), (Version(now + n + 1), 2));
        db.assert_counts_are_live_rows().await;
    }
}

async fn a_row_that_an_honest_clock_may_have_dated_keeps_its_place(db: TestDb) {
    let now = db.store.now().await.unwrap().timestamp_micros();
    db.store.apply(&[like(1, 7, now)], at(now)).await.unwrap();
    let future = now + DAY - 60_000_000;
    set_row(&db, future).await;
    assert_eq!(db.store.load_counts(&[video(7)]).await.unwrap()[0].last_version, Version(future));
    // Between what writers and what readers believe: likes follow it, in case.
    set_row(&db, now + DAY + 60_000_000).await;
    assert_eq!(db.store.load_counts(&[video(7)]).await.unwrap()[0].last_version, Version(now + DAY + 60_000_000));
    set_row(&db, future).await;
    assert_eq!(db.store.apply(&[unlike(1, 7, now + 1)], at(now)).await.unwrap().changed_pairs, 0);
    assert_eq!(db.store.apply(&[unlike(1, 7, future + 1)], at(now)).await.unwrap().changed_pairs, 1);
}

async fn the_audit_names_rows_from_the_far_future(db: TestDb) {
    let now = db.store.now().await.unwrap().timestamp_micros();
    db.store.apply(&[like(1, 7, now), like(2, 7, now)], at(now)).await.unwrap();
    let named = async |from| db.store.not_believed(ResourceType::Video, from, i64::MAX, 10).await.unwrap();
    assert_eq!(named(0).await, []);
    set_row(&db, IMPOSSIBLE).await;
    let row = PairState { liked: true, version: Version(IMPOSSIBLE) };
    assert_eq!(named(0).await, [(video_pair(1, 7), row)]);
    assert_eq!(named(7).await, []);
}
