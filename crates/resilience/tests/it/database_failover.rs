//! An asynchronous failover of the database under load, with real processes: the replica that is promoted was behind.
//!
//! `DATABASE_FAILOVER_SEEDS` asks for more moments of each kind than one.

use crate::running::{APPLIED, PATIENCE, count};
use std::time::{Duration, Instant};
use test_support::{Deployment, Load, MariaDbGroup, MariaDbOptions, Program, Proxy, Random, eventually, expect_eq};

/// From the first commit on the new primary until health says so. Measured: half a second on a machine that does nothing else.
const NOTICED: Duration = Duration::from_secs(5);

/// Longest time that a replica is behind, in milliseconds.
const BEHIND: u64 = 10_000;

/// Likes that a user repeats after the failover; of the same users at every call.
const KNOWN: &[&str] = &["--likes", "20", "--fresh-users", "--comments", "1", "--resources", "5", "--timeout", "3"];

fn moments(first: u64) -> impl Iterator<Item = (u64, Duration)> {
    let seeds = std::env::var("DATABASE_FAILOVER_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(1);
    (first..first + seeds).map(|seed| (seed, Duration::from_millis(Random(seed).below(BEHIND).unsigned_abs())))
}

async fn grows(program: &Program, series: &str) {
    let before = count(program, series).await.unwrap_or(0.0);
    eventually(PATIENCE, series, async || {
        let now = count(program, series).await?;
        if now >= before + 20.0 { Ok(()) } else { Err(format!("{now}, {before} at first")) }
    })
    .await;
}

/// Waits until the part of health says so.
async fn notices(program: &Program) {
    eventually(PATIENCE, "a database that is known to have gone back", async || {
        let (_, health) = program.health().await?;
        let part = &health["parts"]["database_history"];
        let detail = part["detail"].as_str().unwrap_or_default();
        if detail.contains("had committed") { Ok(()) } else { Err(format!("{part}")) }
    })
    .await;
}

/// Answers of a load that said that nothing changed.
fn unchanged(load: &Load) -> usize {
    let oplog = std::fs::read_to_string(load.oplog()).unwrap();
    let (all, unchanged) = oplog
        .lines()
        .filter(|line| line.starts_with("a,"))
        .fold((0, 0), |(all, unchanged), line| (all + 1, unchanged + usize::from(line.split(',').nth(6) == Some("0"))));
    assert_eq!(all, 20, "{oplog}");
    unchanged
}

/// What was found, lost and brought back.
pub(crate) async fn recover(deployment: &Deployment, arguments: &[&str]) -> serde_json::Value {
    let recovery = deployment.syncctl().args(["recover", "--json"]).args(arguments.iter().copied()).start().unwrap();
    recovery.wait_exit(5 * PATIENCE).await.unwrap();
    test_support::last_json(&recovery.log()).unwrap_or_else(|| panic!("no result: {}", recovery.log()))
}

/// Who brings back what was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recovers {
    Itself,
    Syncctl,
}

/// From the first commit on the new primary until everything is back and believed. Measured: two seconds on a machine that does
/// nothing else.
const RECOVERED: Duration = Duration::from_secs(30);

/// The replica is this far behind, and the consumer dies together with the primary, or not.
async fn failover((seed, behind): (u64, Duration), consumer_dies: bool, recovers: Recovers) {
    let options = MariaDbOptions { durable: false, ..MariaDbOptions::default() };
    let group = MariaDbGroup::start(options, 1).await.unwrap();
    let address = Proxy::start(group.node(0).unwrap().addr().unwrap()).await.unwrap();
    let url = address.url_of(group.node(0).unwrap().url());
    let deployment = Deployment::build("failover").mariadb_at(url).start().await.unwrap();
    let app = deployment.database_url().replace("root@", MariaDbGroup::APP);
    let automatic = (recovers == Recovers::Itself).to_string();
    let deployment = deployment.with("DATABASE__URL", app).with("EVENT_DRIVEN_SYNC__RECOVERY__AUTOMATIC", automatic);
    let server = deployment.server().start_connected().await.unwrap();
    let mut consumer = deployment.consumer().start_connected().await.unwrap();
    // It must not "repair" meanwhile.
    let repairing = [("DATA_CONSISTENCY__AUTO_FIX__ENABLED", "true"), ("DATA_CONSISTENCY__CHECK_INTERVAL", "1s")];
    let checker = deployment.clone().with_all(&repairing).checker().start_connected().await.unwrap();
    let shape = ["--duration", "600", "--resources", "50", "--fresh-users", "--rate", "200", "--concurrency", "16"];
    let load: Load =
        deployment.load(&server.grpc(), &[&shape[..], &["--timeout", "3", "--retry-for", "60"]].concat()).unwrap();
    grows(&consumer, APPLIED).await;
    group.caught_up(1, 0).await.unwrap();

    group.sql(1, "STOP SLAVE").await.unwrap();
    let since = Instant::now();
    let known = deployment.load(&server.grpc(), KNOWN).unwrap();
    known.finished(PATIENCE).await.unwrap();
    assert_eq!(unchanged(&known), 0);
    eventually(PATIENCE, "known likes in the database", async || {
        let rows =
            deployment.number("SELECT COUNT(*) FROM comment_likes").await.map_err(|error| format!("{error:#}"))?;
        if rows == 20 { Ok(()) } else { Err(rows.to_string()) }
    })
    .await;
    tokio::time::sleep(behind.saturating_sub(since.elapsed())).await;
    if consumer_dies {
        consumer.kill9().unwrap();
    }
    let before = if consumer_dies { 0.0 } else { count(&consumer, APPLIED).await.unwrap() };
    group.node(0).unwrap().kill9().unwrap();
    group.promote(1).await.unwrap();
    address.retarget(group.node(1).unwrap().addr().unwrap());
    if consumer_dies {
        consumer = deployment.consumer().start().unwrap();
    }
    eventually(PATIENCE, "the first commit on the new primary", async || {
        let applied = count(&consumer, APPLIED).await?;
        if applied > before { Ok(()) } else { Err(applied.to_string()) }
    })
    .await;
    let committed = Instant::now();
    let mut oplogs = vec![load.oplog().to_owned(), known.oplog().to_owned()];
    if recovers == Recovers::Syncctl {
        notices(&consumer).await;
        notices(&server).await;
        notices(&checker).await;
        let took = committed.elapsed();
        eprintln!("seed {seed}, {behind:?} behind, consumer dies: {consumer_dies}; everybody knows after {took:?}");
        assert!(took < NOTICED, "{took:?}");
        if consumer_dies {
            // The cache has them, the rows are gone: what is answered must be written again.
            let repeated = deployment.load(&server.grpc(), KNOWN).unwrap();
            repeated.finished(PATIENCE).await.unwrap();
            assert_eq!(unchanged(&repeated), 0, "answers without a row");
            oplogs.push(repeated.oplog().to_owned());
        }
    } else {
        ended_by_itself(&deployment).await;
        let took = committed.elapsed();
        eprintln!("seed {seed}, {behind:?} behind, consumer dies: {consumer_dies}; everything is back after {took:?}");
        assert!(took < RECOVERED, "{took:?}");
        reports(&deployment).await;
    }
    load.terminate().unwrap();
    load.wait_exit(PATIENCE).await.unwrap();
    if recovers == Recovers::Syncctl {
        recovers_by_syncctl(&deployment, consumer_dies).await;
    }
    let again = recover(&deployment, &[]).await;
    assert_eq!(again["lost"], 0, "{again}");
    let recovered = Instant::now();
    let oplogs = oplogs.iter().map(std::path::PathBuf::as_path);
    let verified = deployment.verify(oplogs, &["--wait", "15"], 2 * PATIENCE).await.unwrap();
    assert!(verified.good, "seed {seed}: {}", verified.report);
    eprintln!("seed {seed}: all is equal {:?} after the recovery", recovered.elapsed());
    deployment.delete_topology().await.unwrap();
    for program in [server, consumer, checker] {
        program.end(PATIENCE).await.unwrap();
    }
}

async fn recovers_by_syncctl(deployment: &Deployment, consumer_died: bool) {
    if consumer_died {
        // Of what was repeated the cache has the last word only; the log has all.
        let done = recover(deployment, &["--since", "2026-01-01T00:00:00Z"]).await;
        eprintln!("from the log: {done}");
        assert!(done["missing"].as_u64() > Some(0), "nothing was lost: {done}");
    } else {
        // All that was lost is in the cache still, whatever the checker has done: brought back, nothing lacks.
        let told = recover(deployment, &["--dry-run"]).await;
        assert!(told["lost"].as_u64().unwrap() > 0, "nothing was lost: {told}");
    }
    let done = recover(deployment, &[]).await;
    eprintln!("from the pairs: {done}");
    assert_eq!((&done["lost"], &done["finished"]), (&done["applied"], &true.into()), "{done}");
}

async fn ended_by_itself(deployment: &Deployment) {
    let finished = "SELECT COUNT(*) FROM consistency_runs WHERE kind = 'recovery' AND status = 'finished'";
    eventually(PATIENCE, "a recovery", async || {
        let runs = deployment.number(finished).await.map_err(|error| format!("{error:#}"))?;
        if runs > 0 { Ok(()) } else { Err(runs.to_string()) }
    })
    .await;
}

/// The report says what came from where, and is true.
async fn reports(deployment: &Deployment) {
    let details = "SELECT details FROM data_consistency_checks WHERE kind = 'recovery' AND resource_type = 'database'";
    let summary: serde_json::Value = eventually(PATIENCE, "a summary", async || {
        let details = deployment.sql(details).await.map_err(|error| format!("{error:#}"))?;
        serde_json::from_str(details.trim()).map_err(|error| error.to_string())
    })
    .await;
    eprintln!("{summary}");
    let came = |source: &str| summary[source].as_u64().unwrap();
    assert!(came("redo_log") + came("cached_pair") > 0, "{summary}");
    let time = |name: &str| -> chrono::DateTime<chrono::Utc> { summary[name].as_str().unwrap().parse().unwrap() };
    assert!(time("back_to") < time("from") && time("from") <= time("noticed_at"), "{summary}");
    assert!(summary["detail"].as_str().unwrap().contains(summary["noticed_at"].as_str().unwrap()), "{summary}");
    // Up to a thousand are named, each with where it came from; and each is there.
    let all = ["redo_log", "cached_pair", "journal"].map(came).into_iter().sum::<u64>().min(1_000);
    let named = "SELECT COUNT(*) FROM data_consistency_checks c WHERE kind = 'recovery' AND user_id IS NOT NULL";
    eventually(PATIENCE, "every event named", async || {
        let named = deployment.number(named).await.map_err(|error| format!("{error:#}"))?;
        expect_eq(named.unsigned_abs(), all).map(drop)
    })
    .await;
    for source in ["redo_log", "cached_pair", "journal"] {
        let of_it = format!("{named} AND JSON_VALUE(details, '$.source') = '{source}'");
        let number = deployment.number(&of_it).await.unwrap().unsigned_abs();
        assert!(number <= came(source), "{number} of {source}: {summary}");
    }
    let not_there = " AND resource_type = 'video' AND NOT EXISTS (SELECT 1 FROM video_likes v WHERE v.user_id = c.user_id \
                     AND v.video_id = c.resource_id AND v.version >= JSON_VALUE(c.details, '$.version'))";
    assert_eq!(deployment.number(&format!("{named}{not_there}")).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_behind_is_promoted() {
    for moment in moments(7) {
        failover(moment, false, Recovers::Itself).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_behind_is_promoted_and_the_consumer_dies() {
    for moment in moments(1_008) {
        failover(moment, true, Recovers::Itself).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_behind_is_promoted_and_an_operator_recovers() {
    for moment in moments(2_009) {
        failover(moment, false, Recovers::Syncctl).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_behind_is_promoted_the_consumer_dies_and_an_operator_recovers() {
    for moment in moments(3_010) {
        failover(moment, true, Recovers::Syncctl).await;
    }
}
