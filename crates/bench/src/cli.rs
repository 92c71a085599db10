//! The command line.

use crate::measure::{self, Bench, Measurement};
use crate::report::Report;
use crate::rig::Rig;
use crate::sizes::Sizes;
use anyhow::{Context, Result};
use clap::Parser;
use std::path::PathBuf;

/// Measures the pipeline against what its parts can do, and against peers that do the same job.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
pub(crate) struct Cli {
    /// Directory in which scripts/up.sh started the stores.
    #[arg(long, env = "RUN_DIR")]
    run_dir: PathBuf,
    /// Directory of interaction-server, sync-consumer and syncctl.
    #[arg(long)]
    bin_dir: PathBuf,
    /// Directory of the installed peers.
    #[arg(long)]
    peers_dir: Option<PathBuf>,
    /// Only these, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Measurement>,
    /// Only prove that each measurement runs: figures mean nothing.
    #[arg(long)]
    fast: bool,
    /// How often each figure is taken.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: Option<u32>,
    /// Length of one sample in seconds.
    #[arg(long)]
    seconds: Option<f64>,
    /// Growth up to 10^7 pairs; needs about 15 GB of disk.
    #[arg(long)]
    ten_million: bool,
    /// Exit code 1 if a bound of n is missed.
    #[arg(long)]
    guard: bool,
    /// Result file; rows of measurements that are not taken now are kept.
    #[arg(long)]
    results: Option<PathBuf>,
}

impl Cli {
    /// Whether nothing that is guarded has grown.
    pub(crate) fn run(self) -> Result<bool> {
        // One thread, like the load generator: the no-op reference then has a caller of the same kind.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(Box::pin(self.measure()))
    }

    async fn measure(self) -> Result<bool> {
        let sizes = self.sizes();
        let mut report = match &self.results {
            Some(path) => Report::read(path)?,
            None => Report::default(),
        };
        report.describe(&sizes);
        let bin_dir = std::fs::canonicalize(&self.bin_dir)
            .with_context(|| format!("--bin-dir: no directory {}", self.bin_dir.display()))?;
        let rig = Rig::new(&self.run_dir, bin_dir).await?;
        let mut bench = Bench { rig, sizes, report, sustained: None, peers_dir: self.peers_dir };
        for measurement in Measurement::ALL {
            if !self.only.is_empty() && !self.only.contains(&measurement) {
                continue;
            }
            bench.report.begin(measurement.letter());
            Box::pin(measure::run(measurement, &mut bench))
                .await
                .with_context(|| format!("measurement {}; {}", measurement.letter(), bench.rig.logs()))?;
            bench.report.print_part(measurement.letter());
            // After each: what was measured stays when a later one fails.
            if let Some(path) = &self.results {
                bench.report.write(path)?;
            }
        }
        bench.rig.stop();
        bench.report.print_targets();
        Ok(!self.guard || bench.report.meets(Measurement::N.letter()))
    }

    fn sizes(&self) -> Sizes {
        let mut sizes = if self.fast { Sizes::fast() } else { Sizes::full() };
        if let Some(runs) = self.runs {
            sizes.runs = runs;
        }
        if let Some(seconds) = self.seconds {
            sizes.seconds = seconds;
        }
        if self.ten_million {
            sizes.growth.push(10_000_000);
        }
        sizes
    }
}
