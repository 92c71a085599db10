//! d: end to end at the rate that can be sustained, and what a like costs, against the parts' own costs.

use super::apply::BATCH;
use super::{Bench, Figures};
use crate::cpu::{self, Cpu};
use crate::load::{Amount, Load, Settled, start_warm};
use crate::numbers::{ratios, summary};
use crate::report::Target;
use crate::rig::Rig;
use crate::sizes::Sizes;
use crate::{broker, evalsha, noop, raw_sql};
use anyhow::{Context, Result};

/// The first rate that is tried, of what a load without pauses achieved; every next one is the second part of the one before.
const FIRST: f64 = 1.15;
const NEXT: f64 = 0.95;

/// Rates that are tried at most: down to half of what was achieved.
const TRIES: u32 = 17;

/// Likes per call where calls carry many.
const BULK: u32 = 500;

/// Events of a message in the broker's reference.
const MESSAGE: u32 = 100;

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let mut figures = Figures::default();
    for batch in [BULK, 1] {
        let per_call = if batch == 1 { String::new() } else { format!(", {batch} per call") };
        for sample in samples(bench, batch, bench.sizes.runs).await? {
            let likes = sample.settled.sent.acknowledged as f64;
            let backlog = sample.settled.backlog as f64;
            figures.note(format!("sustained{per_call}"), "1/s", sample.settled.per_second());
            figures.note(format!("unsettled at the end{per_call}"), "share", backlog / likes);
            for (part, seconds) in sample.used.parts() {
                figures.note(format!("cost{per_call}: {part}"), "us/like", seconds * 1e6 / likes);
            }
            figures.note(format!("cost{per_call}: all of these"), "us/like", sample.used.sum() * 1e6 / likes);
            figures.note(format!("cost of the load generator{per_call}"), "us/like", sample.loader * 1e6 / likes);
        }
    }
    let Bench { rig, sizes, report, .. } = bench;
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
        let mut rabbitmq = 0.0;
        for (logged, what) in [(false, "without the redo log"), (true, "with it")] {
            let before = rig.cpu()?;
            broker::pass(&rig.amqp_url, messages, i64::from(MESSAGE), logged).await?;
            rabbitmq = (rig.cpu()? - before).rabbitmq * 1e6 / f64::from(messages * MESSAGE);
            figures.note(format!("own cost: rabbitmq {what}"), "us/like", rabbitmq);
        }

        let before = rig.cpu()?;
        let took = raw_sql::write(rig.database_url(), rows, BATCH, 1).await?;
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
    report.judge("d", "sustained end to end", "1/s", figures.of("sustained"), Target::AtLeast(8_000.0))?;
    let bulk = figures.of(&format!("sustained, {BULK} per call"));
    report.judge(
        "d",
        format!("sustained end to end, {BULK} likes per call"),
        "1/s",
        bulk,
        Target::AtLeast(15_000.0),
    )?;
    let over = ratios(figures.of("cost: all of these"), figures.of("own cost: sum of the parts"));
    report.judge("d", "cost of a like / sum of the parts", "", &over, Target::AtMost(1.2))?;
    bench.sustained = summary(figures.of("sustained")).map(|sustained| sustained.median);
    Ok(())
}

/// What came of a load at a steady rate, and the CPU seconds that went into it.
struct Sample {
    settled: Settled,
    used: Cpu,
    loader: f64,
}

/// Starts the pipeline and takes as many samples as asked for at the highest tried rate at which none of them lets the queue
/// grow. If there is no such rate, at the lowest: they say themselves what was left over.
async fn samples(bench: &mut Bench, batch: u32, number: u32) -> Result<Vec<Sample>> {
    let Bench { rig, sizes, .. } = bench;
    start_warm(rig, sizes.warm_up, sizes.resources).await?;
    let calls = if batch == 1 { 64 } else { 8 };
    let load = Load::batches(calls, batch, Amount::Seconds(sizes.seconds), sizes.resources);
    let mut rate = load.send_and_settle(rig).await?.per_second() * FIRST;
    let mut samples: Vec<Sample> = Vec::new();
    for tries in 1..=TRIES {
        samples.clear();
        let mut growing = false;
        while samples.len() < number as usize && (!growing || tries == TRIES) {
            let sample = take(rig, sizes, rate, batch).await?;
            growing |= !keeps_up(&sample.settled, rate);
            samples.push(sample);
        }
        if !growing {
            break;
        }
        rate *= NEXT;
    }
    Ok(samples)
}

async fn take(rig: &mut Rig, sizes: &Sizes, rate: f64, batch: u32) -> Result<Sample> {
    let seconds = sizes.seconds * 2.0;
    let load = if batch == 1 {
        Load::paced(rate, seconds, sizes.resources)
    } else {
        Load::paced_batches(rate, batch, seconds, sizes.resources)
    };
    let (cpu, loader) = (rig.cpu()?, cpu::of_children()?);
    let settled = load.send_and_settle(rig).await?;
    Ok(Sample { settled, used: rig.cpu()? - cpu, loader: cpu::of_children()? - loader })
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
    let taken = samples(bench, 1, 1).await?;
    let rate = taken.first().map(|sample| sample.settled.per_second());
    bench.sustained = rate;
    rate.filter(|rate| *rate > 0.0).context("nothing is sustained")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_steady_if_it_is_answered_and_nothing_piles_up() {
        let tried = |likes_per_s: f64, backlog| {
            let latency = serde_json::json!({ "p50": 1, "p99": 1, "p999": 1 });
            let sent = serde_json::json!({
                "acknowledged": 2_000, "elapsed_s": 2.0, "likes_per_s": likes_per_s, "latency_us": latency
            });
            Settled { sent: serde_json::from_value(sent).unwrap(), backlog, seconds: 2.0 }
        };
        assert!(keeps_up(&tried(1_000.0, 500), 1_000.0));
        assert!(!keeps_up(&tried(1_000.0, 501), 1_000.0), "half a second is left over");
        assert!(!keeps_up(&tried(969.0, 0), 1_000.0), "answered too slowly");
    }
}
