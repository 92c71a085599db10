//! i: peers that do the same job, on the same stores: how much they count, and what they lose or double when their worker
//! is killed.

use super::{Bench, Figures};
use crate::load::{self, Amount, Load, start_warm};
use crate::numbers::{metric, ratios};
use crate::peer::{BULK, Peer};
use crate::report::Target;
use crate::rig::Rig;
use crate::sizes::Sizes;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Calls in flight that carry [`BULK`] likes each.
const BULK_CALLS: u32 = 8;

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let Some(peers_dir) = bench.peers_dir.clone() else {
        println!("i: not measured: no peers are installed");
        return Ok(());
    };
    let Bench { rig, sizes, report, .. } = bench;
    let mut figures = Figures::default();
    let installed: Vec<Peer> = Peer::ALL.into_iter().filter(|peer| peer.is_installed(&peers_dir)).collect();
    for peer in Peer::ALL.into_iter().filter(|peer| !installed.contains(peer)) {
        println!("i: {} is not installed, not measured", peer.name());
    }
    for _ in 0..sizes.runs {
        figures.note(own(1), "1/s", own_rate(rig, sizes, 1).await?);
        if installed.iter().any(|peer| peer.per_call() == BULK) {
            figures.note(own(BULK), "1/s", own_rate(rig, sizes, BULK).await?);
        }
        let (lost, differences) = own_kill(rig, sizes).await?;
        figures.note("this system: lost when killed", "likes", lost);
        figures.note("this system: differences when killed", "", differences);
        for peer in &installed {
            let name = peer.name();
            let calm = peer.run(rig, &peers_dir, sizes, false).await?;
            figures.note(name, "1/s", calm.per_second);
            // Its worker is the same however the jobs came.
            if peer.per_call() == BULK {
                continue;
            }
            let killed = peer.run(rig, &peers_dir, sizes, true).await?;
            figures.note(format!("{name}: lost when killed"), "likes", killed.lost as f64);
            figures.note(format!("{name}: stored counts off when killed"), "likes", killed.stored_off as f64);
            figures.note(format!("{name}: cached counts off when killed"), "likes", killed.cached_off as f64);
        }
    }
    figures.add_to(report, "i")?;
    for peer in installed {
        let own = own(peer.per_call());
        let (what, over) = (format!("{own} / {}", peer.name()), ratios(figures.of(own), figures.of(peer.name())));
        match peer {
            // Nobody promises to be ten times as fast as a transaction written by hand.
            Peer::Outbox => report.add("i", what, "", &over)?,
            Peer::BullMq { .. } | Peer::Celery { .. } => report.judge("i", what, "", &over, Target::AtLeast(10.0))?,
        }
    }
    let none = Target::AtMost(0.0);
    report.judge("i", "lost by this system", "likes", figures.of("this system: lost when killed"), none)
}

/// This system, given as many likes per call as the peer.
fn own(per_call: u32) -> &'static str {
    if per_call == BULK { "this system, in bulk" } else { "this system" }
}

/// Likes counted per second, from the first call to the last commit.
async fn own_rate(rig: &mut Rig, sizes: &Sizes, per_call: u32) -> Result<f64> {
    start_warm(rig, sizes.warm_up, sizes.resources).await?;
    let concurrency = if per_call == 1 { 64 } else { BULK_CALLS };
    let mut load = Load::unary(concurrency, Amount::Likes(sizes.likes.max(sizes.peer_likes)), sizes.resources);
    load.batch = per_call;
    Ok(load.send_and_settle(rig).await?.per_second())
}

/// The consumer is killed under load; lost likes and any differences between the stores and what was acknowledged.
async fn own_kill(rig: &mut Rig, sizes: &Sizes) -> Result<(f64, f64)> {
    rig.start(&[], 1).await?;
    let oplog = Oplog::new();
    let mut load = Load::unary(64, Amount::Likes(sizes.likes.max(sizes.peer_likes)), sizes.resources);
    load.oplog = Some(oplog.0.clone());
    let running = load.spawn(rig)?;
    // In the middle of its work: something is applied, and something is not.
    let end = Instant::now() + Duration::from_secs(60);
    while metric(&rig.consumer_metrics().await?, "interaction_applied_events_total").unwrap_or(0.0) == 0.0 {
        if Instant::now() > end {
            bail!("nothing is applied");
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    rig.replace_killed_consumer().await?;
    load::finish(running).await?;
    let verified = load::verify(rig, &oplog.0).await.context("after a killed consumer")?;
    Ok((verified.lost(), verified.differences()))
}

/// A file that goes with this.
struct Oplog(PathBuf);

impl Oplog {
    fn new() -> Self {
        Self(std::env::temp_dir().join(test_support::unique_name("bench-oplog")))
    }
}

impl Drop for Oplog {
    fn drop(&mut self) {
        // It may never have been written.
        let _absent = std::fs::remove_file(&self.0);
    }
}
