//! What a process knows about its own health.
//!
//! A part is either *pushed* (whoever learns something says so, see [`Part`]) or *probed* (asked when someone looks).
//! Probes run at most once a second, together and under a timeout, so that looking costs the stores nothing.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

const CACHE_FOR: Duration = Duration::from_secs(1);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// How a part is, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Works, with a substitute or with less than its full function.
    Degraded,
    /// Does not work.
    Down,
}

/// What a part that is down means for the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Criticality {
    /// The process cannot do its work: the whole is down.
    Critical,
    /// The process does its work without it: the whole is degraded.
    Optional,
}

/// A part's status and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartState {
    /// How it is.
    pub status: Status,
    /// Why, in one line; no secrets. May be empty.
    pub detail: String,
    /// What was last said against it; kept when it is well again.
    pub last_error: Option<LastError>,
}

/// The last error of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastError {
    /// When, by this process's clock, in RFC 3339.
    pub at: String,
    /// In the part's own words; no secrets.
    pub error: String,
}

impl PartState {
    /// A state with its reason.
    pub fn new(status: Status, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), last_error: None }
    }

    /// With what was last said against the part.
    pub fn with_last_error(self, last_error: Option<LastError>) -> Self {
        Self { last_error, ..self }
    }
}

impl<E: Display> From<Result<(), E>> for PartState {
    fn from(result: Result<(), E>) -> Self {
        match result {
            Ok(()) => Self::new(Status::Ok, ""),
            Err(error) => Self::new(Status::Down, error.to_string()),
        }
    }
}

/// The handle of a pushed part.
#[derive(Debug, Clone)]
pub struct Part(Arc<Mutex<PartState>>);

impl Part {
    /// Says how the part is now.
    pub fn set(&self, status: Status, detail: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = PartState::new(status, detail);
    }

    /// Shorthand for fine.
    pub fn ok(&self) {
        self.set(Status::Ok, "");
    }

    fn get(&self) -> PartState {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One part in a [`Report`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartReport {
    /// How it is.
    pub status: Status,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What was last said against it, and when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
}

/// The whole and its parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst that matters.
    pub status: Status,
    /// By name.
    pub parts: BTreeMap<String, PartReport>,
}

type Check = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = PartState> + Send>> + Send + Sync>;

type Answers = Arc<BTreeMap<String, PartState>>;

enum Source {
    Pushed(Part),
    Probed(Check),
}

struct Inner {
    cache_for: Duration,
    probe_timeout: Duration,
    parts: Mutex<BTreeMap<String, (Criticality, Source)>>,
    /// Held while probing: who comes meanwhile waits and takes the same answer.
    last: tokio::sync::Mutex<Option<(Instant, Answers)>>,
}

/// All parts of a process. Clones are the same registry.
#[derive(Clone)]
pub struct HealthRegistry(Arc<Inner>);

impl Default for HealthRegistry {
    fn default() -> Self {
        Self::with_timing(CACHE_FOR, PROBE_TIMEOUT)
    }
}

impl std::fmt::Debug for HealthRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.parts().keys()).finish()
    }
}

impl HealthRegistry {
    /// An empty registry: a process without parts is fine.
    pub fn new() -> Self {
        Self::default()
    }

    fn with_timing(cache_for: Duration, probe_timeout: Duration) -> Self {
        let (parts, last) = (Mutex::default(), tokio::sync::Mutex::default());
        Self(Arc::new(Inner { cache_for, probe_timeout, parts, last }))
    }

    /// A pushed part; down until it says otherwise. A name registered twice is replaced.
    pub fn part(&self, name: &str, criticality: Criticality) -> Part {
        let part = Part(Arc::new(Mutex::new(PartState::new(Status::Down, "starting"))));
        self.parts().insert(name.to_owned(), (criticality, Source::Pushed(part.clone())));
        part
    }

    /// A pushed part for a process that is not yet what it will be: the whole is down until it is [ok](Part::ok).
    pub fn startup(&self) -> Part {
        self.part("startup", Criticality::Critical)
    }

    /// A probed part: `check` says how it is, or fails with why it is down.
    pub fn probe<F, R>(&self, name: &str, criticality: Criticality, check: F)
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output: Into<PartState>> + Send + 'static,
    {
        let check: Check = Arc::new(move || {
            let answer = check();
            Box::pin(async move { answer.await.into() })
        });
        self.parts().insert(name.to_owned(), (criticality, Source::Probed(check)));
    }

    /// Looks at all parts; probes that ran within the last second are not run again.
    pub async fn report(&self) -> Report {
        let probed = self.probed().await;
        let mut status = Status::Ok;
        let mut parts = BTreeMap::new();
        for (name, (criticality, source)) in self.parts().iter() {
            let state = match source {
                Source::Pushed(part) => part.get(),
                Source::Probed(_) => {
                    probed.get(name).cloned().unwrap_or_else(|| PartState::new(Status::Down, "not asked yet"))
                }
            };
            status = status.max(match criticality {
                Criticality::Critical => state.status,
                Criticality::Optional => state.status.min(Status::Degraded),
            });
            let PartState { status, detail, last_error } = state;
            parts.insert(name.clone(), PartReport { status, detail, last_error });
        }
        Report { status, parts }
    }

    async fn probed(&self) -> Answers {
        let mut last = self.0.last.lock().await;
        if let Some((_, states)) = last.as_ref().filter(|(at, _)| at.elapsed() < self.0.cache_for) {
            return states.clone();
        }
        let timeout = self.0.probe_timeout;
        let mut checks = JoinSet::new();
        for (name, (_, source)) in self.parts().iter() {
            if let Source::Probed(check) = source {
                let (name, answer) = (name.clone(), check());
                checks.spawn(async move { (name, tokio::time::timeout(timeout, answer).await) });
            }
        }
        let mut states = BTreeMap::new();
        while let Some(done) = checks.join_next().await {
            // A probe that panicked is missing from the answer, and therefore reported as down.
            if let Ok((name, answer)) = done {
                let late = |_| PartState::new(Status::Down, format!("no answer within {timeout:?}"));
                states.insert(name, answer.unwrap_or_else(late));
            }
        }
        let states = Arc::new(states);
        *last = Some((Instant::now(), states.clone()));
        states
    }

    fn parts(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (Criticality, Source)>> {
        self.0.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn the_whole_is_as_bad_as_what_matters() {
        let health = HealthRegistry::new();
        assert_eq!(health.report().await.status, Status::Ok);
        let broker = health.part("rabbitmq", Criticality::Optional);
        assert_eq!(health.report().await.status, Status::Degraded);
        broker.ok();
        assert_eq!(health.report().await.status, Status::Ok);
        let store = health.part("mysql", Criticality::Critical);
        store.set(Status::Down, "refused");
        let report = health.report().await;
        assert_eq!(report.status, Status::Down);
        assert_eq!(report.parts["mysql"].detail, "refused");
        store.set(Status::Degraded, "slow");
        assert_eq!(health.report().await.status, Status::Degraded);
    }

    #[tokio::test]
    async fn probes_are_not_asked_again_and_again() {
        let health = HealthRegistry::with_timing(Duration::from_secs(3600), PROBE_TIMEOUT);
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        health.probe("redis", Criticality::Critical, move || {
            counter.fetch_add(1, Ordering::SeqCst);
            async { Ok::<(), String>(()) }
        });
        let mut readers = JoinSet::new();
        for _ in 0..10 {
            let health = health.clone();
            readers.spawn(async move { health.report().await.status });
        }
        assert!(readers.join_all().await.iter().all(|status| *status == Status::Ok));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_probe_that_hangs_or_panics_is_down_and_hides_no_other() {
        let health = HealthRegistry::with_timing(Duration::ZERO, Duration::from_millis(50));
        health.probe("mysql", Criticality::Critical, || async {
            std::future::pending::<()>().await;
            Ok::<(), String>(())
        });
        health.probe("rabbitmq", Criticality::Optional, || async {
            assert!(std::hint::black_box(false), "on purpose");
            Ok::<(), String>(())
        });
        health.probe("redis", Criticality::Critical, || async { Ok::<(), String>(()) });
        let report = health.report().await;
        assert_eq!((report.status, report.parts["mysql"].detail.as_str()), (Status::Down, "no answer within 50ms"));
        assert_eq!(report.parts["rabbitmq"].status, Status::Down);
        assert_eq!(report.parts["redis"].status, Status::Ok);
    }
}
