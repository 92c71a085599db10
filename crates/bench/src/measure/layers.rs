//! l: a call that does nothing, of our server and of one of tonic alone: what stands in front of every call costs the
//! difference.

use super::{Bench, Figures};
use crate::bare::Bare;
use crate::noop;
use crate::numbers::ratios;
use crate::report::Target;
use anyhow::Result;

const CONCURRENCIES: [u32; 2] = [8, 64];

/// At which the target is set.
const JUDGED: u32 = 64;

/// Calls before the first sample.
const WARM_UP: f64 = 0.2;

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let Bench { rig, sizes, report, .. } = bench;
    rig.start(&[], 0).await?;
    let ours = rig.grpc_addr()?;
    let bare = Bare::start()?;
    for addr in [&ours, &bare.addr()] {
        noop::call(addr, JUDGED, sizes.seconds * WARM_UP).await?;
    }
    let mut figures = Figures::default();
    for _ in 0..sizes.runs {
        for concurrency in CONCURRENCIES {
            let at = |what: &str| format!("{what} at {concurrency}");
            let before = rig.cpu()?.server;
            let called = noop::call(&ours, concurrency, sizes.seconds).await?;
            let used = rig.cpu()?.server - before;
            figures.note(at("no-op"), "calls/s", called.per_second);
            figures.note(at("CPU of the server"), "us/call", used * 1e6 / called.calls.max(1) as f64);
            let before = bare.cpu()?;
            let called = noop::call(&bare.addr(), concurrency, sizes.seconds).await?;
            let used = bare.cpu()? - before;
            figures.note(at("bare"), "calls/s", called.per_second);
            figures.note(at("CPU of the bare server"), "us/call", used * 1e6 / called.calls.max(1) as f64);
        }
    }
    rig.stop();
    figures.add_to(report, "l")?;
    for concurrency in CONCURRENCIES {
        let of = |what: &str| figures.of(&format!("{what} at {concurrency}"));
        let rates = ratios(of("no-op"), of("bare"));
        let what = format!("no-op / bare at {concurrency}");
        if concurrency == JUDGED {
            report.judge("l", what, "", &rates, Target::AtLeast(0.85))?;
        } else {
            report.add("l", what, "", &rates)?;
        }
        let cpu = ratios(of("CPU of the server"), of("CPU of the bare server"));
        report.add("l", format!("CPU of a no-op / bare at {concurrency}"), "", &cpu)?;
    }
    Ok(())
}
