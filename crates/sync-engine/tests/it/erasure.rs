//! An erased user is gone from every store, and nothing from before comes back, whatever brings it.

use crate::deletion::{cleaned, nothing_left};
use crate::rig::{PATIENCE, Process, Rig, like, unlike, video};
use domain::codec::EncodedEvent;
use domain::{Action, LikeEvent, LikeIntent, Origin, UserId, Version};
use event_bus::Headers;
use event_store::{FailedEvent, ImportOptions, Operation};
use std::collections::BTreeMap;
use std::time::Duration;
use sync_engine::accept::{Acceptor, LikeError};
use sync_engine::clock::wall_clock;
use sync_engine::operate::erase::{delete_resource, erase_user, restore_resource};
use sync_engine::operate::leftovers::{Leftovers, look_for};
use sync_engine::recover::lost_pairs::LostPairs;
use sync_engine::recover::replay::{Replay, ReplayOptions, ReplayReport};
use test_support::build::{intent, video_pair};
use test_support::{Deployment, RedisOptions, dump_schema, eventually, expect_eq, restore_schema};
use tokio_util::sync::CancellationToken;
use traffic::generate::Random;

pub(crate) const VIDEOS: i64 = 6;

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

pub(crate) fn who() -> Operation {
    Operation { actor: "ann".to_owned(), reason: Some("asked for".to_owned()), selection: None }
}

pub(crate) async fn said(accept: &Acceptor, intent: LikeIntent) -> LikeEvent {
    perhaps_said(accept, intent).await.expect("unchanged")
}

/// None: it changed nothing, so there is no event.
async fn perhaps_said(accept: &Acceptor, intent: LikeIntent) -> Option<LikeEvent> {
    let answer = accept.accept_one(intent.clone()).await.unwrap();
    answer.changed.then_some(LikeEvent { intent, version: answer.version, origin: Origin::Journal })
}

async fn erased(process: &Process, id: i64) {
    let what = format!("the end of the erasure of {id}");
    eventually(3 * PATIENCE, &what, async || {
        let erasure = process.stores.database.erasure_of(user(id)).await.unwrap();
        erasure.and_then(|erasure| erasure.cleaned_at).map(drop).ok_or("it is under way".to_owned())
    })
    .await;
}

async fn left(process: &Process, id: i64) -> Leftovers {
    let erasure = process.stores.database.erasure_of(user(id)).await.unwrap().expect("no fence");
    look_for(&process.stores, &erasure, 1_000_000).await.unwrap()
}

async fn assert_gone(process: &Process, id: i64, after: &str) {
    let left = left(process, id).await;
    assert_eq!(left.total(), 0, "left of {id} after {after}: {left:#?}");
}

pub(crate) async fn stored(rig: &Rig) -> String {
    rig.sql("SELECT resource_id, like_count FROM like_counts WHERE resource_type = 'video' ORDER BY 1").await
}

fn replay_all() -> ReplayOptions {
    ReplayOptions { since: chrono::DateTime::UNIX_EPOCH, dry_run: false, restart: true, batch_size: 50 }
}

/// Until the broker of a busy machine answers: doing it again is harmless.
pub(crate) async fn replay(rig: &Rig, process: &Process) -> ReplayReport {
    eventually(PATIENCE, "a replay", async || {
        let replay = Replay::new(process.stores.clone(), &process.applier, rig.bus.clone(), replay_all());
        replay.run(&CancellationToken::new(), &|_| {}).await.map_err(|error| error.to_string())
    })
    .await
}

/// Likewise.
pub(crate) async fn publish(rig: &Rig, events: &[LikeEvent]) {
    let encoded: Vec<EncodedEvent> = events.iter().map(EncodedEvent::from_event).collect();
    eventually(3 * PATIENCE, "a message in the queue", async || {
        rig.publisher().publish(&encoded, &Headers::new()).await.map_err(|error| error.to_string())
    })
    .await;
}

/// Users 1 and 2 have liked all videos, and user 1 has taken one back, with keys; everything is settled and logged.
pub(crate) async fn liked(rig: &Rig) -> (Process, Process, Acceptor, Vec<LikeEvent>) {
    let (server, consumer) = (rig.process().await, rig.process().await);
    let accept = server.server();
    server.keep_log();
    server.rescue();
    consumer.consume();
    consumer.retry();
    let mut events = Vec::new();
    for id in 1..=VIDEOS {
        for user in 1..=2 {
            let mut intent = like(user, id);
            intent.idempotency_key = Some(format!("key-{id}"));
            events.push(said(&accept, intent).await);
        }
    }
    events.push(said(&accept, unlike(1, VIDEOS)).await);
    server.settled().await;
    eventually(PATIENCE, "the log", async || {
        let logged = rig.logged().await.len();
        if logged >= events.len() { Ok(()) } else { Err(format!("{logged} logged")) }
    })
    .await;
    (server, consumer, accept, events)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_an_erased_user_comes_back_by_any_way() {
    let rig = Rig::new().await;
    let (server, consumer, accept, events) = liked(&rig).await;
    let of_one: Vec<LikeEvent> = events.iter().filter(|event| event.pair().user == user(1)).cloned().collect();
    // What an operator said of that user.
    let filtered = "INSERT INTO operator_actions (id, action, actor, selection, events, created_at) VALUES \
                    (X'0199aaaaaaaa7000800000000000000a', 'replay', 'ann', 'at most 9 dead by user 1', 0, UTC_TIMESTAMP(6));\n\
                    INSERT INTO consistency_findings (kind, resource_type, resource_id, user_id, verdict, sightings, \
                    opened_at, seen_at) VALUES ('pairs', 'video', 1, 1, 'drift', 1, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))";
    rig.sql(filtered).await;
    let before = {
        let now = server.stores.database.now().await.unwrap();
        let fence = domain::Fence { of: domain::Erased::User(user(1)), up_to: Version::MAX };
        let erasure = event_store::Erasure {
            fence,
            fenced_at: now,
            cleaned_at: None,
            removed: 0,
            restored_at: None,
            changed_at: Version::ZERO,
        };
        look_for(&server.stores, &erasure, 1_000_000).await.unwrap()
    };
    assert_eq!((before.rows.likes, before.rows.tombstones, before.rows.keys), (5, 1, 6), "{before:#?}");
    assert_eq!(before.tables["sync_events"], 7, "{before:#?}");
    assert_eq!((before.tables["operator_actions"], before.tables["data_consistency_checks"]), (1, 1), "{before:#?}");
    assert_eq!((before.cached.pairs, before.cached.keys), (6, 6), "{before:#?}");

    consumer.erase();
    let erasure = erase_user(&server.stores, user(1), &who()).await.unwrap();
    assert!(of_one.iter().all(|event| event.version <= erasure.fence.up_to), "the fence is below an old like");
    erased(&server, 1).await;
    assert_gone(&server, 1, "the erasure").await;
    let counts: String = (1..=VIDEOS).map(|id| format!("{id}\t1\n")).collect();
    assert_eq!(stored(&rig).await.trim(), counts.trim());
    let audited = rig.sql("SELECT action, actor, selection, reason FROM operator_actions ORDER BY action").await;
    assert_eq!(audited.trim(), "erase_user\tann\tNULL\tasked for\nreplay\tann\tat most 9 dead by user [erased]\tNULL");

    // By the queue and by hand: also as what was written around the cache.
    publish(&rig, &of_one).await;
    eventually(PATIENCE, "an empty queue", async || expect_eq(rig.queue_gauge().ready().await, 0)).await;
    consumer.applier.apply(&of_one).await.unwrap();
    assert_gone(&server, 1, "deliveries").await;
    // As failures of before, which retries would bring.
    let now = wall_clock();
    let failed =
        of_one.iter().map(|event| FailedEvent { event: event.clone(), error: "late".into(), next_retry_at: Some(now) });
    server.stores.database.park(&failed.collect::<Vec<_>>(), 3, now).await.unwrap();
    assert_gone(&server, 1, "a failure").await;
    // By an import of the old system.
    for history in [true, false] {
        let options = ImportOptions { history, tell_cache: true, progress: ("an_import", "1") };
        server.stores.database.import(&of_one, options, now).await.unwrap();
    }
    assert_gone(&server, 1, "an import").await;
    // From the redo log, which has them, and has the fence.
    let told = replay(&rig, &server).await;
    assert_eq!((told.missing, told.unreadable), (0, 0), "{told:?}");
    assert!(told.events >= events.len() as u64, "{told:?}");
    // From pairs that a cache still had: a replica that became the primary.
    for event in &of_one {
        let state = domain::PairState { liked: event.intent.action.liked(), version: event.version };
        let rows = domain::cache::Settlement::of_rows([], [(event.pair(), state)]);
        server.stores.cache.settle(&rows).await.unwrap();
    }
    let lost = LostPairs::new(server.stores.clone(), server.applier.clone(), 1_000_000, false);
    let recovered = lost.run(&CancellationToken::new(), |_| {}).await.unwrap();
    assert_eq!((recovered.lost, recovered.applied), (0, 0), "{recovered:?}");
    let rest = left(&server, 1).await;
    assert_eq!((rest.rows.total(), rest.tables.values().sum::<u64>(), rest.journal), (0, 0, 0), "{rest:#?}");

    // Erased once more, and then the user comes again.
    erase_user(&server.stores, user(1), &who()).await.unwrap();
    erased(&server, 1).await;
    assert_gone(&server, 1, "another erasure").await;
    let again = said(&accept, like(1, 3)).await;
    assert!(again.version > erasure.fence.up_to);
    server.settled().await;
    assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes WHERE user_id = 1 AND video_id = 3").await, 1);
    rig.assert_counts_are_live_rows().await;
    server.assert_cache_agrees(&(1..=VIDEOS).map(video).collect::<Vec<_>>()).await;
    drop(accept);
    consumer.stop().await;
    server.stop().await;
    rig.end().await;
}

/// A copy of the database from before: the cache, and where it is empty the redo log, know who was erased.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_from_before_an_erasure_is_told_of_it() {
    for cache_has_it in [true, false] {
        let own = Deployment::build("engine").own_redis(RedisOptions::default());
        let rig = if cache_has_it { Rig::new().await } else { Rig::on(own).await };
        let (server, consumer, accept, events) = liked(&rig).await;
        let copy = dump_schema(rig.deployment.database_url()).await.unwrap();
        consumer.erase();
        erase_user(&server.stores, user(1), &who()).await.unwrap();
        erased(&server, 1).await;
        eventually(PATIENCE, "the fence in the log", async || {
            let told = replay(&rig, &server).await;
            if told.messages > 0 && rig.logged_fences().await > 0 { Ok(()) } else { Err(format!("{told:?}")) }
        })
        .await;
        drop(accept);
        consumer.stop().await;
        server.stop().await;

        restore_schema(rig.deployment.database_url(), &copy).await.unwrap();
        assert_eq!(rig.number("SELECT COUNT(*) FROM erased_users WHERE user_id > 0").await, 0);
        assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes WHERE user_id = 1").await, 6);
        if !cache_has_it {
            rig.deployment.redis().cli(&["FLUSHALL"]).await.unwrap();
        }
        let process = rig.process().await;
        if !cache_has_it {
            let told = replay(&rig, &process).await;
            assert_eq!(told.missing, 0, "{told:?}");
        }
        process.erase();
        erased(&process, 1).await;
        assert_gone(&process, 1, "a copy from before").await;
        process.applier.apply(&events).await.unwrap();
        assert_gone(&process, 1, "deliveries").await;
        rig.assert_counts_are_live_rows().await;
        assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes WHERE user_id = 2").await, VIDEOS);
        process.stop().await;
        rig.end().await;
    }
}

/// Users who like, unlike and are erased, videos that are deleted and restored, at any moment; erasers that are killed at any moment;
/// and everything that was ever said comes again, by all ways. `ERASURE_SEEDS` says how many seeds are tried, `ERASURE_SEED` where they begin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_meanwhile_the_erased_are_gone_and_the_others_are_not() {
    let number = |name: &str, or| std::env::var(name).map_or(or, |text| text.parse().expect("a number"));
    let first: u64 = number("ERASURE_SEED", 1);
    for seed in first..first + number("ERASURE_SEEDS", 2) {
        Box::pin(chaos(seed)).await;
    }
}

async fn chaos(seed: u64) {
    const USERS: i64 = 8;
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut from_1_to = |most: i64| random.below(most.cast_unsigned()).cast_signed() + 1;
    let rig = Rig::new().await;
    let (server, consumer) = (rig.process().await, rig.process().await);
    let accept = server.server();
    server.keep_log();
    server.rescue();
    consumer.consume();
    consumer.retry();
    let mut eraser: Option<Process> = None;
    let mut ever: Vec<LikeEvent> = Vec::new();
    // The last word of each pair.
    let mut last: BTreeMap<(i64, i64), Action> = BTreeMap::new();
    let mut fences: BTreeMap<i64, Version> = BTreeMap::new();
    // Whether each of them is deleted now.
    let mut deleted: BTreeMap<i64, bool> = BTreeMap::new();
    for _step in 0..160 {
        match from_1_to(100) - 1 {
            0..70 => {
                let (who, what) = (from_1_to(USERS), from_1_to(VIDEOS));
                // Whoever is being erased waits for the end of it: what is said meanwhile may go, too.
                if fences.contains_key(&who) {
                    let erasure = server.stores.database.erasure_of(user(who)).await.unwrap().expect("no fence");
                    if erasure.cleaned_at.is_none() {
                        continue;
                    }
                }
                let action = if from_1_to(10) <= 3 { Action::Unlike } else { Action::Like };
                match deleted.get(&what) {
                    Some(true) => {
                        let refused = accept.accept_one(intent(video_pair(who, what), action)).await;
                        assert!(
                            matches!(refused, Err(LikeError::Deleted)),
                            "seed {seed}: {what} is deleted: {refused:?}"
                        );
                        continue;
                    }
                    Some(false) => {
                        let deletion =
                            server.stores.database.deletion_of(video(what)).await.unwrap().expect("no fence");
                        if deletion.cleaned_at.is_none() {
                            continue;
                        }
                    }
                    None => {}
                }
                ever.extend(perhaps_said(&accept, intent(video_pair(who, what), action)).await);
                last.insert((who, what), action);
            }
            70..73 => {
                let who = from_1_to(USERS / 2);
                let erasure = erase_user(&server.stores, user(who), &self::who()).await.unwrap();
                fences.insert(who, erasure.fence.up_to);
                last.retain(|(user, _), _| *user != who);
            }
            73..76 => {
                let what = from_1_to(VIDEOS / 2);
                if deleted.get(&what) == Some(&true) && from_1_to(2) == 1 {
                    restore_resource(&server.stores, video(what), &self::who()).await.unwrap().expect("never deleted");
                    deleted.insert(what, false);
                } else {
                    delete_resource(&server.stores, video(what), &self::who()).await.unwrap();
                    deleted.insert(what, true);
                    last.retain(|(_, video), _| *video != what);
                }
            }
            76..84 => {
                // Killed wherever it is.
                drop(eraser.take());
                let process = rig.process().await;
                process.erase();
                eraser = Some(process);
            }
            84..90 if !ever.is_empty() => {
                let from = usize::try_from(from_1_to(ever.len() as i64) - 1).unwrap();
                consumer.applier.apply(&ever[from..]).await.unwrap();
            }
            90..94 if !ever.is_empty() => {
                publish(&rig, &ever).await;
            }
            94..96 if !ever.is_empty() => {
                let options = ImportOptions { history: true, tell_cache: true, progress: ("an_import", "1") };
                server.stores.database.import(&ever, options, wall_clock()).await.unwrap();
            }
            96..98 => {
                let _report = replay(&rig, &server).await;
            }
            98 => {
                let lost = LostPairs::new(server.stores.clone(), server.applier.clone(), 1_000_000, false);
                let _done = lost.run(&CancellationToken::new(), |_| {}).await.unwrap();
            }
            _ => tokio::time::sleep(Duration::from_millis(from_1_to(60).cast_unsigned())).await,
        }
    }
    drop(eraser);
    let last_eraser = rig.process().await;
    last_eraser.erase();
    for who in fences.keys() {
        erased(&server, *who).await;
    }
    for what in deleted.keys() {
        cleaned(&server, *what).await;
    }
    consumer.applier.apply(&ever).await.unwrap();
    server.settled().await;
    eventually(PATIENCE, "an empty queue", async || expect_eq(rig.queue_gauge().ready().await, 0)).await;
    consumer.stop().await;
    for who in fences.keys() {
        assert_gone(&server, *who, &format!("seed {seed}")).await;
    }
    for what in deleted.keys() {
        nothing_left(&server, *what, &format!("seed {seed}")).await;
    }
    let rows = rig.sql("SELECT user_id, video_id, deleted_at IS NULL FROM video_likes ORDER BY 1, 2").await;
    let liked: Vec<String> = rows.lines().filter(|row| row.ends_with("\t1")).map(str::to_owned).collect();
    let wanted = last.iter().filter(|(_, action)| **action == Action::Like);
    let wanted: Vec<String> = wanted.map(|((user, video), _)| format!("{user}\t{video}\t1")).collect();
    assert_eq!(liked, wanted, "seed {seed}");
    rig.assert_counts_are_live_rows().await;
    server.assert_cache_agrees(&(1..=VIDEOS).map(video).collect::<Vec<_>>()).await;
    drop(accept);
    last_eraser.stop().await;
    server.stop().await;
    rig.end().await;
}
