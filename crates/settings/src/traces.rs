//! The engine's spans, sent by the runtime's exporter.

use crate::Settings;
use service_runtime::{Context, Otlp, SpanKind, SpanRecord};
use std::sync::Arc;
use sync_engine::trace::{Span, SpanSink, Stage, Traces};

#[derive(Debug)]
struct Sink(Otlp);

impl SpanSink for Sink {
    fn take(&self, span: Span) {
        let mut attributes = vec![
            ("like.resource", format!("{}:{}", span.pair.resource.kind.name(), span.pair.resource.id)),
            ("like.user", span.pair.user.to_string()),
            ("like.batch", span.batch.to_string()),
        ];
        attributes.extend(span.version.map(|version| ("like.version", version.to_string())));
        self.0.record(SpanRecord {
            trace: span.trace.as_u128(),
            id: span.id,
            parent: span.parent,
            caused_by: span.caller.as_deref().and_then(traceparent),
            kind: match span.stage {
                Stage::Accept => SpanKind::Server,
                Stage::Publish => SpanKind::Producer,
                Stage::Apply | Stage::Settle => SpanKind::Consumer,
            },
            name: span.stage.name(),
            start: span.start,
            took: span.took,
            attributes,
            error: span.error,
        });
    }
}

impl Settings {
    /// What the engine traces in this process.
    pub fn traces(&self, context: &Context) -> Traces {
        let sink = context.otlp.clone().map(|otlp| Arc::new(Sink(otlp)));
        sink.map_or_else(Traces::default, |sink| Traces::new(self.monitoring.tracing.one_in, sink))
    }
}

/// Trace and span of a W3C `traceparent`: `00-<32 hexadecimal digits>-<16>-<2>`.
fn traceparent(header: &str) -> Option<(u128, u64)> {
    let mut parts = header.split('-');
    let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    let well_formed = version.len() == 2 && trace.len() == 32 && span.len() == 16;
    let ids = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
    (well_formed && ids.0 != 0 && ids.1 != 0).then_some(ids)
}

#[cfg(test)]
mod tests {
    use super::traceparent;

    #[test]
    fn only_whole_headers_count() {
        let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(traceparent(header), Some((0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7)));
        for wrong in
            ["", "00", "00-4bf9-00f067aa0ba902b7-01", &header.replace("4bf92f3577b34da6a3ce929d0e0e4736", "zz")]
        {
            assert_eq!(traceparent(wrong), None, "{wrong}");
        }
        assert_eq!(traceparent("00-00000000000000000000000000000000-00f067aa0ba902b7-01"), None);
    }
}
