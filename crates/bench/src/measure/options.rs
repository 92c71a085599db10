//! Part of d: what each of these takes from the rate and adds to a like's CPU time, in turn with a pipeline without it.

use super::{Bench, Figures};
use crate::load::{Amount, Load, start_warm_with};
use crate::numbers::ratios;
use crate::report::Target;
use crate::rig::Settings;
use anyhow::Result;

/// What can be had or not, and the settings with it and without.
type Choice = (&'static str, Settings, Settings);

const CHOICES: [Choice; 2] = [
    ("the redo log", &[], &[("RABBITMQ__LOG__ENABLED", "false")]),
    // Nobody listens: what a listener's queue costs is its own.
    ("changes for others", &[("RABBITMQ__CHANGES__ENABLED", "true")], &[]),
];

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    for choice in CHOICES {
        in_turn(bench, choice).await?;
    }
    Ok(())
}

async fn in_turn(bench: &mut Bench, (what, with, without): Choice) -> Result<()> {
    let Bench { rig, sizes, report, .. } = bench;
    let mut figures = Figures::default();
    let ways = [(format!("with {what}"), with), (format!("without {what}"), without)];
    for _ in 0..sizes.runs {
        for (way, settings) in &ways {
            start_warm_with(rig, settings, sizes.warm_up, sizes.resources).await?;
            let before = rig.cpu()?;
            let load = Load::unary(64, Amount::Seconds(sizes.seconds * 2.0), sizes.resources);
            let settled = load.send_and_settle(rig).await?;
            let used = rig.cpu()? - before;
            figures.note(format!("answered and settled {way}"), "1/s", settled.per_second());
            let cpu = used.sum() * 1e6 / settled.sent.acknowledged.max(1) as f64;
            figures.note(format!("CPU of a like {way}"), "us/like", cpu);
        }
    }
    figures.add_to(report, "d")?;
    let of = |figure: &str| ways.each_ref().map(|(way, _)| figures.of(&format!("{figure} {way}")));
    let [with, without] = of("answered and settled");
    report.judge("d", format!("rate with {what} / without"), "", &ratios(with, without), Target::AtLeast(0.95))?;
    let [with, without] = of("CPU of a like");
    report.add("d", format!("CPU of a like with {what} / without"), "", &ratios(with, without))
}
