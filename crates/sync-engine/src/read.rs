//! Reads: the cache answers, the database fills what it does not know, and serves alone while the cache is unreachable.

mod flights;
pub mod live;
pub mod warm_up;

use crate::recover::recheck::Recheck;
use crate::stores::near_cache::NearCache;
use crate::stores::{Stores, faults};
use domain::cache::CacheResult;
use domain::{Pair, PairState, Resource, StoredCount, Version};
use event_store::StoreError;
use flights::Flights;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Reads counts and states.
#[derive(Clone)]
pub struct Reader {
    sources: Sources,
    counts: Flights<Resource, StoredCount>,
    states: Flights<Pair, PairState>,
    seen: Arc<Seen>,
}

/// What is read from.
#[derive(Clone)]
struct Sources {
    stores: Stores,
    recheck: Recheck,
}

#[derive(Debug, Default)]
struct Seen {
    hits: AtomicU64,
    misses: AtomicU64,
    without_cache: AtomicU64,
}

/// Counts and states that were asked for since this process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct CacheUse {
    /// The cache knew.
    pub hits: u64,
    /// The cache did not know, the database was asked.
    pub misses: u64,
    /// The cache was unreachable.
    pub without_cache: u64,
}

/// Neither cache nor database could answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("unavailable: {0}")]
pub struct ReadError(pub(crate) String);

/// What was read, in the order of the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read<T> {
    /// The answers.
    pub values: Vec<T>,
    /// Whether a part was unreachable.
    pub degraded: bool,
}

impl Reader {
    /// Fills are checked again through `recheck`.
    pub fn new(stores: Stores, recheck: Recheck) -> Self {
        let written = Arc::clone(&stores.written_around);
        let sources = Sources { stores, recheck };
        let counts = sources.clone();
        let counts = move |resources| counts.clone().load_counts(resources).boxed();
        let states = sources.clone();
        let states = move |pairs| states.clone().load_states(pairs).boxed();
        Self {
            sources,
            counts: Flights::new(Arc::clone(&written), counts),
            states: Flights::new(written, states),
            seen: Arc::default(),
        }
    }

    /// What reads found in the cache so far; all clones together.
    pub fn cache_use(&self) -> CacheUse {
        let [hits, misses, without_cache] =
            [&self.seen.hits, &self.seen.misses, &self.seen.without_cache].map(|count| count.load(Ordering::Relaxed));
        CacheUse { hits, misses, without_cache }
    }

    fn saw(&self, asked: usize, missing: usize, degraded: bool) {
        if degraded {
            self.seen.without_cache.fetch_add(asked as u64, Ordering::Relaxed);
        } else {
            self.seen.hits.fetch_add((asked - missing) as u64, Ordering::Relaxed);
            self.seen.misses.fetch_add(missing as u64, Ordering::Relaxed);
        }
    }

    /// Served counts.
    pub fn counts<'a>(&'a self, resources: &'a [Resource]) -> BoxFuture<'a, Result<Read<i64>, ReadError>> {
        self.counts_since(resources, Version::ZERO).boxed()
    }

    /// The same, with every like of them up to this version that was answered, wherever.
    pub fn counts_with<'a>(
        &'a self,
        resources: &'a [Resource],
        least: Version,
    ) -> BoxFuture<'a, Result<Read<i64>, ReadError>> {
        self.counts_since(resources, least).boxed()
    }

    /// For how many of these a store would be asked now.
    pub fn unknown_counts(&self, resources: &[Resource], least: Version) -> usize {
        match self.near(resources) {
            Some(near) => near.unknown(resources, least, near.now()),
            None => resources.len(),
        }
    }

    /// What this server remembers, unless the cache counts as unreachable.
    fn near(&self, resources: &[Resource]) -> Option<&NearCache> {
        let near = self.sources.stores.near_cache.as_deref();
        near.filter(|_| !self.sources.are_away(resources.iter().copied()))
    }

    async fn counts_since(&self, resources: &[Resource], least: Version) -> Result<Read<i64>, ReadError> {
        let Some(near) = self.near(resources) else { return self.counts_of_stores(resources, least, |_, _| {}).await };
        let asked = near.now();
        let mut shown = near.show(resources, least, asked);
        let unknown: Vec<usize> = (0..shown.len()).filter(|i| shown[*i].is_none()).collect();
        self.saw(shown.len() - unknown.len(), 0, false);
        let mut degraded = false;
        if !unknown.is_empty() {
            let rest: Vec<Resource> = unknown.iter().map(|i| resources[*i]).collect();
            let learn = |resource, count| near.learn(resource, count, asked, near.now());
            let read = self.counts_of_stores(&rest, least, learn).await?;
            degraded = read.degraded;
            for (i, count) in unknown.into_iter().zip(read.values) {
                shown[i] = Some(count);
            }
        }
        Ok(Read { values: shown.into_iter().map(Option::unwrap_or_default).collect(), degraded })
    }

    /// `learn` hears what the cache says; what the database says may have been asked for before this call.
    async fn counts_of_stores(
        &self,
        resources: &[Resource],
        least: Version,
        learn: impl Fn(Resource, i64),
    ) -> Result<Read<i64>, ReadError> {
        let (sources, cache) = (&self.sources, &self.sources.stores.cache);
        let cached = sources.ask_cache(resources.iter().copied(), cache.served_counts(resources)).await;
        let degraded = cached.is_none();
        let mut values = cached.unwrap_or_else(|| vec![None; resources.len()]);
        resources
            .iter()
            .zip(&values)
            .for_each(|(resource, count)| count.iter().for_each(|count| learn(*resource, *count)));
        let missing: Vec<usize> = (0..values.len()).filter(|i| values[*i].is_none()).collect();
        self.saw(values.len(), missing.len(), degraded);
        if !missing.is_empty() {
            let asked: Vec<Resource> = missing.iter().map(|i| resources[*i]).collect();
            let stored = if degraded {
                sources.ask_database(sources.stores.likes.load_counts(&asked)).boxed().await?
            } else {
                self.counts.ask(&asked, least == Version::ZERO).boxed().await?
            };
            for (index, stored) in missing.iter().zip(&stored) {
                values[*index] = Some(stored.count);
            }
        }
        Ok(Read { values: values.into_iter().map(Option::unwrap_or_default).collect(), degraded })
    }

    /// States of pairs.
    pub fn states<'a>(&'a self, pairs: &'a [Pair]) -> BoxFuture<'a, Result<Read<PairState>, ReadError>> {
        self.states_inner(pairs).boxed()
    }

    async fn states_inner(&self, pairs: &[Pair]) -> Result<Read<PairState>, ReadError> {
        let (sources, cache) = (&self.sources, &self.sources.stores.cache);
        let cached = sources.ask_cache(pairs.iter().map(|pair| pair.resource), cache.states(pairs)).await;
        let degraded = cached.is_none();
        let mut values = cached.unwrap_or_else(|| vec![None; pairs.len()]);
        let missing: Vec<usize> = (0..values.len()).filter(|i| values[*i].is_none()).collect();
        self.saw(values.len(), missing.len(), degraded);
        if !missing.is_empty() {
            let asked: Vec<Pair> = missing.iter().map(|i| pairs[*i]).collect();
            let stored = if degraded {
                sources.ask_database(sources.stores.likes.load_states(&asked)).boxed().await?
            } else {
                self.states.ask(&asked, false).boxed().await?
            };
            for (index, state) in missing.iter().zip(&stored) {
                values[*index] = Some(*state);
            }
        }
        Ok(Read { values: values.into_iter().map(Option::unwrap_or_default).collect(), degraded })
    }

    /// Served counts and states of pairs. Both are asked for at the same time, so they cost one round trip; no moment is promised
    /// that both are of. Counts contain what [`counts_with`](Self::counts_with) says.
    pub fn summaries<'a>(
        &'a self,
        pairs: &'a [Pair],
        least: Version,
    ) -> BoxFuture<'a, Result<Read<(i64, PairState)>, ReadError>> {
        async move {
            let resources: Vec<Resource> = pairs.iter().map(|pair| pair.resource).collect();
            let (counts, states) = tokio::try_join!(self.counts_with(&resources, least), self.states(pairs))?;
            let values = counts.values.into_iter().zip(states.values).collect();
            Ok(Read { values, degraded: counts.degraded || states.degraded })
        }
        .boxed()
    }
}

impl Sources {
    /// What the database says of these, which is cached if somebody will look at it again.
    async fn load_counts(self, asked: Vec<Resource>) -> Result<Vec<StoredCount>, ReadError> {
        let stored = self.ask_database(self.stores.likes.load_counts(&asked)).await?;
        if let Some(room) = self.recheck.room(asked.len()) {
            let fills: Vec<_> = asked.iter().copied().zip(stored.iter().copied()).collect();
            self.ask_cache(asked.iter().copied(), self.stores.cache.fill_counts(&fills)).await;
            room.resources(&asked);
        }
        Ok(stored)
    }

    /// The same of pairs.
    async fn load_states(self, asked: Vec<Pair>) -> Result<Vec<PairState>, ReadError> {
        let stored = self.ask_database(self.stores.likes.load_states(&asked)).await?;
        if let Some(room) = self.recheck.room(asked.len()) {
            let fills: Vec<_> = asked.iter().copied().zip(stored.iter().copied()).collect();
            self.ask_cache(asked.iter().map(|pair| pair.resource), self.stores.cache.fill_states(&fills)).await;
            room.pairs(&asked);
        }
        Ok(stored)
    }

    fn are_away(&self, mut resources: impl Iterator<Item = Resource>) -> bool {
        let mut some_away = || resources.any(|resource| self.stores.is_away(resource));
        self.stores.cache_circuit.is_open() || self.stores.shard_circuits.any() && some_away()
    }

    /// Nothing where any of these is away: then all are read from the database.
    async fn ask_cache<T>(
        &self,
        resources: impl Iterator<Item = Resource> + Clone,
        call: impl Future<Output = CacheResult<T>>,
    ) -> Option<T> {
        if self.are_away(resources.clone()) {
            return None;
        }
        match call.await {
            Ok(value) => {
                self.stores.cache_answered(resources);
                Some(value)
            }
            Err(error) => {
                if error.is_unavailable() {
                    self.stores.cache_failed(resources, &error);
                } else {
                    faults::tell("reading from the cache", &error);
                }
                None
            }
        }
    }

    async fn ask_database<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, ReadError> {
        if self.stores.database_circuit.is_open() {
            return Err(ReadError("the database is unreachable and the cache does not know".to_owned()));
        }
        match call.await {
            Ok(value) => {
                self.stores.database_circuit.success();
                Ok(value)
            }
            Err(error) => {
                if error.is_unavailable() {
                    self.stores.database_circuit.failure(&error);
                }
                Err(ReadError(faults::for_caller("the database", &error)))
            }
        }
    }
}
