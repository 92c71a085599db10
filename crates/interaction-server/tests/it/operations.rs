//! What operators and tools ask: reflection, gRPC health, ops HTTP.

use crate::client::{Grpc, PATIENCE, deployed, fresh_id, like, shared_server, started, video};
use test_support::{eventually, http};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

const SERVICE: &str = "interaction.v1.InteractionService";
const ADMIN: &str = "interaction.v1.SyncAdminService";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_lists_the_service_and_describes_it() {
    let mut client = ServerReflectionClient::new(shared_server().await.channel().await);
    let mut ask = async |request| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let mut answers = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
        answers.message().await.unwrap().unwrap().message_response.unwrap()
    };
    let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())).await else {
        panic!("no list of services");
    };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    for expected in [SERVICE, ADMIN, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"] {
        assert!(names.iter().any(|name| name == expected), "{expected} is not in {names:?}");
    }
    for method in [format!("{SERVICE}.ApplyLikes"), format!("{ADMIN}.CheckConsistency")] {
        let answer = ask(MessageRequest::FileContainingSymbol(method)).await;
        assert!(matches!(&answer, MessageResponse::FileDescriptorResponse(_)), "{answer:?}");
    }
}

/// What older clients ask, and stock ones of Python.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_of_the_version_before_says_the_same() {
    use tonic_reflection::pb::v1alpha;
    let channel = shared_server().await.channel().await;
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let mut ask = async |request| {
        let request = v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let mut answers = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
        answers.message().await.unwrap().unwrap().message_response.unwrap()
    };
    use v1alpha::server_reflection_request::MessageRequest;
    use v1alpha::server_reflection_response::MessageResponse;
    let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())).await else {
        panic!("no list of services");
    };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    for expected in [SERVICE, ADMIN, "grpc.health.v1.Health"] {
        assert!(names.iter().any(|name| name == expected), "{expected} is not in {names:?}");
    }
    let answer = ask(MessageRequest::FileContainingSymbol(format!("{SERVICE}.Like"))).await;
    assert!(matches!(&answer, MessageResponse::FileDescriptorResponse(_)), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_health_says_serving() {
    let mut client = HealthClient::new(shared_server().await.channel().await);
    for service in ["", SERVICE, ADMIN] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let status = client.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_names_every_part() {
    let (code, body) = shared_server().await.health().await.unwrap();
    assert_eq!((code, &body["service"]), (200, &"interaction-server".into()), "{body}");
    // The disk of the machine may be slow: then, and only then, the whole is less than well.
    let disk = &body["parts"]["redis_disk"]["status"];
    assert!(disk == "ok" || disk == "degraded", "{body}");
    assert_eq!(&body["status"], disk, "{body}");
    for part in ["redis", "rabbitmq", "mysql", "likes", "clocks", "flow"] {
        assert_eq!(body["parts"][part]["status"], "ok", "{part}: {body}");
    }
    let (code, _) = http::get(&shared_server().await.http(), "/health/live").await.unwrap();
    assert_eq!(code, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_show_every_name_from_the_start_and_count() {
    let deployment = deployed().await;
    let (server, consumer) = started(&deployment).await;
    let source = include_str!("../../../sync-engine/src/metrics.rs");
    let names: std::collections::BTreeSet<&str> = ["counter!(\"", "gauge!(\"", "histogram!(\""]
        .iter()
        .flat_map(|macro_name| source.split(macro_name).skip(1))
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert!(names.len() > 15, "{names:?}");
    for program in [server.http(), consumer.http()] {
        eventually(PATIENCE, "every metric", async || {
            let (_, text) = http::get(&program, "/metrics").await.unwrap();
            let shown = |name: &str| text.lines().any(|line| line.starts_with(name));
            // Only who accepts likes has a write path.
            let of_servers = |name: &str| name.starts_with("interaction_write_path_") && program == consumer.http();
            let missing: Vec<_> = names.iter().filter(|name| !shown(name) && !of_servers(name)).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} are missing at {program}")) }
        })
        .await;
    }

    let mut client = server.client().await;
    let (user, id) = (fresh_id(), fresh_id());
    for _ in 0..3 {
        client.like(like(user, video(id))).await.unwrap();
    }
    let value = async |program: &str, line: &str| {
        let (_, text) = http::get(program, "/metrics").await.unwrap();
        text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse::<f64>().ok())
    };
    assert_eq!(value(&server.http(), "interaction_likes_total{outcome=\"accepted\"}").await, Some(1.0));
    assert_eq!(value(&server.http(), "interaction_likes_total{outcome=\"unchanged\"}").await, Some(2.0));
    eventually(PATIENCE, "one applied event and its lag", async || {
        value(&consumer.http(), "interaction_applied_events_total").await == Some(1.0)
            && value(&consumer.http(), "interaction_commit_lag_seconds_count").await == Some(1.0)
            && value(&consumer.http(), "interaction_settled_entries_total").await == Some(1.0)
    })
    .await;
}
