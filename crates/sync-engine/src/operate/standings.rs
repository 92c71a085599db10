//! Every process looks at the same figures again and again: as gauges for the alerts, and for its own health.

use crate::clock::wall_clock;
use crate::metrics;
use crate::stores::lag::{self, Lag};
use crate::stores::standing::{Figures, Journals, troubles};
use crate::stores::{Stores, faults};
use chrono::{DateTime, Utc};
use domain::Version;
use domain::cache::{CacheResult, ShardStatus};
use event_store::{Standing, StoreError};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(5);

/// The same while the database is unreachable and until what it delayed has arrived: less is late then.
const EVERY_AFTER_AN_OUTAGE: Duration = Duration::from_secs(1);

/// Slower stores are not waited for: the next look may be luckier.
const PATIENCE: Duration = Duration::from_secs(5);

/// From one look at what processes say to the next: as often as they say it.
const LISTEN: Duration = Duration::from_secs(2);

/// Who asks once does not wait for a cache that hangs.
const QUICK: Duration = Duration::from_secs(1);

/// Nothing that is seen lately was seen longer ago.
const LATELY: Duration = Duration::from_secs(4);

/// Events of one status are counted up to here.
const COUNTED: u32 = 100_000;

/// Between two looks, and while one of them waits, it is noticed so soon that the database is unreachable, or answers again.
const NOTICED: Duration = Duration::from_millis(50);

/// Everything as it is now, for who asks once. What a shard may hold only [`watch`] knows: how full the fullest is, it saw last.
pub fn fresh(stores: &Stores) -> BoxFuture<'_, Result<Figures, StoreError>> {
    async {
        // The journals first: what has left them by now is in the ledger's lag.
        let now = timeout(QUICK, journals(stores, 0, stores.cache.shard_status())).await.ok().flatten();
        let (standing, lag) = stored(stores).await?;
        let seen = stores.standings.latest(Instant::now(), wall_clock());
        let fullest_shard = seen.journals.map_or(0.0, |journals| journals.fullest_shard);
        let journals = now.map(|journals| Journals { fullest_shard, ..journals }).or(seen.journals);
        Ok(Figures { at: wall_clock(), standing: Some(standing), lag, journals, unread: None, ..seen })
    }
    .boxed()
}

async fn stored(stores: &Stores) -> Result<(Standing, Option<Lag>), StoreError> {
    Ok((stores.database.standing(COUNTED).await?, lag::recent(stores).await?))
}

/// `limit` is what one shard may hold.
async fn journals(
    stores: &Stores,
    limit: u64,
    asked: impl Future<Output = CacheResult<Vec<ShardStatus>>>,
) -> Option<Journals> {
    if stores.cache_circuit.is_open() {
        return None;
    }
    let status = timeout(PATIENCE, asked).await.ok()?.ok()?;
    let now = stores.cache.own_clock().map(|(least, _)| least);
    let fill = |entries: u64| entries as f64 / limit.max(1) as f64;
    Some(Journals {
        entries: status.iter().map(|shard| shard.journal_len).sum(),
        oldest: status.iter().filter_map(|shard| age(shard, now)).max().unwrap_or_default(),
        fullest_shard: fill(status.iter().map(|shard| shard.journal_len).max().unwrap_or(0)),
    })
}

/// Of the oldest entry that a shard had, if it has it still. What was seen a moment ago is older by now.
fn age(shard: &ShardStatus, now: Option<Version>) -> Option<Duration> {
    let since = now.map_or(Duration::ZERO, |now| now.since(shard.now)).min(LATELY);
    shard.oldest_age().map(|age| age + since)
}

/// As gauges.
fn show(figures: &Figures) {
    let age = |oldest: Option<DateTime<Utc>>| {
        oldest.and_then(|oldest| (figures.at - oldest).to_std().ok()).unwrap_or_default()
    };
    if let Some(standing) = &figures.standing {
        for one in &standing.ledger {
            metrics::ledger(one.status.name(), one.count, age(one.oldest));
        }
        metrics::findings(standing.open_findings, age(standing.oldest_finding));
        let lag = figures.lag.unwrap_or_default();
        metrics::recent_lag(lag.p50_ms, lag.p99_ms);
    }
    if let Some(journals) = figures.journals {
        metrics::fullest_shard(journals.fullest_shard);
    }
}

/// Looks again and again until `stop`. `journal_limit` is what one shard may hold.
pub fn watch(stores: Stores, journal_limit: u64, stop: CancellationToken) -> BoxFuture<'static, ()> {
    async move {
        // Something has left the journals, and nobody knows how long it took.
        let left = Notify::new();
        tokio::select! {
            () = stop.cancelled() => {}
            () = watch_ledger(&stores, &left) => {}
            () = watch_journals(&stores, journal_limit, &left) => {}
            () = watch_processes(&stores) => {}
            () = notice(&stores) => {}
        }
    }
    .boxed()
}

/// Notes that the database is unreachable, whatever a look waits for: one that hangs may be answered when all is well again.
async fn notice(stores: &Stores) {
    loop {
        tokio::time::sleep(NOTICED).await;
        if stores.database_circuit.is_open() {
            stores.standings.lost(Instant::now());
        }
    }
}

async fn watch_journals(stores: &Stores, limit: u64, left: &Notify) {
    loop {
        let open = stores.database_circuit.is_open();
        // What a probe saw a moment ago is enough.
        let journals = journals(stores, limit, stores.cache.shard_status_lately()).await;
        if stores.standings.saw_journals(Instant::now(), journals) {
            left.notify_one();
        }
        pause(stores, open).await;
    }
}

async fn watch_processes(stores: &Stores) {
    loop {
        // Without the database nobody can say anything.
        if !stores.database_circuit.is_open()
            // Who says something hears it with that.
            && !stores.standings.heard_processes(Instant::now(), 3 * LISTEN / 2)
            && let Ok(Ok(rows)) = timeout(PATIENCE, stores.database.processes()).await
        {
            stores.standings.saw_processes(Instant::now(), rows);
        }
        tokio::time::sleep(LISTEN).await;
    }
}

async fn watch_ledger(stores: &Stores, left: &Notify) {
    let mut told = Vec::new();
    loop {
        let open = stores.database_circuit.is_open();
        if !open {
            look(stores).await;
        }
        let figures = stores.standings.latest(Instant::now(), wall_clock());
        show(&figures);
        let found = troubles(&figures);
        let kinds: Vec<_> = found.iter().map(|one| one.kind).collect();
        if kinds != told {
            told = kinds;
            let words: Vec<_> = found.iter().map(|one| one.detail.as_str()).collect();
            tracing::info!("what is wrong: {}", if words.is_empty() { "nothing".into() } else { words.join("; ") });
        }
        tokio::select! {
            () = left.notified() => {}
            () = pause(stores, open) => {}
        }
    }
}

/// Looks at what the database has.
async fn look(stores: &Stores) {
    let began = Instant::now();
    match timeout(PATIENCE, stored(stores)).await {
        Ok(Ok((standing, lag))) => stores.standings.saw(began, Instant::now(), wall_clock(), standing, lag),
        // The probe opens the circuit; here nothing is lost but a look.
        Ok(Err(error)) => drop(faults::tell("looking at ledger and findings", &error)),
        Err(elapsed) => tracing::debug!(%elapsed, "looking at ledger and findings"),
    }
}

/// Until it is time to look again, or the database is unreachable, or answers again.
async fn pause(stores: &Stores, was_open: bool) {
    let began = Instant::now();
    loop {
        tokio::time::sleep(NOTICED).await;
        let every = if stores.standings.is_catching_up(Instant::now()) { EVERY_AFTER_AN_OUTAGE } else { EVERY };
        if began.elapsed() >= every || stores.database_circuit.is_open() != was_open {
            return;
        }
    }
}
