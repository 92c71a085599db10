//! c: a full queue, drained by one and by two consumers, against plain SQL that writes the same rows.

use super::{Bench, Figures};
use crate::load::{Amount, Load, warm_up};
use crate::numbers::{metric, ratios};
use crate::raw_sql;
use crate::report::Target;
use crate::rig::{Rig, Settings};
use crate::sizes::Sizes;
use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Everything accepted goes to the queue at once, and is in it once.
const SETTINGS: Settings =
    &[("EVENT_DRIVEN_SYNC__RELAY_CAPACITY", "2000000"), ("EVENT_DRIVEN_SYNC__REPUBLISH_AFTER", "1h")];

/// Events of one transaction, as the consumer's default is.
pub(super) const BATCH: usize = 500;

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let Bench { rig, sizes, report, .. } = bench;
    let mut figures = Figures::default();
    for _ in 0..sizes.runs {
        for workers in [1, 2] {
            let (events, seconds) = drain(rig, sizes, workers).await?;
            figures.note(drained(workers), "1/s", events / seconds);
            // At rest the ledger holds exactly these.
            let likes = rig.sql().await?.likes().await?;
            let took = raw_sql::write(rig.database_url(), &likes, BATCH, workers).await?;
            figures.note(written(workers), "1/s", likes.len() as f64 / took.seconds);
        }
    }
    figures.add_to(report, "c")?;
    let best: Vec<f64> =
        figures.of(&drained(1)).iter().zip(figures.of(&drained(2))).map(|(one, two)| one.max(*two)).collect();
    report.judge("c", "drained, the better of one and two", "1/s", &best, Target::AtLeast(20_000.0))?;
    let one = ratios(figures.of(&drained(1)), figures.of(&written(1)));
    report.judge("c", "drained / SQL, one of each", "", &one, Target::AtLeast(0.80))?;
    let two = ratios(figures.of(&drained(2)), figures.of(&written(2)));
    report.judge("c", "drained / SQL, two of each", "", &two, Target::AtLeast(0.80))
}

fn drained(consumers: usize) -> String {
    format!("drained by {consumers}")
}

fn written(writers: usize) -> String {
    format!("rows of an event by {writers} writing SQL")
}

/// Fills the queue, then drains it; the number of events and the seconds from the first settled to the last one.
async fn drain(rig: &mut Rig, sizes: &Sizes, consumers: usize) -> Result<(f64, f64)> {
    rig.start(SETTINGS, 1).await?;
    // Pays for connections, statements and counters before the clock runs.
    warm_up(rig, sizes.warm_up, sizes.resources).await?;
    rig.all_settled().await?;
    rig.stop_consumers();
    let before = published(rig).await?;
    let load = Load::batches(4, 500, Amount::Likes(sizes.prefilled), sizes.resources);
    let accepted = load.send(rig).await?.acknowledged;
    let end = Instant::now() + Duration::from_secs(120);
    while published(rig).await? - before < accepted as f64 {
        if Instant::now() > end {
            bail!("{} of {accepted} events were published", published(rig).await? - before);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // They start to drain at once; the clock runs from when all of them are at work.
    let starting = Instant::now();
    for _ in 0..consumers {
        rig.add_consumer().await?;
    }
    let left = rig.unsettled().await?;
    if left == 0 {
        // Too few events for a rate from here on: only in fast runs.
        return Ok((accepted as f64, starting.elapsed().as_secs_f64()));
    }
    let started = Instant::now();
    rig.all_settled().await?;
    Ok((left as f64, started.elapsed().as_secs_f64()))
}

async fn published(rig: &Rig) -> Result<f64> {
    Ok(metric(&rig.server_metrics().await?, "interaction_published_events_total").unwrap_or(0.0))
}
