//! Warm-up: what will be asked for is cached before somebody asks.
//!
//! It fills like a reader does: what is cached is left alone, and every fill is looked at again ([`crate::recover::recheck`]),
//! so nothing newer is ever overwritten, however long a warm-up takes and whatever is liked meanwhile.

use crate::recover::recheck::Recheck;
use crate::stores::Stores;
use domain::cache::CacheError;
use domain::{Pair, Resource};
use event_store::StoreError;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Most resources of each source in one warm-up.
pub const MAX_RESOURCES: u32 = 20_000;

/// Counters or pairs that are filled at once.
const BATCH: usize = 500;

/// Section `cache_management.warmup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WarmupConfig {
    /// Whether a server warms the cache when it starts; on demand it always does.
    pub enabled: bool,
    /// Resources of each kind with the largest counts.
    pub top_resources: u32,
    /// Newest events, whose resources and pairs are cached.
    pub recent_events: u32,
    /// Most counters and pairs per second.
    pub max_rate: u32,
}

impl Default for WarmupConfig {
    fn default() -> Self {
        Self { enabled: false, top_resources: 1_000, recent_events: 1_000, max_rate: 5_000 }
    }
}

impl WarmupConfig {
    /// Checks the bounds; the error names the key.
    pub fn validate(&self) -> Result<(), String> {
        for (key, value, least, most) in [
            ("top_resources", self.top_resources, 0, MAX_RESOURCES),
            ("recent_events", self.recent_events, 0, MAX_RESOURCES),
            ("max_rate", self.max_rate, 100, 1_000_000),
        ] {
            if !(least..=most).contains(&value) {
                return Err(format!("cache_management.warmup.{key}: must be {least} to {most}, got {value}"));
            }
        }
        Ok(())
    }
}

/// What to cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WarmupPlan {
    /// So many resources of each kind with the largest counts.
    pub top_resources: u32,
    /// Resources and pairs of so many newest events.
    pub recent_events: u32,
    /// These.
    pub resources: Vec<Resource>,
}

impl From<WarmupConfig> for WarmupPlan {
    fn from(config: WarmupConfig) -> Self {
        Self { top_resources: config.top_resources, recent_events: config.recent_events, resources: Vec::new() }
    }
}

/// What a warm-up did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct WarmupReport {
    /// Counters looked at.
    pub counters: u64,
    /// Those that were not cached and are now.
    pub counters_filled: u64,
    /// Pairs looked at.
    pub pairs: u64,
    /// Those that were not cached and are now.
    pub pairs_filled: u64,
    /// Milliseconds that it took.
    pub took_ms: u64,
}

/// Why a warm-up did not come to its end; what it cached until then is cached.
#[derive(Debug, thiserror::Error)]
pub enum WarmupError {
    /// One at a time.
    #[error("a warm-up is running already")]
    Busy,
    /// A part is unreachable, and its circuit open.
    #[error("unavailable: {0} is unreachable")]
    Unreachable(&'static str),
    /// The cache is why.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The database is why.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl WarmupError {
    /// Whether a store is unreachable, as opposed to unhappy.
    pub const fn is_unavailable(&self) -> bool {
        match self {
            Self::Busy => false,
            Self::Unreachable(_) => true,
            Self::Cache(error) => error.is_unavailable(),
            Self::Store(error) => error.is_unavailable(),
        }
    }
}

/// Warms the cache. Clones are the same one: one warm-up at a time.
#[derive(Clone)]
pub struct Warmer {
    stores: Stores,
    recheck: Recheck,
    config: WarmupConfig,
    one_at_a_time: Arc<Mutex<()>>,
}

impl Warmer {
    /// Fills are looked at again through `recheck`.
    pub fn new(stores: Stores, recheck: Recheck, config: WarmupConfig) -> Self {
        Self { stores, recheck, config, one_at_a_time: Arc::default() }
    }

    /// What is configured to be cached.
    pub fn plan(&self) -> WarmupPlan {
        self.config.into()
    }

    /// Caches what the plan says, at the configured rate at most.
    pub fn warm<'a>(&'a self, plan: &'a WarmupPlan) -> BoxFuture<'a, Result<WarmupReport, WarmupError>> {
        self.warm_inner(plan).boxed()
    }

    async fn warm_inner(&self, plan: &WarmupPlan) -> Result<WarmupReport, WarmupError> {
        let Ok(_turn) = self.one_at_a_time.try_lock() else { return Err(WarmupError::Busy) };
        for (part, circuit) in [("cache", &self.stores.cache_circuit), ("database", &self.stores.database_circuit)] {
            if circuit.is_open() {
                return Err(WarmupError::Unreachable(part));
            }
        }
        let began = Instant::now();
        let mut resources = plan.resources.clone();
        let mut pairs: Vec<Pair> = Vec::new();
        // What is worth filling; what it is filled with is read where nothing is late.
        let ranking = self.stores.database.on_replicas();
        if plan.top_resources > 0 {
            let top = ranking.top_counts(plan.top_resources.min(MAX_RESOURCES)).await?;
            resources.extend(top.into_iter().map(|(resource, _)| resource));
        }
        if plan.recent_events > 0 {
            pairs = distinct(ranking.latest_pairs(plan.recent_events.min(MAX_RESOURCES)).await?);
            resources.extend(pairs.iter().map(|pair| pair.resource));
        }
        let resources = distinct(resources);
        let mut report = WarmupReport::default();
        for some in resources.chunks(self.batch()) {
            let step = Instant::now();
            report.counters += some.len() as u64;
            report.counters_filled += self.counters(some).await?;
            self.pace(step, some.len()).await;
        }
        for some in pairs.chunks(self.batch()) {
            let step = Instant::now();
            report.pairs += some.len() as u64;
            report.pairs_filled += self.pairs(some).await?;
            self.pace(step, some.len()).await;
        }
        report.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(report)
    }

    /// The warm-up at start, if it is configured; waits for stores that are unreachable. Until `stop`.
    pub fn run_at_start(self, stop: CancellationToken) -> BoxFuture<'static, ()> {
        self.run_at_start_inner(stop).boxed()
    }

    async fn run_at_start_inner(self, stop: CancellationToken) {
        const AGAIN: Duration = Duration::from_secs(1);
        if !self.config.enabled {
            return;
        }
        let warm = async {
            loop {
                match self.warm(&self.plan()).await {
                    Ok(report) => {
                        tracing::info!(
                            counters = report.counters_filled,
                            pairs = report.pairs_filled,
                            took_ms = report.took_ms,
                            "the cache is warm"
                        );
                        return;
                    }
                    Err(error) if error.is_unavailable() => tokio::time::sleep(AGAIN).await,
                    Err(error) => {
                        tracing::warn!(%error, "the cache was not warmed");
                        return;
                    }
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = warm => {}
        }
    }

    async fn counters(&self, some: &[Resource]) -> Result<u64, WarmupError> {
        let cached = self.stores.cache.counts(some).await?;
        let missing: Vec<Resource> =
            some.iter().zip(cached).filter(|(_, cached)| cached.is_none()).map(|(one, _)| *one).collect();
        if !missing.is_empty() {
            let stored = self.stores.database.load_counts(&missing).await?;
            let fills: Vec<_> = missing.iter().copied().zip(stored).collect();
            self.stores.cache.fill_counts(&fills).await?;
            self.recheck.resources(missing).await;
            return Ok(fills.len() as u64);
        }
        Ok(0)
    }

    async fn pairs(&self, some: &[Pair]) -> Result<u64, WarmupError> {
        let cached = self.stores.cache.states(some).await?;
        let missing: Vec<Pair> =
            some.iter().zip(cached).filter(|(_, cached)| cached.is_none()).map(|(one, _)| *one).collect();
        if !missing.is_empty() {
            let rows = self.stores.database.load_states(&missing).await?;
            let fills: Vec<_> = missing.iter().copied().zip(rows).collect();
            self.stores.cache.fill_states(&fills).await?;
            self.recheck.pairs(missing).await;
            return Ok(fills.len() as u64);
        }
        Ok(0)
    }

    /// A tenth of a second's worth at most: the rate holds over short times too.
    fn batch(&self) -> usize {
        BATCH.min(self.config.max_rate as usize / 10).max(1)
    }

    async fn pace(&self, began: Instant, filled: usize) {
        sleep_until(began + Duration::from_secs_f64(filled as f64 / f64::from(self.config.max_rate.max(1)))).await;
    }
}

/// Without repetitions, in the order of the first ones.
fn distinct<T: Copy + Ord>(items: Vec<T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    items.into_iter().filter(|item| seen.insert(*item)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_named() {
        assert!(WarmupConfig::default().validate().is_ok());
        let error = WarmupConfig { max_rate: 1, ..WarmupConfig::default() }.validate().unwrap_err();
        assert!(error.starts_with("cache_management.warmup.max_rate: "), "{error}");
    }

    #[test]
    fn repetitions_go_and_the_order_stays() {
        assert_eq!(distinct(vec![3, 1, 3, 2, 1]), [3, 1, 2]);
    }
}
