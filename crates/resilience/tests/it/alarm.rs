//! A broker whose memory is short takes nothing from anybody, for as long as that lasts: likes are committed all the same.
//!
//! `ALARM_SECONDS=60` for a long one.

use crate::running::{APPLIED, PUBLISHED, Running};
use std::time::{Duration, Instant};
use test_support::Deployment;

/// From acceptance to commit, of 99 in 100, while the alarm lasts. Without another way it were as long as the alarm.
const LAG: f64 = 5.0;

/// What is asked of a machine that does nothing else.
const QUIET_LAG: f64 = 0.5;

fn seconds() -> Option<u64> {
    std::env::var("ALARM_SECONDS").ok().and_then(|seconds| seconds.parse().ok())
}

/// Commits so far of both programs, by the upper bound of their lag in seconds.
async fn lags(running: &Running) -> Vec<(f64, f64)> {
    let bucket = |line: &str| {
        let (le, count) = line.strip_prefix("interaction_commit_lag_seconds_bucket{le=\"")?.split_once("\"} ")?;
        Some((if le == "+Inf" { f64::INFINITY } else { le.parse().ok()? }, count.trim().parse::<f64>().ok()?))
    };
    let (server, consumer) = (running.server.metrics().await.unwrap(), running.consumer.metrics().await.unwrap());
    let server = server.lines().filter_map(bucket);
    server.zip(consumer.lines().filter_map(bucket)).map(|((le, some), (_, more))| (le, some + more)).collect()
}

/// The bound that 99 of 100 commits between two looks kept, and how many there were.
fn p99(before: &[(f64, f64)], after: &[(f64, f64)]) -> (f64, f64) {
    let counts: Vec<(f64, f64)> =
        after.iter().zip(before).map(|(after, before)| (after.0, after.1 - before.1)).collect();
    let all = counts.last().unwrap().1;
    let bound = counts.iter().find(|(_, count)| *count >= 0.99 * all).unwrap().0;
    (bound, all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_alarm_delays_no_commit() {
    let deployment = Deployment::build("alarm").own_rabbitmq().start().await.unwrap();
    let running = Running::start(deployment).await;
    let broker = running.deployment.rabbitmq();
    let lasts = seconds();

    let before = lags(&running).await;
    broker.ctl(&["set_vm_memory_high_watermark", "0.0001"]).await.unwrap();
    let begin = Instant::now();
    let directly = running.grows(&running.server, APPLIED).await;
    tokio::time::sleep(Duration::from_secs(lasts.unwrap_or(10)).saturating_sub(begin.elapsed())).await;
    let after = lags(&running).await;
    broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1GB"]).await.unwrap();
    let published = running.grows(&running.server, PUBLISHED).await;

    let (lag, commits) = p99(&before, &after);
    running.all_arrives().await;
    let again = running.relayed_again().await;
    eprintln!(
        "applied directly after {directly:?}; {commits} commits, p99 of their lag below {lag} s; published after \
         {published:?}; {again} relayed again"
    );
    assert!(commits >= 500.0, "{commits} commits");
    assert!(lag <= if lasts.is_some() { QUIET_LAG } else { LAG }, "{lag} s");
    assert!(again <= 0, "{again} relayed again");
    running.ends_well(1).await;
}
