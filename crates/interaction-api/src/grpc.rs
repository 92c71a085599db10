//! The gRPC stack: limits of the protocol, reflection, health, request ids, roles; and how it ends.

mod access;
mod calls;
mod connection;

use crate::admin::Admin;
use crate::request::lengths::{LONGEST, SHORT};
use crate::request::unread;
use crate::service::{Interactions, callers};
use access::AccessLayer;
use anyhow::Context as _;
use calls::CallsLayer;
use connection::{GrpcConnection, cut_stalled};
use interaction_proto::v1::interaction_service_server::InteractionServiceServer;
use interaction_proto::v1::sync_admin_service_server::SyncAdminServiceServer;
use service_runtime::{Context, Gate, Protocol, RequestIdLayer, ServiceConfig};
use std::net::SocketAddr;
use std::time::Duration;
use sync_engine::read::live::LiveCounts;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// What a client may send before it is read, of one call and of all calls of a connection: requests are read at once, so a long
/// one takes no longer for it.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;

/// All headers of a call together, in bytes.
const MAX_HEADERS: u32 = 16 * 1024;

/// How long the last health status may travel to its watchers.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// What gRPC health knows; the empty name stands for the whole process.
const SERVICES: [&str; 3] = [
    "",
    <InteractionServiceServer<Interactions> as NamedService>::NAME,
    <SyncAdminServiceServer<Admin> as NamedService>::NAME,
];

/// The addresses, taken before anything starts: a port in use is found at once.
#[derive(Debug)]
pub struct Sockets {
    /// For `serve`.
    pub grpc: TcpListener,
    /// For [`Context::serve_ops`].
    pub http: TcpListener,
}

impl Sockets {
    /// Binds `service.grpc_addr` and `service.http_addr`, as far as the gate allows it.
    pub async fn bind(gate: &Gate, service: &ServiceConfig) -> anyhow::Result<Self> {
        let grpc = gate.listen("service.grpc_addr", service.grpc_addr).await?;
        let http = gate.listen("service.http_addr", service.http_addr).await?;
        tracing::info!(grpc = %grpc.local_addr()?, http = %http.local_addr()?, "listening");
        Ok(Self { grpc, http })
    }

    /// Where gRPC and ops HTTP are served.
    pub fn addresses(&self) -> std::io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.grpc.local_addr()?, self.http.local_addr()?))
    }
}

/// Serves until the soft token, and then lets calls end; fails at the hard token.
pub(crate) async fn serve(
    context: Context,
    listener: TcpListener,
    interactions: Interactions,
    admin: Admin,
    live: LiveCounts,
) -> anyhow::Result<()> {
    let (reporter, health_service) = tonic_health::server::health_reporter();
    for service in SERVICES {
        reporter.set_service_status(service, ServingStatus::Serving).await;
    }
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(interaction_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let reflection = described().build_v1().context("reflection")?.max_decoding_message_size(SHORT);
    // Clients that are older than v1, or ask for it first.
    let alpha = described().build_v1alpha().context("reflection")?.max_decoding_message_size(SHORT);
    let service = callers(interactions);
    let cut = CancellationToken::new();
    // Ends when the server has stopped asking, and not before: tonic would take that for the end and skip the goodbye.
    let incoming = context.gate.accept(listener, Protocol::Http2, CancellationToken::new());
    let server = Server::builder()
        .max_concurrent_streams(context.gate.max_calls_per_connection())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        // Its own grace would cut connections without having asked them to end: the gate does that.
        .max_connection_age(context.gate.max_connection_age())
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .layer(CallsLayer::new(context.gate.unfinished().clone()))
        .layer(RequestIdLayer)
        .layer(AccessLayer::new(&context.gate))
        .layer(tower::util::MapResponseLayer::new(unread::told))
        .add_service(health_service.max_decoding_message_size(SHORT))
        .add_service(reflection)
        .add_service(alpha)
        .add_service(service)
        .add_service(SyncAdminServiceServer::new(admin).max_decoding_message_size(LONGEST))
        .serve_with_incoming_shutdown(
            GrpcConnection::stream(incoming, cut.clone()),
            goodbye(context.soft.clone(), reporter),
        );
    tokio::select! {
        result = server => result.context("gRPC server"),
        () = context.hard.cancelled() => anyhow::bail!("gRPC requests did not end in time"),
        () = cut_stalled(context.soft.clone(), live, cut) => Ok(()),
    }
}

/// Tells watchers of gRPC health that this server stops.
async fn goodbye(soft: CancellationToken, mut reporter: HealthReporter) {
    soft.cancelled().await;
    for service in SERVICES {
        reporter.set_service_status(service, ServingStatus::NotServing).await;
    }
    // Watchers hear that once more and then their streams end: they would keep the server from stopping.
    tokio::time::sleep(LAST_WORDS).await;
    for service in SERVICES {
        reporter.clear_service_status(service).await;
    }
}
