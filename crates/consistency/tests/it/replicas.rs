//! Sweeps of a checker that reads replicas, which are always a little behind.

use crate::rig::{PATIENCE, Rig, is, quick};
use consistency::{ConsistencyConfig, Kind, Strategy, Verdict};
use event_store::DatabaseConfig;
use std::time::Duration;
use test_support::build::video_pair;
use test_support::{Deployment, MariaDbGroup, MariaDbOptions, eventually, expect_eq};
use tokio_util::sync::CancellationToken;

const VIDEOS: i64 = 120;

/// Statements of the checker that read what is audited.
async fn audited(group: &MariaDbGroup, node: usize) -> u32 {
    let count = "SELECT COUNT(*) FROM mysql.general_log WHERE user_host LIKE 'app%' AND argument LIKE 'SELECT%' \
                 AND argument REGEXP 'FROM (like_counts|video_likes|comment_likes|user_behaviors|sync_events)'";
    group.sql(node, count).await.unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sweeps_read_replicas_and_what_is_late_there_is_not_wrong() {
    let options = MariaDbOptions { durable: false, ..MariaDbOptions::default() };
    let group = MariaDbGroup::start(options, 1).await.unwrap();
    group.sql(1, "STOP SLAVE; CHANGE MASTER TO MASTER_DELAY = 1; START SLAVE").await.unwrap();
    let deployment = Deployment::build("checker").without_rabbitmq().mariadb_at(group.node(0).unwrap().url());
    let rig = Rig::of(deployment.start().await.unwrap()).await;
    for video in 1..=VIDEOS {
        rig.like(video_pair(video, video)).await;
    }
    rig.settled().await;
    group.caught_up(1, 0).await.unwrap();

    let url = rig.deployment.database_url().replace("root@", MariaDbGroup::APP).into();
    let replicas = vec![group.node(1).unwrap().addr().unwrap()];
    let database = DatabaseConfig { url, replicas, ..DatabaseConfig::default() };
    let config =
        ConsistencyConfig { batch_size: 4, stuck_after: Duration::from_secs(60), ..quick(Strategy::ReportOnly) };
    let checker = rig.checker_at(&database, config).await;
    eventually(PATIENCE, "a report from the replica", async || {
        let report = checker.report(1).await.map_err(|error| error.to_string())?;
        expect_eq(report.max_age_ms > 0, true)
    })
    .await;
    for node in [0, 1] {
        group.sql(node, "SET GLOBAL log_output = 'TABLE', GLOBAL general_log = ON").await.unwrap();
    }

    // Everything that a sweep looks at changes meanwhile.
    let stop = CancellationToken::new();
    let likes = async {
        let mut user = 1_000;
        while !stop.is_cancelled() {
            user += 1;
            rig.like(video_pair(user, user % VIDEOS + 1)).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        user - 1_000
    };
    let sweep = async {
        let run = checker.sweep(&CancellationToken::new()).await.unwrap().unwrap();
        stop.cancel();
        run
    };
    let (run, liked) = tokio::join!(sweep, likes);
    let looked = async || (audited(&group, 0).await, audited(&group, 1).await);
    let (primary, replica) = looked().await;
    println!("{replica} statements on the replica, {primary} on the primary; {} compared, {liked} liked", run.checked);
    assert!(replica > primary, "{replica} on the replica, {primary} not");
    let found = rig.found().await;
    assert!(found.is_empty(), "what is late was taken for wrong: {found:?}");
    assert!(run.checked >= 3 * VIDEOS && liked > 0, "{run:?}, {liked} liked");

    // What changed a moment ago is looked at twice, and the second time on the primary. Hardly anything else is.
    rig.settled().await;
    group.caught_up(1, 0).await.unwrap();
    let before = looked().await;
    checker.sweep(&CancellationToken::new()).await.unwrap().unwrap();
    let after = looked().await;
    let (primary, replica) = (after.0 - before.0, after.1 - before.1);
    println!("at rest {replica} statements on the replica, {primary} on the primary");
    assert!(f64::from(replica) >= 0.95 * f64::from(primary + replica), "{replica} on the replica, {primary} not");

    // What is wrong is found all the same, in rows that the replica has as well.
    rig.sql("UPDATE like_counts SET like_count = 999 WHERE resource_id = 7").await;
    group.caught_up(1, 0).await.unwrap();
    checker.sweep(&CancellationToken::new()).await.unwrap().unwrap();
    let found = rig.found().await;
    let [wrong] = found.as_slice() else { panic!("{found:?}") };
    assert!(is(wrong, Kind::StoredCount, Verdict::Drift, 7), "{wrong:?}");
}
