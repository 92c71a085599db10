//! Data that the database refuses.

use crate::support::{TestDb, at, like};
use domain::LikeEvent;
use event_store::StoreError;

#[tokio::test]
async fn one_poison_event_rejects_its_batch_and_nothing_is_written() {
    let db = TestDb::mysql().await;
    db.execute(
        "CREATE TRIGGER poison BEFORE INSERT ON video_likes FOR EACH ROW \
         IF NEW.user_id = 666 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'poison'; END IF",
    )
    .await;
    let mut events: Vec<LikeEvent> = (1..=499).map(|user| like(user, 1 + user % 20, user)).collect();
    events.push(like(666, 7, 500));
    let error = db.store.apply(&events, at(1_000)).await.unwrap_err();
    assert!(matches!(error, StoreError::Rejected(_)), "{error}");
    assert!(error.to_string().contains("poison"), "{error}");
    let error = db.store.dry_run(&events, at(1_000)).await.unwrap_err();
    assert!(matches!(error, StoreError::Rejected(_)), "{error}");
    db.store.dry_run(&events[..499], at(1_000)).await.unwrap();
    for table in ["sync_events", "user_behaviors", "video_likes", "like_counts"] {
        assert_eq!(db.number(&format!("SELECT COUNT(*) FROM {table}")).await, 0, "{table}");
    }
    assert_eq!(db.store.apply(&events[..499], at(1_000)).await.unwrap().changed_pairs, 499);
    db.assert_counts_are_live_rows().await;
}

#[tokio::test]
async fn an_event_that_sqlite_refuses_is_rejected_too() {
    let db = TestDb::sqlite().await;
    db.execute(
        "CREATE TRIGGER poison BEFORE INSERT ON video_likes WHEN NEW.user_id = 666 \
         BEGIN SELECT RAISE(ABORT, 'poison'); END",
    )
    .await;
    let error = db.store.apply(&[like(1, 7, 1), like(666, 7, 2)], at(1_000)).await.unwrap_err();
    assert!(matches!(error, StoreError::Rejected(_)), "{error}");
    db.store.dry_run(&[like(1, 7, 1)], at(1_000)).await.unwrap();
    assert_eq!(db.number("SELECT COUNT(*) FROM sync_events").await, 0);
}

#[tokio::test]
async fn a_missing_schema_is_nobodys_fault_in_particular() {
    for db in [TestDb::mysql_empty().await, TestDb::sqlite_empty().await] {
        let error = db.store.apply(&[like(1, 7, 1)], at(1_000)).await.unwrap_err();
        assert!(error.is_unavailable(), "{error}");
    }
}
