//! Tables that are cut, and what a backfill makes of a history, whole or not.

use super::{DAY, HOUR, Migration};
use domain::{Action, PairState, ResourceType, Version};
use event_store::{Cut, CutStep};
use serde_json::Value;
use test_support::build::{event, video_pair};
use test_support::wall_clock;

#[tokio::test]
async fn large_tables_are_cut_also_where_that_ended_half_way() {
    let to = Migration::new().await;
    to.store.apply(&[event(8, 10, Action::Like, DAY)], wall_clock().into()).await.unwrap();
    to.sql("ALTER TABLE sync_events REMOVE PARTITIONING; ALTER TABLE user_behaviors REMOVE PARTITIONING").await;
    // A run that was killed when the table was away.
    while to.store.cut_step(Cut::Ledger).await.unwrap() != CutStep::Away {}
    assert!(
        to.store.apply(&[event(9, 10, Action::Like, DAY)], wall_clock().into()).await.unwrap_err().is_unavailable()
    );

    let (code, out, error) = to.run(&["migrate", "--partition"]).await;
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "the schema is current\npartitioned sync_events, user_behaviors\n"),
        "{error}"
    );
    let (code, out, error) = to.run(&["migrate", "--partition"]).await;
    assert_eq!((code, out.as_str()), (Some(0), "the schema is current\nall partitions are there\n"), "{error}");
    to.store.apply(&[event(9, 10, Action::Like, DAY + HOUR)], wall_clock().into()).await.unwrap();
    for table in ["sync_events", "user_behaviors"] {
        assert_eq!(to.number(&format!("SELECT COUNT(*) FROM {table}")).await, 2);
    }
    let left = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name REGEXP '_(whole|parts|leaving)$'";
    assert_eq!(to.number(left).await, 0);
    to.assert_counts_are_live_rows().await;
}

#[tokio::test]
async fn a_backfill_makes_rows_of_history() {
    let to = Migration::new().await;
    let events: Vec<_> =
        (0..900).map(|n| event(1 + n % 90, 1 + n % 4, Action::from_liked((n / 90) % 3 != 1), DAY + 1000 - n)).collect();
    for batch in events.chunks(300) {
        to.store.apply(batch, wall_clock().into()).await.unwrap();
    }
    let rows = "SELECT user_id, video_id, deleted_at IS NULL, version FROM video_likes ORDER BY 1, 2";
    let counts = "SELECT resource_id, like_count FROM like_counts ORDER BY 1";
    let before = (to.sql(rows).await, to.sql(counts).await);
    to.sql("DELETE FROM video_likes; DELETE FROM like_counts").await;
    to.sql("INSERT INTO user_behaviors VALUES (X'00000000000000000000000000000001', 5, 5, 'view', NOW(6), 1)").await;
    // A like after the loss, before the backfill.
    let newer = event(1, 1, Action::Unlike, DAY + HOUR);
    to.store.apply(&[newer], wall_clock().into()).await.unwrap();

    let (code, out, error) = to.run(&["backfill", "--json", "--batch-size", "128"]).await;
    assert_eq!(code, Some(0), "{error}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (report["rows"].as_i64(), report["events"].as_i64(), report["others"].as_i64()),
        (Some(902), Some(901), Some(1))
    );
    let state = to.store.load_states(&[video_pair(1, 1)]).await.unwrap()[0];
    assert_eq!(state, PairState { liked: false, version: Version(DAY + HOUR) });
    to.assert_counts_are_live_rows().await;
    // Without that like it is as it was.
    to.sql("DELETE FROM user_behaviors WHERE version > 1714521600000000 + 2000; DELETE FROM video_likes; DELETE FROM like_counts").await;
    let (code, out, _) = to.run(&["backfill"]).await;
    assert_eq!((code, (to.sql(rows).await, to.sql(counts).await)), (Some(0), before), "{out}");
    let (code, out, _) = to.run(&["backfill"]).await;
    assert_eq!(code, Some(0));
    assert!(out.contains("0 pairs changed"), "{out}");

    to.sql("UPDATE user_behaviors SET user_id = -1 WHERE behavior_type <> 'view' LIMIT 3").await;
    let (code, out, error) = to.run(&["backfill"]).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("3 broken") && error.contains("user_id"), "{out}{error}");
}

/// Whose history is gone stays as it is, and what is left of it undoes nothing: the row decides, or the tombstone in the archive.
#[tokio::test]
async fn a_backfill_of_history_that_is_cut_undoes_nothing() {
    let to = Migration::new().await;
    // Liked; liked, unliked, liked; liked and unliked, each at the two ends of a year.
    let one = (1..=30).map(|user| event(user, 10, Action::Like, DAY));
    let two = (31..=60).flat_map(|user| {
        [(Action::Like, 0), (Action::Unlike, 1), (Action::Like, 2)]
            .map(|(action, days)| event(user, 10, action, DAY + days * 24 * HOUR))
    });
    let three = (61..=90)
        .flat_map(|user| [(Action::Like, 0), (Action::Unlike, 2)].map(|(action, n)| event(user, 10, action, DAY + n)));
    let all: Vec<_> = one.chain(two).chain(three).collect();
    to.store.apply(&all, wall_clock().into()).await.unwrap();
    let later = to.store.now().await.unwrap() + chrono::TimeDelta::days(1);
    while to.store.archive_tombstones(ResourceType::Video, later, None, 1_000).await.unwrap().next.is_some() {}
    let before = (to.states().await, to.sql("SELECT resource_id, like_count FROM like_counts").await);
    assert_eq!(before.0, (1..=60).map(|user| (user, true)).collect::<Vec<_>>());
    // Of all that, the entries in between are left: an unlike that was taken back, and a like that was.
    to.sql(&format!(
        "DELETE FROM user_behaviors WHERE user_id <= 30 OR version > {} OR (user_id < 61 AND version = {DAY})",
        DAY + 24 * HOUR
    ))
    .await;
    to.sql(&format!("DELETE FROM user_behaviors WHERE user_id > 60 AND version <> {DAY}")).await;
    assert_eq!(to.number("SELECT COUNT(*) FROM user_behaviors").await, 60);
    let (code, out, error) = to.run(&["backfill"]).await;
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("60 likes and unlikes, 0 pairs changed"), "{out}");
    assert_eq!((to.states().await, to.sql("SELECT resource_id, like_count FROM like_counts").await), before);
    to.sql("DELETE FROM user_behaviors").await;
    let (code, out, _) = to.run(&["backfill"]).await;
    assert_eq!((code, to.states().await), (Some(0), before.0), "{out}");
    to.assert_counts_are_live_rows().await;
}
