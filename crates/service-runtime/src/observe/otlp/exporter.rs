//! The exporter itself.

use super::{SpanKind, SpanRecord};
use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind as OtelKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};
use std::time::Duration;

/// Spans that wait for their batch; more are dropped.
const QUEUE: usize = 4_096;
const BATCH: usize = 512;
const EVERY: Duration = Duration::from_secs(1);
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

pub(super) struct Exporter {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

fn exporter(endpoint: &str) -> Result<SpanExporter, String> {
    let builder = SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(EXPORT_TIMEOUT);
    builder.build().map_err(|error| error.to_string())
}

impl Exporter {
    /// # Errors
    /// What is wrong with the endpoint.
    pub(super) fn admit(endpoint: &str) -> Result<(), String> {
        // One that is not used needs a runtime, too.
        let runtime = match tokio::runtime::Handle::try_current() {
            Ok(_) => None,
            Err(_) => Some(tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?),
        };
        let _entered = runtime.as_ref().map(tokio::runtime::Runtime::enter);
        exporter(endpoint).map(drop)
    }

    /// # Errors
    /// What is wrong with the endpoint.
    pub(super) fn new(
        endpoint: &str,
        service: &'static str,
        version: &'static str,
        instance: &str,
    ) -> Result<Self, String> {
        let exporter = exporter(endpoint)?;
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
        Ok(Self { processor, scope })
    }

    pub(super) fn record(&self, span: SpanRecord) {
        let context = |trace: u128, id: u64, remote: bool| {
            let (trace, id) = (TraceId::from(trace), SpanId::from(id));
            SpanContext::new(trace, id, TraceFlags::SAMPLED, remote, TraceState::default())
        };
        let mut links = SpanLinks::default();
        links.links.extend(span.caused_by.map(|(trace, id)| Link::with_context(context(trace, id, true))));
        self.processor.on_end(SpanData {
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
            instrumentation_scope: self.scope.clone(),
        });
    }

    pub(super) fn end(&self) {
        if let Err(error) = self.processor.shutdown_with_timeout(EXPORT_TIMEOUT) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}
