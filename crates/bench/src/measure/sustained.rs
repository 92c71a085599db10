//! d: end to end at the rate that can be sustained, and what a like costs, against the parts' own costs.

use super::apply::BATCH;
use super::{Bench, Figures};
use crate::cpu::{self, Cpu};
use crate::load::{Amount, Load, Settled, start_warm};
use crate::numbers::{ratios, summary};
use crate::report::Target;
use crate::{broker, evalsha, noop, raw_sql};
use anyhow::{Context, Result};

/// Tried from above, as parts of what a load without pauses achieved.
const STEPS: [f64; 9] = [1.15, 1.07, 1.0, 0.93, 0.86, 0.78, 0.7, 0.6, 0.5];

/// Events of a message in the broker's reference.
const MESSAGE: u32 = 100;

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let rate = find(bench).await?;
    let Bench { rig, sizes, report, .. } = bench;
    let mut figures = Figures::default();
    for _ in 0..sizes.runs {
        let (cpu, loader) = (rig.cpu()?, cpu::of_children()?);
        let settled = Load::paced(rate, sizes.seconds * 2.0, sizes.resources).send_and_settle(rig).await?;
        let used = rig.cpu()? - cpu;
        let likes = settled.sent.acknowledged as f64;
        figures.note("sustained", "1/s", settled.per_second());
        figures.note("unsettled at the end", "share", settled.backlog as f64 / likes);
        for (part, seconds) in used.parts() {
            figures.note(format!("cost: {part}"), "us/like", seconds * 1e6 / likes);
        }
        figures.note("cost: all of these", "us/like", used.sum() * 1e6 / likes);
        figures.note("cost of the load generator", "us/like", (cpu::of_children()? - loader) * 1e6 / likes);
    }
    // The parts write the rows of likes that were just settled.
    let rows = rig.sql().await?.likes().await?;
    let rows = &rows[..rows.len().min(usize::try_from(sizes.likes)?)];
    for _ in 0..sizes.runs {
        let likes = (sizes.seconds * 20_000.0) as u64;
        let before = rig.cpu()?;
        evalsha::call(rig, 64, 1, likes).await?;
        let redis = (rig.cpu()? - before).redis * 1e6 / likes as f64;

        let before = rig.cpu()?;
        let calls = noop::call(&rig.grpc_addr()?, 64, sizes.seconds).await?.calls as f64;
        let server = (rig.cpu()? - before).server * 1e6 / calls;

        let messages = (sizes.seconds * 250.0) as u32;
        let before = rig.cpu()?;
        broker::pass(&rig.amqp_url, messages, i64::from(MESSAGE)).await?;
        let rabbitmq = (rig.cpu()? - before).rabbitmq * 1e6 / f64::from(messages * MESSAGE);

        let before = rig.cpu()?;
        let took = raw_sql::write(&rig.database_url, rows, BATCH, 1).await?;
        let mariadb = (rig.cpu()? - before).mariadb * 1e6 / rows.len() as f64;
        // Somebody must send the statements.
        let consumer = took.own_cpu * 1e6 / rows.len() as f64;

        let own = Cpu { redis, server, rabbitmq, consumer, mariadb };
        for (part, us) in own.parts() {
            figures.note(format!("own cost: {part}"), "us/like", us);
        }
        figures.note("own cost: sum of the parts", "us/like", own.sum());
    }
    figures.add_to(report, "d")?;
    report.judge("d", "sustained end to end", "1/s", figures.of("sustained"), Target::AtLeast(10_000.0))?;
    let over = ratios(figures.of("cost: all of these"), figures.of("own cost: sum of the parts"));
    report.judge("d", "cost of a like / sum of the parts", "", &over, Target::AtMost(1.5))?;
    bench.sustained = summary(figures.of("sustained")).map(|sustained| sustained.median);
    Ok(())
}

/// Starts the pipeline and finds the highest tried rate at which the queue does not grow.
pub(super) async fn find(bench: &mut Bench) -> Result<f64> {
    let Bench { rig, sizes, .. } = bench;
    start_warm(rig, sizes.warm_up, sizes.resources).await?;
    let flat_out = Load::unary(64, Amount::Seconds(sizes.seconds), sizes.resources).send_and_settle(rig).await?;
    let mut rate = flat_out.per_second();
    for step in STEPS {
        rate = flat_out.per_second() * step;
        let seconds = sizes.seconds * 2.0;
        let tried = Load::paced(rate, seconds, sizes.resources).send_and_settle(rig).await?;
        if keeps_up(&tried, rate) {
            return Ok(rate);
        }
    }
    // Nothing smaller is tried: the figures taken at this rate say themselves what was settled.
    Ok(rate)
}

/// Answered at the rate it was sent, and not half a second of it left over.
fn keeps_up(tried: &Settled, rate: f64) -> bool {
    tried.sent.likes_per_s >= 0.97 * rate && tried.backlog as f64 <= 0.5 * rate
}

/// The rate measured before, or a search for it.
pub(super) async fn known(bench: &mut Bench) -> Result<f64> {
    if let Some(rate) = bench.sustained {
        return Ok(rate);
    }
    let rate = find(bench).await?;
    bench.sustained = Some(rate);
    (rate > 0.0).then_some(rate).context("nothing is sustained")
}
