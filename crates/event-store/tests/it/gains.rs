//! What is liked most: counted by what changes, once however often it comes, and written down from time to time.

use crate::direct::soon;
use crate::support::{TestDb, at, event, intent, on_both, video_pair};
use domain::{Action, LikeEvent, Version};
use event_store::{EventStore, ImportOptions, Reserved, Window};

on_both!(
    what_is_liked_most_is_counted_by_changes,
    processes_add_up,
    words_count_when_they_were_said,
    what_belongs_to_no_window_is_deleted,
    nothing_is_counted_where_nobody_writes_it_down,
);

const MINUTE: i64 = 60_000_000;

/// A moment ago, in microseconds.
fn now() -> i64 {
    let since = test_support::wall_clock().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_micros()).unwrap() - 1_000_000
}

fn likes(video: i64, users: std::ops::RangeInclusive<i64>, version: i64) -> Vec<LikeEvent> {
    users.map(|user| event(user, video, Action::Like, version + user)).collect()
}

async fn most(store: &EventStore, window: Window) -> Vec<(i64, i64)> {
    let most = store.most_gained(window, 100).await.unwrap();
    most.into_iter().map(|(resource, gained)| (resource.id.get(), gained)).collect()
}

async fn what_is_liked_most_is_counted_by_changes(db: TestDb) {
    let store = &db.store;
    store.count_gains();
    let (now, mut batch) = (now(), likes(7, 1..=5, now()));
    batch.extend(likes(8, 1..=3, now));
    // Twice in the batch, and twice as a batch: a repetition changes nothing.
    batch.push(batch[0].clone());
    for _ in 0..2 {
        store.apply(&batch, at(now)).await.unwrap();
    }
    store.dry_run(&likes(9, 1..=9, now), at(now)).await.unwrap();
    store
        .import(
            &likes(9, 10..=19, now),
            ImportOptions { history: true, tell_cache: false, progress: ("job", "1") },
            at(now),
        )
        .await
        .unwrap();
    assert_eq!(most(store, Window::Hour).await, [], "nothing is written on the way of a like");
    assert_eq!(store.write_gains().await.unwrap(), 2 * Window::ALL.len());
    for window in Window::ALL {
        assert_eq!(most(store, window).await, [(7, 5), (8, 3)], "{window:?}");
    }
    assert_eq!(store.write_gains().await.unwrap(), 0, "nothing is new");

    // Around the cache, and taken back.
    store.apply_direct(&[intent(video_pair(4, 8), Action::Like)], at(now), soon(), false).await.unwrap();
    store
        .apply_synchronous(&[intent(video_pair(5, 8), Action::Like)], &[Reserved::from(Version(now))], at(now), soon())
        .await
        .unwrap();
    let back: Vec<_> = (1..=3).map(|user| event(user, 7, Action::Unlike, now + 1_000)).collect();
    store.apply(&back, at(now)).await.unwrap();
    store.write_gains().await.unwrap();
    assert_eq!(most(store, Window::Day).await, [(8, 5), (7, 2)]);
    assert_eq!(store.most_gained(Window::Day, 1).await.unwrap().len(), 1);
    let back: Vec<_> = (4..=5).map(|user| event(user, 7, Action::Unlike, now + 1_000)).collect();
    store.apply(&back, at(now)).await.unwrap();
    store.write_gains().await.unwrap();
    assert_eq!(most(store, Window::Day).await, [(8, 5)], "what gained nothing is not liked most");
}

async fn processes_add_up(db: TestDb) {
    let (one, now) = (&db.store, now());
    let other = EventStore::connect(&db.config).await.unwrap();
    one.count_gains();
    other.count_gains();
    one.apply(&likes(7, 1..=5, now), at(now)).await.unwrap();
    other.apply(&likes(7, 3..=8, now), at(now)).await.unwrap();
    one.write_gains().await.unwrap();
    other.write_gains().await.unwrap();
    assert_eq!(most(one, Window::Week).await, [(7, 8)]);
    other.close().await;
}

async fn words_count_when_they_were_said(db: TestDb) {
    let (store, now) = (&db.store, now());
    store.count_gains();
    for (video, ago) in [(7, 5), (8, 3 * 60), (9, 3 * 24 * 60), (10, 9 * 24 * 60)] {
        store.apply(&likes(video, 1..=2, now - ago * MINUTE), at(now)).await.unwrap();
    }
    store.write_gains().await.unwrap();
    assert_eq!(most(store, Window::Hour).await, [(7, 2)]);
    assert_eq!(most(store, Window::Day).await, [(7, 2), (8, 2)]);
    assert_eq!(most(store, Window::Week).await, [(7, 2), (8, 2), (9, 2)]);
}

async fn what_belongs_to_no_window_is_deleted(db: TestDb) {
    let (store, now) = (&db.store, now());
    store.count_gains();
    store.apply(&likes(7, 1..=2, now), at(now)).await.unwrap();
    store.write_gains().await.unwrap();
    for n in 1..=20 {
        db.execute(&format!("INSERT INTO liked_slices VALUES (3600, 'video', {}, 7, 1)", 3_600 * n)).await;
    }
    let mut deleted = Vec::new();
    loop {
        match store.purge_gains().await.unwrap() {
            0 => break,
            rows => deleted.push(rows),
        }
    }
    assert_eq!(deleted, [8, 8, 4]);
    assert_eq!(db.number("SELECT COUNT(*) FROM liked_slices").await, 3);
    assert_eq!(most(store, Window::Day).await, [(7, 2)]);
}

async fn nothing_is_counted_where_nobody_writes_it_down(db: TestDb) {
    let now = now();
    db.store.apply(&likes(7, 1..=2, now), at(now)).await.unwrap();
    assert_eq!(db.store.write_gains().await.unwrap(), 0);
}
