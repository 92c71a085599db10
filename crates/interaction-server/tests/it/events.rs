//! The ledger for operators, by gRPC and by HTTP: list, replay, discard, explain.

use crate::admin::{Admin, get, post};
use crate::client::{Grpc, PATIENCE, deployed, fields, like, shared_server, started, video};
use interaction_proto::v1;
use serde_json::{Value, json};
use test_support::{Deployment, Program, eventually, expect_eq};

/// Dead events: a video that the database refuses, until [`Incident::over`].
pub(crate) struct Incident {
    pub(crate) server: Program,
    _consumer: Program,
    deployment: Deployment,
}

impl Incident {
    /// Users 1 to `users` like it, and their likes die.
    pub(crate) async fn new(video_id: i64, users: i64) -> Self {
        let deployment = deployed()
            .await
            .with("EVENT_DRIVEN_SYNC__RETRY__MAX_RETRIES", "1")
            .with("EVENT_DRIVEN_SYNC__RETRY__BASE_DELAY", "100ms")
            .with("RATE_LIMITING__USER_ACTION__ENABLED", "false");
        let (server, consumer) = started(&deployment).await;
        let incident = Self { server, _consumer: consumer, deployment };
        incident.deployment.poison(video_id).await.unwrap();
        let mut client = incident.server.client().await;
        for user in 1..=users {
            client.like(like(user, video(video_id))).await.unwrap();
        }
        incident.wait("dead", users).await;
        incident
    }

    pub(crate) async fn sql(&self, statements: &str) -> String {
        self.deployment.sql(statements).await.unwrap()
    }

    /// The database takes everything again.
    pub(crate) async fn over(&self) {
        self.deployment.cure().await.unwrap();
    }

    /// Waits until so many events have a status.
    pub(crate) async fn wait(&self, status: &str, events: i64) {
        let count = format!("SELECT COUNT(*) FROM sync_events WHERE status = '{status}'");
        eventually(PATIENCE, &format!("{events} {status} events"), async || {
            expect_eq(self.sql(&count).await.trim().to_owned(), events.to_string())
        })
        .await;
    }
}

fn named(ids: &[String]) -> Option<v1::EventSelection> {
    Some(v1::EventSelection { ids: ids.to_vec(), ..v1::EventSelection::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_events_are_listed_replayed_discarded_and_explained() {
    let incident = Incident::new(7, 5).await;
    let server = &incident.server;
    let mut admin = Admin::new(server.channel().await);

    // The same list both ways, in pages.
    let mut ids = Vec::new();
    let mut request = v1::ListEventsRequest {
        filter: Some(v1::EventFilter { status: v1::EventStatus::Dead.into(), ..v1::EventFilter::default() }),
        page_size: 2,
        page_token: String::new(),
    };
    let mut path = "/events?status=dead&resource_type=video&resource_id=7&page_size=2".to_owned();
    loop {
        let page = admin.list_events(request.clone()).await.unwrap().into_inner();
        let (code, body) = get(server, &path).await;
        assert_eq!((code, &body["next_page_token"]), (200, &page.next_page_token.clone().into()), "{body}");
        for (event, json) in page.events.iter().zip(body["events"].as_array().unwrap()) {
            assert_eq!((&json["id"], &json["status"]), (&event.id.clone().into(), &"dead".into()), "{body}");
            assert_eq!((&json["user_id"], &json["version"]), (&event.user_id.into(), &event.version.into()));
            assert!(json["error"].as_str().unwrap().contains("poisoned"), "{body}");
            assert_eq!((event.retry_count, event.max_retries, json["retry_count"].as_u64()), (1, 1, Some(1)));
        }
        ids.extend(page.events.into_iter().map(|event| event.id));
        if page.next_page_token.is_empty() {
            break;
        }
        path = format!("/events?status=dead&page_size=2&page_token={}", page.next_page_token);
        request.page_token = page.next_page_token;
    }
    assert_eq!(ids.len(), 5, "newest first: {ids:?}");

    // What they failed with, once; and everything that is known of the resource.
    let (code, body) = get(server, "/events/groups?status=dead&error=POISONED").await;
    let group = &body["groups"][0];
    assert_eq!((code, body["groups"].as_array().map(Vec::len), &group["events"]), (200, Some(1), &5.into()), "{body}");
    let ask = json!({ "filter": { "status": "dead", "error_group": group["group"] }, "dry_run": true }).to_string();
    let (code, body) = post(server, "/events/replay", &ask).await;
    assert_eq!((code, &body["count"]), (200, &5.into()), "{body}");
    let ask = json!({ "filter": { "status": "dead", "error": "no such error" }, "dry_run": true }).to_string();
    let (code, body) = post(server, "/events/discard", &ask).await;
    assert_eq!((code, &body["count"]), (200, &0.into()), "{body}");
    let (code, body) = get(server, &format!("/events?id={}", ids[1])).await;
    assert_eq!(
        (code, &body["events"][0]["id"], body["events"].as_array().map(Vec::len)),
        (200, &ids[1].clone().into(), Some(1))
    );
    let (code, body) = get(server, "/resource?resource_type=video&resource_id=7").await;
    assert_eq!((code, &body["database"]["live"], &body["database"]["count"]), (200, &0.into(), &Value::Null), "{body}");
    assert_eq!(
        (&body["database"]["unfinished"][3]["status"], &body["database"]["unfinished"][3]["count"]),
        (&"dead".into(), &5.into())
    );
    assert!(body["cache"].is_object(), "{body}");

    // A dry run says so and does nothing.
    let ask = json!({ "filter": { "status": "dead", "user_id": 2 }, "dry_run": true }).to_string();
    let (code, body) = post(server, "/events/replay", &ask).await;
    assert_eq!((code, &body["count"], &body["events"][0]["user_id"]), (200, &1.into(), &2.into()), "{body}");
    incident.wait("dead", 5).await;

    // Discard one by HTTP and one by gRPC; the cache gives them up.
    let ask = json!({ "ids": [ids[0]], "reason": "test data", "actor": "ann" }).to_string();
    let (code, body) = post(server, "/events/discard", &ask).await;
    assert_eq!((code, &body["count"], &body["dry_run"]), (200, &1.into(), &false.into()), "{body}");
    let request = v1::DiscardEventsRequest {
        selection: named(&ids[..2]),
        dry_run: false,
        actor: "bob".to_owned(),
        reason: "that one too".to_owned(),
    };
    let answer = admin.discard_events(request).await.unwrap().into_inner();
    assert_eq!((answer.events.len(), answer.skipped.len()), (1, 1), "{answer:?}");
    assert_eq!(answer.skipped[0].status(), v1::EventStatus::Discarded);
    let (_, body) = get(server, "/events?status=discarded").await;
    let deeds: Vec<&Value> = body["events"].as_array().unwrap().iter().map(|event| &event["operators"][0]).collect();
    assert_eq!((&deeds[0]["actor"], &deeds[0]["reason"]), (&"ann (127.0.0.1)".into(), &"test data".into()), "{body}");
    assert_eq!((&deeds[1]["actor"], &deeds[1]["action"]), (&"bob (127.0.0.1)".into(), &"discard".into()), "{body}");

    // Replay the rest.
    incident.over().await;
    let request = v1::ReplayEventsRequest {
        selection: Some(v1::EventSelection {
            filter: Some(v1::EventFilter::default()),
            ..v1::EventSelection::default()
        }),
        ..v1::ReplayEventsRequest::default()
    };
    let answer = admin.replay_events(request).await.unwrap().into_inner();
    assert_eq!((answer.events.len(), answer.next_page_token.as_str()), (3, ""), "{answer:?}");
    assert!(answer.due_until.is_some());
    incident.wait("completed", 3).await;
    let client = server.client().await;
    let request = v1::GetLikeCountsRequest { resources: vec![video(7)], ..Default::default() };
    eventually(PATIENCE, "a count of three", async || {
        let counts = client.clone().get_like_counts(request.clone()).await.unwrap().into_inner().counts;
        expect_eq(counts[0].count, 3)
    })
    .await;

    // Users 1 to 3 were replayed, 4 and 5 discarded.
    for (user_id, status, liked) in [(1, v1::EventStatus::Completed, true), (5, v1::EventStatus::Discarded, false)] {
        let request = v1::ExplainLikeRequest { user_id, resource: Some(video(7)) };
        let told = admin.explain_like(request).await.unwrap().into_inner();
        assert_eq!((told.events.len(), told.events[0].status()), (1, status), "{told:?}");
        assert_eq!((told.row.is_some_and(|row| row.liked), told.stored_count), (liked, 3), "{told:?}");
        let (code, body) = get(server, &format!("/explain?user_id={user_id}&resource_type=video&resource_id=7")).await;
        assert_eq!((code, &body["events"][0]["id"]), (200, &told.events[0].id.clone().into()), "{body}");
        let steps: Vec<&str> =
            body["timeline"].as_array().unwrap().iter().map(|s| s["step"].as_str().unwrap()).collect();
        assert_eq!(steps, told.timeline.iter().map(|step| step.step.as_str()).collect::<Vec<_>>(), "{body}");
        assert!(steps.contains(&if liked { "replay" } else { "discard" }), "{body}");
        let states = v1::GetLikeStatesRequest { user_id, resources: vec![video(7)] };
        eventually(PATIENCE, "what the database says", async || {
            let states = client.clone().get_like_states(states.clone()).await.unwrap().into_inner().states;
            expect_eq(states[0].liked, liked)
        })
        .await;
    }
    let (code, body) = post(server, "/consistency/check", "{\"resource_type\":\"video\",\"resource_id\":7}").await;
    assert_eq!((code, &body["verdict"]), (200, &"consistent".into()), "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_about_events_name_the_field() {
    let server = shared_server().await;
    let mut admin = Admin::new(server.channel().await);
    let strange = v1::EventFilter {
        status: 99,
        resource: Some(video(0)),
        user_id: -1,
        since: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }),
        until: Some(prost_types::Timestamp { seconds: 0, nanos: -1 }),
    };
    let request = v1::ListEventsRequest { filter: Some(strange), page_size: -1, page_token: "x".to_owned() };
    let named_fields = fields(admin.list_events(request).await.unwrap_err());
    let filter = ["filter.status", "filter.since", "filter.until", "filter.resource.id", "filter.user_id"];
    assert_eq!(named_fields, [&filter[..], &["page_size", "page_token"]].concat());

    let replay = |selection| v1::ReplayEventsRequest { selection, ..v1::ReplayEventsRequest::default() };
    let wrong = |status: v1::EventStatus| {
        let filter = v1::EventFilter { status: status.into(), ..v1::EventFilter::default() };
        Some(v1::EventSelection { filter: Some(filter), limit: 1_001, ..v1::EventSelection::default() })
    };
    assert_eq!(fields(admin.replay_events(replay(None)).await.unwrap_err()), ["selection"]);
    let bad_id = fields(admin.replay_events(replay(named(&["1".to_owned()]))).await.unwrap_err());
    assert_eq!(bad_id, ["selection.ids[0]"]);
    let many = named(&vec![String::new(); 1_001]);
    assert_eq!(fields(admin.replay_events(replay(many)).await.unwrap_err()), ["selection.ids"]);
    let completed = fields(admin.replay_events(replay(wrong(v1::EventStatus::Completed))).await.unwrap_err());
    assert_eq!(completed, ["selection.filter.status", "selection.limit"]);
    let request = v1::DiscardEventsRequest {
        selection: named(&[String::from("018f0000-0000-7000-8000-000000000000")]),
        actor: "a".repeat(65),
        ..v1::DiscardEventsRequest::default()
    };
    assert_eq!(fields(admin.discard_events(request).await.unwrap_err()), ["actor", "reason"]);
    let request = v1::ExplainLikeRequest::default();
    assert_eq!(fields(admin.explain_like(request).await.unwrap_err()), ["user_id", "resource"]);

    for (path, named) in [
        ("/events?status=bad", "status: "),
        ("/events?page=1", "page: unknown field"),
        ("/events?page_token=x", "page_token: "),
        ("/events?resource_type=film&resource_id=1", "resource_type: "),
        ("/events?since=now", "since: "),
        ("/events?id=7", "id: "),
        ("/events/groups?page_size=1", "page_size: unknown field"),
        ("/events/groups?user_id=0", "user_id: "),
        ("/resource?resource_type=video", "resource_id: "),
        ("/history?minutes=1441", "minutes: must be 1 to 1440"),
        ("/explain", "user_id: must be given"),
        ("/explain?user_id=1", "resource_type: must be given"),
        ("/explain?user_id=1&resource_type=video&resource_id=x", "resource_id: "),
    ] {
        let (code, answer) = get(server, path).await;
        assert!(code == 400 && answer["error"].as_str().unwrap().starts_with(named), "{path}: {code} {answer}");
    }
    for (path, body, named) in [
        ("/events/replay", "", "body: "),
        ("/events/replay", "{}", "ids: "),
        ("/events/replay", "{\"ids\":[\"x\"]}", "ids[0]: "),
        ("/events/replay", "{\"filter\":{\"status\":\"discarded\"}}", "filter.status: "),
        ("/events/discard", "{\"filter\":{}}", "reason: must be given"),
    ] {
        let (code, answer) = post(server, path, body).await;
        assert!(code == 400 && answer["error"].as_str().unwrap().starts_with(named), "{path} {body}: {code} {answer}");
    }
    let unknown = "018f0000-0000-7000-8000-000000000000";
    let (code, answer) = post(server, "/events/replay", &json!({ "ids": [unknown] }).to_string()).await;
    assert_eq!((code, &answer["count"]), (200, &0.into()), "{answer}");
    assert_eq!(answer["skipped"], json!([{ "id": unknown, "status": null }]));
}
