//! a: accepting likes, one per call, against `redis-benchmark` with the same script and against a call that does
//! nothing; and with answers that a replica confirms.

use super::{Bench, Figures};
use crate::load::{Amount, Load, start_warm, warm_up};
use crate::numbers::ratios;
use crate::report::Target;
use crate::rig::PATIENT;
use crate::{evalsha, noop};
use anyhow::{Context, Result};
use std::time::Duration;
use test_support::{Redis, RedisOptions};

const CONCURRENCIES: [u32; 4] = [1, 16, 64, 256];

/// At which targets are set.
const JUDGED: u32 = 64;

/// Calls of the reference per second, roughly, so that its samples take about as long.
fn expected_rate(concurrency: u32) -> f64 {
    if concurrency == 1 { 12_000.0 } else { 40_000.0 }
}

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    behind_it(bench).await?;
    relay_paused(bench).await?;
    confirmed(bench).await
}

/// With a replica that confirms every answer, in turn with a server that does not ask it.
async fn confirmed(bench: &mut Bench) -> Result<()> {
    let Bench { rig, sizes, report, .. } = bench;
    start_warm(rig, sizes.warm_up, sizes.resources).await?;
    let (host, port) = rig.redis_addr.rsplit_once(':').context("redis: no port")?;
    let follow = ["--replicaof", host, port, "--repl-diskless-sync-delay", "0"];
    let options = RedisOptions { appendonly: false, preload: false };
    let replica = Redis::start_with_arguments(options, &follow).await?;
    while !replica.cli(&["INFO", "replication"]).await?.contains("master_link_status:up") {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut other = rig.another_server(&[("REDIS__CONFIRM_REPLICAS", "1")]).await?;
    let mut figures = Figures::default();
    for _ in 0..sizes.runs {
        for concurrency in [1, JUDGED] {
            for what in ["without a replica", "confirmed"] {
                let load = Load::unary(concurrency, Amount::Seconds(sizes.seconds), sizes.resources);
                let before = rig.cpu()?;
                let sent = load.send(rig).await?;
                let used = rig.cpu()?;
                let at = |what: &str| format!("{what} at {concurrency}");
                figures.note(at(&format!("likes {what}")), "1/s", sent.likes_per_s);
                figures.note(at(&format!("p50 {what}")), "ms", sent.latencies_ms()[0]);
                let cpu = (used.redis - before.redis) + (used.server - before.server);
                figures.note(
                    at(&format!("CPU of Redis and server {what}")),
                    "us/like",
                    cpu * 1e6 / sent.acknowledged.max(1) as f64,
                );
                rig.all_settled().await?;
                rig.swap_server(&mut other);
            }
        }
    }
    rig.stop();
    figures.add_to(report, "a")?;
    for concurrency in [1, JUDGED] {
        let of = |what: &str| figures.of(&format!("{what} at {concurrency}"));
        let rate = ratios(of("likes confirmed"), of("likes without a replica"));
        let what = format!("likes confirmed by a replica / not at {concurrency}");
        if concurrency == JUDGED {
            report.judge("a", what, "", &rate, Target::AtLeast(0.85))?;
        } else {
            report.add("a", what, "", &rate)?;
        }
        let cpu = ratios(of("CPU of Redis and server confirmed"), of("CPU of Redis and server without a replica"));
        report.add("a", format!("CPU of Redis and server confirmed / not at {concurrency}"), "", &cpu)?;
    }
    Ok(())
}

/// With the whole pipeline at work behind the answers.
async fn behind_it(bench: &mut Bench) -> Result<()> {
    let Bench { rig, sizes, report, .. } = bench;
    start_warm(rig, sizes.warm_up, sizes.resources).await?;
    let mut figures = Figures::default();
    for _ in 0..sizes.runs {
        for concurrency in CONCURRENCIES {
            let load = Load::unary(concurrency, Amount::Seconds(sizes.seconds), sizes.resources);
            let settled = load.send_and_settle(rig).await?;
            let at = |what: &str| format!("{what} at {concurrency}");
            figures.note(at("likes"), "1/s", settled.sent.likes_per_s);
            let settled_share = 1.0 - settled.backlog as f64 / settled.sent.acknowledged.max(1) as f64;
            figures.note(at("settled when the last is answered"), "share", settled_share);
            for (name, value) in ["p50", "p99", "p99.9"].into_iter().zip(settled.sent.latencies_ms()) {
                figures.note(at(name), "ms", value);
            }
            let likes = (sizes.seconds * expected_rate(concurrency)) as u64;
            let script = evalsha::call(rig, concurrency, 1, likes).await?;
            figures.note(at("EVALSHA"), "1/s", script.per_second);
            figures.note(at("EVALSHA p50"), "ms", script.p50_ms);
            figures.note(at("EVALSHA p99"), "ms", script.p99_ms);
            let nothing = noop::call(&rig.grpc_addr()?, concurrency, sizes.seconds).await?;
            figures.note(at("no-op"), "1/s", nothing.per_second);
        }
    }
    figures.add_to(report, "a")?;
    for concurrency in CONCURRENCIES {
        let of = |what: &str| figures.of(&format!("{what} at {concurrency}"));
        let over_script = ratios(of("likes"), of("EVALSHA"));
        let what = format!("likes / EVALSHA at {concurrency}, pipeline behind");
        if concurrency == JUDGED {
            report.judge("a", what, "", &over_script, Target::AtLeast(0.40))?;
            // Otherwise likes would merely pile up, and the ratio above say nothing.
            let share = of("settled when the last is answered");
            report.judge("a", "pipeline keeps up at 64: settled", "share", share, Target::AtLeast(0.90))?;
        } else {
            report.add("a", what, "", &over_script)?;
        }
        report.add("a", format!("likes / no-op at {concurrency}"), "", &ratios(of("likes"), of("no-op")))?;
    }
    Ok(())
}

/// With a broker that stands still: the relay waits for its confirm, and likes are accepted.
async fn relay_paused(bench: &mut Bench) -> Result<()> {
    let Bench { rig, sizes, report, .. } = bench;
    rig.start(PATIENT, 0).await?;
    warm_up(rig, sizes.warm_up, sizes.resources).await?;
    let paused = rig.pause_broker()?;
    let mut figures = Figures::default();
    for _ in 0..sizes.runs {
        let sent = Load::unary(JUDGED, Amount::Seconds(sizes.seconds), sizes.resources).send(rig).await?;
        figures.note("likes at 64, relay paused", "1/s", sent.likes_per_s);
        let likes = (sizes.seconds * expected_rate(JUDGED)) as u64;
        let script = evalsha::call(rig, JUDGED, 1, likes).await?;
        figures.note("EVALSHA at 64, relay paused", "1/s", script.per_second);
    }
    // The relay's confirm must not come first.
    rig.stop();
    drop(paused);
    figures.add_to(report, "a")?;
    let over_script = ratios(figures.of("likes at 64, relay paused"), figures.of("EVALSHA at 64, relay paused"));
    report.judge("a", "likes / EVALSHA at 64, relay paused", "", &over_script, Target::AtLeast(0.55))
}
