//! gRPC and ops HTTP of the real program behind tokens and TLS; the other programs refuse the same.

use crate::deployment::{Client, PATIENCE, Standalone, like};
use interaction_proto::v1::interaction_service_client::InteractionServiceClient;
use interaction_proto::v1::sync_admin_service_client::SyncAdminServiceClient;
use interaction_proto::v1::{self, ApplyLikesRequest, GetLikeCountsRequest};
use std::path::PathBuf;
use test_support::{Authority, Binary, Credential, eventually, http, lease_port};
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};

const TOKENS: &str = "\
scraper metrics token-that-scrapes-1
some    write   token-of-some-users-1 users=1-9 types=video
reader  read    token-that-reads-1
service write   token-that-writes-1
alice   operate token-that-operates-1
";
const CALLERS: [(&str, Option<&str>); 5] = [
    ("nobody", None),
    ("unknown", Some("Bearer token-that-nobody-has")),
    ("reader", Some("Bearer token-that-reads-1")),
    ("service", Some("Bearer token-that-writes-1")),
    ("alice", Some("Bearer token-that-operates-1")),
];

pub(crate) fn with_tokens(mut standalone: Standalone) -> Standalone {
    standalone.deployment = standalone.deployment.with_tokens(TOKENS).unwrap();
    standalone
}

fn as_caller<T>(value: Option<&str>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(value) = value {
        request.metadata_mut().insert("authorization", MetadataValue::try_from(value).unwrap());
    }
    request
}

fn code<T>(answer: Result<T, Status>) -> Code {
    answer.err().map_or(Code::Ok, |status| {
        assert!(!status.message().contains("token-that"), "{status:?}");
        status.code()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_needs_its_role() {
    let standalone = with_tokens(Standalone::new().await).with("MONITORING__LOG_LEVEL", "trace");
    let server = standalone.start_ready().await;
    let channel = standalone.channel().await;
    let (mut client, mut admin) = (Client::new(channel.clone()), SyncAdminServiceClient::new(channel.clone()));
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let mut reflection =
        tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let (nobody, low) = (Code::Unauthenticated, Code::PermissionDenied);
    for (name, token) in CALLERS {
        let (read, write, operate) = match name {
            "nobody" | "unknown" => (nobody, nobody, nobody),
            "reader" => (Code::Ok, low, low),
            "service" => (Code::Ok, Code::Ok, low),
            _ => (Code::Ok, Code::Ok, Code::Ok),
        };
        let counts = GetLikeCountsRequest { resources: vec![crate::deployment::video(1)], ..Default::default() };
        assert_eq!(code(client.get_like_counts(as_caller(token, counts)).await), read, "{name} GetLikeCounts");
        let stats = v1::GetCacheStatsRequest::default();
        assert_eq!(code(admin.get_cache_stats(as_caller(token, stats)).await), read, "{name} GetCacheStats");
        assert_eq!(code(client.like(as_caller(token, like(1, 1))).await), write, "{name} Like");
        let none = as_caller(token, ApplyLikesRequest::default());
        let applied = code(client.apply_likes(none).await);
        let expected = if write == Code::Ok { Code::InvalidArgument } else { write };
        assert_eq!(applied, expected, "{name} ApplyLikes of nothing");
        let warm = as_caller(token, v1::WarmUpRequest { top_resources: 1, ..v1::WarmUpRequest::default() });
        assert_eq!(code(admin.warm_up(warm).await), operate, "{name} WarmUp");
        let asked = tonic_reflection::pb::v1::ServerReflectionRequest {
            message_request: Some(tonic_reflection::pb::v1::server_reflection_request::MessageRequest::ListServices(
                String::new(),
            )),
            ..Default::default()
        };
        let asked = as_caller(token, tokio_stream::once(asked));
        assert_eq!(code(reflection.server_reflection_info(asked).await), operate, "{name} reflection");
        let check = as_caller(token, tonic_health::pb::HealthCheckRequest::default());
        assert_eq!(code(health.check(check).await), Code::Ok, "{name} health");
    }
    // Nothing of what was refused has happened: one like, by who may.
    let asked = GetLikeCountsRequest { resources: vec![crate::deployment::video(1)], ..Default::default() };
    let counts = client.get_like_counts(as_caller(CALLERS[2].1, asked)).await.unwrap().into_inner();
    assert_eq!(counts.counts[0].count, 1);

    for (header, expected) in [
        (None, 401),
        (Some("Authorization: Bearer token-that-scrapes-1"), 200),
        (Some("Authorization: Bearer token-that-reads-1"), 200),
    ] {
        let headers: Vec<_> = header.into_iter().collect();
        let answer = http::send(&standalone.http_addr(), "GET /metrics", &headers, "").await.unwrap();
        assert_eq!(answer.status, expected);
        if expected == 200 {
            let line = r#"interaction_access_denied_total{surface="grpc",reason="unknown"}"#;
            assert!(answer.body.contains(line), "{}", answer.body);
        }
    }
    let log = server.log();
    assert!(!log.contains("token-that"), "a token is in the log:\n{log}");
    server.end(PATIENCE).await.unwrap();
}

/// Who scrapes sees no likes, and whoever is limited acts for its own users, about its own types, and looks at nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limited_token_reaches_no_further() {
    let standalone = with_tokens(Standalone::new().await);
    let server = standalone.start_ready().await;
    let channel = standalone.channel().await;
    let (mut client, mut admin) = (Client::new(channel.clone()), SyncAdminServiceClient::new(channel));
    let (denied, scrapes, some) =
        (Code::PermissionDenied, Some("Bearer token-that-scrapes-1"), Some("Bearer token-of-some-users-1"));
    let video = || crate::deployment::video(1);
    let comment = || v1::Resource { r#type: v1::ResourceType::Comment.into(), id: 1 };
    let counts = |resource| GetLikeCountsRequest { resources: vec![resource], ..Default::default() };
    assert_eq!(code(client.get_like_counts(as_caller(scrapes, counts(video()))).await), denied);
    for (user, expected) in [(9, Code::Ok), (10, denied)] {
        assert_eq!(code(client.like(as_caller(some, like(user, 1))).await), expected, "user {user}");
        let operation = v1::LikeOperation {
            user_id: user,
            resource: Some(video()),
            action: v1::Action::Like.into(),
            ..v1::LikeOperation::default()
        };
        // Within many likes only those are refused that are not for this token.
        let own = v1::LikeOperation { user_id: 9, ..operation.clone() };
        let foreign = v1::LikeOperation { resource: Some(comment()), ..own.clone() };
        let apply = ApplyLikesRequest { operations: vec![operation, foreign, own] };
        let results = client.apply_likes(as_caller(some, apply)).await.unwrap().into_inner().results;
        let codes = results.into_iter().map(|result| match result.outcome.unwrap() {
            v1::like_result::Outcome::Response(_) => Code::Ok,
            v1::like_result::Outcome::Error(error) => Code::from_i32(error.code),
        });
        assert_eq!(codes.collect::<Vec<_>>(), [expected, denied, Code::Ok], "user {user}");
        let states = v1::GetLikeStatesRequest { user_id: user, resources: vec![video()] };
        assert_eq!(code(client.get_like_states(as_caller(some, states)).await), expected, "user {user}");
        let both = v1::GetLikeSummariesRequest { user_id: user, resources: vec![video()], ..Default::default() };
        assert_eq!(code(client.get_like_summaries(as_caller(some, both)).await), expected, "user {user}");
        let both = v1::GetLikeSummariesRequest { user_id: user, resources: vec![comment()], ..Default::default() };
        assert_eq!(code(client.get_like_summaries(as_caller(some, both)).await), denied, "user {user}");
        let list = v1::ListLikedResourcesRequest {
            user_id: user,
            r#type: v1::ResourceType::Video.into(),
            ..v1::ListLikedResourcesRequest::default()
        };
        assert_eq!(code(client.list_liked_resources(as_caller(some, list)).await), expected, "user {user}");
        let body = format!(r#"{{"user_id":{user},"resource_type":"video","resource_id":2,"action":"like"}}"#);
        let headers = ["Authorization: Bearer token-of-some-users-1", "Content-Type: application/json"];
        let answer = http::send(&standalone.http_addr(), "POST /v1/likes", &headers, &body).await.unwrap();
        assert_eq!(answer.status == 200, expected == Code::Ok, "{}", answer.body);
    }
    for (resource, expected) in [(video(), Code::Ok), (comment(), denied)] {
        let about = v1::LikeRequest { resource: Some(resource), ..like(1, 1) };
        assert_eq!(code(client.like(as_caller(some, about)).await), expected);
        assert_eq!(code(client.get_like_counts(as_caller(some, counts(resource))).await), expected);
        let watch = v1::WatchLikeCountsRequest { resources: vec![resource] };
        assert_eq!(code(client.watch_like_counts(as_caller(some, watch)).await), expected);
        let hot = v1::ListHotResourcesRequest { r#type: resource.r#type, ..v1::ListHotResourcesRequest::default() };
        assert_eq!(code(client.list_hot_resources(as_caller(some, hot)).await), expected);
    }
    // What tells of all users or types, and what knows no limits.
    let likers = v1::ListLikersRequest { resource: Some(video()), ..v1::ListLikersRequest::default() };
    assert_eq!(code(client.list_likers(as_caller(some, likers)).await), denied);
    assert_eq!(code(client.list_hot_resources(as_caller(some, v1::ListHotResourcesRequest::default())).await), denied);
    let explain = v1::ExplainLikeRequest { user_id: 1, resource: Some(video()) };
    assert_eq!(code(admin.explain_like(as_caller(some, explain)).await), denied);
    let only_by_nine = client.get_like_counts(as_caller(CALLERS[2].1, counts(video()))).await.unwrap().into_inner();
    assert_eq!(only_by_nine.counts[0].count, 2, "users 1 and 9");
    server.end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_operators_do_is_written_down_with_whose_token_it_was() {
    let standalone = with_tokens(Standalone::new().await);
    let server = standalone.start_ready().await;
    let headers = ["Authorization: Bearer token-that-operates-1", "Content-Type: application/json"];
    let body = r#"{"ids":["01890000-0000-7000-8000-000000000001"],"actor":"bob"}"#;
    let answer = http::send(&standalone.http_addr(), "POST /events/replay", &headers, body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let mut admin = SyncAdminServiceClient::new(standalone.channel().await);
    let selection =
        v1::EventSelection { ids: vec!["01890000-0000-7000-8000-000000000002".to_owned()], ..Default::default() };
    let replay = v1::ReplayEventsRequest { selection: Some(selection), ..Default::default() };
    admin.replay_events(as_caller(CALLERS[4].1, replay)).await.unwrap();
    eventually(PATIENCE, "both in the overview", async || {
        let answer = http::send(&standalone.http_addr(), "GET /overview", &headers[..1], "").await.unwrap();
        let overview: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let actions = overview["actions"].as_array().cloned().unwrap_or_default();
        let actors: Vec<_> = actions.iter().filter_map(|action| action["actor"].as_str()).collect();
        if actors == ["token alice, 127.0.0.1", "bob (token alice, 127.0.0.1)"] {
            Ok(())
        } else {
            Err(format!("{actors:?}"))
        }
    })
    .await;
    server.end(PATIENCE).await.unwrap();
}

/// What log lines of this message say their request is.
fn logged_ids(log: &str, message: &str) -> Vec<String> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let of_message = lines.filter(|line| line["message"] == message);
    of_message.map(|line| line["span"]["id"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_has_one_id_for_its_caller_and_in_the_log() {
    let standalone = with_tokens(Standalone::new().await)
        .with("MONITORING__LOG_LEVEL", "debug")
        .with("MONITORING__LOG_FORMAT", "json");
    let server = standalone.start_ready().await;
    let mut client = Client::new(standalone.channel().await);
    let named = |id: &str, token, message| {
        let mut request = as_caller(token, message);
        request.metadata_mut().insert("x-request-id", id.parse().unwrap());
        request
    };
    let id_of = |metadata: &tonic::metadata::MetadataMap| {
        metadata.get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned()
    };
    let writes = CALLERS[3].1;
    let answer = client.like(named("checkout-1", writes, like(1, 1))).await.unwrap();
    assert_eq!(id_of(answer.metadata()), "checkout-1");
    let made = id_of(client.like(as_caller(writes, like(2, 1))).await.unwrap().metadata());
    assert!(made.len() == 16 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{made}");
    let refused = client.like(named("checkout-2", None, like(3, 1))).await.unwrap_err();
    assert_eq!((refused.code(), id_of(refused.metadata())), (Code::Unauthenticated, "checkout-2".to_owned()));
    let invalid = client.like(named("checkout-3", writes, like(-3, 1))).await.unwrap_err();
    assert_eq!((invalid.code(), id_of(invalid.metadata())), (Code::InvalidArgument, "checkout-3".to_owned()));

    let headers = ["X-Request-Id: shift-4"];
    let answer = http::send(&standalone.http_addr(), "GET /metrics", &headers, "").await.unwrap();
    assert!(answer.status == 401 && answer.head.contains("x-request-id: shift-4"), "{}", answer.head);
    let headers = ["X-Request-Id: shift-5", "Authorization: Bearer token-that-reads-1"];
    let answer = http::send(&standalone.http_addr(), "GET /nothing", &headers, "").await.unwrap();
    assert!(answer.status == 404 && answer.head.contains("x-request-id: shift-5"), "{}", answer.head);

    let expected = ["checkout-1", made.as_str(), "checkout-2", "checkout-3", "shift-4", "shift-5"];
    eventually(PATIENCE, "a line for each request", async || {
        let logged = logged_ids(&server.log(), "answered");
        let once = |id: &&str| logged.iter().filter(|one| one == id).count() == 1;
        if expected.iter().all(once) { Ok(()) } else { Err(format!("{logged:?}")) }
    })
    .await;
    server.end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_shows_its_token() {
    let standalone = with_tokens(Standalone::new().await);
    let server = standalone.start_ready().await;
    let file = standalone.path().join("own-token");
    std::fs::write(&file, "token-that-writes-1\n").unwrap();
    let call = async |args: &[&str], token: &str| {
        let run = Binary::build("syncctl").args(args.iter().copied()).args(["--addr", &standalone.grpc_addr()]);
        let run = run.env("TOKEN", token).start().unwrap();
        let status = run.wait_exit(PATIENCE).await.unwrap();
        assert!(!run.log().contains("token-that"), "{}", run.log());
        (status.code(), run.log())
    };
    let (status, log) = call(&["like", "7", "video:7"], "").await;
    assert!(status == Some(1) && log.contains("token is needed"), "{status:?} {log}");
    let (status, log) = call(&["like", "7", "video:7"], "token-that-reads-1").await;
    assert!(status == Some(1) && log.contains("needs role write"), "{status:?} {log}");
    let (status, log) = call(&["like", "7", "video:7"], "token that is none\u{7}").await;
    assert!(status == Some(2) && log.contains("--token"), "{status:?} {log}");
    let (status, log) = call(&["like", "7", "video:7", "--token-file", file.to_str().unwrap()], "").await;
    assert!(status == Some(0) && log.contains("liked, count 1"), "{status:?} {log}");
    let (status, log) = call(&["check", "video:7"], "token-that-operates-1").await;
    assert_eq!(status, Some(0), "{log}");
    server.end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_with_tls_and_certificates_of_clients() {
    let (ca, other) = (Authority::new("ours").unwrap(), Authority::new("theirs").unwrap());
    let mut standalone = Standalone::new().await;
    standalone.deployment = standalone.deployment.with_tls(&ca.issue("server").unwrap(), Some(&ca.ca()));
    let server = standalone.program().start().unwrap();
    let pem = |file: &PathBuf| std::fs::read_to_string(file).unwrap();
    let connect = async |ca: &Authority, own: Option<&Credential>| {
        let mut tls =
            ClientTlsConfig::new().domain_name("localhost").ca_certificate(Certificate::from_pem(pem(&ca.ca())));
        if let Some(own) = own {
            tls = tls.identity(Identity::from_pem(pem(&own.cert), pem(&own.key)));
        }
        let endpoint =
            Endpoint::from_shared(format!("https://{}", standalone.grpc_addr())).unwrap().tls_config(tls).unwrap();
        let mut client = InteractionServiceClient::new(endpoint.connect().await.map_err(|error| error.to_string())?);
        client.like(like(3, 3)).await.map_err(|status| status.to_string())
    };
    let good = ca.issue("client").unwrap();
    eventually(PATIENCE, "a like by TLS", async || connect(&ca, Some(&good)).await.map(drop)).await;
    assert!(connect(&ca, None).await.is_err(), "served without a certificate");
    assert!(connect(&ca, Some(&other.issue("client").unwrap())).await.is_err(), "served with a foreign certificate");
    assert!(connect(&ca, Some(&ca.issue_expired("old").unwrap())).await.is_err(), "served with an expired certificate");
    assert!(connect(&other, Some(&good)).await.is_err(), "the server's authority does not matter");
    let plain = Channel::from_shared(format!("http://{}", standalone.grpc_addr())).unwrap().connect().await;
    let served = match plain {
        Ok(channel) => Client::new(channel).like(like(4, 3)).await.is_ok(),
        Err(_) => false,
    };
    assert!(!served, "served without TLS");

    let counts = Binary::build("syncctl").args([
        "counts",
        "video:3",
        "-o",
        "tsv",
        "--addr",
        &standalone.grpc_addr(),
        "--ca-file",
    ]);
    let counts = counts.arg(ca.ca()).arg("--client-cert-file").arg(&good.cert).arg("--client-key-file").arg(&good.key);
    let counts = counts.start().unwrap();
    let status = counts.wait_exit(PATIENCE).await.unwrap();
    assert!(status.success() && counts.log().contains("video:3\t1"), "{}", counts.log());
    server.end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_program_refuses_to_be_reached_without_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let any = |port: &test_support::PortLease| format!("0.0.0.0:{}", port.port());
    for (program, key) in [
        ("interaction-server", "grpc_addr"),
        ("interaction-server", "http_addr"),
        ("sync-consumer", "consumer_http_addr"),
        ("consistency-checker", "checker_http_addr"),
        ("standalone", "grpc_addr"),
        ("standalone", "http_addr"),
    ] {
        let ports = [lease_port().unwrap(), lease_port().unwrap()];
        let mut binary = Binary::build(program)
            .env("INTERACTION_DATA_DIR", dir.path().join(key))
            .env("INTERACTION__SERVICE__GRPC_ADDR", ports[0].addr().to_string())
            .env("INTERACTION__SERVICE__HTTP_ADDR", ports[1].addr().to_string());
        binary = binary.env(format!("INTERACTION__SERVICE__{}", key.to_uppercase()), any(&ports[0]));
        let binary = binary.start().unwrap();
        let status = binary.wait_exit(PATIENCE).await.unwrap();
        let log = binary.log();
        assert_eq!(status.code(), Some(64), "{program}: {log}");
        for word in [&format!("service.{key}"), "service.access.tokens_file", "service.access.insecure"] {
            assert!(log.contains(word), "{program}: {word} in {log}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_and_insecure_open_it_to_others() {
    let port = |addr: &str| addr.rsplit(':').next().unwrap().to_owned();
    let standalone = Standalone::new().await;
    let any = format!("0.0.0.0:{}", port(&standalone.http_addr()));
    let standalone = standalone.with("SERVICE__ACCESS__INSECURE", "true");
    let server = standalone.program().http_addr(&any).start().unwrap();
    server.wait_ready().await.unwrap();
    server.end(PATIENCE).await.unwrap();
    let standalone = with_tokens(standalone).with("SERVICE__ACCESS__INSECURE", "false");
    let server = standalone.program().http_addr(&any).start().unwrap();
    server.wait_ready().await.unwrap();
    assert!(server.log().contains("unencrypted"), "{}", server.log());
    server.end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_shows_no_token_and_says_so() {
    let standalone = with_tokens(Standalone::new().await);
    let server = standalone.program().arg("--demo").start().unwrap();
    assert_eq!(server.wait_exit(PATIENCE).await.unwrap().code(), Some(64), "{}", server.log());
    assert!(server.log().contains("--demo"), "{}", server.log());
}
