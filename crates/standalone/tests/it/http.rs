//! Likes by HTTP, and the document that describes HTTP.

use crate::deployment::{PATIENCE, Standalone, like, video};
use interaction_proto::v1;
use serde_json::{Value, json};
use test_support::http::{self, Answer};

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

/// A request of each operation of the document.
fn request_of(operation: &str) -> (&'static str, Value) {
    let resource = json!({ "resource_type": "video", "resource_id": 42 });
    match operation {
        "explain" => ("?user_id=1&resource_type=video&resource_id=42", Value::Null),
        "counts" => ("?resource=video:42", Value::Null),
        "consistencyReport" => ("?hours=1", Value::Null),
        "events" => ("?page_size=1&user_id=1", Value::Null),
        "like" => ("", asked(json!("1"), "like")),
        "consistencyCheck" => ("", resource),
        "cacheWarmup" => ("", json!({ "top_resources": 1, "resources": [resource] })),
        "replayEvents" => ("", json!({ "filter": { "status": "dead" }, "limit": 1 })),
        "discardEvents" => ("", json!({ "ids": [], "reason": "none of them" })),
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
        "GET /explain",
        "GET /health",
        "GET /health/live",
        "GET /metrics",
        "GET /openapi.json",
        "GET /overview",
        "GET /v1/counts",
        "POST /cache/warmup",
        "POST /consistency/check",
        "POST /events/discard",
        "POST /events/replay",
        "POST /v1/likes",
    ];
    assert_eq!(seen, expected);
    server.end(PATIENCE).await.unwrap();
}
