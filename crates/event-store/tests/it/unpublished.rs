//! What listeners were not told of is noted by whoever changes it, and by nobody where nobody wants to know.

use crate::direct::soon;
use crate::support::{TestDb, at, intent, like, on_both, unlike, video, video_pair};
use domain::{Action, PairState, ResourceType, Version};
use event_store::{EventStore, FailedEvent, Fenced, ImportOptions, Marks, Reserved};

on_both!(
    every_way_around_the_queue_leaves_a_note,
    what_is_not_to_be_noted_is_not,
    notes_stay_until_they_are_told,
    states_are_those_of_rows_and_archive,
);

const ALL: u32 = 1_000;
const UNPUBLISHED: Marks = Marks { unlogged: false, unpublished: true };
const HISTORY: ImportOptions<'static> = ImportOptions { history: true, tell_cache: false, progress: ("job", "1") };

/// Users and resources of the notes that wait, which are deleted.
async fn noted(store: &EventStore) -> Vec<(i64, i64)> {
    let notes = store.unpublished(ALL).await.unwrap();
    store.published(&notes.iter().map(|note| note.id).collect::<Vec<_>>()).await.unwrap();
    let mut noted: Vec<_> =
        notes.iter().map(|note| (note.user.map_or(0, |user| user.get()), note.resource.id.get())).collect();
    noted.sort_unstable();
    noted
}

async fn every_way_around_the_queue_leaves_a_note(db: TestDb) {
    let store = db.store.clone().with_change_notes(true);
    let batch = [like(1, 7, 1), like(2, 7, 2), like(2, 8, 3)];
    store.apply_marked(&batch, UNPUBLISHED, at(9)).await.unwrap();
    assert_eq!(noted(&store).await, [(1, 7), (2, 7), (2, 8)]);
    // Whoever changed it may have died before telling.
    store.apply_marked(&batch, UNPUBLISHED, at(9)).await.unwrap();
    assert_eq!(noted(&store).await, [(1, 7), (2, 7), (2, 8)], "touched and unchanged");

    let intents = [intent(video_pair(3, 7), Action::Like), intent(video_pair(4, 7), Action::Like)];
    store.apply_direct(&intents, at(10), soon(), true).await.unwrap();
    store.apply_direct(&intents, at(11), soon(), true).await.unwrap();
    assert_eq!(noted(&store).await, [(3, 7), (4, 7)]);
    let reserved = [Reserved::from(Version(12))];
    store.apply_synchronous(&[intent(video_pair(5, 7), Action::Like)], &reserved, at(12), soon()).await.unwrap();
    assert_eq!(noted(&store).await, [(5, 7)]);

    store.import(&[like(6, 7, 13), like(1, 7, 1)], HISTORY, at(13)).await.unwrap();
    assert_eq!(noted(&store).await, [(6, 7)]);

    let token = store.take_repair_token().await.unwrap();
    store.restore(&[like(7, 7, 14)], token, at(14)).await.unwrap();
    assert_eq!(noted(&store).await, [(7, 7)]);
    let right = store.repair_count(video(7), 0, token, at(15)).await.unwrap();
    assert!(matches!(right, Fenced::Done(repaired) if !repaired.changed()), "{right:?}");
    assert_eq!(noted(&store).await, []);
    db.execute("UPDATE like_counts SET like_count = 99 WHERE resource_id = 7").await;
    store.repair_count(video(7), 0, token, at(15)).await.unwrap();
    assert_eq!(noted(&store).await, [(0, 7)]);

    let failed = FailedEvent { event: like(1, 7, 1), error: "poison".to_owned(), next_retry_at: Some(at(99)) };
    store.park(&[failed], 3, at(16)).await.unwrap();
    assert_eq!(noted(&store).await, [(1, 7)], "it was applied before, and is refused when it comes again");
}

async fn what_is_not_to_be_noted_is_not(db: TestDb) {
    let (off, on) = (db.store.clone(), db.store.clone().with_change_notes(true));
    off.apply_marked(&[like(1, 7, 1)], UNPUBLISHED, at(9)).await.unwrap();
    off.apply_direct(&[intent(video_pair(2, 7), Action::Like)], at(10), soon(), true).await.unwrap();
    off.note_changes(&[video_pair(1, 7)], at(10)).await.unwrap();
    // Its message comes again until they are told.
    on.apply(&[like(3, 7, 11)], at(11)).await.unwrap();
    on.dry_run(&[like(4, 7, 12)], at(12)).await.unwrap();
    assert_eq!(noted(&on).await, []);
}

async fn notes_stay_until_they_are_told(db: TestDb) {
    let store = db.store.clone().with_change_notes(true);
    assert_eq!(store.unpublished_standing(ALL).await.unwrap(), event_store::UnpublishedStanding::default());
    store.note_changes(&[video_pair(1, 7), video_pair(2, 7)], at(5)).await.unwrap();
    let first = store.unpublished(ALL).await.unwrap();
    // While they are told, one of them changes again.
    store.note_changes(&[video_pair(1, 7)], at(6)).await.unwrap();
    store.published(&first.iter().map(|note| note.id).collect::<Vec<_>>()).await.unwrap();
    let standing = store.unpublished_standing(ALL).await.unwrap();
    assert_eq!((standing.waiting, standing.oldest), (1, Some(at(6))));
    store.note_changes(&[video_pair(3, 7), video_pair(4, 7)], at(7)).await.unwrap();
    assert_eq!(store.unpublished_standing(2).await.unwrap().waiting, 2, "counted up to the limit");
    assert_eq!(noted(&store).await, [(1, 7), (3, 7), (4, 7)]);
}

async fn states_are_those_of_rows_and_archive(db: TestDb) {
    let store = &db.store;
    store.apply(&[like(1, 7, 1), unlike(2, 7, 2), unlike(3, 8, 3)], at(9)).await.unwrap();
    let moved = store.archive_tombstones(ResourceType::Video, at(3), None, 100).await.unwrap();
    assert_eq!(moved.archived, 1);
    let pairs = [video_pair(1, 7), video_pair(2, 7), video_pair(3, 8), video_pair(9, 9)];
    let mut states = store.stored_states(&[video(7), video(8), video(9)], &pairs).await.unwrap();
    states.pairs.sort_unstable_by_key(|(pair, _)| *pair);
    let state = |liked, version| PairState { liked, version: Version(version) };
    assert_eq!(states.pairs, [(pairs[0], state(true, 1)), (pairs[1], state(false, 2)), (pairs[2], state(false, 3))]);
    states.counts.sort_unstable_by_key(|(resource, _)| *resource);
    let counts: Vec<_> = states.counts.iter().map(|(resource, stored)| (resource.id.get(), stored.count)).collect();
    assert_eq!(counts, [(7, 1), (8, 0)], "and none of what was never touched");
}
