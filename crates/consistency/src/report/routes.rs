//! HTTP for operators, mounted by server and checker alike.
//!
//! | path | answer |
//! |---|---|
//! | `GET /consistency/report?hours=24` | [`Report`](crate::Report) as JSON, or as a page for who accepts `text/html`; hours 1 to 720 |
//! | `POST /consistency/check {"resource_type": "video", "resource_id": 123, "dry_run": false}` | [`CheckOutcome`](crate::CheckOutcome) |
//!
//! A process that is not the leader checks and repairs nothing: `"leader": false`. Errors are plain text, which the ops
//! server makes JSON of: 400 for a body or a query that makes no sense, 503 while a store is unreachable.

use super::html;
use crate::body::Body;
use crate::error::CheckError;
use crate::run::checker::Checker;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use std::collections::BTreeMap;

/// Furthest that a report looks back.
pub const MAX_HOURS: u32 = 720;

/// How far a report looks back if nothing is said.
pub const DEFAULT_HOURS: u32 = 24;

/// The routes of a checker.
pub fn routes(checker: Checker) -> Router {
    Router::new().route("/consistency/report", get(report)).route("/consistency/check", post(check)).with_state(checker)
}

type Refusal = (StatusCode, String);

async fn report(
    State(checker): State<Checker>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
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
    let answer = if prefers_html(&headers) {
        Html(html::page(&report)).into_response()
    } else {
        axum::Json(report).into_response()
    };
    Ok(([(header::VARY, "accept")], answer).into_response())
}

/// Whether HTML is named, and before JSON: browsers do, tools do not.
fn prefers_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let kinds = accepted.flat_map(|value| value.split(',')).filter_map(|kind| kind.split(';').next());
    kinds.map(str::trim).find(|kind| ["text/html", "application/json"].contains(kind)) == Some("text/html")
}

async fn check(State(checker): State<Checker>, body: Bytes) -> Result<Response, Refusal> {
    let mut body = Body::parse(&body, &["resource_type", "resource_id", "dry_run"], false).map_err(bad)?;
    let resource = body.resource().map_err(bad)?;
    let dry_run = body.flag("dry_run").map_err(bad)?;
    let outcome = checker.check(resource, dry_run).await.map_err(failed)?;
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
