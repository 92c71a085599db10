//! Ops HTTP of a server, beside health and metrics.
//!
//! | path | answer |
//! |---|---|
//! | `GET /consistency/report`, `POST /consistency/check` | [`consistency::routes`] |
//! | `GET /openapi.json` | all paths, as an OpenAPI document: `openapi.json` beside this file, kept true by a test |
//! | `GET /cache/stats` | [`CacheStats`](super::CacheStats) |
//! | `GET /events?status=failed&resource_type=video&resource_id=1&user_id=1&since=2026-01-31T07:00:00Z&until=...&page_size=20&page_token=` | events of the ledger, newest first; everything may be left out |
//! | `POST /events/replay {"ids": ["..."]}` or `{"filter": {"status": "dead", ...}, "limit": 100, "page_token": ""}`, with `"dry_run"`, `"actor"`, `"reason"` | which events will be tried again ([`sync_engine::operate::events`]) |
//! | `POST /events/discard`, the same with a `"reason"` that must be given | which events were given up |
//! | `GET /explain?user_id=1&resource_type=video&resource_id=1` | [`Explanation`](sync_engine::operate::explain::Explanation) |
//! | `GET /overview` | circuits, journal, queue, lag, ledger by status, hot resources, operators' last actions; null where a store is unreachable |
//! | `POST /cache/warmup {"top_resources": 100, "recent_events": 100, "resources": [{"resource_type": "video", "resource_id": 1}]}` | [`WarmupReport`](sync_engine::read::warm_up::WarmupReport); nothing, or `{}`, asks for what is configured |
//!
//! Errors: 400 that names the field, 429 while a warm-up is running, 503 while a store is unreachable.

use super::{Admin, MAX_LISTED, Refusal, bad, events, overview};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use consistency::body::Body;
use sync_engine::read::warm_up::{MAX_RESOURCES, WarmupError, WarmupPlan};

const OPENAPI: &str = include_str!("openapi.json");

/// The routes of a server.
pub fn routes(admin: Admin) -> Router {
    let checks = consistency::routes(admin.checker.clone());
    Router::new()
        .route("/openapi.json", get(openapi))
        .route("/cache/stats", get(stats))
        .route("/cache/warmup", post(warm_up))
        .route("/events", get(events::list))
        .route("/events/replay", post(events::replay))
        .route("/events/discard", post(events::discard))
        .route("/explain", get(events::story))
        .route("/overview", get(overview::overview))
        .with_state(admin)
        .merge(checks)
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn stats(State(admin): State<Admin>) -> Result<Response, Refusal> {
    let stats = admin.cache_stats().await.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(Json(stats).into_response())
}

async fn warm_up(State(admin): State<Admin>, body: Bytes) -> Result<Response, Refusal> {
    let plan = plan(&body).map_err(bad)?.unwrap_or_else(|| admin.warmer.plan());
    let report = admin.warmer.warm(&plan).await.map_err(|error| {
        let status = match &error {
            WarmupError::Busy => StatusCode::TOO_MANY_REQUESTS,
            error if error.is_unavailable() => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, error.to_string())
    })?;
    Ok(Json(report).into_response())
}

/// What the body asks for; none for what is configured.
fn plan(body: &[u8]) -> Result<Option<WarmupPlan>, String> {
    let mut body = Body::parse(body, &["top_resources", "recent_events", "resources"], true)?;
    let (top, recent) = (body.number("top_resources", MAX_RESOURCES)?, body.number("recent_events", MAX_RESOURCES)?);
    let resources = body.resources("resources", MAX_LISTED)?;
    if top.is_none() && recent.is_none() && resources.is_empty() {
        return Ok(None);
    }
    Ok(Some(WarmupPlan { top_resources: top.unwrap_or(0), recent_events: recent.unwrap_or(0), resources }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    /// Pages for people have no place in a description for programs.
    const PAGES: &[&str] = &["GET /", "GET /assets/dashboard.css", "GET /assets/dashboard.js"];

    /// `METHOD /path` of every route that a source file adds.
    fn routes_of(source: &str, found: &mut BTreeSet<String>) {
        for route in source.split(".route(").skip(1) {
            let Some(path) = route.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next()) else {
                continue;
            };
            let handlers = route.split(';').next().unwrap_or(route);
            for method in ["get", "post", "put", "delete", "patch"] {
                if [" ", ".", "("].iter().any(|before| handlers.contains(&format!("{before}{method}("))) {
                    found.insert(format!("{} {path}", method.to_uppercase()));
                }
            }
        }
    }

    fn routes_below(directory: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                routes_below(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                // Tests, such as this one, add no routes.
                let source = std::fs::read_to_string(&path).unwrap();
                routes_of(source.split("#[cfg(test)]").next().unwrap_or_default(), found);
            }
        }
    }

    #[test]
    fn the_document_has_every_route_and_no_other() {
        let document: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            described
                .extend(methods.as_object().unwrap().keys().map(|method| format!("{} {path}", method.to_uppercase())));
        }
        let mut routes = BTreeSet::new();
        for part in ["interaction-api", "consistency", "service-runtime", "standalone", "interaction-server"] {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(part).join("src");
            routes_below(&directory, &mut routes);
        }
        routes.retain(|route| !PAGES.contains(&route.as_str()));
        assert!(routes.len() >= 8, "{routes:?}");
        assert_eq!(described, routes);
    }
}
