//! Each kind of mistake is planted in stores that were right, and must be found, as that kind and no other.

use crate::stores::{BASE, Stores, entry, event_of, small_log, unknown};
use deadpool_redis::redis::cmd;
use domain::Action;
use std::time::{Duration, Instant};
use syncctl::verify::{self, AllowedLoss, Kind, VerifyOptions, VerifyReport};
use test_support::{RedisCluster, RedisOptions, build};

fn found(report: &VerifyReport) -> Vec<(Kind, u64)> {
    report.problems.iter().map(|(kind, finding)| (*kind, finding.count)).collect()
}

#[tokio::test]
async fn stores_that_agree_are_fine() {
    let stores = Stores::of_small_log().await;
    let report = stores.verify(&small_log()).await;
    assert_eq!(found(&report), []);
    let seen = (report.operations, report.acknowledged, report.pairs, report.resources, report.liked);
    assert_eq!(seen, (6, 6, 4, 2, 2));
    let read = (report.rows, report.behaviours, report.ledger, report.cached_counts, report.cached_pairs);
    assert_eq!(read, (4, 5, 5, 2, 4), "not everything was read");
}

/// Whichever node is asked, and while slots move.
#[tokio::test]
async fn a_cluster_is_read_and_mistakes_in_it_are_found() {
    let cluster = RedisCluster::start(RedisOptions::default(), 3, false).await.unwrap();
    let urls = cluster.addrs().unwrap().iter().map(|address| format!("redis://{address}")).collect();
    let mut stores = Stores::of(urls).await.with_small_log().await;
    let keys = ["c:v10", "c:c5"].map(|key| stores.key(key));
    let homes = [cluster.primary_of(&keys[0]).await.unwrap(), cluster.primary_of(&keys[1]).await.unwrap()];
    let log = small_log();
    for address in cluster.addrs().unwrap() {
        let options = VerifyOptions { redis_url: format!("redis://{address}"), ..stores.options(&log) };
        let report = verify::run(&options).await.unwrap();
        assert_eq!(found(&report), []);
        assert_eq!((report.cached_counts, report.cached_pairs), (2, 4), "not everything was read");
    }

    // One that begins while the keys of a slot are on their way waits until they have arrived.
    let (from, to) = (homes[0], (homes[0] + 1) % 3);
    cluster.begin_move(&keys[0], from, to).await.unwrap();
    cluster.move_some(&keys[0], from, to, 1_000).await.unwrap();
    let options = stores.options(&log);
    let (report, ()) = tokio::join!(verify::run(&options), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.end_move(&keys[0], from, to).await.unwrap();
    });
    let report = report.unwrap();
    assert_eq!((found(&report), report.cached_counts, report.cached_pairs), (Vec::new(), 2, 4));

    stores.redis(cmd("HSET").arg(&keys[0]).arg("n").arg(9)).await;
    stores.redis(cmd("HSET").arg(&keys[1]).arg("n").arg(9)).await;
    stores.redis(cmd("XADD").arg(format!("{}{{s3}}:j", stores.prefix)).arg("1-1").arg("e").arg("x")).await;
    let report = stores.verify(&log).await;
    assert_eq!(found(&report), [(Kind::NotQuiet, 1), (Kind::WrongCachedCount, 2)]);
}

#[tokio::test]
async fn mistakes_in_the_database_are_found() {
    let copy_behaviour = "INSERT INTO user_behaviors (event_id, user_id, video_id, behavior_type, behavior_time, version) \
                          SELECT X'000102030405060708090a0b0c0d0e0f', user_id, video_id, behavior_type, behavior_time, ";
    let cases: Vec<(String, Vec<(Kind, u64)>)> = vec![
        ("DELETE FROM video_likes WHERE user_id = 2".into(), vec![(Kind::Lost, 1), (Kind::WrongFold, 1)]),
        (
            "UPDATE video_likes SET deleted_at = NOW() WHERE user_id = 2".into(),
            vec![(Kind::Lost, 1), (Kind::WrongFold, 1)],
        ),
        (
            format!("UPDATE comment_likes SET deleted_at = NULL, version = {BASE} WHERE user_id = 4"),
            vec![(Kind::Lost, 1), (Kind::WrongFold, 1)],
        ),
        (
            format!("UPDATE comment_likes SET version = {} WHERE user_id = 3", BASE + 99),
            vec![(Kind::Extra, 1), (Kind::WrongFold, 1)],
        ),
        (format!("INSERT INTO video_likes VALUES (99, 10, NOW(), NOW(), NULL, {BASE})"), vec![(Kind::Extra, 1)]),
        ("UPDATE like_counts SET like_count = 2 WHERE resource_type = 'video'".into(), vec![(Kind::WrongCount, 1)]),
        ("DELETE FROM like_counts".into(), vec![(Kind::WrongCount, 2)]),
        ("INSERT INTO like_counts VALUES ('video', 777, 0, 1, 1, NOW())".into(), vec![(Kind::WrongCount, 1)]),
        (
            "DELETE FROM user_behaviors WHERE user_id = 1 AND behavior_type = 'like'".into(),
            vec![(Kind::MissingBehaviour, 1)],
        ),
        (
            "DELETE FROM user_behaviors WHERE user_id = 3".into(),
            vec![(Kind::MissingBehaviour, 1), (Kind::WrongFold, 1)],
        ),
        (
            format!("{copy_behaviour} version FROM user_behaviors WHERE user_id = 2"),
            vec![(Kind::DuplicateBehaviour, 1)],
        ),
        (
            "ALTER TABLE user_behaviors DROP PRIMARY KEY; \
             INSERT INTO user_behaviors SELECT * FROM user_behaviors WHERE user_id = 2"
                .into(),
            vec![(Kind::DuplicateBehaviour, 2)],
        ),
        (
            format!("{copy_behaviour} version - 1000 FROM user_behaviors WHERE user_id = 2"),
            vec![(Kind::ExtraBehaviour, 1)],
        ),
        (
            "UPDATE user_behaviors SET user_id = 77 WHERE user_id = 2".into(),
            vec![(Kind::MissingBehaviour, 1), (Kind::ExtraBehaviour, 1), (Kind::WrongFold, 1)],
        ),
        ("DELETE FROM sync_events WHERE user_id = 2".into(), vec![(Kind::MissingLedger, 1)]),
        (
            "UPDATE sync_events SET status = 'failed' WHERE user_id = 2".into(),
            vec![(Kind::NotQuiet, 1), (Kind::MissingLedger, 1), (Kind::UnfinishedLedger, 1)],
        ),
        ("UPDATE sync_events SET status = 'dead' WHERE user_id = 2".into(), vec![(Kind::DeadLedger, 1)]),
        ("UPDATE sync_events SET status = 'discarded' WHERE user_id = 2".into(), vec![(Kind::DeadLedger, 1)]),
        (
            "ALTER TABLE sync_events DROP PRIMARY KEY; \
             INSERT INTO sync_events SELECT * FROM sync_events WHERE user_id = 2"
                .into(),
            vec![(Kind::DuplicateLedger, 1)],
        ),
        (
            "INSERT INTO cache_refreshes (resource_type, resource_id, user_id, version, created_at) \
             VALUES ('video', 10, 2, 1, NOW())"
                .into(),
            vec![(Kind::NotQuiet, 1)],
        ),
    ];
    for (sql, expected) in cases {
        let stores = Stores::of_small_log().await;
        stores.sql(&sql).await;
        let report = stores.verify(&small_log()).await;
        assert_eq!(found(&report), expected, "{sql}: {:?}", report.problems);
        assert!(!report.is_fine());
    }
}

#[tokio::test]
async fn mistakes_in_the_cache_are_found() {
    for (key, command, arguments, kind) in [
        ("c:v10", "HSET", vec!["n".to_owned(), "2".into()], Kind::WrongCachedCount),
        ("c:c5", "HSET", vec!["p".to_owned(), "1".into()], Kind::WrongCachedCount),
        ("p:v1:10", "SET", vec![((BASE + 4) * 2 + 1).to_string()], Kind::WrongCachedPair),
        ("p:v1:10", "SET", vec![((BASE + 3) * 2).to_string()], Kind::WrongCachedPair),
        ("p:c3:5", "SET", vec!["0".to_owned()], Kind::WrongCachedPair),
    ] {
        let mut stores = Stores::of_small_log().await;
        stores.redis(cmd(command).arg(stores.key(key)).arg(&arguments)).await;
        let report = stores.verify(&small_log()).await;
        assert_eq!(found(&report), [(kind, 1)], "{command} {key} {arguments:?}");
    }
    let mut stores = Stores::of_small_log().await;
    for key in ["c:v10", "p:v1:10"] {
        stores.redis(cmd("DEL").arg(stores.key(key))).await;
    }
    assert!(stores.verify(&small_log()).await.is_fine(), "what is not cached is not wrong");
}

#[tokio::test]
async fn the_number_of_shards_is_read_from_the_cache() {
    let mut stores = Stores::of_small_log().await;
    stores.redis(cmd("HSET").arg(format!("{}meta", stores.prefix)).arg("shards").arg(7)).await;
    let report = stores.verify(&small_log()).await;
    assert!(report.cached_counts < 2, "keys of another number of shards were found");
}

#[tokio::test]
async fn a_busy_journal_is_waited_for_and_then_reported() {
    let mut stores = Stores::of_small_log().await;
    let journal = format!("{}{{s3}}:j", stores.prefix);
    stores.redis(cmd("XADD").arg(&journal).arg("5-0").arg("e").arg("x")).await;
    let options = VerifyOptions { wait: Duration::from_secs(1), ..stores.options(&small_log()) };
    let started = Instant::now();
    let report = verify::run(&options).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(found(&report), [(Kind::NotQuiet, 1)]);
    assert!(report.problems[&Kind::NotQuiet].examples[0].starts_with("1 journal entries"));

    let options = VerifyOptions { wait: Duration::from_secs(600), ..options };
    let (report, ()) = tokio::join!(verify::run(&options), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stores.redis(cmd("DEL").arg(&journal)).await;
    });
    assert!(report.unwrap().is_fine());
}

#[tokio::test]
async fn an_unknown_outcome_may_be_either() {
    let stores = Stores::of_small_log().await;
    let pair = build::video_pair(7, 20);
    let mut log = small_log();
    log.push(unknown(pair, Action::Like));
    assert!(stores.verify(&log).await.is_fine(), "not applied");
    stores.apply(&[build::event_of(pair, Action::Like, BASE + 50)]).await;
    let report = stores.verify(&log).await;
    assert!(report.is_fine(), "applied: {:?}", report.problems);

    log.push(entry(pair, Action::Unlike, 60, true));
    let report = stores.verify(&log).await;
    assert_eq!(report.count(Kind::Lost), 1, "a later answer closes it: {:?}", report.problems);
    stores.apply(&[event_of(&log[7]).unwrap()]).await;
    let report = stores.verify(&log).await;
    assert!(report.is_fine(), "{:?}", report.problems);
}

#[tokio::test]
async fn a_loss_is_reported_exactly_and_can_be_allowed() {
    let stores = Stores::of_small_log().await;
    let mut log = small_log();
    let lost = [build::video_pair(8, 10), build::comment_pair(9, 5)];
    log.extend(lost.map(|pair| entry(pair, Action::Like, 70, true)));
    let report = stores.verify(&log).await;
    assert_eq!(report.count(Kind::Lost), 2);
    assert_eq!(report.lost_pairs.len(), 2);
    assert!(lost.iter().all(|pair| report.lost_pairs.contains(pair)), "{:?}", report.lost_pairs);

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lost.map(verify::loss_line).concat()).unwrap();
    for (allowed, fine) in [("2", true), (file.path().to_str().unwrap(), true), ("1", false)] {
        let allowed_loss = AllowedLoss::parse(allowed).unwrap();
        let report = verify::run(&VerifyOptions { allowed_loss, ..stores.options(&log) }).await.unwrap();
        assert_eq!(report.is_fine(), fine, "{allowed}: {:?}", report.problems);
        assert_eq!(report.lost_pairs.len(), 2);
    }
}

#[tokio::test]
async fn dead_events_can_be_allowed() {
    let stores = Stores::of_small_log().await;
    for status in ["dead", "discarded"] {
        stores.sql(&format!("UPDATE sync_events SET status = '{status}' WHERE user_id = 2")).await;
        let options = VerifyOptions { allow_dead: true, ..stores.options(&small_log()) };
        assert_eq!(found(&verify::run(&options).await.unwrap()), []);
    }
}

#[tokio::test]
async fn in_shared_stores_only_the_logs_pairs_count() {
    let stores = Stores::of_small_log().await;
    stores.apply(&[build::event(99, 10, Action::Like, BASE + 80), build::event(99, 11, Action::Like, BASE + 81)]).await;
    let alone = stores.verify(&small_log()).await;
    assert_eq!((alone.count(Kind::Extra), alone.count(Kind::ExtraBehaviour)), (2, 2));
    let options = VerifyOptions { shared: true, ..stores.options(&small_log()) };
    let report = verify::run(&options).await.unwrap();
    assert_eq!(found(&report), [(Kind::WrongCachedCount, 1)], "the cache was not told of the other like");

    // Somebody had a later word about a pair of the logs: rows, behaviours and counts are right as they are.
    stores.apply(&[build::event(2, 10, Action::Unlike, BASE + 500)]).await;
    let report = verify::run(&options).await.unwrap();
    // One like more and one less: the cached count happens to be right.
    assert_eq!(
        found(&report),
        [(Kind::WrongCachedPair, 1)],
        "the cache was not told of that, either: {:?}",
        report.problems
    );
    assert!(!verify::run(&VerifyOptions { shared: false, ..options }).await.unwrap().is_fine());
}

#[tokio::test]
async fn logs_follow_each_other() {
    let stores = Stores::of_small_log().await;
    let log = small_log();
    let logs = vec![stores.log("first", &log[..3]), stores.log("second", &log[3..])];
    let options = VerifyOptions { oplogs: logs.clone(), ..stores.options(&[]) };
    assert!(verify::run(&options).await.unwrap().is_fine());
    let options = VerifyOptions { oplogs: logs.into_iter().rev().collect(), ..options };
    assert_eq!(verify::run(&options).await.unwrap().count(Kind::Lost), 1, "the order of the logs does not matter");
}
