//! f: event-driven against synchronous, which is the mechanism it replaces: same server, same load.

use super::{Bench, Figures};
use crate::load::{Amount, Load, warm_up};
use crate::numbers::{ratios, summary};
use crate::report::Target;
use crate::rig::{Rig, Settings};
use crate::sizes::Sizes;
use anyhow::{Context, Result};

/// The synchronous path gets as much of the database as it can use, and so does the other.
const EVENT_DRIVEN: Settings = &[("EVENT_DRIVEN_SYNC__DIRECT_WRITES", "256"), ("DATABASE__MAX_CONNECTIONS", "64")];

const SYNCHRONOUS: Settings = &[
    ("EVENT_DRIVEN_SYNC__DIRECT_WRITES", "256"),
    ("DATABASE__MAX_CONNECTIONS", "64"),
    ("EVENT_DRIVEN_SYNC__WRITE_PATH", "synchronous"),
];

/// Part of the synchronous path's throughput at which latencies are compared.
const LOADED: f64 = 0.7;

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let Bench { rig, sizes, report, .. } = bench;
    let mut figures = Figures::default();
    for _ in 0..sizes.runs {
        for (path, settings) in [("synchronous", SYNCHRONOUS), ("event-driven", EVENT_DRIVEN)] {
            start(rig, sizes, settings).await?;
            let load = Load::unary(64, Amount::Seconds(sizes.seconds), sizes.resources);
            let settled = load.send_and_settle(rig).await?;
            figures.note(format!("{path}: answered"), "1/s", settled.sent.likes_per_s);
            figures.note(format!("{path}: answered and settled"), "1/s", settled.per_second());
        }
    }
    let synchronous = summary(figures.of("synchronous: answered")).context("nothing was answered")?;
    let rate = synchronous.median * LOADED;
    for _ in 0..sizes.runs {
        for (path, settings) in [("synchronous", SYNCHRONOUS), ("event-driven", EVENT_DRIVEN)] {
            start(rig, sizes, settings).await?;
            let sent = Load::paced(rate, sizes.seconds, sizes.resources).send(rig).await?;
            rig.all_settled().await?;
            for (name, value) in ["p50", "p99", "p99.9"].into_iter().zip(sent.latencies_ms()) {
                figures.note(format!("{path}: {name} at 70 %"), "ms", value);
            }
        }
    }
    figures.add_to(report, "f")?;
    let answered = ratios(figures.of("event-driven: answered"), figures.of("synchronous: answered"));
    report.add("f", "event-driven / synchronous, answered", "", &answered)?;
    // Stricter than the answers alone: what was answered must also have reached the database.
    let settled =
        ratios(figures.of("event-driven: answered and settled"), figures.of("synchronous: answered and settled"));
    report.judge("f", "event-driven / synchronous, settled", "", &settled, Target::AtLeast(3.0))?;
    let p99 = ratios(figures.of("event-driven: p99 at 70 %"), figures.of("synchronous: p99 at 70 %"));
    report.judge("f", "p99 event-driven / synchronous at 70 %", "", &p99, Target::AtMost(1.0 / 3.0))
}

async fn start(rig: &mut Rig, sizes: &Sizes, settings: Settings) -> Result<()> {
    rig.start(settings, 1).await?;
    warm_up(rig, sizes.warm_up / 5, sizes.resources).await?;
    rig.all_settled().await
}
