//! h: rates and sizes while pairs and ledger grow.

use super::{Bench, Figures};
use crate::load::{Amount, Load, start_warm};
use crate::numbers::ratios;
use crate::report::Target;
use anyhow::{Context, Result};

/// Likes at a time, all settled before the next: the queue does not fill meanwhile.
const PORTION: u64 = 500_000;

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let Bench { rig, sizes, report, .. } = bench;
    rig.empty().await?;
    let empty = rig.redis.used_memory().await?;
    start_warm(rig, sizes.warm_up.min(sizes.growth[0] / 2), sizes.resources).await?;
    let mut figures = Figures::default();
    let mut sql = rig.sql().await?;
    let mut pairs = u64::try_from(sql.number("SELECT COUNT(*) FROM video_likes").await?)?;
    for level in sizes.growth.clone() {
        while pairs < level {
            let portion = Load::batches(4, 500, Amount::Likes(PORTION.min(level - pairs)), sizes.resources);
            let filled = portion.send_and_settle(rig).await?;
            figures.note(format!("filling up to {}", power(level)), "1/s", filled.per_second());
            pairs += filled.sent.acknowledged;
        }
        let bytes = (rig.redis.used_memory().await? - empty) / pairs as f64;
        figures.note(pair_bytes(level), "bytes", bytes);
        figures.note(format!("database per like at {}", power(level)), "bytes", sql.bytes().await? / pairs as f64);
        for _ in 0..sizes.runs {
            let load = Load::unary(64, Amount::Likes(sizes.likes.min(level)), sizes.resources);
            let settled = load.send_and_settle(rig).await?;
            figures.note(rate(level), "1/s", settled.per_second());
            pairs += settled.sent.acknowledged;
        }
    }
    figures.add_to(report, "h")?;
    let (first, last) = sizes.growth.first().zip(sizes.growth.last()).context("no sizes")?;
    let over = ratios(figures.of(&rate(*last)), figures.of(&rate(*first)));
    let what = format!("rate at {} / at {}", power(*last), power(*first));
    report.judge("h", what, "", &over, Target::AtLeast(0.8))?;
    let what = format!("redis per cached pair, of {}", power(*last));
    report.judge("h", what, "bytes", figures.of(&pair_bytes(*last)), Target::AtMost(150.0))
}

fn rate(level: u64) -> String {
    format!("answered and settled at {}", power(level))
}

fn pair_bytes(level: u64) -> String {
    format!("redis per pair at {}", power(level))
}

/// Powers of ten short.
fn power(number: u64) -> String {
    let exponent = number.checked_ilog10().unwrap_or(0);
    if number == 10u64.pow(exponent) { format!("10^{exponent}") } else { number.to_string() }
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_powers_are_short() {
        assert_eq!([0, 1, 1_500, 100_000].map(super::power), ["0", "10^0", "1500", "10^5"]);
    }
}
