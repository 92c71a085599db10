//! The process: wiring, tasks, and the order in which they end.

use crate::access::AccessLayer;
use crate::admin::{self, Admin};
use crate::connection::{GrpcConnection, cut_stalled};
use crate::dashboard;
use crate::health;
use crate::hot::HotList;
use crate::limits::Limits;
use crate::service::Interactions;
use crate::watch::Watch;
use anyhow::Context as _;
use consistency::Checker;
use event_bus::{BusConfig, Publisher};
use interaction_proto::v1::interaction_service_server::InteractionServiceServer;
use interaction_proto::v1::sync_admin_service_server::SyncAdminServiceServer;
use service_runtime::{Context, Gate, Protocol, RequestIdLayer, ServiceConfig};
use settings::Settings;
use std::net::SocketAddr;
use std::time::Duration;
use sync_engine::Stores;
use sync_engine::accept::Acceptor;
use sync_engine::apply::Applier;
use sync_engine::deliver::relay::Relay;
use sync_engine::read::Reader;
use sync_engine::read::live::LiveCounts;
use sync_engine::read::warm_up::Warmer;
use sync_engine::recover::probe;
use sync_engine::recover::recheck::Recheck;
use sync_engine::recover::redeliver::Rescuer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic_health::ServingStatus;

/// Largest gRPC message in bytes: a full batch with longest keys fits well.
const MAX_MESSAGE: usize = 256 * 1024;

const MAX_STREAMS: u32 = 1024;

/// All headers of a call together, in bytes.
const MAX_HEADERS: u32 = 16 * 1024;

/// How long the last health status may travel to its watchers.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// The addresses, taken before anything starts: a port in use is found at once.
#[derive(Debug)]
pub struct Sockets {
    grpc: TcpListener,
    http: TcpListener,
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

/// Serves until the soft token: then gRPC finishes what it has, the relay publishes what was accepted, and the rest
/// ends. Whatever the hard token interrupts is in the journal.
///
/// Without a broker the relay applies every event directly, and this process is the only one: then it checks itself, as
/// a consistency-checker would.
pub async fn serve(
    context: Context,
    settings: Settings,
    sockets: Sockets,
    stores: Stores,
    broker: Option<BusConfig>,
) -> anyhow::Result<()> {
    let sync = &settings.event_driven_sync;
    health::register(&context.health, &stores, broker.is_some());
    let startup = context.health.startup();
    let (recheck, recheck_task) = Recheck::new(stores.clone());
    let reader = Reader::new(stores.clone(), recheck.clone());
    let warmer = Warmer::new(stores.clone(), recheck.clone(), settings.cache_management.warmup);
    let owner = context.instance.to_string();
    let checker = Checker::new(stores.clone(), settings.data_consistency.clone(), owner.clone());
    let publisher = || broker.clone().map(Publisher::new);
    let admin = Admin::new(stores.clone(), reader.clone(), warmer.clone(), checker.clone(), publisher());
    let hot = HotList::new(checker.clone(), reader.clone());
    let polls = Reader::new(stores.clone(), recheck.clone());
    let live = LiveCounts::new(polls, settings.cache_management.live_counts);
    context.serve_ops(sockets.http, dashboard::routes().merge(admin::routes(admin.clone())));
    stores.prepare().await?;

    let applier = Applier::new(stores.clone(), sync.retry.into());
    let (relay_handle, relay) =
        Relay::new(stores.clone(), applier.clone(), publisher(), sync.relay_capacity, sync.batch_size);
    let rescuer = Rescuer::new(stores.clone(), applier, publisher(), owner, sync);

    // These serve the others until the last like is relayed.
    let helpers = context.hard.child_token();
    let interval = sync.circuit.probe_interval;
    let relaying = context.tracker.spawn(relay.run(context.hard.clone()));
    context.tracker.spawn(recheck_task.run(helpers.clone()));
    context.tracker.spawn(rescuer.run(context.soft.clone()));
    context.tracker.spawn(probe::watch_cache(stores.clone(), interval, helpers.clone()));
    context.tracker.spawn(probe::watch_database(stores.clone(), interval, helpers.clone()));
    if let Some(publisher) = publisher() {
        context.tracker.spawn(probe::watch_broker(stores.clone(), publisher, interval, helpers.clone()));
    }

    context.tracker.spawn(live.clone().run(context.soft.clone()));
    context.tracker.spawn(warmer.run_at_start(context.soft.clone()));
    if broker.is_none() {
        context.tracker.spawn(checker.run(context.soft.clone()));
    }

    let acceptor = Acceptor::new(stores.clone(), relay_handle, recheck, sync.direct_writes, sync.write_path());
    let limits = Limits::new(&settings.rate_limiting);
    startup.ok();
    let interactions = Interactions::new(
        acceptor,
        reader,
        stores.database.clone(),
        limits,
        hot,
        Watch::new(live.clone(), context.soft.clone()),
    );
    serve_grpc(&context, sockets.grpc, interactions, admin, live).await?;

    // The last acceptor is gone with the server, so the relay ends when it has relayed everything.
    relaying.await.context("relay")?;
    helpers.cancel();
    Ok(())
}

async fn serve_grpc(
    context: &Context,
    listener: TcpListener,
    interactions: Interactions,
    admin: Admin,
    live: LiveCounts,
) -> anyhow::Result<()> {
    let (mut reporter, health_service) = tonic_health::server::health_reporter();
    reporter.set_serving::<InteractionServiceServer<Interactions>>().await;
    reporter.set_serving::<SyncAdminServiceServer<Admin>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(interaction_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("reflection")?;
    let service = InteractionServiceServer::new(interactions)
        .max_decoding_message_size(MAX_MESSAGE)
        .accept_compressed(tonic::codec::CompressionEncoding::Gzip);
    let soft = context.soft.clone();
    let goodbye = async move {
        soft.cancelled().await;
        let services = [
            "",
            <InteractionServiceServer<Interactions> as NamedService>::NAME,
            <SyncAdminServiceServer<Admin> as NamedService>::NAME,
        ];
        for service in services {
            reporter.set_service_status(service, ServingStatus::NotServing).await;
        }
        // Watchers hear that once more and then their streams end: they would keep the server from stopping.
        tokio::time::sleep(LAST_WORDS).await;
        for service in services {
            reporter.clear_service_status(service).await;
        }
    };
    let cut = CancellationToken::new();
    // Ends when the server has stopped asking, and not before: tonic would take that for the end and skip the goodbye.
    let incoming = context.gate.accept(listener, Protocol::Http2, CancellationToken::new());
    let server = Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        // Its own grace would cut connections without having asked them to end: the gate does that.
        .max_connection_age(context.gate.max_connection_age())
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .layer(RequestIdLayer)
        .layer(AccessLayer::new(context.gate.access.clone()))
        .add_service(health_service)
        .add_service(reflection)
        .add_service(service)
        .add_service(SyncAdminServiceServer::new(admin).max_decoding_message_size(MAX_MESSAGE))
        .serve_with_incoming_shutdown(GrpcConnection::stream(incoming, cut.clone()), goodbye);
    tokio::select! {
        result = server => result.context("gRPC server"),
        () = context.hard.cancelled() => anyhow::bail!("gRPC requests did not end in time"),
        () = cut_stalled(context.soft.clone(), live, cut) => Ok(()),
    }
}
