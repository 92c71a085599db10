//! `scripts/bulk_reads.sh`: likes beside calls that read hundreds of counts.

use crate::command::{Environment, output};
use crate::installation::Installation;
use crate::load::{number, wanted};
use crate::workspace::Profile;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::PathBuf;

/// Most of a like's p99 beside bulk reads, in terms of its p99 without.
const BOUND: f64 = 3.0;

/// How fast likes are answered beside many calls at once that read 500 counts each, against the same load alone.
///
/// On private servers. Several rounds, each of one load alone and one beside the reads; prints p50 and p99 in milliseconds
/// and the ratio. PROFILE=debug uses debug programs. Exit code 1 if in every round the p99 beside the reads is more than
/// three times as long.
#[derive(clap::Args)]
pub(crate) struct BulkReads {
    /// Of each load.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(2..))]
    seconds: u32,
    /// Likes per second.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Reads at once.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..))]
    reads: u32,
    /// How often.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Uses the programs as they are.
    #[arg(long)]
    no_build: bool,
}

pub(crate) fn measure(arguments: &BulkReads) -> Result<bool> {
    let mut environment = Environment::clean();
    environment.without_rate_limits();
    let (mut installation, _work) = Installation::private("likes-bulk", environment, false)?;
    installation.up(if arguments.no_build { &["--no-build"] } else { &[] })?;
    let syncctl = Profile::from_environment(Profile::Release)?.program("syncctl");
    // Fills the caches.
    load(&installation, &syncctl, arguments, 0, arguments.reads)?;
    let mut best = f64::INFINITY;
    println!(
        "{:<22} {:>10} {:>10} {:>10} {:>10} {:>12}",
        "beside", "likes/s", "p50 ms", "p99 ms", "reads/s", "p99 / alone"
    );
    for round in 1..=arguments.rounds {
        let alone = load(&installation, &syncctl, arguments, 2 * round - 1, 0)?;
        let beside = load(&installation, &syncctl, arguments, 2 * round, arguments.reads)?;
        println!("{}", row("nothing", &alone, &alone)?);
        println!("{}", row(&format!("{} reads", arguments.reads), &beside, &alone)?);
        best = best.min(latency(&beside, "p99")? / latency(&alone, "p99")?);
    }
    println!("a like's p99 beside the reads is {best:.2} times as long, at best; the bound is {BOUND}");
    Ok(best <= BOUND)
}

fn load(installation: &Installation, syncctl: &PathBuf, arguments: &BulkReads, seed: u32, reads: u32) -> Result<Value> {
    let mut load = installation.environment.command(syncctl);
    load.args(["load", "--generate", "--users", "5000", "--resources", "5000", "--unlikes", "0.3", "--json"]);
    load.args(["--duration", &arguments.seconds.to_string(), "--rate", &arguments.rate.to_string()]);
    load.args(["--seed", &seed.to_string(), "--bulk-reads", &reads.to_string()]);
    let report: Value = serde_json::from_str(&output(&mut load)?).context("the load's report is no JSON")?;
    ensure!(reads == 0 || wanted(&report, "answered")? > 0.0, "no read was answered: {report}");
    Ok(report)
}

/// Of the likes, not of the reads.
fn latency(load: &Value, percentile: &str) -> Result<f64> {
    wanted(load.get("latency_us").context("a load without latencies")?, percentile)
}

fn row(name: &str, load: &Value, alone: &Value) -> Result<String> {
    let (p50, p99) = (latency(load, "p50")? / 1000.0, latency(load, "p99")? / 1000.0);
    let reads = number(load, "answered").unwrap_or(0.0) / wanted(load, "elapsed_s")?;
    let ratio = latency(load, "p99")? / latency(alone, "p99")?;
    let rate = wanted(load, "likes_per_s")?;
    Ok(format!("{name:<22} {rate:>10.0} {p50:>10.2} {p99:>10.2} {reads:>10.0} {ratio:>12.2}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_compares_likes_with_likes() -> Result<()> {
        let alone = json!({ "likes_per_s": 199.6, "elapsed_s": 10.0, "latency_us": { "p50": 1500, "p99": 4000 } });
        let mut beside = alone.clone();
        beside["latency_us"]["p99"] = json!(10_000);
        beside["bulk_reads"] = json!({ "answered": 5_000, "bulk_latency_us": { "p50": 1, "p99": 2 } });
        let expected = "400 reads                     200       1.50      10.00        500         2.50";
        assert_eq!(row("400 reads", &beside, &alone)?, expected);
        assert!(row("", &json!({}), &alone).is_err());
        Ok(())
    }
}
