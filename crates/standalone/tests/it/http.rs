//! Likes by HTTP, and the document that describes HTTP.

use crate::deployment::{PATIENCE, Standalone, like, video};
use interaction_proto::v1;
use serde_json::{Value, json};
use test_support::http::{self, Answer};
use test_support::{eventually, expect_eq};

const JSON: &str = "Content-Type: application/json";

async fn send(standalone: &Standalone, request_line: &str, headers: &[&str], body: &Value) -> (Answer, Value) {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let answer = http::send(&standalone.http_addr(), request_line, &[&[JSON], headers].concat(), &text).await.unwrap();
    let value = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
    (answer, value)
}

fn asked(user: Value, action: &str) -> Value {
    json!({ "user_id": user, "resource_type": "video", "resource_id": "42", "action": action })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_like_by_http_is_the_same_as_by_grpc() {
    let standalone = Standalone::new()
        .await
        .with("RATE_LIMITING__USER_ACTION__ENABLED", "true")
        .with("RATE_LIMITING__USER_ACTION__MAX_ACTIONS", "3")
        .with("RATE_LIMITING__USER_ACTION__WINDOW", "1h");
    let server = standalone.start_ready().await;
    let mut client = standalone.client().await;
    client.like(like(1, 42)).await.unwrap();

    let likes = async |body: Value| send(&standalone, "POST /v1/likes", &[], &body).await;
    let (answer, first) = likes(asked(json!("2"), "like")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!((&first["liked"], &first["count"], &first["changed"]), (&true.into(), &"2".into(), &true.into()));
    assert_eq!(first["degraded"], false);
    let version: i64 = first["version"].as_str().unwrap().parse().unwrap();
    assert!(version > 1_600_000_000_000_000, "{first}");
    // By number, the same like again; then the next action.
    let (_, again) = likes(asked(json!(2), "like")).await;
    assert_eq!((&again["changed"], &again["version"]), (&false.into(), &first["version"]), "{again}");
    let states = v1::GetLikeStatesRequest { user_id: 2, resources: vec![video(42)] };
    let states = client.get_like_states(states).await.unwrap().into_inner().states;
    assert_eq!((states[0].liked, states[0].version), (true, version));

    let (answer, counts) =
        send(&standalone, "GET /v1/counts?resource=video:42&resource=comment:7", &[], &Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let expected = json!([
        { "resource_type": "video", "resource_id": "42", "count": "2" },
        { "resource_type": "comment", "resource_id": "7", "count": "0" },
    ]);
    assert_eq!(counts, json!({ "counts": expected, "degraded": false }));

    // A key repeats its first answer, whatever came between.
    let keyed = |action| {
        let mut body = asked(json!("3"), action);
        body["idempotency_key"] = "a-key".into();
        body
    };
    let (_, first) = likes(keyed("like")).await;
    likes(asked(json!("3"), "unlike")).await;
    assert_eq!(likes(keyed("like")).await.1, first);

    // Three actions an hour, and user 2 goes on.
    let mut refused = None;
    for action in ["unlike", "like", "unlike", "like", "unlike"] {
        let (answer, body) = likes(asked(json!("2"), action)).await;
        if answer.status != 200 {
            refused = Some((answer, body));
            break;
        }
    }
    let (answer, refusal) = refused.expect("no limit");
    assert_eq!((answer.status, &refusal["status"]), (429, &429.into()), "{}", answer.body);
    let wait = answer.head.lines().find_map(|line| line.strip_prefix("retry-after: ")).expect("no Retry-After");
    assert!((1..=3_600).contains(&wait.parse::<u64>().unwrap()), "{wait}");
    for (body, named) in [
        (asked(json!("none"), "like"), "user_id: "),
        (asked(json!(0), "like"), "user_id: "),
        (asked(json!(1), "love"), "action: "),
        (Value::Null, "body: "),
    ] {
        let (answer, refusal) = likes(body).await;
        assert!(answer.status == 400 && refusal["error"].as_str().unwrap().starts_with(named), "{}", answer.body);
    }
    server.end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_callers_ask_by_grpc_they_may_ask_by_http() {
    let standalone = Standalone::new().await;
    let server = standalone.start_ready().await;
    let ask = async |line: &str| {
        let (answer, value) = send(&standalone, line, &[], &Value::Null).await;
        assert_eq!(answer.status, 200, "{line}: {}", answer.body);
        value
    };
    // Each operation alone, in its order, also what is none.
    let operations = json!({ "operations": [
        asked(json!(1), "like"),
        asked(json!("2"), "like"),
        asked(json!(0), "like"),
        asked(json!(2), "love"),
        asked(json!(2), "unlike"),
        asked(json!(3), "like"),
        7,
    ] });
    let (answer, batch) = send(&standalone, "POST /v1/likes/batch", &[], &operations).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let results: Vec<Value> = batch["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| match &result["error"] {
            Value::Null => json!([result["response"]["liked"], result["response"]["count"]]),
            error => {
                assert_eq!((&error["code"], &error["reason"]), (&"INVALID_ARGUMENT".into(), &"INVALID_REQUEST".into()));
                error["field_violations"][0]["field"].clone()
            }
        })
        .collect();
    let expected = json!([
        [true, "1"],
        [true, "2"],
        "operations[2].user_id",
        "operations[3].action",
        // The second word of user 2 comes after the first one's answer, and user 3 does not wait for it.
        [false, "2"],
        [true, "3"],
        "operations[6]",
    ]);
    assert_eq!(Value::Array(results), expected);
    let version = batch["results"][0]["response"]["version"].clone();

    let states = ask("GET /v1/states?user_id=1&resource=comment:7&resource=video:42").await;
    let comment = json!({ "resource_type": "comment", "resource_id": "7", "liked": false, "version": "0" });
    let video = json!({ "resource_type": "video", "resource_id": "42", "liked": true, "version": version });
    assert_eq!(states, json!({ "states": [comment, video], "degraded": false }));
    let summaries = ask("GET /v1/summaries?user_id=1&resource=video:42").await;
    let mut both = video.clone();
    both["count"] = "2".into();
    assert_eq!(summaries, json!({ "summaries": [both], "degraded": false }));

    // Lists show what is settled, by pages that go on where gRPC ends.
    eventually(PATIENCE, "two likers by pages", async || {
        let first = ask("GET /v1/likers?resource_type=video&resource_id=42&page_size=1").await;
        let token = first["next_page_token"].as_str().unwrap().to_owned();
        let request = v1::ListLikersRequest {
            resource: Some(crate::deployment::video(42)),
            page_token: token.clone(),
            ..v1::ListLikersRequest::default()
        };
        let rest = standalone.client().await.list_likers(request).await.map_err(|status| status.to_string())?;
        let rest: Vec<i64> = rest.into_inner().likers.iter().map(|liker| liker.user_id).collect();
        match (first["likers"][0]["user_id"].as_str(), rest.as_slice()) {
            (Some("3"), [1]) if !token.is_empty() => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    })
    .await;
    let liked = ask("GET /v1/liked?user_id=3&resource_type=video").await;
    assert_eq!((&liked["resources"][0]["resource_id"], &liked["next_page_token"]), (&"42".into(), &"".into()));
    let time = liked["resources"][0]["liked_at"].as_str().unwrap();
    assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
    eventually(PATIENCE, "the hot one", async || {
        let hot = ask("GET /v1/hot?limit=1").await;
        match (&hot["resources"][0]["resource_id"], &hot["resources"][0]["count"]) {
            (id, count) if id == "42" && count == "2" => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    })
    .await;
    eventually(PATIENCE, "what is liked most", async || {
        let hot = ask("GET /v1/hot?window=day").await;
        expect_eq(&hot["resources"][0]["gained"], &"2".into()).map(drop)
    })
    .await;
    let (answer, refusal) = send(&standalone, "GET /v1/hot?window=year", &[], &Value::Null).await;
    let said = refusal["error"].as_str().unwrap_or_default();
    assert!(answer.status == 400 && said.starts_with("window: "), "{}", answer.body);

    // Everything that is wrong, at once.
    let (answer, refusal) = send(&standalone, "GET /v1/likers?page_size=-1", &[], &Value::Null).await;
    assert_eq!((answer.status, &refusal["reason"]), (400, &"INVALID_REQUEST".into()), "{}", answer.body);
    let fields: Vec<_> = refusal["field_violations"].as_array().unwrap().iter().map(|one| &one["field"]).collect();
    assert_eq!(fields, ["resource_type", "page_size"]);
    server.end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_like_by_http_needs_the_role_write() {
    let standalone = crate::access::with_tokens(Standalone::new().await);
    let server = standalone.start_ready().await;
    for (token, like, counts) in [
        (None, 401, 401),
        (Some("token-that-nobody-has"), 401, 401),
        (Some("token-that-reads-1"), 403, 200),
        (Some("token-that-writes-1"), 200, 200),
        (Some("token-that-operates-1"), 200, 200),
    ] {
        let header = token.map(|token| format!("Authorization: Bearer {token}"));
        let headers: Vec<&str> = header.as_deref().into_iter().collect();
        let (answer, _) = send(&standalone, "POST /v1/likes", &headers, &asked(json!("1"), "like")).await;
        assert_eq!(answer.status, like, "{token:?}: {}", answer.body);
        let (answer, _) = send(&standalone, "GET /v1/counts?resource=video:42", &headers, &Value::Null).await;
        assert_eq!(answer.status, counts, "{token:?}: {}", answer.body);
        // What operators do needs more.
        let (answer, _) = send(&standalone, "POST /cache/warmup", &headers, &json!({})).await;
        assert_eq!(answer.status == 200, token == Some("token-that-operates-1"), "{token:?}: {}", answer.body);
    }
    // A form of another site cannot send it.
    let headers = ["Authorization: Bearer token-that-writes-1", "Content-Type: text/plain"];
    let body = asked(json!("1"), "unlike").to_string();
    let answer = http::send(&standalone.http_addr(), "POST /v1/likes", &headers, &body).await.unwrap();
    assert_eq!(answer.status, 415, "{}", answer.body);
    server.end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limited_token_reaches_no_further_by_http() {
    let standalone = crate::access::with_tokens(Standalone::new().await);
    let server = standalone.start_ready().await;
    // For users 1 to 9, and videos.
    let token = ["Authorization: Bearer token-of-some-users-1"];
    let refused = |answer: &Answer| answer.status == 403 && answer.body.contains("OUT_OF_SCOPE");
    for (user, allowed) in [(9, true), (10, false)] {
        for path in [
            format!("/v1/states?user_id={user}&resource=video:1"),
            format!("/v1/summaries?user_id={user}&resource=video:1"),
            format!("/v1/liked?user_id={user}&resource_type=video"),
        ] {
            let (answer, _) = send(&standalone, &format!("GET {path}"), &token, &Value::Null).await;
            assert!(if allowed { answer.status == 200 } else { refused(&answer) }, "{path}: {}", answer.body);
        }
        let batch = json!({ "operations": [asked(json!(user), "like")] });
        let (answer, batch) = send(&standalone, "POST /v1/likes/batch", &token, &batch).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let reason = if allowed { Value::Null } else { "OUT_OF_SCOPE".into() };
        assert_eq!(batch["results"][0]["error"]["reason"], reason, "{batch}");
    }
    for path in ["/v1/likers?resource_type=video&resource_id=1", "/v1/hot", "/v1/counts?resource=comment:1"] {
        let (answer, _) = send(&standalone, &format!("GET {path}"), &token, &Value::Null).await;
        assert!(refused(&answer), "{path}: {}", answer.body);
    }
    server.end(PATIENCE).await.unwrap();
}

/// A request of each operation of the document.
fn request_of(operation: &str) -> (&'static str, Value) {
    let resource = json!({ "resource_type": "video", "resource_id": 42 });
    match operation {
        "explain" => ("?user_id=1&resource_type=video&resource_id=42", Value::Null),
        "counts" => ("?resource=video:42", Value::Null),
        "states" | "summaries" => ("?user_id=1&resource=video:42&resource=comment:7", Value::Null),
        "liked" => ("?user_id=1&resource_type=video&page_size=1", Value::Null),
        "likers" => ("?resource_type=video&resource_id=42&page_size=500", Value::Null),
        "hot" => ("?resource_type=video&limit=3", Value::Null),
        "likes" => ("", json!({ "operations": [asked(json!(1), "like"), asked(json!("none"), "like"), 7] })),
        "consistencyReport" => ("?hours=1", Value::Null),
        "events" => ("?page_size=1&user_id=1&error=x&error_group=x%20%23", Value::Null),
        "eventGroups" => ("?status=dead&error=x", Value::Null),
        "history" => ("?minutes=60", Value::Null),
        "resource" => ("?resource_type=video&resource_id=42", Value::Null),
        "like" => ("", asked(json!("1"), "like")),
        "consistencyCheck" => ("", resource),
        "cacheWarmup" => ("", json!({ "top_resources": 1, "resources": [resource] })),
        "replayEvents" => ("", json!({ "filter": { "status": "dead" }, "limit": 1 })),
        "discardEvents" => ("", json!({ "ids": [], "reason": "none of them" })),
        "eraseUser" => ("", json!({ "user_id": "77", "dry_run": true })),
        "getErasure" => ("?user_id=77", Value::Null),
        "deleteResource" => ("", json!({ "resource_type": "video", "resource_id": "42", "dry_run": true })),
        "restoreResource" => ("", resource),
        "getDeletion" => ("?resource_type=video&resource_id=42", Value::Null),
        "health" | "live" | "metrics" | "openapi" | "cacheStats" | "overview" => ("", Value::Null),
        other => panic!("{other} is described: say here how it is asked for"),
    }
}

/// Whether a value is what a schema says.
fn fits(document: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        let schema = document.pointer(name.trim_start_matches('#')).ok_or_else(|| format!("{name} is nowhere"))?;
        return fits(document, schema, value, place);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        fits(document, part, value, place)?;
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        return match choices.iter().any(|choice| fits(document, choice, value, place).is_ok()) {
            true => Ok(()),
            false => Err(format!("{place}: {value} is none of {schema}")),
        };
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is = |name: &Value| name == kind || (name == "number" && kind == "integer");
    let right = match &schema["type"] {
        Value::Null => true,
        Value::Array(names) => names.iter().any(is),
        name => is(name),
    };
    if !right || schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        return Err(format!("{place}: {value} is not {schema}"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            return Err(format!("{place}.{name} is missing in {value}"));
        }
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name) {
            fits(document, schema, value, &format!("{place}.{name}"))?;
        }
    }
    for (i, value) in value.as_array().into_iter().flatten().enumerate() {
        fits(document, &schema["items"], value, &format!("{place}[{i}]"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_openapi_document_is_true() {
    let standalone = Standalone::new().await;
    let server = standalone.start_ready().await;
    standalone.client().await.like(like(1, 42)).await.unwrap();
    let (_, document) = send(&standalone, "GET /openapi.json", &[], &Value::Null).await;
    assert_eq!(document["openapi"], "3.1.0", "{document}");
    let mut seen = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            seen.push(format!("{} {path}", method.to_uppercase()));
            let (query, body) = request_of(id);
            for (name, body, query) in [("asked", &body, query), ("asked wrongly", &json!([1]), "?nonsense=1")] {
                let line = format!("{} {path}{query}", method.to_uppercase());
                let (answer, value) = send(&standalone, &line, &[], body).await;
                let described = &operation["responses"][answer.status.to_string()];
                assert!(described.is_object(), "{line}, {name}: {} is not described: {}", answer.status, answer.body);
                let right = name == "asked wrongly" || answer.status == 200;
                assert!(right, "{line}: {}", answer.body);
                let schema = &described["content"]["application/json"]["schema"];
                if !schema.is_null() {
                    assert_eq!(fits(&document, schema, &value, id), Ok(()), "{line}, {name}");
                }
            }
            // Whatever is guarded says so.
            let open = ["/health", "/health/live"].contains(&path.as_str());
            assert_eq!(operation["security"].is_array(), !open, "{path}");
        }
    }
    seen.sort();
    let expected = [
        "GET /cache/stats",
        "GET /consistency/report",
        "GET /events",
        "GET /events/groups",
        "GET /explain",
        "GET /health",
        "GET /health/live",
        "GET /history",
        "GET /metrics",
        "GET /openapi.json",
        "GET /overview",
        "GET /resource",
        "GET /resources/deletion",
        "GET /users/erasure",
        "GET /v1/counts",
        "GET /v1/hot",
        "GET /v1/liked",
        "GET /v1/likers",
        "GET /v1/states",
        "GET /v1/summaries",
        "POST /cache/warmup",
        "POST /consistency/check",
        "POST /events/discard",
        "POST /events/replay",
        "POST /resources/delete",
        "POST /resources/restore",
        "POST /users/erase",
        "POST /v1/likes",
        "POST /v1/likes/batch",
    ];
    assert_eq!(seen, expected);
    server.end(PATIENCE).await.unwrap();
}
