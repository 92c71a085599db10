//! Each kind of thing broken in each way: found with the right verdict within one sweep, and repaired or reported.

use crate::rig::{Rig, is, quick, video_of};
use consistency::{AutoFix, ConsistencyConfig, Kind, RepairResult, Strategy, Verdict};
use deadpool_redis::redis::cmd;
use domain::codec::encode_payload;
use domain::{Action, PairState, Version};
use event_store::{FailedEvent, Operation};
use std::time::Duration;
use test_support::build::{comment_pair, event, intent, video_pair};
use tokio_util::sync::CancellationToken;

const USERS: i64 = 5;
const VIDEOS: i64 = 20;

/// Videos 1 to 20 with five likes each, settled.
async fn likes(rig: &Rig) {
    for video in 1..=VIDEOS {
        for user in 1..=USERS {
            rig.like(video_pair(user, video)).await;
        }
    }
    rig.like(comment_pair(1, 1)).await;
    rig.settled().await;
}

async fn state(rig: &Rig, user: i64, video: i64) -> PairState {
    rig.stores.database.load_states(&[video_pair(user, video)]).await.unwrap()[0]
}

async fn set_pair(rig: &Rig, user: i64, video: i64, liked: bool, version: i64) {
    let value = version * 2 + i64::from(liked);
    rig.redis::<()>(&format!("SET {} {value}", rig.keys.pair(video_pair(user, video)))).await;
}

async fn break_everything(rig: &Rig) -> Vec<(Kind, Verdict, i64)> {
    rig.redis::<()>(&format!("HINCRBY {} n 3", rig.counter(1))).await;
    rig.redis::<()>(&format!("HINCRBY {} n -2", rig.counter(2))).await;
    rig.redis::<()>(&format!("HINCRBY {} dn 1", rig.counter(3))).await;
    rig.redis::<()>(&format!("HINCRBY {} dr 1000", rig.counter(4))).await;
    rig.redis::<()>(&format!("HINCRBY {} p 2", rig.counter(5))).await;
    rig.redis::<()>(&format!("HSET {} v 1000", rig.counter(5))).await;
    let version = state(rig, 1, 6).await.version.0;
    set_pair(rig, 1, 6, false, version).await;
    set_pair(rig, 1, 7, true, 1000).await;
    rig.sql(
        "UPDATE like_counts SET like_count = 77 WHERE resource_type = 'video' AND resource_id = 8; \
         DELETE FROM like_counts WHERE resource_type = 'video' AND resource_id = 9; \
         DELETE FROM video_likes WHERE video_id = 10 AND user_id = 2; \
         UPDATE video_likes SET version = version - 5, deleted_at = NOW(6) WHERE video_id = 11 AND user_id = 3; \
         DELETE FROM user_behaviors WHERE video_id = 12 AND user_id = 4; \
         UPDATE like_counts SET like_count = 0 WHERE resource_type = 'comment' AND resource_id = 1",
    )
    .await;
    // A write around the cache that nobody remembered.
    let now = chrono::DateTime::from(test_support::wall_clock());
    let around = intent(video_pair(99, 13), Action::Like);
    rig.stores.database.apply_direct(&[around], now, soon(), false).await.unwrap();
    // An entry whose event the database has.
    let ledger = rig.stores.database.ledger_after(None, chrono::DateTime::UNIX_EPOCH, 1_000).await.unwrap();
    let event = &ledger.iter().find(|audit| audit.entry.event.pair() == video_pair(1, 14)).unwrap().entry.event;
    let orphan = event.pair().resource;
    let shard = rig.stores.shards().of(orphan);
    let id = format!("{}-0", rig.stores.now().0 + 1);
    rig.command(cmd("XADD").arg(rig.keys.journal(shard)).arg(id).arg("e").arg(&*encode_payload(&event.intent))).await;
    rig.redis::<()>(&format!("HINCRBY {} a 1", rig.keys.clock(shard))).await;
    vec![
        (Kind::CachedCount, Verdict::Drift, 1),
        (Kind::CachedCount, Verdict::Drift, 2),
        (Kind::CachedCount, Verdict::Drift, 3),
        (Kind::CachedCount, Verdict::WentBack, 4),
        (Kind::CachedCount, Verdict::Orphan, 5),
        (Kind::CachedPair, Verdict::Drift, 6),
        (Kind::CachedPair, Verdict::Stale, 7),
        (Kind::StoredCount, Verdict::Drift, 8),
        (Kind::StoredCount, Verdict::Missing, 9),
        (Kind::Row, Verdict::Missing, 10),
        (Kind::Row, Verdict::Drift, 11),
        (Kind::History, Verdict::Missing, 12),
        (Kind::CachedCount, Verdict::Stale, 13),
        (Kind::StoredCount, Verdict::Drift, 1), // the comment
        (Kind::Journal, Verdict::Orphan, orphan.id.get()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_broken_is_found_by_one_sweep_and_repaired() {
    let rig = Rig::new().await;
    likes(&rig).await;
    let expected = break_everything(&rig).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let checker = rig.repairing(Strategy::DatabaseFirst).await;
    let run = checker.sweep(&CancellationToken::new()).await.unwrap().unwrap();
    let found = rig.found().await;
    for (kind, verdict, id) in &expected {
        assert!(
            found.iter().any(|one| is(one, *kind, *verdict, *id)),
            "{kind:?} {verdict:?} {id} is not in {found:#?}"
        );
    }
    for one in &found {
        let known = expected.iter().any(|(kind, verdict, id)| is(one, *kind, *verdict, *id));
        assert!(known, "false alarm: {one:?}");
        if is(one, Kind::CachedCount, Verdict::WentBack, 4) {
            assert!(one.repaired_at.is_none(), "evidence is gone: {one:?}");
            continue;
        }
        assert!(one.repaired_at.is_some(), "not repaired: {one:?}");
        assert!(one.details.contains("\"outcome\":\"repaired\""), "{one:?}");
    }
    assert_eq!((run.inconsistent, run.repaired), (expected.len() as i64, expected.len() as i64 - 1));
    assert_eq!(run.coverage, Some(1.0));
    rig.assert_agreement((1..=VIDEOS).filter(|id| ![4, 13].contains(id))).await;
    // The next commit has a newer revision than anybody can have heard of.
    rig.like(video_pair(USERS + 1, 4)).await;
    rig.settled().await;
    rig.assert_agreement(4..=4).await;
    // Nobody's like is lost.
    for video in 1..=VIDEOS {
        for user in 1..=USERS {
            assert!(state(&rig, user, video).await.liked, "user {user} video {video}");
        }
    }
    let again = checker.sweep(&CancellationToken::new()).await.unwrap().unwrap();
    assert_eq!(again.inconsistent, 0, "{:#?}", rig.found().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_only_and_dry_run_and_no_office_write_nothing() {
    let rig = Rig::new().await;
    likes(&rig).await;
    rig.redis::<()>(&format!("HINCRBY {} n 3", rig.counter(1))).await;
    rig.sql("UPDATE like_counts SET like_count = 77 WHERE resource_type = 'video' AND resource_id = 8").await;
    let off = AutoFix { enabled: false, ..AutoFix::default() };
    let dry = AutoFix { dry_run: true, ..AutoFix::default() };
    let report_only = AutoFix { strategy: Strategy::ReportOnly, ..AutoFix::default() };
    for (auto_fix, leader, outcome) in [
        (off, true, RepairResult::Reported),
        (dry, true, RepairResult::DryRun),
        (report_only, true, RepairResult::Reported),
        (AutoFix::default(), false, RepairResult::NotLeader),
    ] {
        let config = ConsistencyConfig { auto_fix, ..quick(Strategy::DatabaseFirst) };
        let checker = rig.checker_with(ConsistencyConfig { lease: Duration::from_millis(300), ..config }).await;
        if leader {
            test_support::eventually(crate::rig::PATIENCE, "the leader", async || {
                checker.leader().hold().await.unwrap()
            })
            .await;
        }
        for (video, kind) in [(1, Kind::CachedCount), (8, Kind::StoredCount)] {
            let outcome_of = checker.check(video_of(video), false).await.unwrap();
            assert_eq!(outcome_of.verdict, Verdict::Drift, "{outcome_of:?}");
            let finding = &outcome_of.findings[0];
            assert_eq!((finding.kind, finding.repair.as_ref().unwrap().outcome), (kind, outcome));
        }
    }
    let counts = rig.stores.cache.counts(&[video_of(1)]).await.unwrap();
    assert_eq!(counts[0].unwrap().served, USERS + 3);
    assert_eq!(rig.stores.database.load_counts(&[video_of(8)]).await.unwrap()[0].count, 77);
    assert!(rig.found().await.iter().all(|one| one.repaired_at.is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_like_that_only_the_cache_has_is_never_erased() {
    let rig = Rig::new().await;
    likes(&rig).await;
    let ahead = rig.stores.now().0;
    rig.act(video_pair(1, 2), Action::Unlike).await;
    rig.settled().await;
    set_pair(&rig, 1, 2, true, rig.stores.now().0 + 50).await;
    let version = state(&rig, 1, 3).await.version.0;
    set_pair(&rig, 1, 3, false, version).await;
    let checker = rig.repairing(Strategy::DatabaseFirst).await;
    checker.sweep(&CancellationToken::new()).await.unwrap().unwrap();
    let found = rig.found().await;
    let missing = found.iter().find(|one| is(one, Kind::CachedPair, Verdict::Missing, 2)).unwrap();
    assert_eq!(missing.repaired_at, None, "only reported: {missing:?}");
    let cached = rig.stores.cache.states(&[video_pair(1, 2)]).await.unwrap()[0].unwrap();
    assert!(cached.liked && cached.version.0 > ahead);
    assert!(!state(&rig, 1, 2).await.liked);

    // cache_first brings it to its row, and what the cache says about another pair too.
    let version = state(&rig, 1, 4).await.version;
    set_pair(&rig, 1, 4, false, version.0).await;
    drop(checker);
    let checker = second_leader(&rig, Strategy::CacheFirst).await;
    checker.sweep(&CancellationToken::new()).await.unwrap().unwrap();
    assert_eq!(state(&rig, 1, 2).await, cached);
    let flipped = state(&rig, 1, 4).await;
    assert_eq!(flipped, PairState { liked: false, version: Version(version.0 + 1) });
    rig.assert_agreement(1..=VIDEOS).await;
    let before = rig.found().await.len();
    checker.sweep(&CancellationToken::new()).await.unwrap().unwrap();
    assert_eq!(rig.found().await.len(), before, "{:#?}", rig.found().await);
}

/// Somebody deleted all that the database had of it. The cache alone knows: that may be all that is left of somebody's like, so
/// it is never erased.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_like_that_was_deleted_by_hand_is_seen_in_the_cache() {
    let rig = Rig::new().await;
    likes(&rig).await;
    rig.sql(
        "DELETE FROM video_likes WHERE video_id = 10 AND user_id = 2; \
         DELETE FROM user_behaviors WHERE video_id = 10 AND user_id = 2; \
         DELETE FROM sync_events WHERE resource_type = 'video' AND resource_id = 10 AND user_id = 2; \
         UPDATE like_counts SET like_count = like_count - 1, revision = revision + 1 \
         WHERE resource_type = 'video' AND resource_id = 10",
    )
    .await;
    let checker = rig.repairing(Strategy::DatabaseFirst).await;
    checker.sweep(&CancellationToken::new()).await.unwrap().unwrap();
    let found = rig.found().await;
    let missing: Vec<_> = found.iter().filter(|one| is(one, Kind::CachedPair, Verdict::Missing, 10)).collect();
    assert_eq!(missing.len(), 1, "{found:#?}");
    assert_eq!(missing[0].repaired_at, None, "only reported: {missing:?}");
    assert_eq!(state(&rig, 2, 10).await, PairState::UNTOUCHED);
    assert!(rig.stores.cache.states(&[video_pair(2, 10)]).await.unwrap()[0].unwrap().liked);
    drop(checker);

    let checker = second_leader(&rig, Strategy::CacheFirst).await;
    checker.sweep(&CancellationToken::new()).await.unwrap().unwrap();
    assert!(state(&rig, 2, 10).await.liked);
    rig.assert_agreement(1..=VIDEOS).await;
    let before = rig.found().await.len();
    checker.sweep(&CancellationToken::new()).await.unwrap().unwrap();
    assert_eq!(rig.found().await.len(), before, "{:#?}", rig.found().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_still_shows_a_discarded_event_forgets_it_whoever_is_believed() {
    for strategy in [Strategy::DatabaseFirst, Strategy::CacheFirst] {
        let rig = Rig::new().await;
        likes(&rig).await;
        let discarded = event(50, 3, Action::Like, rig.stores.now().0);
        let (pair, id) = (discarded.pair(), discarded.intent.id);
        let now = chrono::DateTime::from(test_support::wall_clock());
        let dead = FailedEvent { event: discarded.clone(), error: "poison".to_owned(), next_retry_at: None };
        rig.stores.database.park(&[dead], 1, now).await.unwrap();
        rig.stores.database.discard(&[id], &Operation::default(), now).await.unwrap();
        // As after a cache came back from an old copy: nobody will tell it any more.
        rig.sql("DELETE FROM cache_refreshes").await;
        set_pair(&rig, 50, 3, true, discarded.version.0).await;
        let checker = rig.repairing(strategy).await;
        for _ in 0..2 {
            checker.check_hot().await.unwrap();
            let found = rig.found().await;
            assert!(found.len() == 1 && is(&found[0], Kind::CachedPair, Verdict::Drift, 3), "{found:#?}");
            assert!(found[0].repaired_at.is_some(), "{found:#?}");
        }
        assert_eq!(rig.stores.cache.states(&[pair]).await.unwrap(), [None]);
        assert_eq!(state(&rig, 50, 3).await, PairState::UNTOUCHED);
        rig.assert_agreement(1..=VIDEOS).await;
    }
}

async fn second_leader(rig: &Rig, strategy: Strategy) -> consistency::Checker {
    let checker = rig.checker_with(quick(strategy)).await;
    rig.redis::<()>(&format!("DEL {}", rig.lease_key())).await;
    assert!(checker.leader().hold().await.unwrap());
    checker
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_late_or_foreign_is_reported() {
    let rig = Rig::new().await;
    likes(&rig).await;
    let shard = rig.stores.shards().of(video_of(1));
    rig.redis::<()>(&format!("HINCRBY {} a 4", rig.keys.clock(shard))).await;
    rig.redis::<()>(&format!("XADD {} {}-0 e nonsense", rig.keys.journal(shard), rig.stores.now().0 + 1)).await;
    rig.sql(
        "UPDATE sync_events SET status = 'failed', next_retry_at = '2020-01-01' WHERE resource_id = 5 AND user_id = 1 \
         AND resource_type = 'video'",
    )
    .await;
    rig.sql("INSERT INTO video_likes VALUES (900, 77, '2150-01-01', '2150-01-01', NULL, 5700000000000000)").await;
    rig.sql("INSERT INTO like_counts VALUES ('video', 77, 1, 1, 5700000000000000, '2026-01-01')").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let checker = rig.repairing(Strategy::DatabaseFirst).await;
    let run = checker.sweep(&CancellationToken::new()).await.unwrap().unwrap();
    let found = rig.found().await;
    for (kind, verdict, id) in [
        (Kind::Accounting, Verdict::Drift, i64::from(shard.0)),
        (Kind::Journal, Verdict::Orphan, i64::from(shard.0)),
        (Kind::Ledger, Verdict::Stuck, 5),
        (Kind::Row, Verdict::Orphan, 77),
    ] {
        let one = found.iter().find(|one| is(one, kind, verdict, id)).unwrap_or_else(|| panic!("{kind:?}: {found:#?}"));
        assert_eq!(one.repaired_at.is_some(), kind == Kind::Accounting, "{one:?}");
    }
    assert_eq!((run.inconsistent, run.repaired), (4, 1), "{found:#?}");
    let status = rig.stores.cache.shard_status().await.unwrap();
    assert!(status.iter().all(|shard| shard.is_conserved()), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_cache_will_be_told_is_in_flight() {
    let rig = Rig::new().await;
    likes(&rig).await;
    // A degraded write: it is on the list of what the cache missed, and nobody drains that here.
    let now = chrono::DateTime::from(test_support::wall_clock());
    rig.stores.database.apply_direct(&[intent(video_pair(1, 1), Action::Unlike)], now, soon(), true).await.unwrap();
    let patient = ConsistencyConfig { stuck_after: Duration::from_secs(60), ..quick(Strategy::DatabaseFirst) };
    let patient = rig.checker_with(patient).await;
    assert!(patient.leader().hold().await.unwrap());
    let outcome = patient.check(video_of(1), false).await.unwrap();
    assert_eq!(outcome.verdict, Verdict::InFlight, "{outcome:?}");
    patient.sweep(&CancellationToken::new()).await.unwrap().unwrap();
    assert!(rig.found().await.is_empty(), "{:#?}", rig.found().await);
    // One that waits for too long, or that nobody has written down, is stale: counter and pair.
    rig.sql("UPDATE cache_refreshes SET created_at = '2020-01-01'").await;
    let outcome = patient.check(video_of(1), true).await.unwrap();
    assert_eq!(outcome.verdict, Verdict::Stale, "{outcome:?}");
    rig.sql("DELETE FROM cache_refreshes").await;
    patient.sweep(&CancellationToken::new()).await.unwrap().unwrap();
    let found = rig.found().await;
    for kind in [Kind::CachedCount, Kind::CachedPair] {
        assert!(found.iter().any(|one| is(one, kind, Verdict::Stale, 1) && one.repaired_at.is_some()), "{found:#?}");
    }
    rig.assert_agreement([1].into_iter()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pending_is_in_flight_and_later_stuck() {
    let rig = Rig::new().await;
    likes(&rig).await;
    // Nobody relays this one.
    let request = test_support::cache_contract::like(video_pair(50, 1));
    rig.stores.cache.accept(&[request]).await.remove(0).unwrap();
    let patient =
        rig.checker_with(ConsistencyConfig { stuck_after: Duration::from_secs(60), ..quick(Strategy::DatabaseFirst) });
    let patient = patient.await;
    assert!(patient.leader().hold().await.unwrap());
    let outcome = patient.check(video_of(1), false).await.unwrap();
    assert_eq!((outcome.verdict, outcome.findings.len()), (Verdict::InFlight, 1), "{outcome:?}");
    assert_eq!(outcome.findings[0].cache.unwrap().pending, Some(1));
    assert!(rig.found().await.is_empty(), "in flight is nothing to write down");
    let strict = rig.checker_with(quick(Strategy::DatabaseFirst)).await;
    tokio::time::sleep(Duration::from_millis(450)).await;
    let outcome = strict.check(video_of(1), false).await.unwrap();
    assert_eq!(outcome.verdict, Verdict::Stuck, "{outcome:?}");
    let count = rig.stores.cache.counts(&[video_of(1)]).await.unwrap()[0].unwrap();
    assert_eq!((count.served, count.pending), (USERS + 1, 1), "never written to");
}

fn soon() -> std::time::Instant {
    std::time::Instant::now() + crate::rig::PATIENCE
}
