//! One harness for every binary: configuration, telemetry, ops HTTP, shutdown.
//!
//! A `main.rs` is three lines: [`Options::from_args`], [`run`], and the service as an async function of a [`Context`]
//! and its configuration.
//!
//! - [`load`]: one YAML file plus `INTERACTION__SECTION__KEY` from the environment; every mistake is one line that
//!   names the key, and exit code 64.
//! - [`Context`]: the tokens of shutdown, the tracker of tasks, the health registry, the metrics.
//! - [`ops`]: `/health`, `/health/live`, `/metrics` and the routes a binary adds, all errors as JSON.
//! - [`Gate`]: what stands before every listener: tokens with roles ([`access`]), TLS, bounds.
//! - [`RequestIdLayer`]: what a caller, its answer and the log lines in between have in common.
//! - [`wait_for`]: a store that is missing at start is waited for, aloud.
//!
//! Shutdown has two stages. SIGTERM or SIGINT cancels the *soft* token: take nothing new, finish what is in hand. A
//! second signal, or `service.drain_timeout`, cancels the *hard* token: stop where you are; everything in this system
//! survives that. What has not stopped shortly after is abandoned.
//!
//! Deliberately absent: statics (but for the recorders that logging and metrics install), and reading the environment
//! anywhere but in [`Options`].

pub mod access;
mod context;
mod failpoints;
mod gate;
mod health;
mod incoming;
mod load;
mod node;
pub mod ops;
mod otlp;
mod reload;
mod request_id;
mod run;
mod sections;
mod telemetry;
mod tls;
mod verdicts;
mod wait;

pub use context::Context;
pub use gate::Gate;
pub use health::{Criticality, HealthRegistry, Part, PartReport, PartState, Report, Status};
pub use incoming::{Connection, HANDSHAKE_TIMEOUT};
pub use load::{ConfigError, ENV_PREFIX, load, parse};
pub use otlp::{Otlp, SpanKind, SpanRecord};
pub use request_id::{REQUEST_ID, RequestIdLayer, RequestIdService};
pub use run::{Configured, EXIT_CONFIG, Options, run};
pub use sections::{LogFormat, MonitoringConfig, ServiceConfig, TracingConfig};
pub use telemetry::{Metrics, init_logging};
pub use tls::{Protocol, TlsConfig};
pub use wait::{Backoff, wait_for};
