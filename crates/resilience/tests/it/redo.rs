//! A database that came back from a copy, with real programs: `syncctl recover` tells it what the redo log has, and the judge of
//! all these tests finds nothing lost.
//!
//! `COPY_AGE=600` for a copy that is ten minutes old.

use crate::database_failover::recover as recover_beside;
use crate::kill::OPERATIONS;
use crate::running::{APPLIED, PATIENCE, Running};
use crate::system::{Role, System, finished};
use Role::{Consumer, Server};
use domain::ResourceType;
use serde_json::Value;
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use test_support::{Deployment, dump_schema, eventually, restore_schema};

/// Before every test.
const LONG_AGO: &str = "2026-01-01T00:00:00Z";

async fn number(system: &System, query: &str) -> u64 {
    system.sql(query).await.trim().parse().unwrap()
}

async fn recover(system: &System, args: &[&str]) -> Value {
    system.syncctl(&[&["recover", "--json", "--since", LONG_AGO], args].concat()).await
}

#[tokio::test]
async fn a_database_from_a_copy_is_told_again_by_syncctl() {
    let mut system = System::new(&[]).await;
    let server = system.start_ready(Server, "").await;
    let consumer = system.start_ready(Consumer, "").await;
    let load = system.load(OPERATIONS);
    system.under_way().await;
    let copy = dump_schema(system.database_url()).await.unwrap();
    assert!(load.is_running(), "the copy was made after the load: {}", load.log());
    // What is applied without the broker is a part of it.
    system.links.rabbitmq.cut().await;
    system.expect_number("SELECT COUNT(*) > 100 FROM sync_events WHERE next_retry_at IS NOT NULL", 1).await;
    system.links.rabbitmq.restore().await.unwrap();
    finished(&load).await;
    system.verify().await;
    system.expect_number("SELECT COUNT(*) FROM sync_events WHERE next_retry_at IS NOT NULL", 0).await;
    assert_eq!(system.not_in_the_log().await, [""; 0]);
    let events = number(&system, "SELECT COUNT(*) FROM sync_events").await;
    server.kill9().unwrap();
    consumer.kill9().unwrap();

    restore_schema(system.database_url(), &copy).await.unwrap();
    let lost = events - number(&system, "SELECT COUNT(*) FROM sync_events").await;
    assert!(lost > 500, "{lost} of {events}");
    let log = system.syncctl(&["redo-log", "--json", "--since", LONG_AGO]).await;
    assert!(log["since"]["events"].as_u64() >= Some(events) && log["oldest"]["at"].is_string(), "{log}");

    let rehearsed = recover(&system, &["--dry-run"]).await;
    assert_eq!(rehearsed["missing"].as_u64(), Some(lost), "{rehearsed}");
    assert_eq!(number(&system, "SELECT COUNT(*) FROM sync_events").await, events - lost);
    let recovered = recover(&system, &[]).await;
    assert_eq!(recovered["missing"].as_u64(), Some(lost), "{recovered}");
    assert_eq!(recover(&system, &["--dry-run"]).await["missing"].as_u64(), Some(0));

    let processes = [system.start_ready(Server, "").await, system.start_ready(Consumer, "").await];
    system.verify().await;
    system.end(processes).await;
}

/// What the first command of an operator says, without being told where processes are, and how it ends.
async fn told_by_status(running: &Running) -> (Vec<Value>, ExitStatus) {
    let server = running.server.grpc();
    let status = running.deployment.syncctl().args(["-o", "json", "status", "--addr", &server]).start().unwrap();
    let ended = status.wait_exit(PATIENCE).await.unwrap();
    let told = test_support::last_json(&status.log()).unwrap_or_else(|| panic!("no screen: {}", status.log()));
    (told["troubles"].as_array().unwrap().clone(), ended)
}

/// Nobody stops anything: the database becomes what it was while likes go on, and programs stay up without its tables.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_restored_under_load_is_told_again_by_syncctl() {
    let deployment = Deployment::build("restored").start().await.unwrap();
    let running = Running::start(deployment.with("EVENT_DRIVEN_SYNC__RECOVERY__AUTOMATIC", "false")).await;
    let deployment = &running.deployment;
    let events = async || deployment.number("SELECT COUNT(*) FROM sync_events").await.unwrap().unsigned_abs();
    let copy = dump_schema(deployment.database_url()).await.unwrap();
    let copied = events().await;
    let age = std::env::var("COPY_AGE").ok().and_then(|age| age.parse().ok()).unwrap_or(3);
    tokio::time::sleep(Duration::from_secs(age)).await;
    let lost = events().await - copied;
    let begun = Instant::now();
    restore_schema(deployment.database_url(), &copy).await.unwrap();
    let restored = begun.elapsed();
    running.grows(&running.consumer, APPLIED).await;
    running.load_ends().await;
    // Processes look every second; where many things run at once, later.
    let (went_back, ended) = eventually(PATIENCE, "a status that tells it", async || {
        let (wrong, ended) = told_by_status(&running).await;
        let went_back = wrong.iter().find(|one| one["kind"] == "database_history").cloned();
        went_back.map(|went_back| (went_back, ended)).ok_or_else(|| format!("{wrong:?}"))
    })
    .await;
    assert!(went_back["detail"].as_str().unwrap().contains("syncctl recover"), "{went_back}");
    assert!(!ended.success(), "{went_back}");

    let since = ["--since", LONG_AGO];
    let rehearse = async || recover_beside(deployment, &[&since[..], &["--dry-run"]].concat()).await;
    // What was on its way when the load ended arrives by itself.
    let rehearsed: Value = eventually(10 * PATIENCE, "rehearsals that come to the same", async || {
        let (before, after) = (rehearse().await, rehearse().await);
        if before["missing"] == after["missing"] { Ok(after) } else { Err(format!("{before}, then {after}")) }
    })
    .await;
    assert!(rehearsed["missing"].as_u64() >= Some(lost), "{lost} were lost at least: {rehearsed}");
    let begun = Instant::now();
    let recovered = recover_beside(deployment, &since).await;
    assert_eq!(recovered["missing"], rehearsed["missing"], "{recovered}");
    eprintln!("a copy {age} s old, restored in {restored:?}: told again in {:?}: {recovered}", begun.elapsed());
    // Nothing is left for the pairs, and the database is believed again.
    let pairs = recover_beside(deployment, &[]).await;
    assert_eq!((&pairs["lost"], &pairs["finished"]), (&0.into(), &true.into()), "{pairs}");
    eventually(PATIENCE, "the database is believed again", async || {
        let (wrong, _) = told_by_status(&running).await;
        if wrong.iter().any(|one| one["kind"] == "database_history") { Err(format!("{wrong:?}")) } else { Ok(()) }
    })
    .await;
    running.all_is_there().await;
    running.ends_well(3).await;
}

/// The process that tells the database again is killed: the next run goes on.
#[tokio::test]
async fn a_killed_recovery_goes_on() {
    let mut system = System::new(&[]).await;
    let server = system.start_ready(Server, "").await;
    let consumer = system.start_ready(Consumer, "").await;
    finished(&system.load(OPERATIONS)).await;
    system.verify().await;
    let events = number(&system, "SELECT COUNT(*) FROM sync_events").await;
    server.kill9().unwrap();
    consumer.kill9().unwrap();
    // All rows and both ledgers are gone, as with an empty database.
    let tables = ["sync_events", "user_behaviors", "like_counts"].into_iter().map(str::to_owned);
    let likes = ResourceType::ALL.map(|kind| format!("{}_likes", kind.name()));
    let deletes: Vec<String> = tables.chain(likes).map(|table| format!("DELETE FROM {table}")).collect();
    system.sql(&deletes.join("; ")).await;

    let args = ["recover", "--json", "--since", LONG_AGO, "--batch-size", "1"];
    let victim = system.start_syncctl(&args);
    // It notes how far it is after the first messages of the log.
    system.expect_number("SELECT COUNT(*) FROM sync_meta WHERE name = 'replay'", 1).await;
    victim.kill9().unwrap();
    let some = number(&system, "SELECT COUNT(*) FROM sync_events").await;
    assert!(some < events, "it came to the end before it was killed");
    let rest = system.syncctl(&args).await;
    assert!(rest["resumed_at"].is_u64() && rest["missing"].as_u64() == Some(events - some), "{rest}");
    let processes = [system.start_ready(Server, "").await, system.start_ready(Consumer, "").await];
    system.verify().await;
    system.end(processes).await;
}
