//! e: from acceptance to commit, at parts of the rate that can be sustained. By the consumer's own histogram: exact at its
//! bounds, interpolated between them.

use super::{Bench, Figures, sustained};
use crate::load::{Load, start_warm};
use crate::numbers::Buckets;
use crate::report::Target;
use anyhow::{Context, Result};

const HISTOGRAM: &str = "interaction_commit_lag_seconds";

/// Percent of the sustained rate; targets are set at the second.
const LEVELS: [u32; 3] = [25, 50, 80];

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let rate = sustained::known(bench).await?;
    let Bench { rig, sizes, report, .. } = bench;
    start_warm(rig, sizes.warm_up, sizes.resources).await?;
    let mut figures = Figures::default();
    for _ in 0..sizes.runs {
        for level in LEVELS {
            let before = Buckets::parse(&rig.consumer_metrics().await?, HISTOGRAM);
            let load = Load::paced(rate * f64::from(level) / 100.0, sizes.seconds * 2.0, sizes.resources);
            let settled = load.send_and_settle(rig).await?;
            let after = Buckets::parse(&rig.consumer_metrics().await?, HISTOGRAM).context("no lags were recorded")?;
            let lags = after.since(before.as_ref());
            figures.note(format!("likes at {level} %"), "1/s", settled.sent.likes_per_s);
            for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
                let lag = lags.quantile(share).context("no lags were recorded")?;
                figures.note(format!("{name} at {level} %"), "ms", lag * 1e3);
            }
        }
    }
    figures.add_to(report, "e")?;
    report.judge("e", "lag to commit, p50 at half the rate", "ms", figures.of("p50 at 50 %"), Target::Below(10.0))?;
    report.judge("e", "lag to commit, p99 at half the rate", "ms", figures.of("p99 at 50 %"), Target::Below(100.0))
}
