//! Live counts: what readers are served, told to whoever watches.
//!
//! One poller per process reads the union of what is watched, so a change is seen whichever server accepted it, and
//! accepting a like costs nothing for it. Nothing is queued: the `subscriptions` holds one newest count per resource, a
//! subscription remembers what it was told last, and the difference is its news. So a slow reader misses what was in
//! between and gets the newest, and its memory is bounded by what it watches.
//!
//! While the cache is unreachable the database is asked, at a slower pace, and counts are marked degraded. While neither answers,
//! who watches hears nothing, and who begins to watch is refused.

mod subscriptions;

use crate::metrics;
use crate::read::{ReadError, Reader};
use domain::Resource;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Deserialize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use subscriptions::Subscriptions;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Counters that are read at once; between two such reads what was read is told.
const CHUNK: usize = 500;

/// From round to round while the cache is unreachable.
const DEGRADED_INTERVAL: Duration = Duration::from_secs(1);

/// Section `cache_management.live_counts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LiveConfig {
    /// How often what is watched is read.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Most streams of one server.
    pub max_streams: usize,
    /// Most different resources that all streams of one server watch together.
    pub max_resources: usize,
}

impl Default for LiveConfig {
    fn default() -> Self {
        Self { interval: Duration::from_millis(100), max_streams: 1_000, max_resources: 2_000 }
    }
}

impl LiveConfig {
    /// Checks the bounds; the error names the key.
    pub fn validate(&self) -> Result<(), String> {
        if !(Duration::from_millis(10)..=Duration::from_secs(60)).contains(&self.interval) {
            return Err(format!("cache_management.live_counts.interval: must be 10ms to 60s, got {:?}", self.interval));
        }
        for (key, value) in [("max_streams", self.max_streams), ("max_resources", self.max_resources)] {
            if !(1..=100_000).contains(&value) {
                return Err(format!("cache_management.live_counts.{key}: must be 1 to 100000, got {value}"));
            }
        }
        Ok(())
    }
}

/// No more can be watched at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LiveError {
    /// Too many streams.
    #[error("this server has {0} streams of live counts already")]
    Streams(usize),
    /// Too many different resources.
    #[error("this server may watch {0} different resources")]
    Resources(usize),
}

/// Counts that changed, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveUpdate {
    /// The newest counts.
    pub counts: Vec<(Resource, i64)>,
    /// Whether the cache was unreachable when one of them was read.
    pub degraded: bool,
}

/// What one process watches. Clones are the same one.
#[derive(Clone)]
pub struct LiveCounts(Arc<Hub>);

struct Hub {
    reader: Reader,
    config: LiveConfig,
    subscriptions: Mutex<Subscriptions>,
    /// Somebody waits for first counts.
    asked: Notify,
}

impl Hub {
    fn subscriptions(&self) -> MutexGuard<'_, Subscriptions> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveCounts {
    /// Nothing is read before [`run`](Self::run) does, and nothing while nobody watches. The reader should be one of its own:
    /// it counts what was found in the cache, and polls are not what callers asked.
    pub fn new(reader: Reader, config: LiveConfig) -> Self {
        Self(Arc::new(Hub { reader, config, subscriptions: Mutex::default(), asked: Notify::new() }))
    }

    /// Begins to watch; repeated resources count once.
    pub fn watch(&self, resources: &[Resource]) -> Result<Subscription, LiveError> {
        let woken = Arc::new(Notify::new());
        let subscriber = {
            let mut subscriptions = self.0.subscriptions();
            let subscriber = subscriptions.join(resources, &woken, &self.0.config)?;
            metrics::live(subscriptions.streams(), subscriptions.resources());
            subscriber
        };
        self.0.asked.notify_one();
        Ok(Subscription { hub: Arc::clone(&self.0), subscriber, woken, started: false })
    }

    /// Streams at the moment.
    pub fn streams(&self) -> usize {
        self.0.subscriptions().streams()
    }

    /// Reads what is watched. Until `stop`.
    pub fn run(self, stop: CancellationToken) -> BoxFuture<'static, ()> {
        self.run_inner(stop).boxed()
    }

    async fn run_inner(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = Box::pin(self.poll()) => {}
        }
    }

    async fn poll(&self) {
        let mut due = Instant::now();
        loop {
            let watched = self.streams() > 0;
            tokio::select! {
                biased;
                () = sleep_until(due), if watched => {
                    let began = Instant::now();
                    let well = self.round(true).await;
                    due = began + if well { self.0.config.interval } else { DEGRADED_INTERVAL.max(self.0.config.interval) };
                }
                // First counts do not wait for their turn.
                () = self.0.asked.notified() => {
                    self.round(false).await;
                }
            }
        }
    }

    /// Reads everything, or what is asked for, and tells it; whether the cache answered.
    async fn round(&self, everything: bool) -> bool {
        let (round, resources) = self.0.subscriptions().begin(everything);
        let mut well = true;
        for some in resources.chunks(CHUNK) {
            match self.0.reader.counts(some).await {
                Ok(read) => {
                    well &= !read.degraded;
                    self.0.subscriptions().publish(round, some, &read.values, read.degraded);
                }
                Err(error) => {
                    well = false;
                    self.0.subscriptions().fail(some, &error);
                }
            }
        }
        well
    }
}

/// One stream's view. Dropping it ends it.
pub struct Subscription {
    hub: Arc<Hub>,
    subscriber: subscriptions::Subscriber,
    woken: Arc<Notify>,
    started: bool,
}

impl Subscription {
    /// At first all counts, read after the subscription began; then what has changed since the last call, as soon as
    /// something has. An error only if the first counts cannot be read.
    ///
    /// A call that is dropped loses nothing.
    pub async fn next(&mut self) -> Result<LiveUpdate, ReadError> {
        loop {
            {
                let subscriptions = self.hub.subscriptions();
                if let Some(update) = subscriptions.news(&mut self.subscriber) {
                    self.started = true;
                    return Ok(update);
                }
                if !self.started
                    && let Some(error) = subscriptions.failure(&self.subscriber)
                {
                    return Err(error);
                }
            }
            self.woken.notified().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut subscriptions = self.hub.subscriptions();
        subscriptions.leave(&self.subscriber);
        metrics::live(subscriptions.streams(), subscriptions.resources());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_named() {
        assert!(LiveConfig::default().validate().is_ok());
        let error = LiveConfig { max_streams: 0, ..LiveConfig::default() }.validate().unwrap_err();
        assert!(error.starts_with("cache_management.live_counts.max_streams: "), "{error}");
        let error = LiveConfig { interval: Duration::ZERO, ..LiveConfig::default() }.validate().unwrap_err();
        assert!(error.starts_with("cache_management.live_counts.interval: "), "{error}");
    }
}
