//! Each kind of thing broken in each way while likes run through server, broker and consumer: found by one sweep with
//! the right verdict, repaired or reported as configured, and nothing else is touched.

use crate::deployment::{Asked, Checked, Found, PATIENCE, SOON, apply, operation, video_of};
use crate::flow::Flow;
use deadpool_redis::redis::cmd;
use domain::codec::encode_payload;
use domain::{Action, LikeIntent, Resource, ResourceType, ShardCount};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use test_support::build::{comment_pair, video_pair};
use test_support::{Program, eventually};

const USERS: i64 = 5;
const VIDEOS: i64 = 16;

/// As (what was compared, verdict, subject).
type Expected = BTreeSet<(String, String, String)>;

fn expected(list: &[(&str, &str, &str)]) -> Expected {
    list.iter().map(|(kind, verdict, subject)| ((*kind).into(), (*verdict).into(), (*subject).into())).collect()
}

fn as_expected(found: &[Found]) -> Expected {
    found.iter().map(|one| (one.kind.clone(), one.verdict.clone(), one.subject.clone())).collect()
}

async fn row_version(deployment: &Checked, user: i64, video: i64) -> i64 {
    let query = format!("SELECT version FROM video_likes WHERE user_id = {user} AND video_id = {video}");
    deployment.sql(&query).await.trim().parse().unwrap()
}

async fn set_pair(deployment: &Checked, user: i64, video: i64, liked: bool, version: i64) {
    let value = version * 2 + i64::from(liked);
    deployment.redis::<()>(&format!("SET {} {value}", deployment.keys.pair(video_pair(user, video)))).await;
}

async fn break_everything(deployment: &Checked) -> Expected {
    let counter = |video| deployment.keys.counter(video_of(video));
    deployment.redis::<()>(&format!("HINCRBY {} n 3", counter(1))).await;
    deployment.redis::<()>(&format!("HINCRBY {} n -2", counter(2))).await;
    deployment.redis::<()>(&format!("HINCRBY {} dn 1", counter(3))).await;
    // Of the day after tomorrow: no database ever had it.
    deployment.redis::<()>(&format!("HINCRBY {} dr 200000000000", counter(4))).await;
    deployment.redis::<()>(&format!("HINCRBY {} p 2", counter(5))).await;
    deployment.redis::<()>(&format!("HSET {} v 1000", counter(5))).await;
    let version = row_version(deployment, 1, 6).await;
    set_pair(deployment, 1, 6, false, version).await;
    set_pair(deployment, 1, 7, true, 1000).await;
    deployment
        .sql(
            "UPDATE like_counts SET like_count = 77 WHERE resource_type = 'video' AND resource_id = 8; \
             DELETE FROM like_counts WHERE resource_type = 'video' AND resource_id = 9; \
             DELETE FROM video_likes WHERE video_id = 10 AND user_id = 2; \
             UPDATE video_likes SET version = version - 5, deleted_at = NOW(6) WHERE video_id = 11 AND user_id = 3; \
             DELETE FROM user_behaviors WHERE behavior_type = 'like' AND video_id = 12 AND user_id = 4; \
             UPDATE like_counts SET like_count = 0 WHERE resource_type = 'comment' AND resource_id = 1",
        )
        .await;
    // A counter that is not cached is nothing wrong.
    deployment.redis::<()>(&format!("DEL {}", counter(13))).await;
    expected(&[
        ("cached_count", "drift", "video:1"),
        ("cached_count", "drift", "video:2"),
        ("cached_count", "drift", "video:3"),
        ("cached_count", "drift", "video:4"),
        ("cached_count", "orphan", "video:5"),
        ("cached_pair", "drift", "video:6 1"),
        ("cached_pair", "stale", "video:7 1"),
        ("stored_count", "drift", "video:8"),
        ("stored_count", "missing", "video:9"),
        ("row", "missing", "video:10 2"),
        ("row", "drift", "video:11 3"),
        ("history", "missing", "video:12 4"),
        ("journal", "orphan", "video:14 1"),
        ("stored_count", "drift", "comment:1"),
    ])
}

/// Puts an entry into a journal whose event the database has; gives its version. Only while the shard is quiet: entries
/// must come in order.
async fn plant_entry(deployment: &Checked) -> i64 {
    let pair = video_pair(1, 14);
    let query = "SELECT HEX(id) FROM sync_events WHERE user_id = 1 AND resource_type = 'video' AND resource_id = 14";
    let id = u128::from_str_radix(deployment.sql(query).await.trim(), 16).unwrap();
    let intent = LikeIntent { id: uuid::Uuid::from_u128(id), ..test_support::build::intent(pair, Action::Like) };
    let shard = ShardCount::default().of(pair.resource);
    let (seconds, micros): (i64, i64) = deployment.redis("TIME").await;
    let version = seconds * 1_000_000 + micros;
    let payload = encode_payload(&intent);
    deployment
        .command(cmd("XADD").arg(deployment.keys.journal(shard)).arg(format!("{version}-0")).arg("e").arg(&*payload))
        .await;
    deployment.redis::<()>(&format!("HINCRBY {} a 1", deployment.keys.clock(shard))).await;
    version
}

/// Stored counts, rows and cached counts are the same everywhere.
async fn assert_agreement(deployment: &Checked) {
    let wrong = "SELECT c.resource_type, c.resource_id FROM like_counts c WHERE c.like_count <> \
         (SELECT COUNT(*) FROM video_likes l WHERE l.video_id = c.resource_id AND l.deleted_at IS NULL) \
         AND c.resource_type = 'video'";
    assert_eq!(deployment.sql(wrong).await.trim(), "");
    for line in deployment.sql("SELECT resource_type, resource_id, like_count FROM like_counts").await.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [kind, id, stored] = columns[..] else { continue };
        let kind = kind.parse::<ResourceType>().unwrap();
        let resource = Resource::new(kind, id.parse().unwrap()).unwrap();
        let cached: Option<i64> = deployment.redis(&format!("HGET {} n", deployment.keys.counter(resource))).await;
        if let Some(cached) = cached {
            assert_eq!(cached, stored.parse::<i64>().unwrap(), "{resource}");
        }
    }
}

async fn swept(deployment: &Checked, checker: &Program, runs: usize) {
    eventually(PATIENCE, format!("{runs} full sweeps"), async || {
        let finished = deployment.finished_runs("full").await.len();
        if finished >= runs { Ok(()) } else { Err(format!("{finished} sweeps\n{}", checker.log())) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_is_broken_under_load_is_found_by_one_sweep_and_nothing_else() {
    // The pipeline's own rescue would clear the planted entry before anybody looks.
    let deployment = Checked::new()
        .await
        .with("EVENT_DRIVEN_SYNC__REPUBLISH_AFTER", "10m")
        .with("RATE_LIMITING__GLOBAL__ENABLED", "false")
        .with("DATA_CONSISTENCY__CHECK_INTERVAL", "500ms")
        .with("DATA_CONSISTENCY__HOT_DATA_CHECK", "10m")
        .with("DATA_CONSISTENCY__MAX_RATE", "1000000")
        .with("DATA_CONSISTENCY__CONFIRM_AFTER", "300ms")
        .with("DATA_CONSISTENCY__STUCK_AFTER", "8s");
    let (server, consumer) = (deployment.server().await, deployment.consumer().await);
    let mut client = server.client().await;
    let quiet = (1..=VIDEOS).flat_map(|video| (1..=USERS).map(move |user| operation(video_pair(user, video), true)));
    apply(&mut client, quiet.chain([operation(comment_pair(1, 1), true)]).collect()).await;
    deployment.settled(&server).await;

    let version = plant_entry(&deployment).await;
    let flow = Flow::start(&server, 101..=112).await;
    let broken = break_everything(&deployment).await;
    eventually(PATIENCE, "the planted entry to be old", async || {
        let (seconds, _): (i64, i64) = deployment.redis("TIME").await;
        seconds * 1_000_000 > version + 9_000_000
    })
    .await;
    let checker = deployment.checker().await;
    swept(&deployment, &checker, 1).await;
    let first = deployment.finished_runs("full").await[0].clone();
    let found = deployment.found().await;
    let by_first: Vec<Found> = found.into_iter().filter(|one| one.run == first).collect();
    assert_eq!(as_expected(&by_first), broken, "{by_first:#?}");
    for one in &by_first {
        assert!(one.repaired && one.outcome() == "repaired", "{one:?}");
    }
    // Under load, again and again: nothing more.
    let sent = flow.sent.load(Ordering::Relaxed);
    swept(&deployment, &checker, 4).await;
    eventually(PATIENCE, "likes went on", async || flow.sent.load(Ordering::Relaxed) > sent).await;
    let found = deployment.found().await;
    assert_eq!(found.len(), broken.len(), "false alarms: {found:#?}");
    checker.end(SOON).await.unwrap();

    // The same, reported only: by another checker, and by the command line, which then repairs.
    deployment.redis::<()>(&format!("HINCRBY {} n 3", deployment.keys.counter(video_of(1)))).await;
    deployment.sql("UPDATE like_counts SET like_count = 77 WHERE resource_type = 'video' AND resource_id = 8").await;
    let deployment = deployment.with("DATA_CONSISTENCY__AUTO_FIX__STRATEGY", "report_only");
    let checker = deployment.checker().await;
    let runs = deployment.finished_runs("full").await.len();
    swept(&deployment, &checker, runs + 2).await;
    let found = deployment.found().await.split_off(broken.len());
    let wrong = expected(&[("cached_count", "drift", "video:1"), ("stored_count", "drift", "video:8")]);
    assert_eq!(as_expected(&found), wrong, "{found:#?}");
    assert!(found.iter().all(|one| !one.repaired && one.outcome() == "reported"), "{found:#?}");
    let served: i64 = deployment.redis(&format!("HGET {} n", deployment.keys.counter(video_of(1)))).await;
    assert_eq!(served, USERS + 3);

    let (code, said) = deployment.syncctl(&["check", "video:1", "video:2", "-o", "tsv"], Some(&server)).await;
    assert!(code == Some(1) && said.contains("video:1\tdrift") && said.contains("video:2\tconsistent"), "{said}");
    let (code, said) = deployment.syncctl(&["repair", "video:1"], None).await;
    assert!(code == Some(1) && said.contains("cached_count: dry_run"), "{said}");
    let (code, said) = deployment.syncctl(&["repair", "--apply", "video:1"], None).await;
    assert!(code == Some(0) && said.contains("cached_count: repaired"), "{said}");
    let (code, said) = deployment.syncctl(&["reconcile"], None).await;
    assert!(code == Some(1) && said.contains("stored_count drift: 1"), "{said}");
    let (code, said) = deployment.syncctl(&["repair", "--all", "--apply"], None).await;
    assert!(code == Some(0) && said.contains("1 wrong, 1 repaired"), "{said}");
    let (code, said) = deployment.syncctl(&["reconcile"], None).await;
    assert_eq!(code, Some(0), "{said}");
    checker.end(SOON).await.unwrap();

    flow.end(&deployment, &server).await;
    assert_agreement(&deployment).await;
    let likes = deployment.sql("SELECT COUNT(*) FROM video_likes WHERE user_id <= 5 AND deleted_at IS NULL").await;
    assert_eq!(likes.trim(), (USERS * VIDEOS).to_string(), "nobody's like is lost");
    server.end(SOON).await.unwrap();
    consumer.end(SOON).await.unwrap();
}
