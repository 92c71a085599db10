//! A word that is repeated while its row is held.

use crate::rig::{PATIENCE, Process, Rig, like, now_version, video};
use domain::{LikeIntent, PairState, Version};
use sync_engine::WritePath;
use sync_engine::accept::LikeAnswer;

use test_support::build::video_pair;
use test_support::{Deployment, RedisOptions, eventually, expect_eq};

const ROW: &str = "SELECT version FROM video_likes WHERE user_id = 1 AND video_id = 1 FOR UPDATE";

/// Holds the row of the pair for `seconds`, while `during` runs.
async fn while_held<T>(rig: &Rig, seconds: f64, during: impl Future<Output = T>) -> T {
    let statements = format!("BEGIN; {ROW}; SELECT SLEEP({seconds})");
    let rest = async {
        let held = format!(
            "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_rows_locked > 0 AND trx_mysql_thread_id IN \
             (SELECT id FROM information_schema.processlist WHERE info LIKE '%SLEEP({seconds})%' AND db = DATABASE())"
        );
        eventually(PATIENCE, "the lock", async || expect_eq(rig.number(&held).await, 1)).await;
        during.await
    };
    tokio::join!(rig.sql(&statements), rest).1
}

/// A like that is settled, and the same again while its row is held for `seconds`.
async fn liked_twice(seconds: f64) -> (Rig, Process, LikeAnswer, LikeAnswer) {
    let rig = Rig::new().await;
    let process = rig.process().await;
    let accept = process.server();
    process.consume();
    let first = accept.accept_one(like(1, 1)).await.unwrap();
    process.settled().await;
    let repeated = while_held(&rig, seconds, accept.accept_one(like(1, 1))).await.unwrap();
    (rig, process, first, repeated)
}

/// Two taps, and the second one comes while the first one's row is committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_repeated_while_its_row_is_held_for_a_moment_is_one_change() {
    let (rig, process, first, repeated) = liked_twice(0.4).await;
    assert!(!repeated.changed, "{repeated:?}");
    assert_eq!(repeated.version, first.version);
    assert_eq!(rig.number("SELECT COUNT(*) FROM sync_events").await, 1);
    process.stop().await;
    rig.end().await;
}

/// Nobody can say what the holder is about to write: the word is written again, as the newest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_repeated_while_its_row_is_held_for_long_is_written_again() {
    let (rig, process, first, repeated) = liked_twice(6.0).await;
    assert!(repeated.changed && repeated.version > first.version, "{first:?}, {repeated:?}");
    process.settled().await;
    assert_eq!(rig.number("SELECT like_count FROM like_counts").await, 1);
    process.assert_cache_agrees(&[video(1)]).await;
    process.stop().await;
    rig.end().await;
}

/// A like from a while ago whose row somebody deleted by hand, with all that the database knew of it: "unchanged" would be a lie
/// for as long as the cache remembers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_like_whose_row_was_deleted_by_hand_is_written_again() {
    let rig = Rig::new().await;
    let process = rig.process().await;
    let accept = process.server();
    process.consume();
    let old = PairState { liked: true, version: Version(now_version() - 120_000_000) };
    process.stores.cache.fill_states(&[(video_pair(1, 1), old)]).await.unwrap();
    let again = accept.accept_one(like(1, 1)).await.unwrap();
    assert!(again.changed && again.version > old.version, "{again:?}");
    process.settled().await;
    assert_eq!(rig.number("SELECT like_count FROM like_counts").await, 1);
    // It is the row that counts from now on.
    let third = accept.accept_one(like(1, 1)).await.unwrap();
    assert!(!third.changed && third.version == again.version, "{third:?}");
    process.stop().await;
    rig.end().await;
}

/// Whoever accepted the like is gone, and only the journal has it, when it is repeated and answered "unchanged" elsewhere. Then the
/// cache is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_unchanged_relies_on_is_remembered_by_who_answered() {
    let rig = Rig::on(Deployment::build("engine").own_redis(RedisOptions::default())).await;
    // Servers of one process go the same way.
    let (process, other) = (rig.process().await, rig.process().await);
    let (dying, keeping) = (process.dying_server(), process.server_that_keeps(WritePath::EventDriven));
    let synchronous = other.server_that_keeps(WritePath::Synchronous);
    let first = dying.accept_one(like(1, 1)).await.unwrap();
    let repeated = keeping.accept_one(like(1, 1)).await.unwrap();
    assert!(!repeated.changed && repeated.version == first.version, "{repeated:?}");
    let mut versions = vec![first.version.0];
    // So with a key, which repeats the first answer, on either path.
    let keyed = |user| LikeIntent { idempotency_key: Some("tap".to_owned()), ..like(user, 1) };
    for (user, repeats) in [(2, &keeping), (3, &synchronous)] {
        let first = dying.accept_one(keyed(user)).await.unwrap();
        assert_eq!(repeats.accept_one(keyed(user)).await.unwrap().version, first.version, "user {user}");
        versions.push(first.version.0);
    }
    // Also where that was an "unchanged", and who gave it is gone as well.
    for (user, repeats) in [(4, &keeping), (5, &synchronous)] {
        let first = dying.accept_one(like(user, 1)).await.unwrap();
        let unchanged = dying.accept_one(keyed(user)).await.unwrap();
        assert!(!unchanged.changed && unchanged.version == first.version, "{unchanged:?}");
        assert_eq!(repeats.accept_one(keyed(user)).await.unwrap(), unchanged, "user {user}");
        versions.push(first.version.0);
    }
    rig.deployment.redis().cli(&["FLUSHALL"]).await.unwrap();
    process.consume();
    let versions: Vec<String> = versions.iter().map(i64::to_string).collect();
    let rows = format!("SELECT COUNT(*) FROM video_likes WHERE version IN ({})", versions.join(","));
    eventually(PATIENCE, "all likes", async || expect_eq(rig.number(&rows).await, 5)).await;
    other.stop().await;
    process.stop().await;
    rig.end().await;
}
