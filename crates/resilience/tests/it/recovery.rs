//! A database that became what it once was is told again without anybody's order: by the log, by cached pairs, from journals.
//!
//! What came back is judged by `syncctl verify`, as everything is.

use crate::planted::ONE_AT_A_TIME;
use crate::rig::{PATIENCE, Process, Rig};
use crate::system::{Role, System, dies_at, finished};
use Role::{Consumer, Server};
use domain::Action::{Like, Unlike};
use fail::FailGuard;
use serde_json::Value;
use std::time::Duration;
use sync_engine::accept::Acceptor;
use test_support::{eventually, expect_eq};

const FINISHED: &str = "SELECT COUNT(*) FROM consistency_runs WHERE kind = 'recovery' AND status = 'finished'";

/// Of everything that was said after the copy.
const LOST: u64 = 17;

/// Ten times what a rescuer of the rig waits for.
const OLD: Duration = Duration::from_secs(3);

/// Five likes are in the copy; fifteen more and two unlikes are settled after it.
async fn copied_and_gone_on(rig: &Rig, process: &Process<'_>, server: &Acceptor) {
    process.accept_likes(server, 5).await;
    process.settled().await;
    rig.copy_database().await;
    for user in 6..=20 {
        process.accept(server, user, Like).await;
    }
    for user in 1..=2 {
        process.accept(server, user, Unlike).await;
    }
    process.settled().await;
}

/// A process that recovers by itself has a database of which there is an older copy.
async fn gone_on_after_a_copy(rig: &Rig) -> (Process<'_>, Acceptor) {
    let process = rig.process().await;
    let server = process.server();
    process.consume();
    process.recover();
    copied_and_gone_on(rig, &process, &server).await;
    (process, server)
}

async fn recovered(rig: &Rig, process: &Process<'_>, times: u32) {
    eventually(PATIENCE, "a recovery", async || {
        expect_eq(rig.sql(FINISHED).await.trim(), times.to_string().as_str()).map(drop)
    })
    .await;
    eventually(PATIENCE, "a database that is believed", async || {
        let history = &process.stores.history;
        if history.went_back().is_none() && history.recovery().is_none() {
            Ok(())
        } else {
            Err(history.trouble().unwrap_or_default())
        }
    })
    .await;
}

/// How many events came back from where.
async fn summary(rig: &Rig) -> Value {
    let details = "SELECT details FROM data_consistency_checks WHERE kind = 'recovery' AND resource_type = 'database'";
    // Written right after the run is said to be finished.
    eventually(PATIENCE, "a summary", async || {
        serde_json::from_str(rig.sql(details).await.trim()).map_err(|error| error.to_string())
    })
    .await
}

async fn named(rig: &Rig, source: &str) -> String {
    let named = "SELECT COUNT(*) FROM data_consistency_checks WHERE kind = 'recovery' AND user_id IS NOT NULL \
                 AND details LIKE";
    rig.sql(&format!("{named} '%\"{source}\"%'")).await.trim().to_owned()
}

/// Where it comes from if there is a log, and if there is none.
async fn comes_back(log: bool, source: &str) {
    let rig = Rig::recovering(log).await;
    let (process, server) = gone_on_after_a_copy(&rig).await;
    // One that its server could not publish before it died: nobody but the journal has it.
    let dead = rig.process().await;
    dead.accept(&dead.dying_server(), 21, Like).await;
    rig.restore_database().await;
    process.accept(&server, 22, Like).await;
    recovered(&rig, &process, 1).await;

    let summary = summary(&rig).await;
    assert_eq!(summary[source], LOST, "{summary}");
    assert!(summary["journal"].as_u64() >= Some(1), "{summary}");
    assert!(summary["back_to"].is_string() && summary["from"].is_string(), "{summary}");
    assert_eq!(summary["log_absent"].is_null(), log, "{summary}");
    // They are written down after the run is said to be finished.
    eventually(PATIENCE, "every event named", async || expect_eq(named(&rig, source).await, LOST.to_string())).await;
    rig.verify().await.unwrap();
    drop(server);
    process.stop().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_database_has_lost_comes_back_from_the_log() {
    let _alone = ONE_AT_A_TIME.lock().await;
    comes_back(true, "redo_log").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_database_has_lost_comes_back_from_cached_pairs() {
    let _alone = ONE_AT_A_TIME.lock().await;
    comes_back(false, "cached_pair").await;
}

/// Nothing but the log has what was lost; that something was, a living writer knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cache_and_database_have_lost_together_comes_back_from_the_log() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let rig = Rig::recovering(true).await;
    let (process, server) = gone_on_after_a_copy(&rig).await;
    rig.restore_database().await;
    rig.wipe_cache("").await;
    recovered(&rig, &process, 1).await;
    let summary = summary(&rig).await;
    assert_eq!((&summary["redo_log"], &summary["cached_pair"]), (&LOST.into(), &0.into()), "{summary}");
    rig.verify().await.unwrap();
    drop(server);
    process.stop().await;
    rig.end().await;
}

/// An emptied cache alone is nobody's loss, and nobody takes the database for one that went back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_cache_is_no_reason_to_recover() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let rig = Rig::recovering(true).await;
    let process = rig.process().await;
    let (server, kept) = process.keeping_server();
    process.consume();
    process.recover();
    process.accept_likes(&server, 5).await;
    process.settled().await;
    rig.wipe_cache("").await;
    for user in 6..=10 {
        process.accept(&server, user, Like).await;
    }
    process.settled().await;
    eventually(PATIENCE, "nothing that is kept", async || expect_eq(kept.len(), 0)).await;
    process.stores.prepare_database().await.unwrap();
    assert_eq!((process.stores.history.went_back(), process.stores.history.trouble()), (None, None));
    rig.verify().await.unwrap();
    drop(server);
    process.stop().await;
    rig.end().await;
}

/// The cache holds a like that the database has lost. Its user, who says it again, is not told that it is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_like_that_is_repeated_meanwhile_is_written() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let rig = Rig::new().await;
    let process = rig.process().await;
    let server = process.server();
    process.consume();
    process.accept(&server, 1, Like).await;
    process.settled().await;
    rig.copy_database().await;
    let first = process.accept(&server, 2, Like).await;
    process.settled().await;
    rig.restore_database().await;
    let other = rig.process().await;
    assert!(other.stores.history.went_back().is_some(), "nobody noticed");
    let accept = other.server();
    // Of this one neither row nor cache lacks anything: it is asked for all the same.
    let (lost, kept) = (other.accept(&accept, 2, Like).await, other.accept(&accept, 1, Like).await);
    assert!(lost.changed && kept.changed && lost.version > first.version, "{first:?}, {lost:?}, {kept:?}");
    process.settled().await;
    let live = rig.sql("SELECT user_id FROM video_likes WHERE deleted_at IS NULL ORDER BY 1").await;
    assert_eq!(live.split_whitespace().collect::<Vec<_>>(), ["1", "2"]);
    drop((server, accept));
    process.stop().await;
    rig.end().await;
}

/// It goes back once more when everything has been brought back and nobody has been told yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_step_back_meanwhile_begins_another_round() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let rig = Rig::recovering(true).await;
    let (process, server) = gone_on_after_a_copy(&rig).await;
    let scanned = FailGuard::new("recover.scanned", "return").unwrap();
    rig.restore_database().await;
    process.accept(&server, 22, Like).await;
    let rows = "SELECT COUNT(*) FROM video_likes";
    eventually(PATIENCE, "the lost rows", async || {
        let note = process.stores.database.recovery().await.unwrap();
        let pairs = note.is_some_and(|note| note.step == event_store::RecoveryStep::Pairs);
        if !pairs {
            return Err(format!("{note:?}"));
        }
        expect_eq(rig.sql(rows).await.trim(), "21").map(drop)
    })
    .await;
    let first = process.stores.history.went_back().unwrap();
    rig.restore_database().await;
    eventually(PATIENCE, "another step back", async || {
        let now = process.stores.history.went_back().unwrap();
        if now.lost_until > first.lost_until { Ok(()) } else { Err(format!("{now}")) }
    })
    .await;
    drop(scanned);
    recovered(&rig, &process, 1).await;
    let summary = summary(&rig).await;
    assert!(summary["rounds"].as_u64() >= Some(2), "{summary}");
    rig.verify().await.unwrap();
    drop(server);
    process.stop().await;
    rig.end().await;
}

/// Real programs; the consumer that recovers dies at the point, and goes on when it is started again.
async fn dies_recovering(point: &str) {
    let mut system = System::new(&[]).await;
    let server = system.start_ready(Server, "").await;
    let consumer = system.start_ready(Consumer, "").await;
    finished(&system.load(500)).await;
    system.verify().await;
    system.copy_database().await;
    finished(&system.load(500)).await;
    system.verify().await;
    consumer.kill9().unwrap();
    let load = system.load(3_000);
    system.restore_database().await;
    let victim = system.start(Consumer, point).await;
    dies_at(&victim, point).await;
    let restarted = system.start(Consumer, "").await;
    system.expect_number(FINISHED, 1).await;
    finished(&load).await;
    system.expect_number("SELECT COUNT(*) FROM sync_meta WHERE name IN ('went_back', 'recovery')", 0).await;
    system.verify().await;
    system.end([server, restarted]).await;
}

#[tokio::test]
async fn the_recovery_is_noted_and_nothing_read() {
    dies_recovering("recover.latched").await;
}

#[tokio::test]
async fn some_of_the_log_is_applied_again_and_not_noted() {
    dies_recovering("recover.reapplied").await;
}

#[tokio::test]
async fn the_log_is_read_and_no_pair() {
    dies_recovering("recover.logged").await;
}

#[tokio::test]
async fn everything_is_back_and_the_latch_still_on() {
    dies_recovering("recover.scanned").await;
}

#[tokio::test]
async fn the_database_is_believed_and_the_journals_are_not_settled() {
    dies_recovering("recover.unlatched").await;
}

/// What was accepted under the latch is in the journals when it goes, old enough for a rescuer. Who recovers settles it: none of
/// it is published once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rescuers_leave_the_journals_to_the_recovery() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let rig = Rig::recovering(true).await;
    let (process, server) = gone_on_after_a_copy(&rig).await;
    process.rescue();
    let scanned = FailGuard::new("recover.scanned", "return").unwrap();
    let unlatched = FailGuard::new("recover.unlatched", "return").unwrap();
    rig.restore_database().await;
    for user in 22..=40 {
        process.accept(&server, user, Like).await;
    }
    eventually(PATIENCE, "likes that are committed and not settled", async || {
        expect_eq(rig.sql("SELECT COUNT(*) FROM video_likes WHERE user_id > 21").await.trim(), "19").map(drop)
    })
    .await;
    let published = rig.logged().await;
    drop(scanned);
    let step = async || process.stores.history.recovery().map(|note| note.step);
    eventually(PATIENCE, "the end of the latch", async || {
        expect_eq(step().await, Some(event_store::RecoveryStep::Journals)).map(drop)
    })
    .await;
    // Older than a rescuer waits, by far, and looked at often.
    let oldest = process.journal().await[0].version;
    eventually(PATIENCE, "old entries", async || {
        let age = process.stores.now().since(oldest);
        if age > OLD { Ok(()) } else { Err(format!("{age:?}")) }
    })
    .await;
    assert_eq!((process.journal().await.len(), rig.logged().await), (19, published));
    drop(unlatched);
    recovered(&rig, &process, 1).await;
    process.settled().await;
    assert_eq!(rig.logged().await, published);
    rig.verify().await.unwrap();
    drop(server);
    process.stop().await;
    rig.end().await;
}
