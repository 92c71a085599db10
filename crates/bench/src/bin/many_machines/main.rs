//! What a like costs, and what is asked and used while nothing happens, by number of servers and consumers.
//!
//! `scripts/many_machines.sh` builds what it needs and starts it. On a machine that all processes share rates mean nothing:
//! this counts CPU time and commands. The stores are those that many machines use (Redis Cluster of 3 + 3, three brokers, a
//! database with two replicas), or with `--single` one node of each.

mod stores;
mod usage;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;
use stores::Stores;
use test_support::{Deployment, Load, Program, eventually};
use tokio::time::sleep;
use usage::{Column, Usage};

/// A load, and all that it left behind, may take so long beyond its own length.
const LIMIT: Duration = Duration::from_secs(300);

#[derive(Parser)]
struct Arguments {
    /// Directory of interaction-server, sync-consumer and syncctl.
    #[arg(long)]
    bin_dir: PathBuf,
    /// Numbers of servers, and of consumers.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 8])]
    sizes: Vec<usize>,
    /// Seconds of each load, and of the time without one.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Seconds before the first measurement of a size.
    #[arg(long, default_value_t = 10)]
    settle: u64,
    /// Likes per second for each server, in calls of one.
    #[arg(long, default_value_t = 300)]
    rate: usize,
    /// One node of each store instead of the clusters.
    #[arg(long)]
    single: bool,
    /// Redis is a cluster of so many primaries without replicas, whatever the other stores are.
    #[arg(long, value_name = "PRIMARIES")]
    redis_cluster: Option<usize>,
    /// Setting of all programs in addition, such as EVENT_DRIVEN_SYNC__SHARDS=64.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

/// Calls of 100 likes in flight, for each server.
const BATCHES: usize = 4;

/// For all sizes: nothing is limited; more threads than cores would mostly wake each other.
const SETTINGS: &[(&str, &str)] = &[
    ("MONITORING__LOG_LEVEL", "warn"),
    ("SERVICE__WORKER_THREADS", "1"),
    ("RATE_LIMITING__USER_ACTION__ENABLED", "false"),
    ("RATE_LIMITING__IP__ENABLED", "false"),
    ("RATE_LIMITING__GLOBAL__ENABLED", "false"),
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let programs = std::fs::canonicalize(&arguments.bin_dir).context("--bin-dir")?;
    let mut columns = Vec::new();
    for size in &arguments.sizes {
        // New ones for each: what the size before left in memory and on disk would count.
        let stores = Stores::start(arguments.single, arguments.redis_cluster).await.context("the stores")?;
        let builder = Deployment::build("machines").programs_in(&programs);
        let mut deployment = stores.at(builder)?.start().await?.with_all(SETTINGS);
        for (key, value) in stores.settings()? {
            deployment = deployment.with(key, value);
        }
        for setting in &arguments.settings {
            let (key, value) = setting.split_once('=').with_context(|| format!("--set {setting}: no `=`"))?;
            deployment = deployment.with(key, value);
        }
        let lab = Lab { arguments: &arguments, stores: &stores, deployment: &deployment };
        columns.push(lab.measure(*size).await.with_context(|| format!("{size} + {size}"))?);
    }
    usage::print(&columns);
    Ok(())
}

struct Lab<'a> {
    arguments: &'a Arguments,
    stores: &'a Stores,
    deployment: &'a Deployment,
}

impl Lab<'_> {
    async fn measure(&self, size: usize) -> Result<Column> {
        let (mut servers, mut consumers) = (Vec::new(), Vec::new());
        for _ in 0..size {
            servers.push(self.deployment.server().start_connected().await?);
            consumers.push(self.deployment.consumer().start_connected().await?);
        }
        let usage = || Usage::now(self.stores, &servers, &consumers);
        sleep(Duration::from_secs(self.arguments.settle)).await;
        let before = usage().await?;
        sleep(Duration::from_secs(self.arguments.seconds)).await;
        let idle = usage().await? - before;

        // More servers are there for more likes, so each of them gets as many; and then all get as many as the most of them.
        let largest = self.arguments.sizes.iter().copied().max().unwrap_or(size);
        let [grows, stays] = [size, largest].map(|servers| (self.arguments.rate * servers).to_string());
        let batches = (BATCHES * size).to_string();
        let mut first_user = 1;
        let mut loads = Vec::new();
        for shape in
            [&["--rate", grows.as_str()][..], &["--rate", &stays], &["--batch", "100", "--concurrency", &batches]]
        {
            let before = usage().await?;
            let likes = self.likes(&servers, first_user, shape).await?;
            loads.push((likes, usage().await? - before));
            first_user += likes;
        }
        Ok(Column { size, seconds: self.arguments.seconds, idle, loads })
    }

    /// Likes of users who are new to every store, until all of them are in the database; how many there were.
    async fn likes(&self, servers: &[Program], first_user: u64, shape: &[&str]) -> Result<u64> {
        let addrs: Vec<String> = servers.iter().map(Program::grpc).collect();
        let (first, seconds) = (first_user.to_string(), self.arguments.seconds.to_string());
        let mut words = vec!["--duration", &seconds, "--first-user", &first, "--fresh-users", "--zipf", "0"];
        words.extend_from_slice(shape);
        let load: Load = self.deployment.load(&addrs.join(","), &words)?;
        let report: Value = load.finished(Duration::from_secs(self.arguments.seconds) + LIMIT).await?;
        let likes = report["acknowledged"].as_u64().with_context(|| format!("no number of likes: {report}"))?;
        ensure!(likes > 0, "no like: {report}");
        let all = first_user - 1 + likes;
        let query = format!("SELECT COUNT(*) FROM video_likes WHERE user_id <= {all}");
        eventually(LIMIT, "all likes in the database", async || {
            let rows = self.deployment.number(&query).await.map_err(|error| format!("{error:#}"))?;
            if rows.unsigned_abs() == all { Ok(()) } else { Err(format!("{rows} of {all}")) }
        })
        .await;
        Ok(likes)
    }
}
