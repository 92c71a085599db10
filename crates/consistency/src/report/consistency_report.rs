//! `GET /consistency/report`: what the last hours looked like, as JSON or as a page.

use super::page;
use super::routes::{bad, failed};
use crate::error::CheckError;
use crate::report::Report;
use crate::run::checker::Checker;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{Html, IntoResponse, Response};
use domain::Invalid;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Deserialize;
use service_runtime::listen::api_error::ApiError;
use service_runtime::listen::request::query;
use utoipa::IntoParams;

/// Furthest that a report looks back.
const MAX_HOURS: u32 = 720;

/// How far a report looks back if nothing is said.
const DEFAULT_HOURS: u32 = 24;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsistencyReport {
    hours: u32,
}

impl ConsistencyReport {
    /// Of so many hours, 1 to 720; none: 24.
    pub fn new(hours: Option<i64>) -> Result<Self, Invalid> {
        let given = hours.unwrap_or_else(|| DEFAULT_HOURS.into());
        match u32::try_from(given) {
            Ok(hours @ 1..=MAX_HOURS) => Ok(Self { hours }),
            _ => Err(Invalid::new("hours", format!("must be 1 to {MAX_HOURS}, got {given}"))),
        }
    }

    /// Asks the checker. Boxed, so that the report is compiled here and not with everybody who asks.
    pub fn call(self, checker: &Checker) -> BoxFuture<'_, Result<Report, CheckError>> {
        checker.report(self.hours).boxed()
    }
}

/// The page of its own runs nothing, and loads nothing; its styles stand in it.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReportQuery {
    /// How far to look back.
    #[param(minimum = 1, maximum = 720, default = 24)]
    hours: Option<i64>,
}

/// What the last hours looked like.
#[utoipa::path(get, path = "/consistency/report", operation_id = "consistencyReport", params(ReportQuery),
    responses((status = 200, description = "Runs, coverage, rate, findings, lag and trend; a page for who accepts text/html.",
        content((Report = "application/json"), (String = "text/html"))), (status = 400, description = "Names the parameter.")))]
pub(crate) async fn http(
    State(checker): State<Checker>,
    RawQuery(given): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let ReportQuery { hours } = query(given.as_deref())?;
    let request = ConsistencyReport::new(hours).map_err(|invalid| bad(&invalid))?;
    let report = request.call(&checker).await.map_err(|error| failed("the report", &error))?;
    let answer = if prefers_html(&headers) {
        let page = page::page(&report).map_err(|error| {
            ApiError::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, format!("the page: {error}"))
        })?;
        ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(page)).into_response()
    } else {
        Json(report).into_response()
    };
    Ok(([(header::VARY, "accept")], answer).into_response())
}

/// Whether HTML is named, and before JSON: browsers do, tools do not.
fn prefers_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let kinds = accepted.flat_map(|value| value.split(',')).filter_map(|kind| kind.split(';').next());
    kinds.map(str::trim).find(|kind| ["text/html", "application/json"].contains(kind)) == Some("text/html")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn hours_are_bounded() {
        assert_eq!(ConsistencyReport::new(None), Ok(ConsistencyReport { hours: 24 }));
        assert_eq!(ConsistencyReport::new(Some(720)), Ok(ConsistencyReport { hours: 720 }));
        for wrong in [-1, 0, 721, i64::MAX] {
            assert_eq!(ConsistencyReport::new(Some(wrong)).unwrap_err().field, "hours", "{wrong}");
        }
    }

    #[test]
    fn browsers_get_a_page_and_tools_get_json() {
        for (accept, expected) in [
            ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", true),
            ("application/json, text/html", false),
            ("*/*", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(prefers_html(&headers), expected, "{accept}");
        }
        assert!(!prefers_html(&HeaderMap::new()));
    }
}
