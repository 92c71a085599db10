//! The command line.

use crate::kinds::Shape;
use crate::{report, run};
use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Runs the whole stack under load and seeded faults, then checks that nothing was lost or counted twice.
#[derive(Debug, Parser)]
#[command(name = "chaos", version)]
pub(crate) struct Cli {
    /// The same seed gives the same faults in the same order.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Seconds of load under faults.
    #[arg(long, default_value_t = 120)]
    pub(crate) seconds: u64,
    /// Sets seed, seconds and rate, or the kind of the stores, for a known purpose.
    #[arg(long)]
    profile: Option<Profile>,
    /// Words per second.
    #[arg(long, default_value_t = 200)]
    pub(crate) rate: u32,
    /// How many people say them.
    #[arg(long, default_value_t = 64)]
    pub(crate) people: u32,
    /// A run without each behaviour that could have gone wrong is a failure; short ones may not have them all.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Directory of interaction-server, sync-consumer and syncctl.
    #[arg(long, default_value = "target/release", overrides_with = "bin_dir")]
    pub(crate) bin_dir: PathBuf,
    /// Only faults whose name contains one of these, separated by commas: kill_ restart_ pause_ cut_link freeze_link
    /// slow_link hold_requests hold_answers slow_sync_ lock_rows step_clock_ skew_server cut_holder fill_queue purge_queue
    /// delete_queue wipe_broker flush_redis; with the profile failover switch_ failover_ split_redis lag_database kill_broker_node
    /// minority_broker alarm_broker kill_ cut_link; with the profile cluster failover_redis move_slot lose_half kill_; or of a
    /// target: server1, redis.
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Most resident memory of a server or consumer, in MiB.
    #[arg(long, default_value_t = 300)]
    pub(crate) rss_limit_mib: u64,
    /// Most seconds from a heal until all is well again.
    #[arg(long, default_value_t = 15.0)]
    pub(crate) converge_limit: f64,
    /// Most seconds from the first commit on a database that lacks what the one before had confirmed until every process knows.
    #[arg(long, default_value_t = 2.0)]
    pub(crate) notice_limit: f64,
    /// With the profile cluster: most seconds from the election of a lost primary's replica until the half that is left works as
    /// usual.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) half_limit: f64,
    /// With the profile cluster: least share of words, in percent, that are answered undegraded about shards of other primaries
    /// than the lost one.
    #[arg(long, default_value_t = 99.0)]
    pub(crate) undegraded: f64,
    /// With the profiles failover and cluster: a like is answered when so many replicas of Redis (at most 1 there) have it.
    #[arg(long, default_value_t = 0)]
    pub(crate) confirm_replicas: u32,
    /// Where history, faults, excuses and the logs of every process are written.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Profile {
    /// For CI: seed 1, 30 seconds.
    Quick,
    /// Stores of several nodes (three brokers, two of each other store: a gigabyte and half a minute more), which change their
    /// primaries, lose them, fall behind and split.
    Failover,
    /// A Redis Cluster of three primaries with a replica each, three brokers, a database with a replica (a gigabyte and a
    /// minute more): primaries are lost, slots move, and half of everything is lost at once.
    Cluster,
}

impl Cli {
    /// What the stores are.
    pub(crate) const fn shape(&self) -> Shape {
        match self.profile {
            Some(Profile::Failover) => Shape::Groups,
            Some(Profile::Cluster) => Shape::Cluster,
            Some(Profile::Quick) | None => Shape::Single,
        }
    }

    /// Whether all was well.
    pub(crate) fn run(mut self) -> Result<bool> {
        if let Some(Profile::Quick) = self.profile {
            (self.seed, self.seconds, self.rate) = (1, 30, 150);
        }
        self.bin_dir = std::fs::canonicalize(&self.bin_dir)
            .with_context(|| format!("--bin-dir: no directory {}", self.bin_dir.display()))?;
        let out = match &self.out {
            Some(out) => out.clone(),
            None => std::env::temp_dir().join(format!("chaos-{}-{}", self.seed, std::process::id())),
        };
        std::fs::create_dir_all(&out).with_context(|| format!("--out: create {}", out.display()))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let result = runtime.block_on(Box::pin(run::run(&self, &out)));
        // A fault that still waits for its server must not hold up the end.
        runtime.shutdown_timeout(Duration::from_secs(1));
        let report = result?;
        if self.json {
            println!("{}", report.to_json());
        } else {
            report::print(&report);
        }
        if report.failures().is_empty() && self.out.is_none() {
            std::fs::remove_dir_all(&out).with_context(|| format!("remove {}", out.display()))?;
        } else {
            eprintln!("logs: {}", out.display());
        }
        Ok(report.failures().is_empty())
    }
}
