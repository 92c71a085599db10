//! Killed at every point that exists here, under load: after a restart nothing is lost and nothing is there twice.

use crate::deployment::{PATIENCE, Standalone, finished};
use std::os::unix::process::ExitStatusExt;
use test_support::eventually;

const SIGABRT: i32 = 6;
const OPERATIONS: u32 = 4_000;

async fn survives(point: &str, nth: u32) {
    // Small files, so that the points of changing files come soon.
    let standalone = Standalone::new().await.with("EMBEDDED_CACHE__SEGMENT_BYTES", "20000");
    let victim = standalone.program().failpoint(&format!("{point}:{nth}")).start_ready().await.unwrap();
    let load = standalone.load(OPERATIONS);
    let status = victim.wait_exit(PATIENCE).await.unwrap();
    let said = format!("failpoint {point} reached");
    assert!(status.signal() == Some(SIGABRT) && victim.log().contains(&said), "{status}: {}", victim.log());
    assert!(load.is_running(), "it died when the load was over: {}", load.log());
    let restarted = standalone.start_ready().await;
    finished(&load).await;
    standalone.verify(&load).await;
    restarted.end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taken_and_not_written() {
    survives("journal.taken", 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn written_and_not_answered() {
    survives("journal.written", 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_two_journal_files() {
    survives("journal.next_file", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_a_settled_file_goes() {
    survives("journal.settled_file", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepted_and_not_answered() {
    survives("accept.accepted", 300).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ledger_inserted() {
    survives("store.ledger_inserted", 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_commit() {
    survives("store.before_commit", 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn committed_and_not_settled() {
    survives("apply.committed", 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settled() {
    survives("apply.settled", 10).await;
}

/// Again and again, at no particular point, also while it replays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_times_kill_9() {
    let standalone = Standalone::new().await;
    let mut server = standalone.start_ready().await;
    let load = standalone.load(20_000);
    for _ in 0..5 {
        let before = load.lines();
        eventually(PATIENCE, "a thousand more answers", async || {
            let more = load.lines() - before;
            if more >= 1_000 { Ok(()) } else { Err(format!("{more} more; load: {}", load.log())) }
        })
        .await;
        assert!(load.is_running(), "the load ended too early to show anything");
        server.kill9().unwrap();
        server = standalone.program().start().unwrap();
    }
    server.wait_ready().await.unwrap();
    finished(&load).await;
    standalone.verify(&load).await;
    server.end(PATIENCE).await.unwrap();
}

/// New data has more shards than that of before, which keeps its number: with the journal, and without it by the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_before_keeps_its_number_of_shards() {
    let standalone = Standalone::new().await;
    let before = standalone.program().with("EVENT_DRIVEN_SYNC__SHARDS", "16").start_ready().await.unwrap();
    let load = standalone.load(1_000);
    finished(&load).await;
    before.kill9().unwrap();
    let restarted = standalone.start_ready().await;
    standalone.verify(&load).await;
    restarted.end(PATIENCE).await.unwrap();
    std::fs::remove_dir_all(standalone.data_dir().join("journal")).unwrap();
    standalone.start_ready().await.end(PATIENCE).await.unwrap();
    let wrong = standalone.program().with("EVENT_DRIVEN_SYNC__SHARDS", "8").start().unwrap();
    assert!(!wrong.wait_exit(PATIENCE).await.unwrap().success());
    assert!(wrong.log().contains("data of 16 shards, configured are 8"), "{}", wrong.log());
}
