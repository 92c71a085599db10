//! HTTP for operators, mounted by server and checker alike.
//!
//! | path | answer |
//! |---|---|
//! | `GET /consistency/report?hours=24` | [`Report`](crate::Report) as JSON; hours 1 to 720 |
//! | `POST /consistency/check {"resource_type": "video", "resource_id": 123, "dry_run": false}` | [`CheckOutcome`](crate::CheckOutcome) |
//!
//! A process that is not in office checks and repairs nothing: `"in_office": false`. Errors are plain text, which the ops
//! server makes JSON of: 400 for a body or a query that makes no sense, 503 while a store is away.

use crate::checker::Checker;
use crate::error::CheckError;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use domain::{Resource, ResourceType};
use serde::Deserialize;
use std::collections::BTreeMap;

const MAX_HOURS: u32 = 720;
const DEFAULT_HOURS: u32 = 24;

/// The routes of a checker.
pub fn routes(checker: Checker) -> Router {
    Router::new().route("/consistency/report", get(report)).route("/consistency/check", post(check)).with_state(checker)
}

type Refusal = (StatusCode, String);

async fn report(
    State(checker): State<Checker>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Response, Refusal> {
    if let Some(unknown) = query.keys().find(|key| *key != "hours") {
        return Err(bad(format!("{unknown}: unknown parameter, expected hours")));
    }
    let hours = match query.get("hours") {
        None => DEFAULT_HOURS,
        Some(text) => text
            .parse()
            .ok()
            .filter(|hours| (1..=MAX_HOURS).contains(hours))
            .ok_or_else(|| bad(format!("hours: expected 1 to {MAX_HOURS}, got {text:?}")))?,
    };
    let report = checker.report(hours).await.map_err(failed)?;
    Ok(axum::Json(report).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    resource_type: String,
    resource_id: i64,
    #[serde(default)]
    dry_run: bool,
}

async fn check(State(checker): State<Checker>, body: Bytes) -> Result<Response, Refusal> {
    let question: Question = serde_json::from_slice(&body).map_err(|error| bad(format!("body: {error}")))?;
    let kind: ResourceType = question.resource_type.parse().map_err(|error| bad(format!("{error}")))?;
    let resource = Resource::new(kind, question.resource_id).map_err(|error| bad(error.to_string()))?;
    let outcome = checker.check(resource, question.dry_run).await.map_err(failed)?;
    Ok(axum::Json(outcome).into_response())
}

fn bad(reason: String) -> Refusal {
    (StatusCode::BAD_REQUEST, reason)
}

fn failed(error: CheckError) -> Refusal {
    let status =
        if error.is_unavailable() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::INTERNAL_SERVER_ERROR };
    (status, error.to_string())
}
