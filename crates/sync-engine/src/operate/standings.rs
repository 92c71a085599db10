//! Every process looks at the same figures again and again: as gauges for the alerts, and for its own health.

use crate::clock::wall_clock;
use crate::metrics;
use crate::stores::standing::{Figures, troubles};
use crate::stores::{Stores, faults};
use chrono::{DateTime, Utc};
use event_store::StoreError;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(5);

/// Slower stores are not waited for: the next look may be luckier.
const PATIENCE: Duration = Duration::from_secs(5);

/// Events of one status are counted up to here.
const COUNTED: u32 = 100_000;

/// Looks now. The cache may be unreachable; the database must not. `journal_limit` is what one shard may hold.
pub fn look(stores: &Stores, journal_limit: u64) -> BoxFuture<'_, Result<Figures, StoreError>> {
    look_inner(stores, journal_limit).boxed()
}

async fn look_inner(stores: &Stores, journal_limit: u64) -> Result<Figures, StoreError> {
    let standing = stores.database.standing(COUNTED).await?;
    let status = async { if stores.cache_circuit.is_open() { None } else { stores.cache.shard_status().await.ok() } };
    let fill = |entries: u64| entries as f64 / journal_limit.max(1) as f64;
    let fullest = timeout(PATIENCE, status).await.ok().flatten();
    let fullest_shard = fullest.map(|status| fill(status.iter().map(|shard| shard.journal_len).max().unwrap_or(0)));
    Ok(Figures { at: wall_clock(), standing, fullest_shard })
}

/// Ledger and findings as they are now, for who asks once; the journals as this process saw them last.
pub fn fresh(stores: &Stores) -> BoxFuture<'_, Result<Figures, StoreError>> {
    async {
        let standing = stores.database.standing(COUNTED).await?;
        let fullest_shard = stores.standings.latest(Instant::now()).and_then(|seen| seen.fullest_shard);
        Ok(Figures { at: wall_clock(), standing, fullest_shard })
    }
    .boxed()
}

/// As gauges.
fn show(figures: &Figures) {
    let age = |oldest: Option<DateTime<Utc>>| {
        oldest.and_then(|oldest| (figures.at - oldest).to_std().ok()).unwrap_or_default()
    };
    for one in &figures.standing.ledger {
        metrics::ledger(one.status.name(), one.count, age(one.oldest));
    }
    metrics::findings(figures.standing.open_findings, age(figures.standing.oldest_finding));
    if let Some(fill) = figures.fullest_shard {
        metrics::fullest_shard(fill);
    }
}

/// Looks again and again until `stop`.
pub fn watch(stores: Stores, journal_limit: u64, stop: CancellationToken) -> BoxFuture<'static, ()> {
    watch_inner(stores, journal_limit, stop).boxed()
}

async fn watch_inner(stores: Stores, journal_limit: u64, stop: CancellationToken) {
    let mut told = 0;
    loop {
        if !stores.database_circuit.is_open() {
            match timeout(PATIENCE, look(&stores, journal_limit)).await {
                Ok(Ok(figures)) => {
                    show(&figures);
                    let found = troubles(&figures);
                    if found.len() != told {
                        told = found.len();
                        let words: Vec<_> = found.iter().map(|one| one.detail.as_str()).collect();
                        tracing::info!(
                            "what is wrong: {}",
                            if told == 0 { "nothing".into() } else { words.join("; ") }
                        );
                    }
                    stores.standings.saw(Instant::now(), figures);
                }
                // The probe opens the circuit; here nothing is lost but a look.
                Ok(Err(error)) => drop(faults::tell("looking at ledger and findings", &error)),
                Err(elapsed) => tracing::debug!(%elapsed, "looking at ledger and findings"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
