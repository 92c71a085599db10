//! What Redis and MariaDB are asked per second while nothing happens, by number of processes.
//!
//! `cargo run -p bench --example idle -- --bin-dir target/debug [--sizes 1,8] [--seconds 20] [--settle 10]`
//!
//! On private stores. Each size is that many servers and as many consumers. Commands that scripts call count as well.

use anyhow::{Context, Result};
use clap::Parser;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use test_support::{Deployment, RedisOptions};

#[derive(Parser)]
struct Arguments {
    /// Directory of interaction-server and sync-consumer.
    #[arg(long)]
    bin_dir: PathBuf,
    /// Numbers of servers, and of consumers.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8])]
    sizes: Vec<usize>,
    /// Measured.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Waited before.
    #[arg(long, default_value_t = 10)]
    settle: u64,
}

/// By store and command.
type Counts = BTreeMap<(&'static str, String), f64>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let programs = std::fs::canonicalize(&arguments.bin_dir).context("--bin-dir")?;
    let mut columns = Vec::new();
    for size in &arguments.sizes {
        columns.push(measure(&arguments, &programs, *size).await.with_context(|| format!("{size} + {size}"))?);
    }
    print(&arguments.sizes, &columns);
    Ok(())
}

async fn measure(arguments: &Arguments, programs: &PathBuf, size: usize) -> Result<Counts> {
    let stores = Deployment::build("idle").own_redis(RedisOptions::default()).own_mariadb().own_rabbitmq();
    let deployment = stores.programs_in(programs).start().await?.with("SERVICE__WORKER_THREADS", "1");
    let mut processes = Vec::new();
    for _ in 0..size {
        processes.push(deployment.server().start_connected().await?);
        processes.push(deployment.consumer().start_connected().await?);
    }
    tokio::time::sleep(Duration::from_secs(arguments.settle)).await;
    let (before, began) = (counts(&deployment).await?, Instant::now());
    tokio::time::sleep(Duration::from_secs(arguments.seconds)).await;
    let (after, seconds) = (counts(&deployment).await?, began.elapsed().as_secs_f64());
    let rate = |(kind, count): (_, f64)| {
        let rate = (count - before.get(&kind).copied().unwrap_or_default()) / seconds;
        (kind, rate)
    };
    Ok(after.into_iter().map(rate).collect())
}

async fn counts(deployment: &Deployment) -> Result<Counts> {
    let mut counts = Counts::new();
    let mut all = 0.0;
    for line in deployment.redis().cli(&["info", "commandstats"]).await?.lines() {
        let Some((name, values)) = line.strip_prefix("cmdstat_").and_then(|line| line.split_once(":calls=")) else {
            continue;
        };
        let calls: f64 = values.split(',').next().unwrap_or_default().parse().context("a number of calls")?;
        all += calls;
        counts.insert(("redis", name.to_owned()), calls);
    }
    counts.insert(("redis", "(all)".to_owned()), all);
    for line in deployment
        .sql("SHOW GLOBAL STATUS WHERE Variable_name LIKE 'Com\\_%' OR Variable_name = 'Questions'")
        .await?
        .lines()
    {
        let Some((name, value)) = line.split_once('\t') else { continue };
        let name = if name == "Questions" { "(all)" } else { name.trim_start_matches("Com_") };
        counts.insert(("mariadb", name.to_owned()), value.trim().parse().unwrap_or_default());
    }
    Ok(counts)
}

fn print(sizes: &[usize], columns: &[Counts]) {
    let heads: String = sizes.iter().map(|size| format!("{:>12}", format!("{size} + {size}"))).collect();
    println!("{:<10}{:<24}{heads}{:>8}", "commands/s", "", "ratio");
    let kinds: std::collections::BTreeSet<_> = columns.iter().flat_map(BTreeMap::keys).collect();
    for kind in kinds {
        let rates: Vec<f64> = columns.iter().map(|column| column.get(kind).copied().unwrap_or_default()).collect();
        if rates.iter().all(|rate| *rate < 0.05) {
            continue;
        }
        let cells: String = rates.iter().map(|rate| format!("{rate:>12.1}")).collect();
        let ratio = rates.last().zip(rates.first()).map_or(0.0, |(last, first)| last / first);
        println!("{:<10}{:<24}{cells}{ratio:>8.2}", kind.0, kind.1);
    }
}
