//! One harness for every binary: configuration, telemetry, ops HTTP, shutdown.
//!
//! A `main.rs` is three lines: [`Options::from_args`], [`run`], and the service as an async function of a [`Context`]
//! and its configuration.
//!
//! - [`load`]: one YAML file plus `INTERACTION__SECTION__KEY` from the environment; every mistake is one line that
//!   names the key, and exit code 64.
//! - [`Context`]: the tokens of shutdown, the tracker of tasks, the health registry, the metrics.
//! - [`router`]: `/health`, `/health/live`, `/metrics` and the routes a binary adds, all errors as JSON.
//! - [`Gate`]: what stands before every listener: tokens with roles ([`listen::access`]), TLS, bounds.
//! - [`RequestIdLayer`]: what a caller, its answer and the log lines in between have in common.
//! - [`wait_for`]: a store that is missing at start is waited for, aloud.
//!
//! Shutdown has two stages. SIGTERM or SIGINT cancels the *soft* token: take nothing new, finish what is in hand. A
//! second signal, or `service.drain_timeout`, cancels the *hard* token: stop where you are; everything in this system
//! survives that. What has not stopped shortly after is abandoned.
//!
//! Deliberately absent: statics (but for the recorders that logging and metrics install), and reading the environment
//! anywhere but in [`Options`].

mod config;
mod lifecycle;
pub mod listen;
mod observe;
mod request_lines;

pub use config::{
    AccessConfig, AlertsConfig, ConfigError, ENV_PREFIX, LogFormat, MonitoringConfig, OpsTls, PublicOrigin, Renamed,
    ServiceConfig, TlsConfig, TracingConfig, TrustedProxies, given, keys, load, load_renamed, parse, parse_renamed,
    same_value,
};
pub use lifecycle::admit::admit;
pub use lifecycle::ask::Question;
pub use lifecycle::context::Context;
pub use lifecycle::routes::router;
pub use lifecycle::run::{Configured, EXIT_CONFIG, Options, run};
pub use lifecycle::small_page;
pub use lifecycle::wait::{Backoff, wait_for};
pub use listen::Connection;
pub use listen::gate::Gate;
pub use listen::ops::OpsRoutes;
pub use listen::request_id::{REQUEST_ID, RequestIdLayer, RequestIdService};
pub use listen::tls::Protocol;
pub use observe::alerts::{AlertRule, History, Judged, Series};
pub use observe::health::{Criticality, HealthRegistry, LastError, Part, PartReport, PartState, Report, Status};
pub use observe::otlp::{Otlp, SpanKind, SpanRecord};
pub use observe::pulse::Pulse;
pub use observe::telemetry::{Metrics, init_logging};
