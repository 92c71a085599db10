//! When the old system's rows happened, and what beats them.

use super::*;

/// The old system said only the second, so nobody knows what came last within it: the new system's word was promised to stay.
#[tokio::test]
async fn a_word_of_the_new_system_stays_whatever_the_old_one_says_of_that_second() {
    let to = Migration::new().await;
    to.sql(LEGACY).await;
    to.sql("DELETE FROM old_user_behaviors; DELETE FROM old_video_likes").await;
    let second = DAY + HOUR;
    let (mut said, mut unlikes, mut tombstones) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..40 {
        let (user, id) = (1 + n, 999_990 + n * 25_641);
        // Soon after the beginning of the second, as late in it as may be.
        said.push(event(user, 10, Action::Like, second + 100 + n * 25_000));
        unlikes.push(format!("({id}, {user}, 10, 'unlike', '2024-05-01 01:00:00')"));
        tombstones.push(format!("({id}, {user}, 10, '2024-05-01 00:59:59', '2024-05-01 01:00:00', 1)"));
    }
    to.store.apply(&said, wall_clock().into()).await.unwrap();
    to.sql(&format!("INSERT INTO old_user_behaviors VALUES {}", unlikes.join(", "))).await;
    let columns = "id, user_id, video_id, created_at, deleted_at, is_deleted";
    to.sql(&format!("INSERT INTO old_video_likes ({columns}) VALUES {}", tombstones.join(", "))).await;
    let (code, out, error) = to.import(&["--tables", "user_behaviors,video_likes", "--offline"]).await;
    assert_eq!(code, Some(0), "{out}{error}");
    assert_eq!(to.states().await, (1..=40).map(|user| (user, true)).collect::<Vec<_>>());
}

/// Ids that say the time, not the place in the table, are far apart; the batch ends between them, and so does a run.
#[tokio::test]
async fn equal_seconds_are_in_the_order_of_ids_however_far_these_are_apart() {
    let to = Migration::new().await;
    to.sql(LEGACY).await;
    to.sql("DELETE FROM old_user_behaviors").await;
    let row = |id: i64, word: &str| format!("({id}, 1, 10, '{word}', '2024-05-01 01:00:00')");
    let args = ["--tables", "user_behaviors", "--batch-size", "1", "--offline"];
    for (n, word) in ["like", "unlike", "like", "unlike"].into_iter().enumerate() {
        let id = (1 + i64::try_from(n).unwrap()) << 40;
        to.sql(&format!("INSERT INTO old_user_behaviors VALUES {}", row(id, word))).await;
        assert_eq!(to.import(&args).await.0, Some(0));
        assert_eq!(to.states().await, [(1, word == "like")], "after row {n}");
    }
}

/// Between the two ids of each pair lies a multiple of a million; the batch ends between them, too, and so does a run.
#[tokio::test]
async fn equal_seconds_are_in_the_order_of_ids_across_borders_and_runs() {
    let to = Migration::new().await;
    to.sql(LEGACY).await;
    to.sql("DELETE FROM old_user_behaviors").await;
    let row = |id: i64, user: i64, word: &str| format!("({id}, {user}, 10, '{word}', '2024-05-01 01:00:00')");
    let rows = |likes: i64, word: &str| (0..3).map(|n| row(likes + n, 1 + n, word)).collect::<Vec<_>>().join(", ");
    to.sql(&format!("INSERT INTO old_user_behaviors VALUES {}", rows(1_999_997, "like"))).await;
    let args = ["--tables", "user_behaviors", "--batch-size", "3", "--offline"];
    assert_eq!(to.import(&args).await.0, Some(0));
    to.sql(&format!("INSERT INTO old_user_behaviors VALUES {}", rows(2_000_000, "unlike"))).await;
    let (code, out, error) = to.import(&args).await;
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("3 rows read after id 1999999"), "{out}");
    assert_eq!(to.states().await, [(1, false), (2, false), (3, false)]);
    let versions = "SELECT version FROM user_behaviors ORDER BY version";
    let (interrupted, history) = (to.sql(versions).await, to.number("SELECT COUNT(*) FROM user_behaviors").await);

    let (code, out, _) = to.import(&[&args[..], &["--restart"]].concat()).await;
    assert!(code == Some(0) && out.contains("0 pairs changed"), "{out}");
    assert_eq!(to.sql(versions).await, interrupted, "other versions in one run");
    assert_eq!(to.number("SELECT COUNT(*) FROM user_behaviors").await, history);
}

#[tokio::test]
async fn a_like_that_was_taken_back_long_ago_is_not_imported_again() {
    let to = Migration::new().await;
    to.sql(LEGACY).await;
    let args = ["--tables", "comment_likes", "--allow-rejects", "--offline"];
    assert_eq!(to.import(&args).await.0, Some(0));
    let taken_back = comment_event(1, 20, Action::Unlike, DAY + 20 * HOUR);
    to.store.apply(&[taken_back], wall_clock().into()).await.unwrap();
    let long_ago = to.store.now().await.unwrap() - chrono::TimeDelta::days(30);
    let moved = to.store.archive_tombstones(domain::ResourceType::Comment, long_ago, None, 100).await.unwrap();
    assert_eq!(moved.archived, 2);
    let (code, out, error) = to.import(&[&args[..], &["--restart"]].concat()).await;
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains(" 0 pairs changed"), "{out}");
    assert_eq!(to.number("SELECT COUNT(*) FROM comment_likes").await, 0);
    to.assert_counts_are_live_rows().await;
}
