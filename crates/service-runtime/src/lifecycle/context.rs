//! What the harness hands to a service.

use crate::config::ConfigError;
use crate::config::reload::{Follower, Refusal, read_secret};
use crate::lifecycle::routes;
use crate::listen::expiry::Validity;
use crate::listen::gate::Gate;
use crate::listen::ops::{self, OpsRoutes};
use crate::observe::health::{Criticality, HealthRegistry, PartState, Status};
use crate::observe::otlp::Otlp;
use crate::observe::pulse::Pulse;
use crate::observe::telemetry::Metrics;
use secrecy::{ExposeSecret, SecretString};
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A process's shared things. Clones are the same context.
#[derive(Debug, Clone)]
pub struct Context {
    /// Name of the binary.
    pub service: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Name of this process among its kind, in leases and logs.
    pub instance: Arc<str>,
    /// Cancelled: take nothing new, finish what is in hand, return.
    pub soft: CancellationToken,
    /// Cancelled: stop where you are.
    pub hard: CancellationToken,
    /// Tasks that the process waits for before it ends.
    pub tracker: TaskTracker,
    /// Parts register here.
    pub health: HealthRegistry,
    /// Before every listener.
    pub gate: Gate,
    /// Absent when switched off.
    pub metrics: Option<Metrics>,
    /// Where spans go; absent when switched off.
    pub otlp: Option<Otlp>,
    /// Whether the process ran all the time.
    pub pulse: Pulse,
    /// Start of the process, for its uptime.
    pub started: Instant,
    failed: Arc<AtomicBool>,
}

impl Context {
    /// A context outside of [`run`](crate::run()), for tests and tools: no signals, no recorders, no gate.
    pub fn new(service: &'static str, version: &'static str, instance: impl Into<Arc<str>>) -> Self {
        Self {
            service,
            version,
            instance: instance.into(),
            soft: CancellationToken::new(),
            hard: CancellationToken::new(),
            tracker: TaskTracker::new(),
            health: HealthRegistry::new(),
            gate: Gate::default(),
            metrics: None,
            otlp: None,
            pulse: Pulse::default(),
            started: Instant::now(),
            failed: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Runs a part of the service that lives as long as the process.
    ///
    /// Its failure or panic stops the whole process softly (exit code 1): half a service is worse than a restart.
    pub fn spawn(&self, name: &'static str, part: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.spawn_boxed(name, Box::pin(part));
    }

    fn spawn_boxed(&self, name: &'static str, part: Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>) {
        let context = self.clone();
        self.tracker.spawn(async move {
            let failure = match tokio::spawn(part).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => format!("{error:#}"),
                Err(panic) => panic.to_string(),
            };
            tracing::error!("{name} failed, stopping: {failure}");
            context.failed.store(true, Ordering::SeqCst);
            context.soft.cancel();
        });
    }

    /// Whether a part failed.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// Says in the health whether listeners had no place for somebody, follows the files of tokens and certificates, and says in the health whether what they hold is what is valid;
    /// [`run`](crate::run()) does that for its service.
    pub fn watch_gate(&self) {
        let gate = self.gate.clone();
        self.health.probe("connections", Criticality::Optional, move || {
            let limited = gate.pressure();
            async move {
                limited.map_or_else(|| PartState::new(Status::Ok, ""), |what| PartState::new(Status::Degraded, what))
            }
        });
        self.gate.watch();
        for (name, refusal) in self.gate.files() {
            self.show(name, refusal);
        }
        if self.gate.has_tls() {
            let gate = self.gate.clone();
            self.health.probe("certificate_expiry", Criticality::Optional, move || {
                let state = match gate.validity() {
                    Some(Validity::Over) => {
                        PartState::new(Status::Down, "the certificate has expired: clients refuse it")
                    }
                    Some(Validity::Days(days)) => {
                        let unit = if days == 1 { "day" } else { "days" };
                        PartState::new(Status::Degraded, format!("the certificate expires in {days} {unit}"))
                    }
                    Some(Validity::Long) | None => PartState::new(Status::Ok, ""),
                };
                async move { state }
            });
        }
    }

    /// Follows the file that holds the url of a store: another url than `valid` is given to `apply`, again and again until that
    /// takes it. Health says so in a part of this name. Ends with the process.
    pub fn follow_url<F>(
        &self,
        part: &'static str,
        key: &'static str,
        file: &Path,
        valid: SecretString,
        mut apply: impl FnMut(SecretString) -> F + Send + 'static,
    ) where
        F: Future<Output = Result<(), String>> + Send,
    {
        let refusal = Refusal::of(part);
        self.show(part, refusal.clone());
        let mut follower = Follower::new(vec![file.to_owned()], None, refusal);
        let (file, mut valid) = (file.to_owned(), valid);
        tokio::spawn(async move {
            loop {
                follower.changed().await;
                let read =
                    read_secret(&file).map(SecretString::from).map_err(|error| format!("{}: {error}", file.display()));
                let result = match read {
                    Ok(url) if url.expose_secret() == valid.expose_secret() => Ok(()),
                    Ok(url) => apply(url.clone()).await.map(|()| {
                        tracing::info!("{key}: read again, connections log in anew");
                        valid = url;
                    }),
                    Err(error) => Err(error),
                };
                follower.tried(result.map_err(|reason| ConfigError::key(key, reason)));
            }
        });
    }

    /// Says in the health whether what a file holds is refused.
    fn show(&self, name: &'static str, refusal: Refusal) {
        self.health.probe(name, Criticality::Optional, move || {
            let reason = refusal.reason();
            async move {
                reason.map_or_else(|| PartState::new(Status::Ok, ""), |why| PartState::new(Status::Degraded, why))
            }
        });
    }

    /// Serves ops HTTP with the binary's own routes, until the soft token and its requests' end.
    pub fn serve_ops(&self, listener: TcpListener, routes: impl Into<OpsRoutes>) {
        let router = routes::router(self, routes);
        let (gate, shutdown) = (self.gate.clone(), self.soft.clone());
        self.spawn("ops http", async move {
            ops::serve(&gate, listener, router, shutdown).await;
            Ok(())
        });
    }
}
