//! Fences: what is behind one is written by no way, also not beside it; and the steps that remove what was there.

use crate::direct::{decided, soon};
use crate::support::{TestDb, at, comment_event, like, on_both, unlike, video_pair};
use domain::{Action, Erased, Fence, LikeEvent, ResourceType, UserId, Version};
use event_store::{Erasure, FailedEvent, Fenced, ImportOptions, Operation, Walked, Window};
use uuid::Uuid;

on_both!(
    what_is_behind_a_fence_is_written_by_no_way,
    every_step_removes_what_is_behind_the_fence_and_nothing_else,
    what_is_applied_beside_a_fence_is_removed_or_left_out,
    fences_that_a_copy_lacks_are_restored,
    a_later_fence_has_a_later_time_whatever_clocks_say,
    what_the_erased_liked_is_no_merit_any_more,
);

/// Versions of the tests are around it.
const T: i64 = 1_700_000_000_000_000;

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn fence(id: i64, up_to: i64) -> Fence {
    Fence { of: Erased::User(user(id)), up_to: Version(up_to) }
}

async fn fenced(db: &TestDb, id: i64, up_to: i64) -> Erasure {
    let by = Operation { actor: "ann".to_owned(), ..Operation::default() };
    db.store.fence(fence(id, up_to), Some(&by), at(T)).await.unwrap()
}

/// Everything that is stored of a user or a resource, found by a walk with small steps.
pub(crate) async fn walked(db: &TestDb, erasure: &Erasure, remove: bool) -> Vec<(&'static str, u64)> {
    let mut all = Vec::new();
    for table in Walked::ALL.into_iter().filter(|table| table.has(erasure.fence.of)) {
        let (mut found, mut after) = (0, None);
        loop {
            let one = std::slice::from_ref(erasure);
            let step = db.store.walk_step(table, one, after.as_deref(), 3, remove).await.unwrap();
            found += step.found;
            after = step.next;
            if after.is_none() {
                break;
            }
        }
        all.push((table.name(), found));
    }
    all
}

pub(crate) async fn erase_rows(db: &TestDb, fence: Fence) -> u64 {
    let mut removed = 0;
    loop {
        let mut step = db.store.erase_keys(fence).await.unwrap();
        for kind in ResourceType::ALL {
            step += db.store.erase_likes(fence, kind, at(T)).await.unwrap();
        }
        removed += step;
        if step == 0 {
            return removed;
        }
    }
}

async fn nothing_of(db: &TestDb, user: i64, way: &str) {
    for (table, column) in [
        ("video_likes", "user_id"),
        ("sync_events", "user_id"),
        ("user_behaviors", "user_id"),
        ("idempotency_keys", "user_id"),
    ] {
        let found = db.number(&format!("SELECT COUNT(*) FROM {table} WHERE {column} = {user}")).await;
        assert_eq!(found, 0, "{table} after {way}");
    }
    db.assert_counts_are_live_rows().await;
}

async fn what_is_behind_a_fence_is_written_by_no_way(db: TestDb) {
    fenced(&db, 7, T + 100).await;
    let mut old = like(7, 1, T + 100);
    old.intent.idempotency_key = Some("key".to_owned());
    let batch = [like(8, 1, T + 5), old.clone(), like(7, 2, T + 1)];
    let applied = db.store.apply(&batch, at(T)).await.unwrap();
    assert_eq!(applied.changed_pairs, 1, "{applied:?}");
    nothing_of(&db, 7, "a batch").await;
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events WHERE user_id = 8").await, 1);

    let failed = FailedEvent { event: old.clone(), error: "late".to_owned(), next_retry_at: None };
    db.store.park(&[failed], 3, at(T)).await.unwrap();
    nothing_of(&db, 7, "a failure").await;
    for history in [true, false] {
        let options = ImportOptions { history, tell_cache: true, progress: ("job", "1") };
        db.store.import(&batch, options, at(T)).await.unwrap();
    }
    nothing_of(&db, 7, "an import").await;
    let token = db.store.take_repair_token().await.unwrap();
    let Fenced::Done(restored) = db.store.restore(&[old.clone()], token, at(T)).await.unwrap() else {
        panic!("fenced")
    };
    assert_eq!(restored.changed_pairs, 0);
    nothing_of(&db, 7, "a repair").await;
    let reserved = db.store.apply_synchronous(&[old.intent.clone()], &[old.version.into()], at(T), soon()).await;
    assert!(!decided(reserved.unwrap())[0].changed);
    assert_eq!(db.number("SELECT COUNT(*) FROM video_likes WHERE user_id = 7").await, 0);

    // What is newer counts: by its version, and where the row gives it, above the fence.
    assert_eq!(db.store.apply(&[like(7, 3, T + 101)], at(T)).await.unwrap().changed_pairs, 1);
    let direct = db.store.apply_direct(&[like(7, 4, 1).intent], at(T), soon(), false).await.unwrap();
    assert!(decided(direct)[0].version > Version(T + 100));
    assert_eq!(
        db.store
            .fenced(&[
                (video_pair(7, 1), Version(T + 100)),
                (video_pair(7, 2), Version(T + 101)),
                (video_pair(8, 1), Version(1))
            ])
            .await
            .unwrap(),
        [true, false, false]
    );
    // Lower ones change nothing; somebody deletes the row that all hold.
    assert_eq!(fenced(&db, 7, T + 50).await.fence, fence(7, T + 100));
    db.execute("DELETE FROM erased_users WHERE user_id = 0").await;
    db.store.apply(&batch, at(T)).await.unwrap();
    assert_eq!(db.number("SELECT COUNT(*) FROM video_likes WHERE user_id = 7").await, 2);
    assert_eq!(
        db.number("SELECT COUNT(*) FROM operator_actions WHERE action = 'erase_user' AND selection IS NULL").await,
        2
    );
    // Who does not know fences must not run any more.
    let minimum = db.words("SELECT value FROM sync_meta WHERE name = 'minimum_compatible'").await;
    assert_eq!(minimum, ["m20261203_000001_erasures"]);
}

async fn every_step_removes_what_is_behind_the_fence_and_nothing_else(db: TestDb) {
    let mut events: Vec<LikeEvent> = Vec::new();
    for id in 1..=1_200 {
        events.push(like(7, id, T + id));
    }
    for id in 1..=20 {
        events.push(like(8, id, T + id));
        events.push(comment_event(7, id, Action::Like, T + 2_000 + id));
        events.push(unlike(7, id + 2_000, T + 3_000 + id));
    }
    events[0].intent.idempotency_key = Some("key".to_owned());
    for batch in events.chunks(500) {
        db.store.apply(batch, at(T)).await.unwrap();
    }
    let tombstones = db.store.archive_tombstones(ResourceType::Video, at(T + 3_005), None, 10_000).await.unwrap();
    assert_eq!(tombstones.archived, 4);
    // Newer than the fence: the user came again.
    db.store.apply(&[like(7, 5_000, T + 9_000)], at(T)).await.unwrap();
    db.execute(
        "INSERT INTO operator_actions (id, action, actor, selection, events, created_at) VALUES \
         (X'0199aaaaaaaa7000800000000000000a', 'replay', 'ann', 'at most 7 dead by user 7', 0, '2023-11-14 00:00:00.000000')",
    )
    .await;
    db.execute(
        "INSERT INTO consistency_findings (kind, resource_type, resource_id, user_id, verdict, sightings, opened_at, seen_at) \
         VALUES ('pairs', 'video', 1, 7, 'drift', 1, '2023-11-14 00:00:00.000000', '2023-11-14 00:00:00.000000')",
    )
    .await;

    let erasure = fenced(&db, 7, T + 8_000).await;
    let rows = db.store.indexed_rows(erasure.fence).await.unwrap();
    assert_eq!((rows.likes, rows.tombstones, rows.keys), (1_220, 20, 1));
    assert_eq!(db.store.erasures_under_way(10).await.unwrap(), [erasure]);
    assert_eq!(erase_rows(&db, erasure.fence).await, 1_241);
    assert_eq!(db.store.indexed_rows(erasure.fence).await.unwrap().total(), 0);
    db.assert_counts_are_live_rows().await;
    assert_eq!(db.number("SELECT COUNT(*) FROM video_likes WHERE user_id = 7").await, 1);
    assert_eq!(db.number("SELECT COUNT(*) FROM video_likes WHERE user_id = 8").await, 20);
    // The cache is told of every pair whose row went, which is what takes them off its list.
    assert_eq!(db.number("SELECT COUNT(*) FROM cache_refreshes WHERE user_id = 7").await, 1_236);
    let refreshes = db.store.take_refreshes(2_000).await.unwrap();
    db.store.delete_refreshes(&refreshes.iter().map(|refresh| refresh.id).collect::<Vec<_>>()).await.unwrap();

    let there = [
        ("sync_events", 1_240),
        ("user_behaviors", 1_240),
        ("cache_refreshes", 0),
        ("unpublished_changes", 0),
        ("data_consistency_checks", 1),
        ("operator_actions", 1),
    ];
    assert_eq!(walked(&db, &erasure, false).await, there);
    assert_eq!(walked(&db, &erasure, true).await, there);
    assert_eq!(walked(&db, &erasure, true).await.iter().map(|(_, found)| found).sum::<u64>(), 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events").await, 21);
    assert_eq!(db.number("SELECT COUNT(*) FROM user_behaviors").await, 21);
    let selections = db.words("SELECT selection FROM operator_actions WHERE action = 'replay'").await;
    assert_eq!(selections, ["at most 7 dead by user [erased]"]);

    // Fenced again meanwhile: the end of the first is not the end.
    let again = db.store.fence(fence(7, T + 8_500), None, at(T + 1)).await.unwrap();
    assert!(!db.store.erasure_ended(&erasure, at(T + 2)).await.unwrap());
    assert!(db.store.erasure_ended(&again, at(T + 2)).await.unwrap());
    assert_eq!(db.store.erasures_under_way(10).await.unwrap(), []);
    let ended = db.store.erasure_of(user(7)).await.unwrap().unwrap();
    assert_eq!(ended.cleaned_at, Some(at(T + 2)));
    // What is done of the user afterwards is no rest of it.
    db.execute(
        "INSERT INTO operator_actions (id, action, actor, selection, events, created_at) VALUES \
         (X'0199aaaaaaaa7000800000000000000b', 'replay', 'ann', '1 dead by user 7', 0, '2033-11-14 00:00:00.000000')",
    )
    .await;
    assert!(walked(&db, &ended, false).await.contains(&("operator_actions", 0)));
}

/// Who takes what was fenced up to a time, or after it, misses no fence: its process may have stood still since it looked at its clock.
async fn a_later_fence_has_a_later_time_whatever_clocks_say(db: TestDb) {
    let mut last = fenced(&db, 7, T + 100).await.fenced_at;
    let resource = Fence { of: Erased::Resource(video_pair(1, 5).resource), up_to: Version(T + 100) };
    for fence in [fence(8, T + 50), resource, fence(9, T + 60), fence(7, T + 200), resource] {
        let next = db.store.fence(fence, None, at(T - 5_000_000)).await.unwrap().fenced_at;
        assert!(next > last, "{next} after {last}: {fence:?}");
        last = next;
    }
    assert_eq!(db.store.erasures_fenced_by(last).await.unwrap().len(), 4);
    assert_eq!(db.store.highest_fence().await.unwrap(), Version(T + 200));
    // Also where a clock was ahead when a resource was deleted, or restored: what comes then is news to cache and log.
    db.execute(&format!("UPDATE deleted_resources SET changed_at = {}", T + 3_600_000_000)).await;
    for fence in [fence(10, T), resource, fence(10, T + 1)] {
        let before = db.store.newest_fence().await.unwrap();
        db.store.fence(fence, None, at(T)).await.unwrap();
        assert!(db.store.newest_fence().await.unwrap() > before, "{fence:?}");
    }
}

async fn what_the_erased_liked_is_no_merit_any_more(db: TestDb) {
    db.store.count_gains();
    let now = db.store.now().await.unwrap();
    let version = now.timestamp_micros() - 60_000_000;
    db.store.apply(&[like(7, 1, version), like(8, 1, version + 1), like(7, 2, version + 2)], now).await.unwrap();
    let erasure = db.store.fence(fence(7, version + 10), None, now).await.unwrap();
    assert_eq!(erase_rows(&db, erasure.fence).await, 2);
    db.store.write_gains().await.unwrap();
    let most = db.store.most_gained(Window::Hour, 10).await.unwrap();
    assert_eq!(most, [(video_pair(8, 1).resource, 1)]);
}

/// A batch that began before the fence has committed when the fence has, so whoever removes sees it.
async fn what_is_applied_beside_a_fence_is_removed_or_left_out(db: TestDb) {
    for round in 1..=15 {
        let version = T + round * 1_000;
        let batch = |from: i64| (from..from + 40).map(|id| like(7, id, version + id)).collect::<Vec<_>>();
        let (one, other, third) = (batch(1), batch(30), batch(60));
        let (one, other, third, fence) = tokio::join!(
            db.store.apply(&one, at(T)),
            db.store.apply(&other, at(T)),
            db.store.apply(&third, at(T)),
            db.store.fence(fence(7, version + 999), None, at(T + round)),
        );
        let applied = [one, other, third].map(|applied| applied.unwrap().changed_pairs);
        let removed = erase_rows(&db, fence.unwrap().fence).await;
        assert!(removed <= applied.iter().sum::<usize>() as u64, "{removed} of {applied:?}");
        assert_eq!(db.number("SELECT COUNT(*) FROM video_likes").await, 0, "round {round}, {applied:?}");
        db.assert_counts_are_live_rows().await;
    }
}

async fn fences_that_a_copy_lacks_are_restored(db: TestDb) {
    fenced(&db, 7, T + 100).await;
    let erasure = fenced(&db, 8, T + 100).await;
    assert!(db.store.erasure_ended(&erasure, at(T + 1)).await.unwrap());
    let known = db.store.fences_after(0, 10).await.unwrap();
    assert_eq!(known, [(user(7), Version(T + 100)), (user(8), Version(T + 100))]);
    assert_eq!(db.store.restore_fences(&known, at(T + 2)).await.unwrap(), 0);
    assert!(db.store.erasure_of(user(8)).await.unwrap().unwrap().cleaned_at.is_some(), "it was begun anew for nothing");

    db.execute("DELETE FROM erased_users").await;
    db.store.apply(&[like(8, 1, T + 1)], at(T)).await.unwrap();
    assert_eq!(db.number("SELECT COUNT(*) FROM video_likes").await, 1);
    assert_eq!(db.store.restore_fences(&[known[1], (user(9), Version(T + 200))], at(T + 3)).await.unwrap(), 2);
    assert_eq!(db.store.newest_fence().await.unwrap(), at(T + 3));
    let under_way: Vec<Fence> = db.store.erasures_fenced_by(at(T + 3)).await.unwrap().iter().map(|e| e.fence).collect();
    assert_eq!(under_way, [fence(8, T + 100), fence(9, T + 200)]);
    let twice =
        LikeEvent { intent: domain::LikeIntent { id: Uuid::now_v7(), ..like(8, 1, 1).intent }, ..like(8, 2, T + 2) };
    assert_eq!(db.store.apply(&[twice, like(9, 3, T + 200)], at(T)).await.unwrap().changed_pairs, 0);
    assert_eq!(erase_rows(&db, fence(8, T + 100)).await, 1);
    let states = db.store.load_states(&[video_pair(8, 1)]).await.unwrap();
    assert_eq!(states, [domain::PairState::UNTOUCHED]);
}
