//! n: what a like, a read and a call cost, as ratios of processor time to that of the same work without this system. The bounds are wide:
//! only what costs twice as much as it used to misses them, on machines that have other work too, and with programs of any build.

use super::apply::BATCH;
use super::{Bench, Figures};
use crate::bare::Bare;
use crate::load::{Amount, Load, start_warm};
use crate::numbers::ratios;
use crate::pipelined::{self, Asks};
use crate::reading::{self, Call, Reads};
use crate::report::Target;
use crate::{evalsha, noop, raw_sql};
use anyhow::Result;
use cache_manager::Keys;
use domain::{Resource, ResourceType, ShardCount};
use std::rc::Rc;

/// Of each figure; the best one is judged, because other work can only add to it.
const RUNS: usize = 2;

const CONCURRENCY: u32 = 64;
const BULK: u32 = 100;
const PAGE: usize = 50;
/// Counts that are read.
const IDS: i64 = 10_000;
/// Of each caller.
const READS: u64 = 30;
const KEYS: u64 = 200_000;
const LIKES: u64 = 5_000;
/// Seconds of calls that do nothing.
const CALLING: f64 = 0.5;

/// What is compared, and how much it may be: of optimized programs, and of others.
const BOUNDS: [(&str, [f64; 2]); 4] = [
    ("like in calls of 100 / script, plain SQL", [2.7, 5.0]),
    ("like in its own call / script, plain SQL, call that does nothing", [4.6, 6.0]),
    ("counts of 50 / HMGET, pipelined by 50", [2.5, 20.0]),
    ("call that does nothing / of tonic alone", [1.6, 2.2]),
];

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let Bench { rig, sizes, report, .. } = bench;
    let mut figures = Figures::default();
    start_warm(rig, LIKES, sizes.resources).await?;
    let keys = Keys::new("", ShardCount::default());
    let ids: Vec<i64> = (1_000_001..=1_000_000 + IDS).collect();
    let resources = ids.iter().map(|id| Resource::new(ResourceType::Video, *id)).collect::<Result<Vec<_>, _>>()?;
    let counters: Vec<_> = resources.into_iter().map(|one| pipelined::counter(keys.counter(one), 7)).collect();
    rig.redis.send_all(counters).await?;
    pipelined::prepare(rig, IDS.unsigned_abs()).await?;
    let ids = Rc::new(ids);
    let (ours, bare) = (rig.grpc_addr()?, Bare::start()?);
    for addr in [&ours, &bare.addr()] {
        noop::call(addr, CONCURRENCY, CALLING).await?;
    }
    for _ in 0..RUNS {
        for (name, load) in [
            ("like in calls of 100", Load::batches(4, BULK, Amount::Likes(LIKES), sizes.resources)),
            ("like in its own call", Load::unary(CONCURRENCY, Amount::Likes(LIKES), sizes.resources)),
        ] {
            let before = rig.cpu()?;
            let sent = load.send_and_settle(rig).await?.sent.acknowledged;
            figures.note(name, "us", (rig.cpu()? - before).sum() * 1e6 / sent as f64);
        }
        let (before, user) = (rig.cpu()?, rig.fresh_users());
        let amount = reading::Amount::Calls(READS);
        let reads = Reads {
            call: Call::Counts,
            size: PAGE,
            ids: Rc::clone(&ids),
            like_every: 0,
            concurrency: CONCURRENCY,
            amount,
        };
        let read = reads.send(&ours, user).await?.calls;
        let used = rig.cpu()? - before;
        figures.note("counts of 50", "us", (used.server + used.redis) * 1e6 / read as f64);
        let before = rig.cpu()?;
        let calls = noop::call(&ours, CONCURRENCY, CALLING).await?.calls.max(1);
        figures.note("call that does nothing", "us", (rig.cpu()? - before).server * 1e6 / calls as f64);
        let before = bare.cpu()?;
        let calls = noop::call(&bare.addr(), CONCURRENCY, CALLING).await?.calls.max(1);
        figures.note("the same of tonic alone", "us", (bare.cpu()? - before) * 1e6 / calls as f64);
    }
    // These write over what the system has written.
    let rows = rig.sql().await?.likes().await?;
    let rows = &rows[..rows.len().min(20 * BATCH)];
    for _ in 0..RUNS {
        let before = rig.cpu()?;
        evalsha::call(rig, 8, 20, 4 * LIKES).await?;
        figures.note("script", "us", (rig.cpu()? - before).redis * 1e6 / (4 * LIKES) as f64);
        let before = rig.cpu()?;
        raw_sql::write(rig.database_url(), rows, BATCH, 1).await?;
        figures.note("plain SQL", "us", (rig.cpu()? - before).mariadb * 1e6 / rows.len() as f64);
        pipelined::prepare(rig, IDS.unsigned_abs()).await?;
        let before = rig.cpu()?;
        pipelined::call(rig, Asks::Hmget, IDS.unsigned_abs(), PAGE, KEYS).await?;
        figures.note("HMGET, pipelined by 50", "us", (rig.cpu()? - before).redis * 1e6 * PAGE as f64 / KEYS as f64);
    }
    rig.stop();
    figures.add_to(report, "n")?;
    let least = |name: &str| figures.of(name).iter().copied().fold(f64::INFINITY, f64::min);
    let (written, nothing) = (least("script") + least("plain SQL"), least("call that does nothing"));
    let compared = [
        (least("like in calls of 100"), written),
        (least("like in its own call"), written + nothing),
        (least("counts of 50"), least("HMGET, pipelined by 50")),
        (nothing, least("the same of tonic alone")),
    ];
    for ((name, bounds), (ours, without)) in BOUNDS.into_iter().zip(compared) {
        let bound = bounds[usize::from(cfg!(debug_assertions))];
        report.judge("n", name, "", &ratios(&[ours], &[without]), Target::AtMost(bound))?;
    }
    Ok(())
}
