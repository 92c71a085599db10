//! An asynchronous failover of the database under load, with real processes: the replica that is promoted was behind.

use std::time::{Duration, Instant};
use test_support::{Deployment, Load, MariaDbGroup, MariaDbOptions, Program, Proxy, Random, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

/// From the first commit on the new primary until health says so. Measured: half a second on a machine that does nothing else.
const NOTICED: Duration = Duration::from_secs(5);

const APPLIED: &str = "applied_events_total";

async fn count(program: &Program, series: &str) -> Result<f64, String> {
    let metrics = program.metrics().await.map_err(|error| format!("{error:#}"))?;
    let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    value.ok_or_else(|| format!("no {series}"))
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

/// What was found, lost and brought back.
async fn recover(deployment: &Deployment, arguments: &[&str]) -> serde_json::Value {
    let recovery = deployment.syncctl().args(["recover", "--json"]).args(arguments.iter().copied()).start().unwrap();
    recovery.wait_exit(PATIENCE).await.unwrap();
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
async fn failover(behind: Duration, consumer_dies: bool, recovers: Recovers) {
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
    grows(&consumer, APPLIED).await;
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
    if recovers == Recovers::Syncctl {
        notices(&consumer).await;
        notices(&server).await;
        notices(&checker).await;
        let took = committed.elapsed();
        eprintln!("everybody knows after {took:?}");
        assert!(took < NOTICED, "{took:?}");
    } else {
        recovers_by_itself(&deployment).await;
        let took = committed.elapsed();
        eprintln!("everything is back after {took:?}");
        assert!(took < RECOVERED, "{took:?}");
    }
    load.terminate().unwrap();
    load.wait_exit(PATIENCE).await.unwrap();
    if recovers == Recovers::Syncctl {
        recovers_by_syncctl(&deployment).await;
    }
    let again = recover(&deployment, &[]).await;
    assert_eq!(again["lost"], 0, "{again}");
    let verified = deployment.verify([load.oplog()], &["--wait", "30"], 2 * PATIENCE).await.unwrap();
    assert!(verified.good, "{}", verified.report);
    deployment.delete_topology().await.unwrap();
    for program in [server, consumer, checker] {
        program.end(PATIENCE).await.unwrap();
    }
}

/// All that was lost is in the cache still, whatever the checker has done: brought back, nothing lacks.
async fn recovers_by_syncctl(deployment: &Deployment) {
    let told = recover(deployment, &["--dry-run"]).await;
    assert!(told["lost"].as_u64().unwrap() > 0, "nothing was lost: {told}");
    let done = recover(deployment, &[]).await;
    eprintln!("dry run: {told}; then: {done}");
    assert_eq!((&done["lost"], &done["finished"]), (&done["applied"], &true.into()), "{done}");
}

/// The report says what came from where.
async fn recovers_by_itself(deployment: &Deployment) {
    let finished = "SELECT COUNT(*) FROM consistency_runs WHERE kind = 'recovery' AND status = 'finished'";
    eventually(PATIENCE, "a recovery", async || {
        let runs = deployment.number(finished).await.map_err(|error| format!("{error:#}"))?;
        if runs > 0 { Ok(()) } else { Err(runs.to_string()) }
    })
    .await;
    let details = "SELECT details FROM data_consistency_checks WHERE kind = 'recovery' AND resource_type = 'database'";
    let details = deployment.sql(details).await.unwrap();
    eprintln!("{details}");
    let summary: serde_json::Value = serde_json::from_str(details.trim()).unwrap();
    let back = summary["redo_log"].as_u64().unwrap() + summary["cached_pair"].as_u64().unwrap();
    assert!(back > 0 && summary["back_to"].is_string(), "{summary}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_behind_is_promoted() {
    let mut random = Random(7);
    failover(Duration::from_millis(random.below(5_000).unsigned_abs()), false, Recovers::Itself).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_behind_is_promoted_and_the_consumer_dies() {
    let mut random = Random(8);
    failover(Duration::from_millis(random.below(5_000).unsigned_abs()), true, Recovers::Itself).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_behind_is_promoted_and_an_operator_recovers() {
    let mut random = Random(9);
    failover(Duration::from_millis(random.below(5_000).unsigned_abs()), false, Recovers::Syncctl).await;
}
