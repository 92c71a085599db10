//! g: all likes on one video against the same number over many.

use super::{Bench, Figures};
use crate::load::{Amount, Load, start_warm};
use crate::numbers::ratios;
use crate::report::Target;
use anyhow::Result;

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let Bench { rig, sizes, report, .. } = bench;
    start_warm(rig, sizes.warm_up, sizes.resources).await?;
    let mut figures = Figures::default();
    for _ in 0..sizes.runs {
        for (name, resources) in [("uniform", sizes.resources), ("one video", 1)] {
            let settled = Load::unary(64, Amount::Likes(sizes.likes), resources).send_and_settle(rig).await?;
            figures.note(format!("{name}: answered"), "1/s", settled.sent.likes_per_s);
            figures.note(format!("{name}: answered and settled"), "1/s", settled.per_second());
            figures.note(format!("{name}: p99"), "ms", settled.sent.latencies_ms()[1]);
        }
    }
    figures.add_to(report, "g")?;
    let over = ratios(figures.of("one video: answered and settled"), figures.of("uniform: answered and settled"));
    report.judge("g", "one video / uniform", "", &over, Target::AtLeast(0.8))
}
