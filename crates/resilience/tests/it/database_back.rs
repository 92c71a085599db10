//! A database that becomes what it once was.

use crate::planted::{Found, finds};
use crate::rig::{PATIENCE, Process, Rig, VIDEO};
use consistency::{AutoFix, Checker, ConsistencyConfig, Strategy};
use domain::Action::Like;
use domain::cache::CachedCount;
use event_store::{Fenced, RecoveryNote, RecoveryStep};
use std::time::Duration;
use test_support::build::video_pair;
use test_support::{eventually, expect_eq, unique_name};
use tokio_util::sync::CancellationToken;

/// One like is in the copy; three more are committed, settled, and lost.
async fn three_lost<'a>(rig: &'a Rig) -> (Process<'a>, sync_engine::accept::Acceptor) {
    let process = rig.process().await;
    let server = process.server();
    process.consume();
    process.accept(&server, 1, Like).await;
    process.settled().await;
    rig.copy_database().await;
    for user in 2..=4 {
        process.accept(&server, user, Like).await;
        process.settled().await;
    }
    rig.restore_database().await;
    (process, server)
}

async fn cached(process: &Process<'_>) -> CachedCount {
    process.stores.cache.counts(&[video_pair(1, VIDEO).resource]).await.unwrap()[0].expect("cached")
}

/// What is written after the step back is newer than what the cache has heard of revisions that are gone.
#[tokio::test]
async fn revision_plus_one() {
    finds("revision_plus_one", "the cache does not believe", async |rig| {
        let (process, server) = three_lost(rig).await;
        process.accept(&server, 5, Like).await;
        process.settled().await;
        let stored = process.stores.database.load_counts(&[video_pair(1, VIDEO).resource]).await.unwrap()[0];
        let cached = cached(&process).await;
        if (cached.stored, cached.stored_revision) == (stored.count, stored.revision) {
            return Ok(());
        }
        Err(format!("the cache does not believe the database: {cached:?}, {stored:?}"))
    })
    .await;
}

/// The next commit notices, and who starts afterwards knows it from the note, or from what the cache was told.
#[tokio::test]
async fn went_back_ignored() {
    finds("went_back_ignored", "nobody noticed", async |rig| {
        let (process, server) = three_lost(rig).await;
        // Of another process nothing is left but what it told.
        let other = rig.process().await;
        noticed(&other)?;
        process.accept(&server, 5, Like).await;
        process.settled().await;
        noticed(&process)
    })
    .await;
}

fn noticed(process: &Process<'_>) -> Found {
    let evidence = process.stores.history.went_back().ok_or("nobody noticed")?;
    let lost = evidence.found.map(|(found, _)| evidence.known.number - found);
    if lost == Some(3) { Ok(()) } else { Err(format!("wrong evidence: {evidence}")) }
}

/// While a recovery is under way, which may be another process's, the cache does not hear how many likes the database has.
#[tokio::test]
async fn unlatched_settle() {
    finds("unlatched_settle", "lowered", async |rig| {
        let (process, server) = three_lost(rig).await;
        let before = cached(&process).await;
        let database = &process.stores.database;
        let now = database.now().await.unwrap();
        let note = RecoveryNote {
            token: database.take_repair_token().await.unwrap(),
            run: uuid::Uuid::now_v7(),
            began_at: now,
            round: 1,
            round_at: now,
            back_to: None,
            step: RecoveryStep::Log,
            since: now,
            queued: 0,
            from_log: 0,
            from_pairs: 0,
        };
        assert_eq!(database.save_recovery(&note).await.unwrap(), Fenced::Done(()));
        process.stores.prepare_database().await.unwrap();
        process.accept(&server, 5, Like).await;
        let committed = "SELECT COUNT(*) FROM video_likes WHERE user_id = 5";
        eventually(PATIENCE, "a commit", async || expect_eq(rig.sql(committed).await.trim(), "1").map(drop)).await;
        // It ends when it has acknowledged what it has in hand.
        let stores = process.stores.clone();
        drop(server);
        process.stop().await;
        let after = stores.cache.counts(&[video_pair(1, VIDEO).resource]).await.unwrap()[0].expect("cached");
        let expected = (before.served + 1, before.pending + 1);
        if (after.served, after.pending) == expected {
            return Ok(());
        }
        Err(format!("lowered: {before:?}, {after:?}"))
    })
    .await;
}

/// What the database lacks the cache keeps.
#[tokio::test]
async fn repairs_cache_backwards() {
    finds("repairs_cache_backwards", "lowered", async |rig| {
        let (process, _server) = three_lost(rig).await;
        let before = cached(&process).await;
        let config = ConsistencyConfig {
            confirm_after: Duration::from_millis(50),
            max_rate: 1_000_000,
            auto_fix: AutoFix { enabled: true, strategy: Strategy::DatabaseFirst, dry_run: false },
            ..ConsistencyConfig::default()
        };
        let checker = Checker::new(process.stores.clone(), config, unique_name("owner"));
        assert!(checker.leader().hold().await.unwrap());
        checker.sweep(&CancellationToken::new()).await.unwrap().unwrap();
        let after = cached(&process).await;
        if after.served == before.served { Ok(()) } else { Err(format!("lowered: {before:?}, {after:?}")) }
    })
    .await;
}
