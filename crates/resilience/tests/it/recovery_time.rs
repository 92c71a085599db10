//! How long a recovery takes, by the number of cached pairs, with real programs.
//!
//! `RECOVERY_PAIRS` asks for other numbers than that of the test run, one after the other: `RECOVERY_PAIRS=10000,100000`;
//! `RECOVERY_LIKES` for more likes that are lost and come from the log.

use crate::system::{PATIENCE, Role, System, finished};
use Role::{Consumer, Server};
use domain::{Pair, PairState, ResourceType, Version};
use serde_json::Value;
use std::time::{Duration, Instant};
use test_support::eventually;

/// More than a page, so that several are compared side by side.
const PAIRS: &str = "5000";

/// Resources of those pairs.
const VIDEOS: i64 = 1_000;

/// Rows that no log has: cached pairs alone bring them back.
const LOST: i64 = 2_000;

/// Likes that are lost, too, and that the log has.
const LIKES: &str = "1000";

/// Above all that a load uses.
const FIRST_USER: i64 = 1_000_000;
const FIRST_VIDEO: i64 = 100_000;

const ROWS: &str = "SELECT COUNT(*) FROM video_likes";
const WRONG: &str = "SELECT COUNT(*) FROM like_counts c WHERE resource_type = 'video' AND like_count <> \
                     (SELECT COUNT(*) FROM video_likes v WHERE v.video_id = c.resource_id AND deleted_at IS NULL)";

/// Of the pairs from `first` on; the versions begin at `base`.
async fn store(system: &System, (first, last): (i64, i64), base: i64) {
    let rows = format!(
        "INSERT INTO video_likes (user_id, video_id, created_at, updated_at, deleted_at, version) \
         SELECT {FIRST_USER} + seq, {FIRST_VIDEO} + seq % {VIDEOS}, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), NULL, {base} + seq \
         FROM seq_{first}_to_{last}; \
         REPLACE INTO like_counts (resource_type, resource_id, like_count, revision, last_version, updated_at) \
         SELECT 'video', video_id, COUNT(*), {base} + {last}, MAX(version), UTC_TIMESTAMP(6) FROM video_likes \
         WHERE video_id >= {FIRST_VIDEO} GROUP BY video_id;"
    );
    system.sql(&rows).await;
}

fn state(at: i64, base: i64) -> (Pair, PairState) {
    let pair = Pair::new(FIRST_USER + at, ResourceType::Video, FIRST_VIDEO + at % VIDEOS).unwrap();
    (pair, PairState { liked: true, version: Version(base + at) })
}

fn asked(name: &str, otherwise: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}

async fn summary(system: &System) -> Value {
    let details = "SELECT details FROM data_consistency_checks WHERE kind = 'recovery' AND resource_type = 'database'";
    eventually(PATIENCE, "a report", async || {
        serde_json::from_str(system.sql(details).await.trim()).map_err(|error| error.to_string())
    })
    .await
}

/// Until the note of the recovery is gone; how long each of its steps was seen.
async fn steps(system: &System) -> Vec<(String, Duration)> {
    const NOTE: &str = "SELECT value FROM sync_meta WHERE name = 'recovery'";
    let mut steps: Vec<(String, Duration, Instant)> = Vec::new();
    let begun = Instant::now();
    loop {
        let note = system.sql(NOTE).await;
        match note.split_whitespace().nth(6).map(str::to_owned) {
            Some(step) if steps.last().is_some_and(|(last, ..)| *last == step) => {}
            Some(step) => steps.push((step, Duration::ZERO, Instant::now())),
            None if !steps.is_empty() => break,
            None => {}
        }
        if let Some((_, took, since)) = steps.last_mut() {
            *took = since.elapsed();
        }
        assert!(begun.elapsed() < 5 * PATIENCE, "no end: {note}, {steps:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    steps.into_iter().map(|(step, took, _)| (step, took)).collect()
}

async fn recovery_of(pairs: i64) {
    let mut system = System::new(&[]).await;
    let server = system.start_ready(Server, "").await;
    let consumer = system.start_ready(Consumer, "").await;
    finished(&system.load(500)).await;
    system.verify().await;
    let now: i64 = system.sql("SELECT FLOOR(UNIX_TIMESTAMP(NOW(6)) * 1000000)").await.trim().parse().unwrap();
    let base = now - 3_600_000_000;
    store(&system, (1, pairs - LOST), base).await;
    system.copy_database().await;
    store(&system, (pairs - LOST + 1, pairs), base).await;
    let states: Vec<(Pair, PairState)> = (1..=pairs).map(|at| state(at, base)).collect();
    system.cache_pairs(&states).await;
    finished(&system.load(asked("RECOVERY_LIKES", LIKES).parse().unwrap())).await;
    system.expect_number("SELECT COUNT(*) FROM sync_events WHERE status <> 'completed'", 0).await;
    let rows = system.sql(ROWS).await;
    consumer.kill9().unwrap();
    system.restore_database().await;
    assert_ne!(system.sql(ROWS).await, rows, "nothing was lost");

    let began = Instant::now();
    let (consumer, steps) = tokio::join!(system.start_ready(Consumer, ""), steps(&system));
    let took = began.elapsed();
    eprintln!("{pairs} cached pairs: {took:.1?} from the start of the consumer, of these {steps:.1?}");
    let summary = summary(&system).await;
    eprintln!("{summary}");
    assert!(summary["cached_pair"].as_u64() >= Some(LOST.unsigned_abs()), "{summary}");
    assert!(summary["redo_log"].as_u64() > Some(0), "{summary}");
    assert_eq!(system.sql(ROWS).await, rows);
    system.expect_number(WRONG, 0).await;
    let again = system.syncctl(&["recover", "--json", "--dry-run", "--max-rate", "1000000"]).await;
    assert_eq!((&again["lost"], &again["step_back"]), (&0.into(), &Value::Null), "{again}");
    system.end([server, consumer]).await;
}

#[tokio::test]
async fn a_recovery_goes_through_many_cached_pairs() {
    for pairs in asked("RECOVERY_PAIRS", PAIRS).split(',') {
        recovery_of(pairs.trim().parse().unwrap()).await;
    }
}
