//! The routes that every process has.
//!
//! | path | answer |
//! |---|---|
//! | `GET /health` | 200 (`ok`, `degraded`) or 503 (`down`), with every part's state |
//! | `GET /health/live` | 200 while the process can answer at all |
//! | `GET /metrics` | Prometheus text; 404 when switched off |
//! | `/session` | who a browser is signed in as: `session` |

use super::context::Context;
use super::session;
use crate::listen::access::guard::SESSION;
use crate::listen::api_error::ApiError;
use crate::listen::ops::{self, OpsRoutes};
use crate::observe::health::{PartReport, Status};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;

/// The common routes together with a binary's own; a path in both is a bug that panics at start.
pub fn router(context: &Context, routes: impl Into<OpsRoutes>) -> Router {
    let routes = routes.into();
    let common = Router::new()
        .route("/health", get(health))
        .route("/health/live", get(live))
        .route("/metrics", get(metrics))
        .route(SESSION, get(session::who).post(session::sign_in).delete(session::sign_out))
        .with_state(context.clone());
    ops::guarded(&context.gate, common, routes)
}

/// Written in this order, the answer first.
#[derive(Serialize)]
struct Health<'a> {
    status: Status,
    service: &'a str,
    version: &'a str,
    instance: &'a str,
    stopping: bool,
    uptime_seconds: u64,
    parts: &'a BTreeMap<String, PartReport>,
}

async fn health(State(context): State<Context>) -> Response {
    let report = context.health.report().await;
    let code = if report.status == Status::Down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let body = Health {
        status: report.status,
        service: context.service,
        version: context.version,
        instance: &context.instance,
        stopping: context.soft.is_cancelled(),
        uptime_seconds: context.started.elapsed().as_secs(),
        parts: &report.parts,
    };
    (code, Json(body)).into_response()
}

async fn live(State(context): State<Context>) -> Response {
    Json(json!({ "status": "ok", "service": context.service })).into_response()
}

async fn metrics(State(context): State<Context>) -> Result<Response, ApiError> {
    let metrics = context.metrics.ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, "metrics are switched off"))?;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    let text =
        metrics.expose().await.map_err(|_| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the process ends"))?;
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
