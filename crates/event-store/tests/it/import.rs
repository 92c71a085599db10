//! History that becomes rows, beside what is newer; and what an installation notes.

use crate::support::{TestDb, at, comment_event, like, on_both, unlike, video_pair};
use domain::{Action, LikeEvent, Pair, PairState, ResourceType, WritePath};
use event_store::{ImportOptions, StoreError};
use test_support::Random;

on_both!(
    imports_fold_like_live_traffic,
    progress_is_written_with_the_batch,
    an_old_like_stays_taken_back_whenever_it_is_imported,
    history_pages_name_what_is_broken,
    notes_are_written_over_and_removed,
);

const QUIET: ImportOptions<'static> = ImportOptions { history: true, tell_cache: false, progress: ("job", "1") };

/// Random history, imported in any order, twice, between live batches: the rows are as if all had come at once.
async fn imports_fold_like_live_traffic(db: TestDb) {
    let mut random = Random(5);
    let mut events: Vec<LikeEvent> = (0..400)
        .map(|n| {
            let (user, id) = (random.below(12) + 1, random.below(5) + 1);
            let action = Action::from_liked(random.below(2) == 1);
            let version = random.below(3_000) * 1_000 + n;
            if n % 4 == 0 {
                comment_event(user, id, action, version)
            } else {
                test_support::build::event(user, id, action, version)
            }
        })
        .collect();
    let mut wanted = std::collections::BTreeMap::new();
    for event in &events {
        let newest = wanted.entry(event.pair()).or_insert(event.order());
        *newest = (*newest).max(event.order());
    }
    random.shuffle(&mut events);
    for (n, batch) in events.chunks(40).enumerate() {
        if n % 3 == 0 {
            db.store.apply(batch, at(1)).await.unwrap();
        } else {
            db.store.import(batch, QUIET, at(1)).await.unwrap();
        }
    }
    let again = db.store.import(&events, QUIET, at(2)).await.unwrap();
    assert_eq!(again.changed_pairs, 0);
    let pairs: Vec<Pair> = wanted.keys().copied().collect();
    let rows = db.store.load_states(&pairs).await.unwrap();
    let expected: Vec<PairState> =
        wanted.values().map(|(version, action)| PairState { liked: action.liked(), version: *version }).collect();
    assert_eq!(rows, expected);
    db.assert_counts_are_live_rows().await;
    assert_eq!(db.number("SELECT COUNT(*) FROM user_behaviors").await, 400);
    assert_eq!(db.store.refresh_backlog(10).await.unwrap(), 0);

    let older = ImportOptions { tell_cache: true, ..QUIET };
    let applied = db.store.import(&[like(90, 1, 7), unlike(1, 1, 1)], older, at(3)).await.unwrap();
    assert_eq!(applied.changed_pairs, 1);
    let listed = db.store.take_refreshes(10).await.unwrap();
    assert_eq!(listed.iter().map(|entry| entry.pair).collect::<Vec<_>>(), [video_pair(90, 1)]);
    assert_eq!(db.store.refresh_backlog(10).await.unwrap(), 1);
}

async fn progress_is_written_with_the_batch(db: TestDb) {
    let options = ImportOptions { progress: ("job", "42"), ..QUIET };
    db.store.import(&[like(1, 1, 10)], options, at(1)).await.unwrap();
    assert_eq!(db.store.note("job").await.unwrap().as_deref(), Some("42"));
    db.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON user_behaviors FOR EACH ROW BEGIN DELETE FROM no_such_table; END",
    )
    .await;
    let options = ImportOptions { progress: ("job", "43"), ..QUIET };
    db.store.import(&[like(2, 1, 11)], options, at(1)).await.unwrap_err();
    assert_eq!(db.store.note("job").await.unwrap().as_deref(), Some("42"));
    assert_eq!(db.number("SELECT COUNT(*) FROM video_likes").await, 1);
}

/// A like that was taken back long ago is imported, or imported again, after its tombstone left the table of likes.
async fn an_old_like_stays_taken_back_whenever_it_is_imported(db: TestDb) {
    db.store.import(&[like(1, 1, 1_000)], QUIET, at(9_000)).await.unwrap();
    db.store.apply(&[unlike(1, 1, 2_000), unlike(2, 1, 2_001)], at(9_000)).await.unwrap();
    let moved = db.store.archive_tombstones(ResourceType::Video, at(3_000), None, 10).await.unwrap().archived;
    assert_eq!((moved, db.number("SELECT COUNT(*) FROM video_likes").await), (2, 0));

    let again = db.store.import(&[like(1, 1, 1_000), like(2, 1, 1_500)], QUIET, at(9_001)).await.unwrap();
    assert_eq!(again.changed_pairs, 0, "taken back, and liked all the same");
    assert_eq!(db.store.import(&[like(2, 1, 2_002)], QUIET, at(9_002)).await.unwrap().changed_pairs, 1);
    assert_eq!(db.numbers("SELECT user_id FROM video_likes WHERE deleted_at IS NULL").await, [2]);
    db.assert_counts_are_live_rows().await;
}

async fn history_pages_name_what_is_broken(db: TestDb) {
    db.store.apply(&[like(1, 1, 10), unlike(2, 1, 11), comment_event(3, 1, Action::Like, 12)], at(1)).await.unwrap();
    let row = |id: u8, user, word, version| {
        format!("(X'{}{id:02x}', {user}, 1, '{word}', '2024-01-01 00:00:00', {version})", "00".repeat(15))
    };
    db.execute(&format!(
        "INSERT INTO user_behaviors (event_id, user_id, video_id, behavior_type, behavior_time, version) VALUES {}",
        [row(1, -1, "like", 5), row(2, 1, "view", 5), row(3, 1, "like", 0), row(4, 9, "unlike", 3)].join(",")
    ))
    .await;
    let (mut after, mut pages) = (None, Vec::new());
    loop {
        let page = db.store.history_page(after, 2).await.unwrap();
        if page.last.is_none() {
            break;
        }
        after = page.last;
        pages.push(page);
    }
    assert_eq!(pages.iter().map(|page| page.behaviors.len()).collect::<Vec<_>>(), [0, 1, 2, 1]);
    assert_eq!(pages.iter().map(|page| page.broken.len()).collect::<Vec<_>>(), [1, 1, 0, 0]);
    assert_eq!(pages.iter().map(|page| page.others).sum::<u64>(), 1);
    assert!(pages[0].broken[0].1.contains("user_id"), "{:?}", pages[0]);
    assert_eq!(db.store.history_len(None).await.unwrap(), 7);
}

async fn notes_are_written_over_and_removed(db: TestDb) {
    assert_eq!(db.store.write_path().await.unwrap(), None);
    for path in [WritePath::Percentage(5), WritePath::Synchronous, WritePath::EventDriven] {
        db.store.set_write_path(Some(path)).await.unwrap();
        assert_eq!(db.store.write_path().await.unwrap(), Some(path));
    }
    db.store.set_note("write_path", Some("what?")).await.unwrap();
    let error = db.store.write_path().await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    db.store.set_write_path(None).await.unwrap();
    assert_eq!((db.store.write_path().await.unwrap(), db.store.note("x").await.unwrap()), (None, None));
}
