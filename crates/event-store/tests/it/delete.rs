//! Deleted resources: what is behind their fences is written by no way, the database itself accepts no like of them, and restored they
//! begin anew.

use crate::direct::{decided, soon};
use crate::erase::{erase_rows, walked};
use crate::support::{TestDb, at, comment_event, like, on_both, unlike, video_pair};
use domain::{Action, DeletedMark, Erased, Fence, LikeEvent, Pair, Resource, ResourceType, Version};
use event_store::{DirectResult, Erasure, FailedEvent, Fenced, ImportOptions, Operation, Reserved, Window};

on_both!(
    what_is_behind_the_fence_of_a_resource_is_written_by_no_way,
    every_step_removes_what_is_of_the_resource_and_nothing_else,
    a_deleted_resource_takes_no_likes_until_it_is_restored,
    deletions_and_restorations_that_a_copy_lacks_are_brought_back,
    a_fence_is_raised_while_nobody_says_something_else,
    what_a_deleted_resource_gained_is_no_merit_any_more,
);

/// Versions of the tests are around it.
const T: i64 = 1_700_000_000_000_000;

fn video(id: i64) -> Resource {
    video_pair(1, id).resource
}

fn comment(id: i64) -> Resource {
    Resource::new(ResourceType::Comment, id).unwrap()
}

fn by(actor: &str) -> Operation {
    Operation { actor: actor.to_owned(), ..Operation::default() }
}

fn mark(up_to: i64, at: i64, deleted: bool) -> DeletedMark {
    DeletedMark { up_to: Version(up_to), at: Version(at), deleted }
}

async fn deleted(db: &TestDb, resource: Resource, up_to: i64, now: i64) -> Erasure {
    let fence = Fence { of: Erased::Resource(resource), up_to: Version(up_to) };
    db.store.fence(fence, Some(&by("ann")), at(now)).await.unwrap()
}

async fn nothing_of_video_1(db: &TestDb, way: &str) {
    for table in ["sync_events", "idempotency_keys"] {
        let query = format!("SELECT COUNT(*) FROM {table} WHERE resource_type = 'video' AND resource_id = 1");
        assert_eq!(db.number(&query).await, 0, "{table} after {way}");
    }
    for table in ["video_likes", "user_behaviors"] {
        let query = format!("SELECT COUNT(*) FROM {table} WHERE video_id = 1");
        assert_eq!(db.number(&query).await, 0, "{table} after {way}");
    }
    db.assert_counts_are_live_rows().await;
}

async fn what_is_behind_the_fence_of_a_resource_is_written_by_no_way(db: TestDb) {
    deleted(&db, video(1), T + 100, T).await;
    let mut old = like(7, 1, T + 100);
    old.intent.idempotency_key = Some("key".to_owned());
    // Of another resource, of the same number and another kind, and behind no fence.
    let batch = [like(7, 2, T + 5), old.clone(), like(8, 1, T + 1), comment_event(7, 1, Action::Like, T + 6)];
    let applied = db.store.apply(&batch[..3], at(T)).await.unwrap();
    assert_eq!(applied.changed_pairs, 1, "{applied:?}");
    nothing_of_video_1(&db, "a batch").await;
    assert_eq!(db.store.apply(&batch[3..], at(T)).await.unwrap().changed_pairs, 1);
    db.execute("DELETE FROM user_behaviors WHERE behavior_type = 'comment_like'").await;

    let failed = FailedEvent { event: old.clone(), error: "late".to_owned(), next_retry_at: None };
    db.store.park(&[failed], 3, at(T)).await.unwrap();
    nothing_of_video_1(&db, "a failure").await;
    for history in [true, false] {
        let options = ImportOptions { history, tell_cache: true, progress: ("job", "1") };
        db.store.import(&batch[..3], options, at(T)).await.unwrap();
    }
    nothing_of_video_1(&db, "an import").await;
    let token = db.store.take_repair_token().await.unwrap();
    let Fenced::Done(repaired) = db.store.restore(&[old.clone()], token, at(T)).await.unwrap() else {
        panic!("fenced")
    };
    assert_eq!(repaired.changed_pairs, 0);
    nothing_of_video_1(&db, "a repair").await;

    // What a cache accepted that did not know counts: its version says that it is newer.
    assert_eq!(db.store.apply(&[like(7, 1, T + 101)], at(T)).await.unwrap().changed_pairs, 1);
    let asked = [
        (video_pair(7, 1), Version(T + 100)),
        (video_pair(7, 1), Version(T + 101)),
        (video_pair(7, 2), Version(T + 1)),
        (Pair { resource: comment(1), ..video_pair(7, 1) }, Version(T + 1)),
    ];
    assert_eq!(db.store.fenced(&asked).await.unwrap(), [true, false, false, false]);
    // Restored, its fence stays; and so where somebody deletes the row that all hold.
    db.store.restore_resource(video(1), &by("ann"), at(T + 1)).await.unwrap().unwrap();
    db.execute("DELETE FROM erased_users WHERE user_id = 0").await;
    db.store.apply(&batch[..3], at(T)).await.unwrap();
    assert_eq!(db.number("SELECT COUNT(*) FROM video_likes WHERE video_id = 1").await, 1);
    // Lower ones change nothing.
    assert_eq!(deleted(&db, video(1), T + 50, T).await.fence.up_to, Version(T + 100));
    let actions = db.words("SELECT action FROM operator_actions ORDER BY id").await;
    assert_eq!(actions, ["delete_resource", "restore_resource", "delete_resource"]);
    assert_eq!(db.words("SELECT DISTINCT selection FROM operator_actions").await, ["video:1"]);
    // Who does not know deletions must not run any more.
    let minimum = db.words("SELECT value FROM sync_meta WHERE name = 'minimum_compatible'").await;
    assert_eq!(minimum, ["m20261204_000001_deleted_resources"]);
}

async fn every_step_removes_what_is_of_the_resource_and_nothing_else(db: TestDb) {
    let mut events: Vec<LikeEvent> = Vec::new();
    for user in 1..=1_200 {
        events.push(like(user, 7, T + user));
    }
    for user in 1..=20 {
        events.push(like(user, 8, T + user));
        events.push(comment_event(user, 7, Action::Like, T + 2_000 + user));
        events.push(unlike(user + 2_000, 7, T + 3_000 + user));
    }
    events[0].intent.idempotency_key = Some("key".to_owned());
    for batch in events.chunks(500) {
        db.store.apply(batch, at(T)).await.unwrap();
    }
    // A tombstone that goes to the archive, and one of another video.
    db.store.apply(&[unlike(3_000, 9, T + 3_001)], at(T)).await.unwrap();
    let tombstones = db.store.archive_tombstones(ResourceType::Video, at(T + 3_005), None, 10_000).await.unwrap();
    assert_eq!(tombstones.archived, 5);
    // Newer than the fence.
    db.store.apply(&[like(5_000, 7, T + 9_000)], at(T)).await.unwrap();
    for (kind, id, user) in [("pairs", 7, 3), ("counters", 7, 0), ("pairs", 8, 3)] {
        let row = format!(
            "'{kind}', 'video', {id}, {user}, 'drift', 1, '2023-11-14 00:00:00.000000', '2023-11-14 00:00:00.000000'"
        );
        let columns = "kind, resource_type, resource_id, user_id, verdict, sightings, opened_at, seen_at";
        db.execute(&format!("INSERT INTO consistency_findings ({columns}) VALUES ({row})")).await;
    }
    db.execute(
        "INSERT INTO data_consistency_checks (run_id, resource_type, resource_id, user_id, kind, verdict, created_at) VALUES \
         (X'0199aaaaaaaa7000800000000000000a', 'video', 7, NULL, 'counters', 'drift', '2023-11-14 00:00:00.000000')",
    )
    .await;

    // Listeners are told of the counter all the same.
    for user in [3, 0] {
        let columns = "resource_type, resource_id, user_id, created_at";
        let row = format!("'video', 7, {user}, '2023-11-14 00:00:00.000000'");
        db.execute(&format!("INSERT INTO unpublished_changes ({columns}) VALUES ({row})")).await;
    }

    let erasure = deleted(&db, video(7), T + 8_000, T).await;
    let rows = db.store.indexed_rows(erasure.fence).await.unwrap();
    assert_eq!((rows.likes, rows.tombstones, rows.keys), (1_200, 16, 0));
    assert_eq!(db.store.erasures_under_way(10).await.unwrap(), [erasure]);
    assert_eq!(erase_rows(&db, erasure.fence).await, 1_216);
    assert_eq!(db.store.indexed_rows(erasure.fence).await.unwrap().total(), 0);
    db.assert_counts_are_live_rows().await;
    assert_eq!(db.number("SELECT COUNT(*) FROM video_likes WHERE video_id = 7").await, 1);
    assert_eq!(
        db.number("SELECT like_count FROM like_counts WHERE resource_type = 'video' AND resource_id = 7").await,
        1
    );
    assert_eq!(db.number("SELECT COUNT(*) FROM video_likes WHERE video_id = 8").await, 20);
    assert_eq!(db.number("SELECT COUNT(*) FROM comment_likes WHERE comment_id = 7").await, 20);
    assert_eq!(db.number("SELECT COUNT(*) FROM cache_refreshes WHERE resource_id = 7").await, 1_216);
    let refreshes = db.store.take_refreshes(2_000).await.unwrap();
    db.store.delete_refreshes(&refreshes.iter().map(|refresh| refresh.id).collect::<Vec<_>>()).await.unwrap();

    let there = [
        ("sync_events", 1_220),
        ("user_behaviors", 1_220),
        ("cache_refreshes", 0),
        ("unpublished_changes", 1),
        ("data_consistency_checks", 3),
        ("idempotency_keys", 1),
        ("archived_tombstones", 4),
    ];
    assert_eq!(walked(&db, &erasure, false).await, there);
    assert_eq!(walked(&db, &erasure, true).await, there);
    assert_eq!(walked(&db, &erasure, true).await.iter().map(|(_, found)| found).sum::<u64>(), 0);
    // Video 8, the comments, the tombstone of video 9, and the newer like.
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events").await, 42);
    assert_eq!(db.number("SELECT COUNT(*) FROM user_behaviors").await, 42);
    assert_eq!(db.number("SELECT COUNT(*) FROM archived_tombstones").await, 1);
    assert_eq!(db.number("SELECT COUNT(*) FROM unpublished_changes WHERE user_id = 0").await, 2);
    assert_eq!(db.number("SELECT COUNT(*) FROM consistency_findings").await, 1);

    // Deleted again meanwhile: the end of the first is not the end.
    let again = deleted(&db, video(7), T + 9_500, T + 1).await;
    assert!(!db.store.erasure_ended(&erasure, at(T + 2)).await.unwrap());
    assert!(db.store.erasure_ended(&again, at(T + 2)).await.unwrap());
    assert_eq!(db.store.erasures_under_way(10).await.unwrap(), []);
    assert_eq!(db.store.deletion_of(video(7)).await.unwrap().unwrap().cleaned_at, Some(at(T + 2)));
    assert_eq!(db.store.deletion_of(comment(7)).await.unwrap(), None);
}

async fn a_deleted_resource_takes_no_likes_until_it_is_restored(db: TestDb) {
    let mut first = like(7, 1, T).intent;
    first.idempotency_key = Some("key".to_owned());
    decided(db.store.apply_direct(&[first.clone()], at(T), soon(), true).await.unwrap());
    deleted(&db, video(1), T + 100, T + 100).await;
    let resources = [video(1), video(2), comment(1)];
    assert_eq!(db.store.deleted(&resources).await.unwrap().into_iter().collect::<Vec<_>>(), [video(1)]);

    // Also what had an answer before; and the others of the call are decided.
    let mut again = like(7, 1, T).intent;
    again.idempotency_key = Some("key".to_owned());
    let call = [again, unlike(8, 1, T).intent, like(8, 2, T).intent];
    let reserved: Vec<Reserved> = [T + 200, T + 201, T + 202].map(|version| Version(version).into()).to_vec();
    let direct = db.store.apply_direct(&call, at(T + 200), soon(), true).await.unwrap();
    let synchronous = db.store.apply_synchronous(&call, &reserved, at(T + 200), soon()).await.unwrap();
    for (way, results) in [("directly", direct), ("synchronously", synchronous)] {
        assert_eq!(results[..2], [DirectResult::Deleted; 2], "{way}");
        assert!(matches!(results[2], DirectResult::Decided(_)), "{way}: {results:?}");
    }
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events WHERE resource_id = 1").await, 1, "more than the first");

    assert_eq!(
        db.store.restore_resource(video(2), &by("bob"), at(T + 300)).await.unwrap(),
        None,
        "it never was deleted"
    );
    let restored = db.store.restore_resource(video(1), &by("bob"), at(T + 300)).await.unwrap().unwrap();
    assert_eq!((restored.restored_at, restored.cleaned_at), (Some(at(T + 300)), None), "the cleaning goes on");
    assert_eq!(restored.fence.up_to, Version(T + 100));
    let twice = db.store.restore_resource(video(1), &by("eve"), at(T + 400)).await.unwrap().unwrap();
    assert_eq!(twice, restored, "a second time it changes nothing");
    assert!(db.store.deleted(&resources).await.unwrap().is_empty());
    erase_rows(&db, restored.fence).await;
    let liked = decided(db.store.apply_direct(&[like(9, 1, T).intent], at(T + 1), soon(), true).await.unwrap());
    assert!(liked[0].changed && liked[0].version > Version(T + 100), "{liked:?}");
    assert_eq!(liked[0].stored.count, 1, "the deleted like is back");
    let actions = db.words("SELECT actor FROM operator_actions WHERE action = 'restore_resource'").await;
    assert_eq!(actions, ["bob"]);
    // A clock that went back does not make the newer word the older one.
    let later = deleted(&db, video(1), T + 500, T + 200).await;
    assert!(later.changed_at > restored.changed_at && later.restored_at.is_none(), "{later:?}");
}

async fn deletions_and_restorations_that_a_copy_lacks_are_brought_back(db: TestDb) {
    deleted(&db, video(1), T + 100, T + 1).await;
    let ended = deleted(&db, comment(2), T + 100, T + 2).await;
    assert!(db.store.erasure_ended(&ended, at(T + 3)).await.unwrap());
    deleted(&db, video(3), T + 100, T + 4).await;
    db.store.restore_resource(video(3), &by("ann"), at(T + 5)).await.unwrap();
    let known = db.store.deleted_after(None, 10).await.unwrap();
    let marks = [
        (comment(2), mark(T + 100, T + 2, true)),
        (video(1), mark(T + 100, T + 1, true)),
        (video(3), mark(T + 100, T + 5, false)),
    ];
    assert_eq!(known, marks);
    let mut page_by_page = Vec::new();
    loop {
        let page = db.store.deleted_after(page_by_page.last().map(|(last, _)| *last), 2).await.unwrap();
        if page.is_empty() {
            break;
        }
        page_by_page.extend(page);
    }
    assert_eq!(page_by_page, known);
    assert_eq!(db.store.deleted_since(Version(T + 2), 10).await.unwrap(), [marks[2]]);
    assert_eq!(db.store.newest_fence().await.unwrap(), at(T + 5));
    assert_eq!(db.store.restore_deleted(&known, at(T + 6)).await.unwrap(), 0);
    assert!(db.store.deletion_of(comment(2)).await.unwrap().unwrap().cleaned_at.is_some(), "begun anew for nothing");

    // A copy from before the deletion of two, and from before the restoration of one.
    db.execute("DELETE FROM deleted_resources WHERE resource_id < 3").await;
    db.execute("UPDATE deleted_resources SET restored_at = NULL, changed_at = changed_at - 1").await;
    db.execute("DELETE FROM erased_users").await;
    let older = (video(3), mark(T + 50, T + 3, true));
    assert_eq!(db.store.restore_deleted(&[marks[0], older, marks[1], marks[2]], at(T + 7)).await.unwrap(), 3);
    assert_eq!(db.store.deleted_after(None, 10).await.unwrap(), marks);
    let under_way: Vec<Erased> = db.store.erasures_under_way(10).await.unwrap().iter().map(|e| e.fence.of).collect();
    assert_eq!(under_way, [video(3), video(1), comment(2)].map(Erased::Resource));
    assert_eq!(db.store.apply(&[like(7, 1, T + 100), like(7, 3, T + 1)], at(T)).await.unwrap().changed_pairs, 0);
    let restored = db.store.deletion_of(video(3)).await.unwrap().unwrap();
    assert_eq!((restored.restored_at, restored.fenced_at), (Some(at(T + 5)), at(T + 4)), "its erasure began anew");
}

async fn a_fence_is_raised_while_nobody_says_something_else(db: TestDb) {
    let erasure = deleted(&db, video(1), T + 100, T + 1).await;
    let raised = db.store.raise_fence(&erasure, Version(T + 200), at(T + 2)).await.unwrap().unwrap();
    assert_eq!((raised.fence.up_to, raised.fenced_at), (Version(T + 200), at(T + 2)));
    assert_eq!(db.store.apply(&[like(7, 1, T + 200)], at(T)).await.unwrap().changed_pairs, 0);
    assert_eq!(db.store.raise_fence(&erasure, Version(T + 300), at(T + 3)).await.unwrap(), None, "the older word");
    db.store.restore_resource(video(1), &by("bob"), at(T + 4)).await.unwrap();
    assert_eq!(db.store.raise_fence(&raised, Version(T + 300), at(T + 5)).await.unwrap(), None, "it is restored");
    assert_eq!(db.store.apply(&[like(7, 1, T + 300)], at(T)).await.unwrap().changed_pairs, 1);
    assert_eq!(db.number("SELECT COUNT(*) FROM deleted_resources WHERE action_id IS NOT NULL").await, 1);
}

async fn what_a_deleted_resource_gained_is_no_merit_any_more(db: TestDb) {
    db.store.count_gains();
    let now = db.store.now().await.unwrap();
    let us = now.timestamp_micros();
    let likes: Vec<LikeEvent> = (1..=3).flat_map(|user| [like(user, 1, us), like(user, 2, us)]).collect();
    db.store.apply(&likes, now).await.unwrap();
    db.store.write_gains().await.unwrap();
    assert_eq!(db.store.most_gained(Window::Hour, 10).await.unwrap(), [(video(1), 3), (video(2), 3)]);
    deleted(&db, video(1), us, us).await;
    for window in Window::ALL {
        assert_eq!(db.store.most_gained(window, 10).await.unwrap(), [(video(2), 3)], "{window:?}");
    }
    db.store.restore_resource(video(1), &by("ann"), now).await.unwrap();
    assert_eq!(db.store.most_gained(Window::Day, 10).await.unwrap(), [(video(2), 3)], "what it had is gone");
}
