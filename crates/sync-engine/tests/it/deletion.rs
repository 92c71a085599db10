//! A deleted resource is gone from every store, nothing of it comes back, and nobody likes it until it is restored.

use crate::erasure::{VIDEOS, liked, publish, replay, said, stored, who};
use crate::rig::{PATIENCE, Process, Rig, like, unlike, video};
use domain::{Erased, Fence, LikeEvent, PairState, Resource, Version};
use event_store::{FailedEvent, ImportOptions};
use std::sync::Arc;
use std::time::Duration;
use sync_engine::accept::{Acceptor, LikeError};
use sync_engine::clock::wall_clock;
use sync_engine::operate::erase::{Eraser, delete_resource, restore_resource, tell_deleted};
use sync_engine::operate::leftovers::look_for;
use sync_engine::recover::lost_pairs::LostPairs;
use test_support::{Deployment, RedisOptions, dump_schema, eventually, expect_eq, restore_schema};
use tokio_util::sync::CancellationToken;

/// Until nothing is left.
pub(crate) async fn cleaned(process: &Process, id: i64) {
    let what = format!("the end of the deletion of video {id}");
    eventually(3 * PATIENCE, &what, async || {
        let deletion = process.stores.database.deletion_of(video(id)).await.unwrap();
        deletion.and_then(|deletion| deletion.cleaned_at).map(drop).ok_or("it is under way".to_owned())
    })
    .await;
}

pub(crate) async fn nothing_left(process: &Process, id: i64, after: &str) {
    let deletion = process.stores.database.deletion_of(video(id)).await.unwrap().expect("no fence");
    let left = look_for(&process.stores, &deletion, 1_000_000).await.unwrap();
    assert_eq!(left.total(), 0, "left of video {id} after {after}: {left:#?}");
}

async fn assert_refused(accept: &Acceptor, id: i64, when: &str) {
    for intent in [like(1, id), unlike(2, id), like(99, id)] {
        let answer = accept.accept_one(intent).await;
        assert!(matches!(answer, Err(LikeError::Deleted)), "{when}: {answer:?}");
    }
}

/// What the cache has marks of, and whether it is deleted.
async fn kept(process: &Process) -> Vec<(Resource, bool)> {
    let (mut kept, mut cursor) = (Vec::new(), 0);
    loop {
        let (marks, next) = process.stores.cache.kept_deleted(cursor, 100).await.unwrap();
        kept.extend(marks.into_iter().map(|(resource, mark)| (resource, mark.deleted)));
        cursor = next;
        if cursor == 0 {
            return kept;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_deleted_resource_comes_back_by_any_way() {
    let rig = Rig::new().await;
    let (server, consumer, accept, events) = liked(&rig).await;
    let of_it: Vec<LikeEvent> = events.iter().filter(|event| event.pair().resource == video(1)).cloned().collect();
    consumer.erase();
    let erasure = delete_resource(&server.stores, video(1), &who()).await.unwrap();
    assert!(of_it.iter().all(|event| event.version <= erasure.fence.up_to), "the fence is below an old like");
    assert_refused(&accept, 1, "at once").await;
    cleaned(&server, 1).await;
    nothing_left(&server, 1, "the deletion").await;
    let counts: String = (1..=VIDEOS).map(|id| format!("{id}\t{}\n", [0, 2, 2, 2, 2, 1][id as usize - 1])).collect();
    assert_eq!(stored(&rig).await.trim(), counts.trim());
    let audited = rig.sql("SELECT action, actor, selection, reason FROM operator_actions").await;
    assert_eq!(audited.trim(), "delete_resource\tann\tvideo:1\tasked for");

    // By the queue and by hand, as failures of before, and by an import.
    publish(&rig, &of_it).await;
    eventually(PATIENCE, "an empty queue", async || expect_eq(rig.queue_gauge().ready().await, 0)).await;
    consumer.applier.apply(&of_it).await.unwrap();
    nothing_left(&server, 1, "deliveries").await;
    let now = wall_clock();
    let failed =
        of_it.iter().map(|event| FailedEvent { event: event.clone(), error: "late".into(), next_retry_at: Some(now) });
    server.stores.database.park(&failed.collect::<Vec<_>>(), 3, now).await.unwrap();
    for history in [true, false] {
        let options = ImportOptions { history, tell_cache: true, progress: ("an_import", "1") };
        server.stores.database.import(&of_it, options, now).await.unwrap();
    }
    nothing_left(&server, 1, "a failure and an import").await;
    // From the redo log, and from pairs that a cache still had.
    let told = replay(&rig, &server).await;
    assert_eq!((told.missing, told.unreadable), (0, 0), "{told:?}");
    for event in &of_it {
        let state = PairState { liked: event.intent.action.liked(), version: event.version };
        let rows = domain::cache::Settlement::of_rows([], [(event.pair(), state)]);
        server.stores.cache.settle(&rows).await.unwrap();
    }
    let lost = LostPairs::new(server.stores.clone(), server.applier.clone(), 1_000_000, false);
    let recovered = lost.run(&CancellationToken::new(), |_| {}).await.unwrap();
    assert_eq!((recovered.lost, recovered.applied), (0, 0), "{recovered:?}");
    assert_eq!(stored(&rig).await.trim(), counts.trim());
    assert_refused(&accept, 1, "after everything").await;

    delete_resource(&server.stores, video(1), &who()).await.unwrap();
    cleaned(&server, 1).await;
    nothing_left(&server, 1, "another deletion").await;

    // Restored, it begins anew: its likes do not come back, and new ones count.
    let restored = restore_resource(&server.stores, video(1), &who()).await.unwrap().expect("never deleted");
    assert!(restored.restored_at.is_some(), "{restored:?}");
    assert_eq!(restore_resource(&server.stores, video(2), &who()).await.unwrap(), None);
    let again = said(&accept, like(2, 1)).await;
    assert!(again.version > restored.fence.up_to);
    server.settled().await;
    consumer.applier.apply(&of_it).await.unwrap();
    assert_eq!(rig.number("SELECT like_count FROM like_counts WHERE resource_id = 1").await, 1);
    rig.assert_counts_are_live_rows().await;
    server.assert_cache_agrees(&(1..=VIDEOS).map(video).collect::<Vec<_>>()).await;
    drop(accept);
    consumer.stop().await;
    server.stop().await;
    rig.end().await;
}

/// Between the fence and the moment in which the cache hears of it, likes are accepted: they go with the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn likes_that_meet_a_deletion_are_refused_or_go() {
    let rig = Rig::new().await;
    let (server, consumer) = (rig.process().await, rig.process().await);
    let accept = Arc::new(server.server());
    server.rescue();
    consumer.consume();
    consumer.retry();
    consumer.erase();
    for round in 1..=3 {
        let crowd = (0..4).map(|lane| {
            let accept = Arc::clone(&accept);
            tokio::spawn(async move {
                let mut accepted = 0;
                for user in 1.. {
                    match accept.accept_one(like(user * 4 + lane, round)).await {
                        Ok(_) => accepted += 1,
                        Err(LikeError::Deleted) => return accepted,
                        Err(other) => panic!("{other}"),
                    }
                }
                accepted
            })
        });
        let crowd: Vec<_> = crowd.collect();
        eventually(PATIENCE, "likes", async || {
            let liked = rig.number(&format!("SELECT COUNT(*) FROM video_likes WHERE video_id = {round}")).await;
            if liked > 50 { Ok(()) } else { Err(format!("{liked} likes")) }
        })
        .await;
        delete_resource(&server.stores, video(round), &who()).await.unwrap();
        let mut accepted = 0;
        for one in crowd {
            accepted += one.await.unwrap();
        }
        assert!(accepted > 50, "{accepted} likes");
        server.settled().await;
        cleaned(&server, round).await;
        let left = rig.number(&format!("SELECT COUNT(*) FROM video_likes WHERE video_id = {round}")).await;
        assert_eq!(left, 0, "of {accepted} likes in round {round}");
    }
    rig.assert_counts_are_live_rows().await;
    drop(accept);
    consumer.stop().await;
    server.stop().await;
    rig.end().await;
}

/// A round takes as long as stores are large: what is deleted meanwhile does not wait for its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_during_a_round_does_not_wait_for_its_end() {
    let rig = Rig::new().await;
    let (server, consumer, accept, _) = liked(&rig).await;
    delete_resource(&server.stores, video(1), &who()).await.unwrap();
    let mut sync = rig.sync.clone();
    // Each table takes two seconds.
    sync.retention.erasure_rate = 500;
    let stop = CancellationToken::new();
    let eraser = Eraser::new(consumer.stores.clone(), "slow".to_owned(), &sync);
    let eraser = eraser.with_interval(Duration::from_millis(40), Duration::from_millis(200));
    let erasing = tokio::spawn(eraser.run(stop.clone()));
    let database = &server.stores.database;
    eventually(PATIENCE, "a walk", async || {
        database.note("erasure_walk").await.unwrap().map(drop).ok_or("it has not begun".to_owned())
    })
    .await;

    // As if its process had died before it told the cache.
    let now = database.now().await.unwrap();
    let fence = Fence { of: Erased::Resource(video(2)), up_to: Version(now.timestamp_micros()) };
    database.fence(fence, None, now).await.unwrap();
    eventually(PATIENCE, "a mark, and no rows", async || {
        let rows = rig.number("SELECT COUNT(*) FROM video_likes WHERE video_id = 2").await;
        let kept = kept(&server).await;
        if rows == 0 && kept.contains(&(video(2), true)) { Ok(()) } else { Err(format!("{rows} rows, {kept:?}")) }
    })
    .await;
    let first = database.deletion_of(video(1)).await.unwrap().expect("no fence");
    assert_eq!(first.cleaned_at, None, "the round was over before");
    assert_refused(&accept, 2, "meanwhile").await;
    rig.assert_counts_are_live_rows().await;
    stop.cancel();
    erasing.await.unwrap();
    drop(accept);
    consumer.stop().await;
    server.stop().await;
    rig.end().await;
}

/// All marks with each word about one would push events out of the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_hears_what_is_new_and_not_all_of_it_again() {
    let rig = Rig::new().await;
    let (server, consumer, accept, _) = liked(&rig).await;
    for id in 1..=4 {
        delete_resource(&server.stores, video(id), &who()).await.unwrap();
        eventually(PATIENCE, "the mark in the log", async || {
            let told = rig.logged_marks().await;
            if told.iter().any(|(resource, _)| *resource == video(id)) { Ok(()) } else { Err(format!("{told:?}")) }
        })
        .await;
    }
    let told = rig.logged_marks().await;
    // One that is written while the log is told may be told twice; all of them each time were ten.
    assert!(told.len() <= 6, "{told:?}");
    drop(accept);
    consumer.stop().await;
    server.stop().await;
    rig.end().await;
}

/// A copy of the database from before: the cache, and where it is empty the redo log, know what was deleted, and what restored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_from_before_a_deletion_or_a_restoration_is_told_of_it() {
    for cache_has_it in [true, false] {
        let own = Deployment::build("engine").own_redis(RedisOptions::default());
        let rig = if cache_has_it { Rig::new().await } else { Rig::on(own).await };
        let (server, consumer, accept, events) = liked(&rig).await;
        let before = dump_schema(rig.deployment.database_url()).await.unwrap();
        consumer.erase();
        delete_resource(&server.stores, video(1), &who()).await.unwrap();
        delete_resource(&server.stores, video(2), &who()).await.unwrap();
        for id in [1, 2] {
            cleaned(&server, id).await;
        }
        let between = dump_schema(rig.deployment.database_url()).await.unwrap();
        restore_resource(&server.stores, video(2), &who()).await.unwrap().expect("never deleted");
        let newest = server.stores.database.newest_fence().await.unwrap();
        eventually(PATIENCE, "the newest word in the log", async || {
            let told = rig.logged_marks().await;
            let is_newest = |at: domain::Version| at.0 >= newest.timestamp_micros();
            if told.iter().any(|(_, mark)| is_newest(mark.at)) { Ok(()) } else { Err(format!("{told:?}")) }
        })
        .await;
        drop(accept);
        consumer.stop().await;
        server.stop().await;

        for (user, copy, what) in [(77, before, "before both"), (78, between, "between")] {
            restore_schema(rig.deployment.database_url(), &copy).await.unwrap();
            if !cache_has_it {
                rig.deployment.redis().cli(&["FLUSHALL"]).await.unwrap();
            }
            let process = rig.process().await;
            if !cache_has_it {
                let told = replay(&rig, &process).await;
                assert_eq!(told.unreadable, 0, "{told:?}");
            }
            process.erase();
            eventually(PATIENCE, "what was said", async || {
                let of = async |id| process.stores.database.deletion_of(video(id)).await.unwrap();
                let (one, other) = (of(1).await, of(2).await);
                let is_told = one.is_some_and(|one| one.restored_at.is_none() && one.cleaned_at.is_some())
                    && other.is_some_and(|other| other.restored_at.is_some() && other.cleaned_at.is_some());
                if is_told { Ok(()) } else { Err(format!("{one:?} {other:?}")) }
            })
            .await;
            eventually(PATIENCE, "the marks in the cache", async || {
                let mut kept = kept(&process).await;
                kept.sort_unstable();
                kept.dedup();
                expect_eq(kept, vec![(video(1), true), (video(2), false)])
            })
            .await;
            process.applier.apply(&events).await.unwrap();
            for id in [1, 2] {
                nothing_left(&process, id, &format!("a copy from {what}")).await;
            }
            let accept = process.server();
            assert_refused(&accept, 1, what).await;
            said(&accept, like(user, 2)).await;
            rig.assert_counts_are_live_rows().await;
            drop(accept);
            process.stop().await;
        }
        rig.end().await;
    }
}

/// A cache that begins empty is told at once of all, by whoever asks for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_cache_is_told_what_is_deleted() {
    let own = Deployment::build("engine").own_redis(RedisOptions::default());
    let rig = Rig::on(own).await;
    let server = rig.process().await;
    let accept = server.server();
    for id in 1..=3 {
        delete_resource(&server.stores, video(id), &who()).await.unwrap();
    }
    restore_resource(&server.stores, video(3), &who()).await.unwrap();
    assert_refused(&accept, 1, "before").await;
    rig.deployment.redis().cli(&["FLUSHALL"]).await.unwrap();
    tell_deleted(&server.stores).await.unwrap();
    assert_refused(&accept, 1, "behind").await;
    assert_refused(&accept, 2, "behind").await;
    said(&accept, like(1, 3)).await;
    drop(accept);
    server.stop().await;
    rig.end().await;
}
