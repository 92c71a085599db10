//! e: from acceptance to commit, at parts of the rate that can be sustained. By the consumer's own histogram: exact at its
//! bounds, interpolated between them.

use super::{Bench, Figures, sustained};
use crate::load::{Load, start_warm};
use crate::numbers::Buckets;
use crate::report::Target;
use anyhow::{Context, Result};

const HISTOGRAM: &str = "interaction_commit_lag_seconds";

/// Of its parts: a message until the broker's confirm, by the server's histogram, and a transaction, by the consumer's.
const PUBLISH: &str = "interaction_publish_seconds";
const APPLY: &str = "interaction_apply_seconds";

/// Percent of the sustained rate; targets are set at the second.
const LEVELS: [u32; 3] = [25, 50, 80];

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let rate = sustained::known(bench).await?;
    let Bench { rig, sizes, report, .. } = bench;
    start_warm(rig, sizes.warm_up, sizes.resources).await?;
    let mut figures = Figures::default();
    for _ in 0..sizes.runs {
        for level in LEVELS {
            let (served, consumed) = (rig.server_metrics().await?, rig.consumer_metrics().await?);
            let load = Load::paced(rate * f64::from(level) / 100.0, sizes.seconds * 2.0, sizes.resources);
            let settled = load.send_and_settle(rig).await?;
            let (serves, consumes) = (rig.server_metrics().await?, rig.consumer_metrics().await?);
            let lags = since(&consumes, &consumed, HISTOGRAM)?;
            figures.note(format!("likes at {level} %"), "1/s", settled.sent.likes_per_s);
            for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
                let lag = lags.quantile(share).context("no lags were recorded")?;
                figures.note(format!("{name} at {level} %"), "ms", lag * 1e3);
            }
            let parts =
                [("publish", since(&serves, &served, PUBLISH)?), ("transaction", since(&consumes, &consumed, APPLY)?)];
            for (part, times) in parts {
                for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
                    let time = times.quantile(share).with_context(|| format!("no {part} was recorded"))?;
                    figures.note(format!("{part} {name} at {level} %"), "ms", time * 1e3);
                }
            }
        }
    }
    figures.add_to(report, "e")?;
    report.judge("e", "lag to commit, p50 at half the rate", "ms", figures.of("p50 at 50 %"), Target::AtMost(20.0))?;
    report.judge("e", "lag to commit, p99 at half the rate", "ms", figures.of("p99 at 50 %"), Target::AtMost(60.0))
}

/// What a histogram has got since then.
fn since(now: &str, then: &str, name: &str) -> Result<Buckets> {
    let now = Buckets::parse(now, name).with_context(|| format!("{name}: nothing was recorded"))?;
    Ok(now.since(Buckets::parse(then, name).as_ref()))
}
