//! One like's spans, sent by server and consumer to a collector.

use crate::client::{Grpc, PATIENCE, deployed, like, started, video};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use test_support::eventually;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Spans with the service that sent them.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, Span)>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for from in request.into_inner().resource_spans {
            let resource = from.resource.unwrap_or_default();
            let name = resource.attributes.into_iter().find(|attribute| attribute.key == "service.name");
            let Some(Value::StringValue(service)) = name.and_then(|name| name.value).and_then(|value| value.value)
            else {
                return Err(Status::invalid_argument("no service.name"));
            };
            let spans = from.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.lock().unwrap().extend(spans.map(|span| (service.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> (Self, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let collector = Self::default();
        let service = TraceServiceServer::new(collector.clone());
        let serving = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
        (collector, format!("http://{address}"))
    }

    /// By name.
    fn of(&self, trace: &[u8]) -> BTreeMap<String, (String, Span)> {
        let spans = self.0.lock().unwrap();
        let of_trace = spans.iter().filter(|(_, span)| span.trace_id == trace);
        of_trace.map(|(service, span)| (span.name.clone(), (service.clone(), span.clone()))).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_like_is_one_trace_from_the_call_to_the_settled_cache() {
    let (collector, endpoint) = Collector::start().await;
    let deployment =
        deployed().await.with("MONITORING__TRACING__ENDPOINT", &endpoint).with("MONITORING__TRACING__ONE_IN", "1");
    let (server, _consumer) = started(&deployment).await;
    let mut request = Request::new(like(7, video(3)));
    request.metadata_mut().insert("traceparent", CALLER.parse().unwrap());
    let version = server.client().await.like(request).await.unwrap().into_inner().version;

    // The trace's id is the event's.
    let query = format!("SELECT HEX(id) FROM sync_events WHERE version = {version} AND status = 'completed'");
    let trace = eventually(PATIENCE, "the event", async || {
        let hex = deployment.sql(&query).await.map_err(|error| error.to_string())?;
        u128::from_str_radix(hex.trim(), 16).map(|id| id.to_be_bytes().to_vec()).map_err(|error| error.to_string())
    })
    .await;
    let names: BTreeSet<_> = ["accept like", "publish likes", "apply likes", "settle likes"].map(str::to_owned).into();
    let spans = eventually(PATIENCE, "all spans", async || {
        let spans = collector.of(&trace);
        let seen: BTreeSet<_> = spans.keys().cloned().collect();
        if seen == names { Ok(spans) } else { Err(format!("{seen:?}")) }
    })
    .await;

    let (service, first) = &spans["accept like"];
    assert_eq!((service.as_str(), first.parent_span_id.len()), ("interaction-server", 0));
    assert_eq!(first.span_id, trace[8..]);
    let cause = &first.links[0];
    assert_eq!(hex(&cause.trace_id) + "-" + &hex(&cause.span_id), CALLER[3..52]);
    let resource = first.attributes.iter().find(|attribute| attribute.key == "like.resource").unwrap();
    assert_eq!(resource.value.as_ref().unwrap().value, Some(Value::StringValue("video:3".to_owned())));
    for (name, by) in
        [("publish likes", "interaction-server"), ("apply likes", "sync-consumer"), ("settle likes", "sync-consumer")]
    {
        let (service, span) = &spans[name];
        assert_eq!((service.as_str(), &span.parent_span_id), (by, &first.span_id), "{name}");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{name}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_not_there_holds_nobody_up() {
    let deployment = deployed()
        .await
        .with("MONITORING__TRACING__ENDPOINT", "http://127.0.0.1:9")
        .with("MONITORING__TRACING__ONE_IN", "1");
    let server = deployment.server().start_ready().await.unwrap();
    let mut client = server.client().await;
    for user in 1..=200 {
        client.like(like(user, video(1))).await.unwrap();
    }
    server.terminate().unwrap();
    let status = server.wait_exit(PATIENCE).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", server.log());
}
