//! HTTP for operators, mounted by server and checker alike.
//!
//! A process that is not the leader checks and repairs nothing: `"leader": false`. Errors: 400 for a body or a query that makes
//! no sense, 503 while a store is unreachable.

use super::{check_consistency, consistency_report};
use crate::error::CheckError;
use crate::run::checker::Checker;
use axum::Router;
use axum::http::StatusCode;
use domain::Invalid;
use service_runtime::listen::api_error::ApiError;
use sync_engine::stores::faults;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of a checker.
pub fn routes(checker: Checker) -> Router {
    described_routes(checker).into()
}

/// The same with their description.
pub fn described_routes(checker: Checker) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(check_consistency::http))
        .routes(routes!(consistency_report::http))
        .with_state(checker)
}

pub(super) fn bad(invalid: &Invalid) -> ApiError {
    ApiError::bad_request(format!("{}: {}", invalid.field, invalid.reason))
}

/// The store's words are in the log.
pub(super) fn failed(doing: &str, error: &CheckError) -> ApiError {
    let status =
        if error.is_unavailable() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::INTERNAL_SERVER_ERROR };
    ApiError::new(status, faults::for_caller(doing, error))
}
