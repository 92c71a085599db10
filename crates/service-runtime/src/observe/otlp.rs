//! Spans to a collector by OTLP over gRPC: in batches from a thread of its own, and dropped when there are too many, so
//! that nobody ever waits for a collector.

use crate::config::{ConfigError, TracingConfig};
use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind as OtelKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Spans that wait for their batch; more are dropped.
const QUEUE: usize = 4_096;
const BATCH: usize = 512;
const EVERY: Duration = Duration::from_secs(1);
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

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
pub struct Otlp(Arc<Parts>);

struct Parts {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

impl std::fmt::Debug for Otlp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Otlp")
    }
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
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(config.endpoint.clone())
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|error| ConfigError::key("monitoring.tracing.endpoint", error.to_string()))?;
        let bounds = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(EVERY)
            .build();
        let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(bounds).build();
        let about = [("service.version", version.to_owned()), ("service.instance.id", instance.to_owned())];
        let about = about.map(|(name, value)| KeyValue::new(name, value));
        processor.set_resource(&Resource::builder().with_service_name(service).with_attributes(about).build());
        let scope = InstrumentationScope::builder(service).with_version(version).build();
        Ok(Some(Self(Arc::new(Parts { processor, scope }))))
    }

    /// Sends a span with the next batch.
    pub fn record(&self, span: SpanRecord) {
        let context = |trace: u128, id: u64, remote: bool| {
            let (trace, id) = (TraceId::from(trace), SpanId::from(id));
            SpanContext::new(trace, id, TraceFlags::SAMPLED, remote, TraceState::default())
        };
        let mut links = SpanLinks::default();
        links.links.extend(span.caused_by.map(|(trace, id)| Link::with_context(context(trace, id, true))));
        self.0.processor.on_end(SpanData {
            span_context: context(span.trace, span.id, false),
            parent_span_id: span.parent.map_or(SpanId::INVALID, SpanId::from),
            parent_span_is_remote: span.parent.is_some(),
            span_kind: match span.kind {
                SpanKind::Server => OtelKind::Server,
                SpanKind::Producer => OtelKind::Producer,
                SpanKind::Consumer => OtelKind::Consumer,
            },
            name: span.name.into(),
            start_time: span.start,
            end_time: span.start + span.took,
            attributes: span.attributes.into_iter().map(|(name, value)| KeyValue::new(name, value)).collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: span.error.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.0.scope.clone(),
        });
    }

    /// Sends what is left; blocks until it is sent, or given up.
    pub(crate) fn end(&self) {
        if let Err(error) = self.0.processor.shutdown_with_timeout(EXPORT_TIMEOUT) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}
