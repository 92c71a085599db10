//! k: counts, states and summaries, of one resource, of a page and of as many as a call takes, against the same keys read from
//! Redis by themselves and against a call that does nothing; and an emptied cache.

use super::{Bench, Figures};
use crate::numbers::ratios;
use crate::pipelined::{self, Asks};
use crate::reading::{Amount, Call, READER, Reads};
use crate::report::Target;
use crate::rig::{Rig, Settings};
use crate::{load, noop};
use anyhow::{Context, Result};
use cache_manager::Keys;
use domain::{Pair, ResourceType, ShardCount};
use std::rc::Rc;
use traffic::generate::{Random, Zipf};

const CONCURRENCY: u32 = 64;
const ZIPF: f64 = 1.1;

/// A page of a feed.
const PAGE: usize = 50;

/// Commands of the reference per second, roughly.
const EXPECTED_RATE: f64 = 600_000.0;

const WITHOUT_NEAR: Settings = &[("CACHE_MANAGEMENT__NEAR_CACHE__ENABLED", "false")];

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    warm(bench).await?;
    cold(bench).await
}

/// Ids in the order in which they are asked for.
struct Ids {
    hot: Rc<Vec<i64>>,
    uniform: Rc<Vec<i64>>,
    missing: Rc<Vec<i64>>,
}

impl Ids {
    fn new(ids: u64) -> Result<Self> {
        let mut random = Random::new(19);
        let (hot, uniform) = (Zipf::new(ids, ZIPF)?, Zipf::new(ids, 0.0)?);
        let mut draw = |from: &Zipf, above: u64| -> Result<Rc<Vec<i64>>> {
            let drawn = (0..ids).map(|_| i64::try_from(above + from.sample(&mut random)));
            Ok(Rc::new(drawn.collect::<Result<_, _>>()?))
        };
        Ok(Self {
            hot: draw(&hot, 0)?,
            uniform: draw(&uniform, 0)?,
            missing: draw(&Zipf::new(1 << 40, 0.0)?, 1 << 41)?,
        })
    }
}

async fn warm(bench: &mut Bench) -> Result<()> {
    let Bench { rig, sizes, report, .. } = bench;
    // Likes first: Redis is filled around the service, and every counter must be one that nobody changes.
    load::start_warm(rig, sizes.warm_up.min(1_000), 1).await?;
    fill(rig, sizes.read_ids).await?;
    pipelined::prepare(rig, sizes.read_ids).await?;
    let ids = Ids::new(sizes.read_ids)?;
    let seconds = sizes.seconds / 4.0;
    let mut other = rig.another_server(WITHOUT_NEAR).await?;
    let mut figures = Figures::default();
    for _ in 0..sizes.runs {
        for call in [Call::Counts, Call::States, Call::Summaries] {
            for size in [1, PAGE, 500] {
                for (name, ids) in [("hot", &ids.hot), ("uniform", &ids.uniform)] {
                    let reads = reads(call, size, ids, Amount::Seconds(seconds));
                    take(rig, &mut figures, &format!("{call:?} of {size}, {name}"), &reads).await?;
                }
            }
        }
        let missing = reads(Call::Counts, PAGE, &ids.missing, Amount::Seconds(seconds));
        take(rig, &mut figures, "Counts of 50, missing", &missing).await?;
        let liked = Reads { like_every: 20, ..reads(Call::Counts, PAGE, &ids.hot, Amount::Seconds(seconds)) };
        take(rig, &mut figures, "Counts of 50, hot, 5 % likes", &liked).await?;
        rig.all_settled().await?;
        rig.swap_server(&mut other);
        for (name, ids) in [("hot", &ids.hot), ("uniform", &ids.uniform)] {
            let reads = reads(Call::Counts, PAGE, ids, Amount::Seconds(seconds));
            take(rig, &mut figures, &format!("Counts of 50, {name}, near cache off"), &reads).await?;
        }
        rig.swap_server(&mut other);
        for (name, asks, pipelined) in [
            ("HMGET, pipelined by 50", Asks::Hmget, PAGE),
            ("HGET, pipelined by 50", Asks::Hget, PAGE),
            ("MGET of 50", Asks::Mget(PAGE), 1),
        ] {
            let per_command = if let Asks::Mget(pairs) = asks { pairs as f64 } else { 1.0 };
            let commands = (seconds * EXPECTED_RATE / per_command) as u64;
            let per_second = pipelined::call(rig, asks, sizes.read_ids, pipelined, commands).await?;
            figures.note(name, "keys/s", per_second * per_command);
        }
        let nothing = noop::call(&rig.grpc_addr()?, CONCURRENCY, seconds).await?;
        figures.note("no-op", "calls/s", nothing.per_second);
    }
    drop(other);
    figures.add_to(report, "k")?;
    let rate =
        |what: &str| figures.of(&format!("Counts of 50, {what}")).iter().map(|calls| calls * 50.0).collect::<Vec<_>>();
    let hmget = figures.of("HMGET, pipelined by 50");
    for (what, target) in [
        ("hot", Some(1.0)),
        ("uniform", Some(0.6)),
        ("hot, near cache off", None),
        ("uniform, near cache off", None),
        ("hot, 5 % likes", None),
        ("missing", None),
    ] {
        let ratios = ratios(&rate(what), hmget);
        let what = format!("counts of 50, {what} / pipelined HMGET");
        match target {
            Some(bound) => report.judge("k", what, "", &ratios, Target::AtLeast(bound))?,
            None => report.add("k", what, "", &ratios)?,
        }
    }
    let states: Vec<f64> = figures.of("States of 50, uniform").iter().map(|calls| calls * 50.0).collect();
    report.add("k", "states of 50, uniform / MGET", "", &ratios(&states, figures.of("MGET of 50")))?;
    report.add("k", "counts of 1, hot / no-op", "", &ratios(figures.of("Counts of 1, hot"), figures.of("no-op")))
}

/// Everybody comes to an emptied cache for the same resources.
async fn cold(bench: &mut Bench) -> Result<()> {
    let Bench { rig, sizes, report, .. } = bench;
    let ids = Rc::new((1..=500).collect::<Vec<i64>>());
    let mut figures = Figures::default();
    for _ in 0..sizes.runs {
        rig.redis.flush().await?;
        let reads = Reads { concurrency: 400, ..reads(Call::Counts, 500, &ids, Amount::Calls(1)) };
        let user = rig.fresh_users();
        let sent = reads.send(&rig.grpc_addr()?, user).await?;
        figures.note("400 calls of 500 after FLUSHDB: p99", "ms", sent.p99_ms);
    }
    rig.stop();
    report.judge(
        "k",
        "400 calls of 500 counts after FLUSHDB: p99",
        "ms",
        figures.of("400 calls of 500 after FLUSHDB: p99"),
        Target::Below(1_000.0),
    )
}

fn reads(call: Call, size: usize, ids: &Rc<Vec<i64>>, amount: Amount) -> Reads {
    Reads { call, size, ids: Rc::clone(ids), like_every: 0, concurrency: CONCURRENCY, amount }
}

async fn take(rig: &mut Rig, figures: &mut Figures, what: &str, reads: &Reads) -> Result<()> {
    let (addr, user) = (rig.grpc_addr()?, rig.fresh_users());
    let before = rig.redis.commands().await?;
    let sent = reads.send(&addr, user).await?;
    let commands = rig.redis.commands().await? - before;
    figures.note(what, "calls/s", sent.calls_per_s);
    figures.note(format!("{what}: p50"), "ms", sent.p50_ms);
    figures.note(format!("{what}: p99"), "ms", sent.p99_ms);
    figures.note(format!("{what}: commands of Redis per call"), "", commands / sent.calls.max(1) as f64);
    Ok(())
}

/// Counters and the reader's pairs, all cached.
async fn fill(rig: &mut Rig, ids: u64) -> Result<()> {
    let keys = Keys::new("", ShardCount::default());
    let of = |id: u64| Pair::new(READER, ResourceType::Video, i64::try_from(id)?).context("a pair");
    let pairs = (1..=ids).map(of).collect::<Result<Vec<_>>>()?;
    rig.redis.send_all(pairs.iter().map(|pair| pipelined::counter(keys.counter(pair.resource), 7))).await?;
    rig.redis.send_all(pairs.iter().map(|pair| pipelined::pair(keys.pair(*pair)))).await
}
