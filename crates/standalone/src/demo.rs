//! Generated likes through the process's own gRPC, so that the page moves.

use interaction_proto::v1;
use interaction_proto::v1::interaction_service_client::InteractionServiceClient;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use traffic::Operation;
use traffic::generate::{Generator, Shape};

/// Users of the demo start here, apart from those that a person tries.
pub(crate) const FIRST_USER: i64 = 1_000_000_001;

const USERS: u64 = 20_000;
const RESOURCES: u64 = 200;
const TICK: Duration = Duration::from_millis(100);
const IN_FLIGHT: usize = 32;

/// Plays until `stop`. A call that fails is not repeated: there is always a next one.
pub(crate) async fn play(server: SocketAddr, rate: u32, stop: CancellationToken) {
    let shape = Shape {
        // Another sequence at every start: the same one again would change nothing.
        seed: u64::from(std::process::id()),
        first_user: FIRST_USER,
        users: USERS,
        resources: RESOURCES,
        zipf: 1.0,
        unlikes: 0.2,
        comments: 0.2,
        fresh_users: false,
    };
    let (generator, endpoint) =
        match (Generator::new(shape), Endpoint::from_shared(format!("http://{}", reach(server)))) {
            (Ok(generator), Ok(endpoint)) => (generator, endpoint),
            _ => return tracing::error!("the demo cannot reach its own server"),
        };
    let client = InteractionServiceClient::new(endpoint.connect_lazy());
    tokio::select! {
        () = stop.cancelled() => {}
        () = send(client, generator, rate) => {}
    }
}

async fn send(client: InteractionServiceClient<Channel>, mut operations: Generator, rate: u32) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut due = 0.0;
    loop {
        ticks.tick().await;
        due += f64::from(rate) * TICK.as_secs_f64();
        let now: Vec<Operation> = operations.by_ref().take(due as usize).collect();
        due -= now.len() as f64;
        let calls = futures::stream::iter(now);
        futures::StreamExt::for_each_concurrent(calls, IN_FLIGHT, |operation| call(client.clone(), operation)).await;
    }
}

async fn call(mut client: InteractionServiceClient<Channel>, operation: Operation) {
    let resource = Some(interaction_api::request::convert::wire_resource(operation.pair.resource));
    let (user_id, idempotency_key) = (operation.pair.user.get(), String::new());
    let answer = if operation.action.liked() {
        client.like(v1::LikeRequest { user_id, resource, idempotency_key }).await
    } else {
        client.unlike(v1::UnlikeRequest { user_id, resource, idempotency_key }).await
    };
    if let Err(status) = answer {
        tracing::debug!(%status, "demo");
    }
}

/// A server on all addresses is reached on this machine's own.
fn reach(server: SocketAddr) -> SocketAddr {
    let ip = match server.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, server.port())
}
