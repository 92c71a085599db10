//! What it does not do, said clearly.

use crate::deployment::{PATIENCE, Standalone, like};
use std::sync::atomic::{AtomicI64, Ordering};
use test_support::eventually;
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_the_same_data_is_refused() {
    let standalone = Standalone::new().await;
    let first = standalone.start_ready().await;
    let second = standalone.program().start().unwrap();
    let status = second.wait_exit(PATIENCE).await.unwrap();
    let expected = format!("in use by another process (pid {})", first.pid().unwrap());
    assert!(status.code() == Some(1) && second.log().contains(&expected), "{status}: {}", second.log());
    standalone.client().await.like(like(1, 1)).await.unwrap();
    // A killed process leaves no lock behind.
    first.kill9().unwrap();
    let third = standalone.start_ready().await;
    third.end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_command_line_or_setting_is_exit_code_64() {
    let standalone = Standalone::new().await;
    let unknown = standalone.program().arg("--nope").start().unwrap();
    assert_eq!(unknown.wait_exit(PATIENCE).await.unwrap().code(), Some(64), "{}", unknown.log());
    let standalone = standalone.with("EMBEDDED_CACHE__DURABILITY", "perhaps");
    let wrong = standalone.program().start().unwrap();
    assert_eq!(wrong.wait_exit(PATIENCE).await.unwrap().code(), Some(64), "{}", wrong.log());
    assert!(wrong.log().contains("embedded_cache.durability"), "{}", wrong.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_that_cannot_be_is_named() {
    let standalone = Standalone::new().await;
    std::fs::write(standalone.data_dir(), "a file").unwrap();
    let server = standalone.program().start().unwrap();
    let status = server.wait_exit(PATIENCE).await.unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(server.log().contains(&standalone.data_dir().display().to_string()), "{}", server.log());
    assert!(standalone.path().is_dir());
}

/// The journal cannot go on (its next file's name is taken): no like is answered that is not kept, the process lives, and
/// comes back by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_refuses_refuses_likes_and_nothing_else() {
    // The database is on the same full disk: reached, but nothing can be written directly either.
    let standalone = Standalone::new()
        .await
        .with("EMBEDDED_CACHE__SEGMENT_BYTES", "600")
        .with("EVENT_DRIVEN_SYNC__DIRECT_WRITES", "1");
    let server = standalone.start_ready().await;
    let mut client = standalone.client().await;
    let next = standalone.data_dir().join("journal").join("journal-0000000000000002.log");
    std::fs::create_dir(&next).unwrap();
    let mut degraded = 0;
    for user in 1..=40 {
        match client.like(like(user, 1)).await {
            Ok(answer) => degraded += i32::from(answer.into_inner().degraded),
            Err(status) => assert!(matches!(status.code(), Code::Unavailable | Code::ResourceExhausted), "{status:?}"),
        }
    }
    assert!(degraded > 0, "the journal was never missed");
    assert!(server.is_running());
    std::fs::remove_dir(&next).unwrap();
    let user = AtomicI64::new(100);
    eventually(PATIENCE, "a like that the journal takes", async || {
        let answer = client.clone().like(like(user.fetch_add(1, Ordering::Relaxed), 2)).await;
        let answer = answer.map_err(|status| status.to_string())?.into_inner();
        if answer.degraded { Err(format!("{answer:?}")) } else { Ok(()) }
    })
    .await;
    server.end(PATIENCE).await.unwrap();
}

/// A limit on the size of files stands for a disk that is full, for journal and database alike.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_likes_and_all_comes_back_with_room() {
    let standalone = Standalone::new().await;
    let server = standalone.start_with_file_limit(300 * 1024);
    server.wait_ready().await.unwrap();
    let load = standalone.load_without_retries(8_000);
    let ended = load.wait_exit(PATIENCE).await.unwrap();
    assert!(!ended.success() && load.log().contains("UNAVAILABLE"), "the disk was never full: {}", load.log());
    assert!(server.is_running(), "{}", server.log());

    let pid = server.pid().unwrap().to_string();
    let lifted = std::process::Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status().unwrap();
    assert!(lifted.success());
    // Not by its health, which is remembered for a second.
    eventually(PATIENCE, "room", async || match standalone.client().await.like(like(2, 1_000_000)).await {
        Ok(answer) if !answer.get_ref().degraded => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let answer = standalone.client().await.like(like(1, 1_000_000)).await.unwrap().into_inner();
    assert!(answer.changed && !answer.degraded, "{answer:?}");
    standalone.verify_shared(&load).await;
    server.end(PATIENCE).await.unwrap();
}
