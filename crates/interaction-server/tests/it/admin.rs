//! What operators ask of a server, by gRPC and by HTTP: the same answers.

use crate::client::{Grpc, PATIENCE, deployed, fields, like, shared_server, started, video};
use interaction_proto::v1;
use interaction_proto::v1::sync_admin_service_client::SyncAdminServiceClient;
use serde_json::Value;
use test_support::{Program, eventually};
use tonic::transport::Channel;

pub(crate) type Admin = SyncAdminServiceClient<Channel>;

pub(crate) async fn get(server: &Program, path: &str) -> (u16, Value) {
    server.get(path).await.unwrap()
}

pub(crate) async fn post(server: &Program, path: &str, body: &str) -> (u16, Value) {
    server.post(path, body).await.unwrap()
}

async fn settled(server: &Program) {
    eventually(PATIENCE, "empty journals", async || {
        let (_, stats) = get(server, "/cache/stats").await;
        if stats["pending"] == 0 { Ok(()) } else { Err(stats) }
    })
    .await;
}

fn check(id: i64) -> v1::CheckConsistencyRequest {
    v1::CheckConsistencyRequest { resource: Some(video(id)), dry_run: false }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_reports_and_stats_say_the_same_by_grpc_and_http() {
    let deployment = deployed().await;
    let (server, _consumer) = started(&deployment).await;
    let (mut client, mut admin) = (server.client().await, Admin::new(server.channel().await));
    for user in 1..=3 {
        client.like(like(user, video(1))).await.unwrap();
    }
    settled(&server).await;
    for _ in 0..2 {
        let request = v1::GetLikeCountsRequest { resources: vec![video(1), video(2)], ..Default::default() };
        client.get_like_counts(request).await.unwrap();
    }

    let checked = admin.check_consistency(check(1)).await.unwrap().into_inner();
    assert_eq!((checked.verdict(), checked.leader), (v1::ConsistencyVerdict::Consistent, false), "{checked:?}");
    let (code, body) = post(&server, "/consistency/check", "{\"resource_type\":\"video\",\"resource_id\":1}").await;
    assert_eq!((code, &body["verdict"], &body["leader"]), (200, &"consistent".into(), &false.into()), "{body}");

    let stats = admin.get_cache_stats(v1::GetCacheStatsRequest {}).await.unwrap().into_inner();
    let (code, body) = get(&server, "/cache/stats").await;
    assert_eq!((code, &body["available"], &body["pending"]), (200, &true.into(), &0.into()), "{body}");
    // Video 2 was not cached at first.
    assert_eq!((stats.hits, stats.misses, stats.without_cache), (3, 1, 0), "{stats:?}");
    assert_eq!((&body["reads"]["hits"], &body["hit_rate"]), (&3.into(), &0.75.into()), "{body}");
    assert_eq!(stats.shards.len(), body["shards"].as_array().unwrap().len());
    assert_eq!(stats.shards.iter().map(|shard| shard.accepted).sum::<u64>(), 3);
    assert_eq!(stats.shards.iter().map(|shard| shard.settled).sum::<u64>(), 3);

    let report = admin.get_consistency_report(v1::GetConsistencyReportRequest { hours: 0 }).await.unwrap().into_inner();
    let (code, body) = get(&server, "/consistency/report").await;
    assert_eq!((code, &body["hours"], &body["runs"]), (200, &24.into(), &2.into()), "{body}");
    assert_eq!((report.hours, report.runs, report.inconsistent), (24, 2, 0), "{report:?}");
    assert_eq!((report.consistency_rate, report.nines), (Some(1.0), None));
    assert_eq!(report.lag.map(|lag| lag.events), Some(3));
    assert_eq!(report.latest_runs[0].kind, "demand");
    assert!(report.latest_runs.iter().any(|run| run.id == checked.run_id), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_name_the_field() {
    let server = shared_server().await;
    let mut admin = Admin::new(server.channel().await);
    assert_eq!(fields(admin.check_consistency(check(0)).await.unwrap_err()), ["resource.id"]);
    let nothing = v1::CheckConsistencyRequest::default();
    assert_eq!(fields(admin.check_consistency(nothing).await.unwrap_err()), ["resource"]);
    for hours in [-1, 721] {
        let request = v1::GetConsistencyReportRequest { hours };
        assert_eq!(fields(admin.get_consistency_report(request).await.unwrap_err()), ["hours"]);
    }
    let wrong = v1::WarmUpRequest { top_resources: -1, recent_events: 20_001, resources: vec![video(1), video(0)] };
    let named = fields(admin.warm_up(wrong).await.unwrap_err());
    assert_eq!(named, ["top_resources", "recent_events", "resources[1].resource.id"]);
    let many = v1::WarmUpRequest { resources: vec![video(1); 5_001], ..v1::WarmUpRequest::default() };
    assert_eq!(fields(admin.warm_up(many).await.unwrap_err()), ["resources"]);

    for (path, body, named) in [
        ("/cache/warmup", "{\"top_resources\":20001}", "top_resources: "),
        ("/cache/warmup", "{\"recent_events\":\"many\"}", "recent_events: "),
        ("/cache/warmup", "{\"top\":1}", "top: unknown field"),
        ("/cache/warmup", "[", "body: "),
        ("/cache/warmup", "{\"resources\":[{\"resource_type\":\"film\"}]}", "resources[0].resource_type: "),
        ("/consistency/check", "{\"resource_type\":\"video\",\"resource_id\":0}", "resource_id: "),
        ("/consistency/check", "", "body: "),
    ] {
        let (code, answer) = post(server, path, body).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(code == 400 && error.starts_with(named), "{path} {body}: {code} {answer}");
    }
    for (query, named) in [("hours=0", "hours: "), ("days=1", "days: ")] {
        let (code, answer) = get(server, &format!("/consistency/report?{query}")).await;
        assert!(code == 400 && answer["error"].as_str().unwrap().starts_with(named), "{query}: {code} {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_an_empty_cache_is_warm_at_start_and_on_demand() {
    let deployment = deployed().await;
    {
        let (server, _consumer) = started(&deployment).await;
        let mut client = server.client().await;
        for id in 1..=20 {
            client.like(like(id, video(id))).await.unwrap();
        }
        client.like(like(1, video(7))).await.unwrap();
        settled(&server).await;
    }
    // The same database, other keys: as after the loss of all of the cache.
    let cold = deployment.clone().with("REDIS__KEY_PREFIX", test_support::unique_name("cold"));
    let server = cold.server().start_ready().await.unwrap();
    let mut admin = Admin::new(server.channel().await);
    let top = v1::WarmUpRequest { top_resources: 1, ..v1::WarmUpRequest::default() };
    let report = admin.warm_up(top.clone()).await.unwrap().into_inner();
    assert_eq!((report.counters, report.counters_filled, report.pairs), (1, 1, 0), "{report:?}");
    let listed = v1::WarmUpRequest { resources: vec![video(7), video(8)], ..v1::WarmUpRequest::default() };
    let report = admin.warm_up(listed).await.unwrap().into_inner();
    assert_eq!((report.counters, report.counters_filled), (2, 1), "video 7 has the largest count: {report:?}");
    let (code, body) = post(&server, "/cache/warmup", "{\"recent_events\":5}").await;
    let filled = (&body["counters_filled"], &body["pairs"], &body["pairs_filled"]);
    assert_eq!((code, filled), (200, (&4.into(), &5.into(), &5.into())), "17 to 20, and 7 again: {body}");
    let (code, body) = post(&server, "/cache/warmup", "").await;
    let seen = (&body["counters"], &body["counters_filled"], &body["pairs"], &body["pairs_filled"]);
    assert_eq!((code, seen), (200, (&20.into(), &14.into(), &21.into(), &16.into())), "as configured: {body}");

    let warm = deployment
        .with("REDIS__KEY_PREFIX", test_support::unique_name("warm"))
        .with("CACHE_MANAGEMENT__WARMUP__ENABLED", "true");
    let server = warm.server().start_ready().await.unwrap();
    server.wait_log("the cache is warm", PATIENCE).await.unwrap();
    let mut client = server.client().await;
    let resources = (1..=20).map(video).collect();
    let counts = client
        .get_like_counts(v1::GetLikeCountsRequest { resources, ..Default::default() })
        .await
        .unwrap()
        .into_inner()
        .counts;
    let counts: Vec<i64> = counts.iter().map(|count| count.count).collect();
    assert!(counts[6] == 2 && counts.iter().sum::<i64>() == 21, "{counts:?}");
    let mut admin = Admin::new(server.channel().await);
    let stats = admin.get_cache_stats(v1::GetCacheStatsRequest {}).await.unwrap().into_inner();
    assert_eq!((stats.hits, stats.misses), (20, 0), "{stats:?}");
}

/// Operators read ids, too: what a store says is in the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_never_read_what_a_store_says() {
    let deployment = deployed().await;
    let (server, _consumer) = started(&deployment).await;
    let mut client = server.client().await;
    let mut admin = Admin::new(server.channel().await);
    client.like(like(1, video(1))).await.unwrap();
    settled(&server).await;
    let rename = "RENAME TABLE video_likes TO secret_likes, sync_events TO secret_events, \
                  data_consistency_checks TO secret_checks";
    deployment.sql(rename).await.unwrap();
    let hidden = |what: &str, text: &str| {
        assert!(text.contains("see the server's log (id "), "{what}: {text}");
        assert!(!["_likes", "_events", "_checks", "exist", "1146"].iter().any(|word| text.contains(word)), "{text}");
    };
    hidden("check", admin.check_consistency(check(1)).await.unwrap_err().message());
    let report = v1::GetConsistencyReportRequest { hours: 24 };
    hidden("report", admin.get_consistency_report(report).await.unwrap_err().message());
    hidden("events", admin.list_events(v1::ListEventsRequest::default()).await.unwrap_err().message());
    for (path, body) in [
        ("/consistency/check", r#"{"resource_type":"video","resource_id":1}"#),
        ("/events/replay", r#"{"filter":{"status":"dead"},"limit":1}"#),
    ] {
        let (code, answer) = post(&server, path, body).await;
        assert!(code >= 500, "{answer}");
        hidden(path, answer["error"].as_str().unwrap());
    }
    for path in ["/consistency/report?hours=24", "/events?status=dead"] {
        let (code, answer) = get(&server, path).await;
        assert!(code >= 500, "{answer}");
        hidden(path, answer["error"].as_str().unwrap());
    }
}
