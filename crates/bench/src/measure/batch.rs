//! b: `ApplyLikes` of 100 against the same script, pipelined.

use super::{Bench, Figures};
use crate::evalsha;
use crate::load::{Amount, Load, start_warm, warm_up};
use crate::numbers::ratios;
use crate::report::Target;
use crate::rig::{PATIENT, Rig};
use crate::sizes::Sizes;
use anyhow::Result;

const BATCH: u32 = 100;

/// Calls, and connections of the reference.
const CONCURRENCY: u32 = 8;

/// Of the reference per second, roughly.
const EXPECTED_RATE: f64 = 60_000.0;

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let Bench { rig, sizes, report, .. } = bench;
    let mut figures = Figures::default();

    start_warm(rig, sizes.warm_up, sizes.resources).await?;
    for _ in 0..sizes.runs {
        let settled = load(sizes).send_and_settle(rig).await?;
        figures.note("likes, pipeline behind", "1/s", settled.sent.likes_per_s);
        figures.note("EVALSHA, pipeline idle", "1/s", reference(rig, sizes).await?);
    }

    // What accepting alone can do.
    rig.start(PATIENT, 0).await?;
    warm_up(rig, sizes.warm_up, sizes.resources).await?;
    let paused = rig.pause_broker()?;
    for _ in 0..sizes.runs {
        figures.note("likes, relay paused", "1/s", load(sizes).send(rig).await?.likes_per_s);
        figures.note("EVALSHA, relay paused", "1/s", reference(rig, sizes).await?);
    }
    rig.stop();
    drop(paused);

    figures.add_to(report, "b")?;
    let behind = ratios(figures.of("likes, pipeline behind"), figures.of("EVALSHA, pipeline idle"));
    report.add("b", "ApplyLikes of 100 / pipelined EVALSHA, pipeline behind", "", &behind)?;
    let alone = ratios(figures.of("likes, relay paused"), figures.of("EVALSHA, relay paused"));
    report.judge("b", "ApplyLikes of 100 / pipelined EVALSHA, relay paused", "", &alone, Target::AtLeast(0.80))
}

fn load(sizes: &Sizes) -> Load {
    Load::batches(CONCURRENCY, BATCH, Amount::Seconds(sizes.seconds), sizes.resources)
}

async fn reference(rig: &Rig, sizes: &Sizes) -> Result<f64> {
    let likes = (sizes.seconds * EXPECTED_RATE) as u64;
    Ok(evalsha::call(rig, CONCURRENCY, BATCH, likes).await?.per_second)
}
