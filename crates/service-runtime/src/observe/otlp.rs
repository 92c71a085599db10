//! Spans to a collector by OTLP over gRPC: in batches from a thread of its own, and dropped when there are too many, so
//! that nobody ever waits for a collector.
//!
//! The exporter is there with the feature `otlp` only; without it an endpoint in the configuration is an error.

#[cfg(feature = "otlp")]
mod exporter;

use crate::config::{ConfigError, TracingConfig};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

#[cfg(feature = "otlp")]
use exporter::Exporter;

/// How a span relates to its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Answers a call.
    Server,
    /// Sends a message.
    Producer,
    /// Works on what came by message.
    Consumer,
}

/// A span with all ids known.
#[derive(Debug, Clone)]
pub struct SpanRecord {
    /// Its trace.
    pub trace: u128,
    /// Itself.
    pub id: u64,
    /// The span above it in the same trace.
    pub parent: Option<u64>,
    /// Trace and span elsewhere that caused it.
    pub caused_by: Option<(u128, u64)>,
    /// How it relates to its caller.
    pub kind: SpanKind,
    /// What was done.
    pub name: &'static str,
    /// When it began.
    pub start: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// What it was about.
    pub attributes: Vec<(&'static str, String)>,
    /// What went wrong.
    pub error: Option<String>,
}

/// The way to a collector. Clones are the same one.
#[derive(Clone)]
pub struct Otlp(Arc<Exporter>);

impl std::fmt::Debug for Otlp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Otlp")
    }
}

/// Whether an exporter to the configured endpoint can be made, if one is configured.
pub(crate) fn admit(config: &TracingConfig) -> Result<(), ConfigError> {
    if config.endpoint.is_empty() {
        return Ok(());
    }
    Exporter::admit(&config.endpoint).map_err(unusable)
}

fn unusable(reason: String) -> ConfigError {
    ConfigError::key("monitoring.tracing.endpoint", reason)
}

impl Otlp {
    /// To the configured endpoint, if one is; connects when there is something to send. Needs a runtime around it.
    pub(crate) fn start(
        config: &TracingConfig,
        service: &'static str,
        version: &'static str,
        instance: &str,
    ) -> Result<Option<Self>, ConfigError> {
        if config.endpoint.is_empty() {
            return Ok(None);
        }
        let exporter = Exporter::new(&config.endpoint, service, version, instance).map_err(unusable)?;
        Ok(Some(Self(Arc::new(exporter))))
    }

    /// Sends a span with the next batch.
    pub fn record(&self, span: SpanRecord) {
        self.0.record(span);
    }

    /// Sends what is left; blocks until it is sent, or given up.
    pub(crate) fn end(&self) {
        self.0.end();
    }
}

/// Where no exporter is built in, none can be made.
#[cfg(not(feature = "otlp"))]
enum Exporter {}

#[cfg(not(feature = "otlp"))]
impl Exporter {
    const ABSENT: &str =
        "this program was built without the feature `otlp`; build it with --features otlp, or leave this empty";

    fn admit(_: &str) -> Result<(), String> {
        Err(Self::ABSENT.to_owned())
    }

    fn new(_: &str, _: &'static str, _: &'static str, _: &str) -> Result<Self, String> {
        Err(Self::ABSENT.to_owned())
    }

    fn record(&self, _: SpanRecord) {
        match *self {}
    }

    fn end(&self) {
        match *self {}
    }
}
