//! Users' likes change their way, from one moment to the next, on servers that do not switch together.

use crate::rig::{PATIENCE, Process, Rig, like, unlike, video};
use domain::cache::Settlement;
use domain::{Action, LikeIntent, PairState, Version, WritePath};
use event_store::{DirectResult, Reserved};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use sync_engine::accept::{Acceptor, Call, LikeAnswer, LikeError};
use sync_engine::recover::catch_up::drain;
use test_support::build::{intent, video_pair};
use test_support::{Links, Random, eventually, expect_eq};

impl Process {
    /// Orders a path and lets this process follow at once; others follow when they look.
    async fn order(&self, path: WritePath) {
        self.stores.database.set_write_path(Some(path)).await.unwrap();
        self.follow().await;
    }

    async fn follow(&self) {
        self.stores.prepare_database().await.unwrap();
    }
}

async fn accepted(server: &Acceptor, intent: LikeIntent) -> LikeAnswer {
    let asked = intent.action;
    let answer = server.accept_one(intent).await.unwrap();
    assert_eq!(answer.liked, asked.liked(), "{answer:?}");
    answer
}

/// Rows, counters and history follow the answers, whatever way each like went.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switching_back_and_forth_loses_nothing() {
    const USERS: i64 = 24;
    const VIDEOS: u64 = 3;
    const ACTIONS: usize = 40;
    let mut rig = Rig::new().await;
    rig.sync.batch_size = 7;
    let servers = [Arc::new(rig.process().await), Arc::new(rig.process().await)];
    let acceptors = [servers[0].server(), servers[1].server()];
    let consumer = rig.process().await;
    consumer.consume();
    consumer.rescue();
    consumer.watch();

    let (done, switches) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let switching = tokio::spawn({
        let (servers, done, switches) = (servers.clone(), done.clone(), switches.clone());
        async move {
            let mut random = Random(11);
            let paths = ["synchronous", "1%", "50%", "event_driven", "90%", "synchronous", "event_driven", "10%"];
            while !done.load(Ordering::Acquire) {
                let path = paths[usize::try_from(random.below(paths.len() as u64)).unwrap()].parse().unwrap();
                servers[0].stores.database.set_write_path(Some(path)).await.unwrap();
                // One follows sooner, one later or not before the next order.
                servers[usize::try_from(random.below(2)).unwrap()].follow().await;
                tokio::time::sleep(Duration::from_millis(5)).await;
                servers[usize::try_from(random.below(2)).unwrap()].follow().await;
                switches.fetch_add(1, Ordering::AcqRel);
            }
        }
    });
    let users = (1..=USERS).map(|user| {
        let acceptors = acceptors.clone();
        tokio::spawn(async move {
            let mut random = Random(user.cast_unsigned() * 7919);
            let mut last: HashMap<i64, (Action, Version)> = HashMap::new();
            let mut changes = 0_u64;
            for _ in 0..ACTIONS {
                let target = random.below(VIDEOS) + 1;
                let action = Action::from_liked(random.below(2) == 1);
                let answer = loop {
                    let server = &acceptors[usize::try_from(random.below(2)).unwrap()];
                    match server.accept_one(intent(video_pair(user, target), action)).await {
                        Ok(answer) => break answer,
                        Err(LikeError::Unavailable { .. } | LikeError::Overloaded { .. }) => {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                        Err(error) => panic!("user {user}: {error}"),
                    }
                };
                assert_eq!(answer.liked, action.liked(), "user {user}, video {target}: {answer:?}");
                assert!(!answer.degraded, "{answer:?}");
                if let Some((before, version)) = last.insert(target, (action, answer.version)) {
                    let grown = answer.version > version;
                    assert!(grown || (before == action && answer.version == version), "{answer:?} after {version}");
                    assert!(answer.changed || before == action, "user {user}: {answer:?} after {before:?}");
                }
                changes += u64::from(answer.changed);
            }
            (user, last, changes)
        })
    });
    let mut expected = Vec::new();
    let mut changes = 0;
    for user in users.collect::<Vec<_>>() {
        let (user, last, changed) = user.await.unwrap();
        changes += changed;
        expected
            .extend(last.into_iter().map(|(target, (action, version))| (video_pair(user, target), action, version)));
    }
    done.store(true, Ordering::Release);
    switching.await.unwrap();
    assert!(switches.load(Ordering::Acquire) > 5, "hardly ever switched");
    consumer.settled().await;
    eventually(PATIENCE, "all told", async || expect_eq(rig.number("SELECT COUNT(*) FROM cache_refreshes").await, 0))
        .await;

    let pairs: Vec<_> = expected.iter().map(|(pair, ..)| *pair).collect();
    let rows = consumer.stores.database.load_states(&pairs).await.unwrap();
    let wanted: Vec<_> =
        expected.iter().map(|(_, action, version)| PairState { liked: action.liked(), version: *version }).collect();
    assert_eq!(rows, wanted);
    rig.assert_counts_are_live_rows().await;
    let videos: Vec<_> = (1..=i64::try_from(VIDEOS).unwrap()).map(video).collect();
    consumer.assert_cache_agrees(&videos).await;
    for (cached, row) in consumer.stores.cache.states(&pairs).await.unwrap().into_iter().zip(&rows) {
        assert!(cached.is_none_or(|cached| cached == *row), "{cached:?} is not {row:?}");
    }
    // Every change that was answered is in the history once, and nothing else is.
    assert_eq!(rig.number("SELECT COUNT(*) FROM user_behaviors").await.cast_unsigned(), changes);
    let by_origin = rig.sql("SELECT DISTINCT origin FROM sync_events ORDER BY 1").await;
    assert_eq!(by_origin, "direct\njournal\n", "one of the ways was never taken");
    consumer.stop().await;
    drop((acceptors, servers));
    rig.end().await;
}

/// An accepted like waits in the journal while the user takes it back synchronously; it comes too late, on every clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synchronous_write_is_not_overtaken_by_what_waits() {
    let rig = Rig::new().await;
    let process = rig.process().await;
    let server = process.dying_server();
    let other = rig.process().await;
    let synchronous = other.server();
    let pair = video_pair(1, 1);
    accepted(&server, like(2, 1)).await;
    // The shard's clock is ahead of the other server's idea of it.
    let ahead = Version(process.stores.now().0 + 3_000_000);
    let row = PairState { liked: true, version: ahead };
    process
        .stores
        .cache
        .settle(&Settlement { resources: Vec::new(), pairs: vec![(pair, row)], commit: None })
        .await
        .unwrap();
    let first = accepted(&server, like(1, 1)).await;
    assert!(first.changed && first.version > ahead, "{first:?}");

    other.order(WritePath::Synchronous).await;
    let second = accepted(&synchronous, unlike(1, 1)).await;
    assert!(second.changed && second.version > first.version, "{second:?} after {first:?}");
    // Before anything of the journal is applied, the database and the cached pair know it.
    let state = PairState { liked: false, version: second.version };
    assert_eq!(process.stores.database.load_states(&[pair]).await.unwrap(), [state]);
    assert_eq!(process.stores.cache.states(&[pair]).await.unwrap(), [Some(state)]);

    let consumer = rig.process().await;
    consumer.consume();
    consumer.rescue();
    consumer.settled().await;
    assert_eq!(process.stores.database.load_states(&[pair]).await.unwrap(), [state]);
    assert_eq!(rig.number("SELECT like_count FROM like_counts").await, 1);
    consumer.assert_cache_agrees(&[video(1)]).await;

    // The first server never followed: what comes after the synchronous write wins over it.
    let third = accepted(&server, like(1, 1)).await;
    assert!(third.changed && third.version > second.version, "{third:?} after {second:?}");
    consumer.settled().await;
    assert_eq!(rig.number("SELECT like_count FROM like_counts").await, 2);
    consumer.assert_cache_agrees(&[video(1)]).await;
    consumer.stop().await;
    drop((process, other));
    rig.end().await;
}

/// The first answer to a key is given again on the other way, too; the user's last word stands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_key_gets_its_answer_on_either_way() {
    let rig = Rig::new().await;
    let process = rig.process().await;
    let server = process.server();
    let keyed = |intent: LikeIntent, key: &str| LikeIntent { idempotency_key: Some(key.to_owned()), ..intent };
    let consumer = rig.process().await;
    consumer.consume();

    for (pair, first, then) in [
        (1, WritePath::EventDriven, WritePath::Synchronous),
        (2, WritePath::Synchronous, WritePath::EventDriven),
        (3, WritePath::Synchronous, WritePath::Synchronous),
    ] {
        process.order(first).await;
        let answer = accepted(&server, keyed(like(pair, 1), "once")).await;
        assert!(answer.changed, "{answer:?}");
        process.order(then).await;
        let after = accepted(&server, unlike(pair, 1)).await;
        assert!(after.changed && after.version > answer.version, "{after:?}");
        let again = accepted(&server, keyed(like(pair, 1), "once")).await;
        assert_eq!((again.version, again.count, again.changed), (answer.version, answer.count, true));
    }
    consumer.settled().await;
    assert_eq!(rig.number("SELECT like_count FROM like_counts").await, 0);
    // A wish that is fulfilled already, by the row and by all that was accepted, writes nothing.
    let behaviours = rig.number("SELECT COUNT(*) FROM user_behaviors").await;
    process.order(WritePath::Synchronous).await;
    let idle = accepted(&server, unlike(1, 1)).await;
    assert!(!idle.changed && idle.count == Some(0), "{idle:?}");
    assert_eq!(rig.number("SELECT COUNT(*) FROM user_behaviors").await, behaviours);
    consumer.stop().await;
    drop(process);
    rig.end().await;
}

/// A word that changed nothing has its key remembered as well: on either way, and where the cache is out of reach.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_whose_word_changed_nothing_is_remembered_on_every_way() {
    let mut rig = Rig::new().await;
    let links = Links::to(&rig.deployment).await.unwrap();
    let consumer = rig.process().await;
    consumer.consume();
    rig.redis.url = links.redis.url_of(rig.deployment.redis().url()).into();
    let process = rig.process().await;
    let server = process.server();
    let keyed = |intent: LikeIntent| LikeIntent { idempotency_key: Some("once".to_owned()), ..intent };
    let users = 1..=4;
    for user in users.clone() {
        accepted(&server, like(user, 1)).await;
    }
    process.settled().await;

    process.order(WritePath::Synchronous).await;
    let mut first = Vec::new();
    for user in users.clone() {
        let answer = accepted(&server, keyed(like(user, 1))).await;
        assert!(!answer.changed && answer.count == Some(4), "{answer:?}");
        first.push(answer);
    }
    let mut last = Vec::new();
    for user in users.clone() {
        last.push(accepted(&server, unlike(user, 1)).await);
    }
    let repeated = async |user: i64, degraded| {
        let (pair, at) = (video_pair(user, 1), usize::try_from(user - 1).unwrap());
        let again = accepted(&server, keyed(like(user, 1))).await;
        assert_eq!((again.changed, again.version, again.degraded), (false, first[at].version, degraded), "{pair}");
        let other = server.accept_one(keyed(unlike(user, 1))).await;
        assert!(matches!(other, Err(LikeError::KeyReused)), "{other:?}");
    };
    repeated(1, false).await;
    process.order(WritePath::EventDriven).await;
    repeated(2, false).await;
    links.redis.cut().await;
    repeated(3, true).await;
    process.order(WritePath::Synchronous).await;
    repeated(4, true).await;
    consumer.settled().await;
    let rows = consumer.stores.database.load_states(&users.map(|user| video_pair(user, 1)).collect::<Vec<_>>()).await;
    let wanted: Vec<_> = last.iter().map(|last| PairState { liked: false, version: last.version }).collect();
    assert_eq!(rows.unwrap(), wanted, "the last words stand");
    consumer.stop().await;
    drop(process);
    rig.end().await;
}

/// The cache is not told of a key by the call that used it: the list brings it there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cache_hears_of_a_key_whose_word_changed_nothing() {
    let rig = Rig::new().await;
    let process = rig.process().await;
    let server = process.server();
    let keyed = |intent: LikeIntent| LikeIntent { idempotency_key: Some("once".to_owned()), ..intent };
    process.order(WritePath::Synchronous).await;
    let first = accepted(&server, like(1, 1)).await;
    // As if the answer of the cache, and all that follows, were lost.
    let row = PairState { liked: true, version: first.version };
    let reserved = Reserved { version: Version(first.version.0 + 1), unless: Some(row) };
    let until = std::time::Instant::now() + PATIENCE;
    let now = sync_engine::clock::wall_clock();
    let kept = process
        .stores
        .database
        .apply_synchronous(&[keyed(like(1, 1))], &[reserved], now, until)
        .await
        .unwrap()
        .remove(0);
    assert!(matches!(kept, DirectResult::Decided(outcome) if !outcome.changed), "{kept:?}");
    drain(&process.stores).await.unwrap();

    process.order(WritePath::EventDriven).await;
    accepted(&server, unlike(1, 1)).await;
    let again = accepted(&server, keyed(like(1, 1))).await;
    assert_eq!((again.changed, again.version), (false, first.version));
    drop(process);
    rig.end().await;
}

/// An order is followed without restart, holds for processes that start later, and is taken back; nonsense is not followed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_holds_for_all_and_survives_restarts() {
    let rig = Rig::new().await;
    let running = rig.process().await;
    let server = running.server();
    running.watch();
    let operator = rig.stores().await.database;
    let becomes = async |path: WritePath| {
        eventually(PATIENCE, "the order to be followed", async || expect_eq(running.stores.write_path.path(), path))
            .await;
    };
    becomes(WritePath::EventDriven).await;
    operator.set_write_path(Some(WritePath::Percentage(30))).await.unwrap();
    becomes(WritePath::Percentage(30)).await;

    // Who is synchronous has a row with the answer; who is not waits in the journal. A batch may hold both.
    let path = WritePath::Percentage(30);
    let answers = server.accept((1..=40).map(|user| like(user, 1)).collect(), Call::arriving_now()).await;
    let written: Vec<bool> = (1..=40).map(|user| !path.is_event_driven(video_pair(user, 1).user)).collect();
    assert!(written.contains(&true) && written.contains(&false));
    let direct = rig.sql("SELECT user_id FROM sync_events WHERE origin = 'direct' ORDER BY 1").await;
    let expected: String =
        (1..=40).zip(&written).filter(|(_, written)| **written).map(|(user, _)| format!("{user}\n")).collect();
    assert_eq!(direct, expected);
    let versions: Vec<Version> = answers.into_iter().map(|answer| answer.unwrap().version).collect();
    let pairs: Vec<_> = (1..=40).map(|user| video_pair(user, 1)).collect();
    for ((state, version), written) in
        running.stores.database.load_states(&pairs).await.unwrap().into_iter().zip(versions).zip(written)
    {
        assert!(!written || state == PairState { liked: true, version }, "{state:?} is not {version}");
    }

    let late = rig.process().await;
    assert_eq!(late.stores.write_path.path(), path);
    rig.sql("UPDATE sync_meta SET value = 'sideways' WHERE name = 'write_path'").await;
    late.follow().await;
    assert_eq!(late.stores.write_path.path(), path, "nonsense was followed");
    operator.set_write_path(Some(WritePath::Synchronous)).await.unwrap();
    becomes(WritePath::Synchronous).await;
    operator.set_write_path(None).await.unwrap();
    becomes(WritePath::EventDriven).await;
    drop((running, late));
    rig.end().await;
}
