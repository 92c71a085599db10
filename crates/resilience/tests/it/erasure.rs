//! A user is erased under load, and the process that does it dies at each step: afterwards nothing of the user is left, and every
//! counter is the number of its live rows.

use crate::system::{Role, System, dies_at, finished};
use Role::{Consumer, Server};

/// Of the load; the user who is erased has some of them.
const LIKES: u32 = 800;

/// Of those who like.
const ERASED: &str = "7";

/// How many likes of that user the database has.
const ROWS: &str = "SELECT COUNT(*) FROM video_likes WHERE user_id = 7";

/// Counters that are not the number of their live rows.
const WRONG: &str = "SELECT COUNT(*) FROM like_counts c WHERE c.like_count <> IF(c.resource_type = 'video', \
                     (SELECT COUNT(*) FROM video_likes l WHERE l.video_id = c.resource_id AND l.deleted_at IS NULL), \
                     (SELECT COUNT(*) FROM comment_likes l WHERE l.comment_id = c.resource_id AND l.deleted_at IS NULL))";

async fn survives(role: Role, point: &str) {
    let mut system = System::new(&[]).await;
    let failpoint = |of| if of == role { point } else { "" };
    let server = system.start_ready(Server, failpoint(Server)).await;
    let consumer = system.start_ready(Consumer, failpoint(Consumer)).await;
    let load = system.load(LIKES);
    finished(&load).await;
    system.expect_number("SELECT COUNT(*) > 0 FROM video_likes WHERE user_id = 7", 1).await;
    let others = "SELECT COUNT(*) FROM video_likes WHERE user_id <> 7 AND deleted_at IS NULL";
    let order = |system: &System| {
        system.start_syncctl(&[
            "erase-user",
            ERASED,
            "--addr",
            &system.server(),
            "--actor",
            "ann",
            "--reason",
            "asked",
            "--wait",
        ])
    };
    let first = order(&system);
    let (victim, witness) = if role == Server { (server, consumer) } else { (consumer, server) };
    dies_at(&victim, point).await;
    let restarted = system.start_ready(role, "").await;
    let mut waiting = first;
    if role == Server {
        // Whoever asked has no answer, and asks again.
        waiting = order(&system);
    }
    let status = waiting.wait_exit(crate::system::PATIENCE).await.unwrap();
    assert!(status.success(), "{}", waiting.log());
    system.expect_number("SELECT COUNT(*) FROM erased_users WHERE user_id = 7 AND cleaned_at IS NOT NULL", 1).await;
    system.expect_number(ROWS, 0).await;
    let left = system.syncctl(&["erase-user", ERASED, "--verify", "-o", "json"]).await;
    let numbers = |value: &serde_json::Value| {
        value.as_object().map_or(value.as_u64(), |of| of.values().map(serde_json::Value::as_u64).sum())
    };
    for part in ["rows", "tables", "cached", "journal"] {
        assert_eq!(numbers(&left[part]), Some(0), "left: {left}");
    }
    system.expect_number(WRONG, 0).await;
    assert_ne!(system.sql(others).await.trim(), "0", "others have nothing either");
    system.end([witness, restarted]).await;
}

#[tokio::test]
async fn an_erasure_before_its_fence() {
    survives(Server, "erase.clocks_raised").await;
}

#[tokio::test]
async fn an_erasure_behind_its_fence() {
    survives(Server, "erase.fenced").await;
}

#[tokio::test]
async fn an_erasure_among_the_rows() {
    survives(Consumer, "erase.likes").await;
}

#[tokio::test]
async fn an_erasure_before_the_walk() {
    survives(Consumer, "erase.told").await;
}

#[tokio::test]
async fn an_erasure_in_the_walk() {
    survives(Consumer, "erase.walked").await;
}

#[tokio::test]
async fn an_erasure_behind_the_sweep() {
    survives(Consumer, "erase.swept").await;
}

#[tokio::test]
async fn an_erasure_at_its_end() {
    survives(Consumer, "erase.ending").await;
}
