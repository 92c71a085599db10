//! Part of d: what the redo log takes from the rate and adds to a like's CPU time, in turn with a pipeline without it.

use super::{Bench, Figures};
use crate::load::{Amount, Load, start_warm_with};
use crate::numbers::ratios;
use crate::report::Target;
use crate::rig::Settings;
use anyhow::Result;

const WAYS: [(&str, Settings); 2] =
    [("with the redo log", &[]), ("without it", &[("RABBITMQ__LOG__ENABLED", "false")])];

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let Bench { rig, sizes, report, .. } = bench;
    let mut figures = Figures::default();
    for _ in 0..sizes.runs {
        for (way, settings) in WAYS {
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
    let [with, without] = WAYS.map(|(way, _)| figures.of(&format!("answered and settled {way}")));
    report.judge("d", "rate with the redo log / without", "", &ratios(with, without), Target::AtLeast(0.95))?;
    let [with, without] = WAYS.map(|(way, _)| figures.of(&format!("CPU of a like {way}")));
    report.add("d", "CPU of a like with the redo log / without", "", &ratios(with, without))
}
