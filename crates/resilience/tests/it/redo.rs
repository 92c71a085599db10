//! A database that came back from a copy, with real programs: `syncctl recover` tells it what the redo log has, and the judge of
//! all these tests finds nothing lost.

use crate::kill::OPERATIONS;
use crate::system::{Role, System, finished};
use Role::{Consumer, Server};
use domain::ResourceType;
use serde_json::Value;
use test_support::{dump_schema, restore_schema};

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
