//! The one place where errors become reasons, these gRPC codes, and those the status of an HTTP answer.
//!
//! Every refusal carries `google.rpc.ErrorInfo` with one of the [`Reason`]s.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use metrics::counter;
use serde::Serialize;
use serde_json::json;
use service_runtime::listen::api_error::ApiError;
use service_runtime::listen::reason::DOMAIN;
use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;
use sync_engine::accept::LikeError;
use sync_engine::read::ReadError;
use sync_engine::stores::faults;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use utoipa::ToSchema;

pub use service_runtime::listen::reason::Reason;

/// How often a caller should ask again when nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The code that stands for a reason.
pub const fn code(reason: Reason) -> Code {
    match reason {
        Reason::InvalidRequest | Reason::KeyReused | Reason::BeyondBurst | Reason::UnsupportedMediaType => {
            Code::InvalidArgument
        }
        Reason::TokenMissing | Reason::TokenMalformed | Reason::TokenUnknown | Reason::CertificateMissing => {
            Code::Unauthenticated
        }
        Reason::RoleTooLow | Reason::OutOfScope | Reason::NotLocal | Reason::CrossSite => Code::PermissionDenied,
        Reason::NotFound | Reason::ResourceDeleted => Code::NotFound,
        Reason::MethodNotAllowed => Code::Unimplemented,
        Reason::UserLimit
        | Reason::TokenLimit
        | Reason::AddressLimit
        | Reason::ServerLimit
        | Reason::Overloaded
        | Reason::ReadsWaiting
        | Reason::TooManyStreams
        | Reason::WarmUpRunning
        | Reason::TooManyOpenCalls
        | Reason::MessageTooLong
        | Reason::CrowdedOut => Code::ResourceExhausted,
        Reason::IncompleteRequest | Reason::NoAnswerInTime => Code::DeadlineExceeded,
        // What expired was not written: repeating the call is safe.
        Reason::Expired | Reason::StoreUnavailable | Reason::TooManyConnections | Reason::NotServing => {
            Code::Unavailable
        }
        Reason::Internal => Code::Internal,
    }
}

/// Reason and retry hint of a like that was not accepted.
pub const fn of_like(error: &LikeError) -> (Reason, Option<Duration>) {
    match error {
        LikeError::RateLimited { retry_after } => (Reason::UserLimit, Some(*retry_after)),
        LikeError::Overloaded { retry_after, .. } => (Reason::Overloaded, Some(*retry_after)),
        LikeError::Unavailable { retry_after, .. } => (Reason::StoreUnavailable, Some(*retry_after)),
        LikeError::Expired => (Reason::Expired, Some(RETRY_AFTER)),
        LikeError::KeyReused => (Reason::KeyReused, None),
        LikeError::Deleted => (Reason::ResourceDeleted, None),
        LikeError::Refused(_) => (Reason::Internal, None),
    }
}

/// A like that was not accepted.
pub fn like(error: &LikeError) -> Status {
    if matches!(error, LikeError::KeyReused) {
        return key_reused("");
    }
    let (reason, retry_after) = of_like(error);
    refuse_until(reason, error.to_string(), retry_after)
}

/// The key belongs to another call; its field is named under `prefix`.
pub fn key_reused(prefix: &str) -> Status {
    let field = format!("{prefix}idempotency_key");
    let rule = "was used for the other action on this resource; a key belongs to one call";
    let message = format!("{field}: {rule}");
    refuse_with(Reason::KeyReused, message, ErrorDetails::with_bad_request_violation(field, rule))
}

/// Neither store could answer.
pub fn read(error: &ReadError) -> Status {
    refuse_for_now(Reason::StoreUnavailable, error.to_string())
}

/// A list comes from the database alone.
pub fn store(error: &event_store::StoreError) -> Status {
    let message = faults::for_caller("the database", error);
    if error.is_unavailable() || error.is_conflict() {
        refuse_for_now(Reason::StoreUnavailable, message)
    } else {
        refuse(Reason::Internal, message)
    }
}

/// This server's own limits: `what` is counted, `limit` is whose it is.
pub fn limited(what: &'static str, limit: &'static str, retry_after: Duration) -> Status {
    counter!("interaction_calls_limited_total", "limit" => limit, "what" => what).increment(1);
    let (reason, whose) = match limit {
        "ip" => (Reason::AddressLimit, "from this address"),
        "token" => (Reason::TokenLimit, "with this token"),
        _ => (Reason::ServerLimit, "in all"),
    };
    refuse_until(reason, format!("too many {what} {whose}"), Some(retry_after))
}

/// A call that found a store unreachable, or unhappy. Operators, too, find its words in the log.
pub fn stores(unavailable: bool, doing: &str, error: &dyn Display) -> Status {
    let message = faults::for_caller(doing, error);
    if unavailable { refuse_for_now(Reason::StoreUnavailable, message) } else { refuse(Reason::Internal, message) }
}

/// The token is for others.
pub fn out_of_scope(what: &str) -> Status {
    counter!("interaction_access_denied_total", "surface" => "grpc", "reason" => "scope").increment(1);
    refuse(Reason::OutOfScope, format!("the token is limited to other {what}"))
}

/// There is no place for this connection, by the bound of this key; another server may have one.
pub fn no_place(key: &str) -> Status {
    refuse_for_now(Reason::TooManyConnections, format!("too many connections ({key})"))
}

/// This server stops; another one, or the same after its restart, may be asked at once.
pub fn stopping() -> Status {
    refuse_for_now(Reason::NotServing, "the server is stopping".to_owned())
}

/// What was begun with a token ends with it.
pub fn token_gone() -> Status {
    refuse(Reason::TokenUnknown, "the token of this stream is not valid any more, or is limited otherwise")
}

/// Likes are not accepted yet, or no more.
pub fn not_serving() -> Status {
    refuse_for_now(Reason::NotServing, "the server is starting or stopping".to_owned())
}

/// Waiting does not help, as far as anybody knows.
pub fn refuse(reason: Reason, message: impl Into<String>) -> Status {
    refuse_until(reason, message.into(), None)
}

/// It may be otherwise soon: one at a time, and somebody else came first.
pub fn refuse_for_now(reason: Reason, message: String) -> Status {
    refuse_until(reason, message, Some(RETRY_AFTER))
}

fn refuse_until(reason: Reason, message: String, retry_after: Option<Duration>) -> Status {
    let mut details = ErrorDetails::new();
    if let Some(after) = retry_after {
        // The wire has no use for a zero delay, and a client that takes it literally would spin.
        details.set_retry_info(Some(after.max(Duration::from_millis(1))));
    }
    refuse_with(reason, message, details)
}

/// With these details, and the reason among them.
pub fn refuse_with(reason: Reason, message: String, mut details: ErrorDetails) -> Status {
    details.set_error_info(reason.name(), DOMAIN, HashMap::new());
    Status::with_error_details(code(reason), message, details)
}

/// The reason of a refusal; what the code says of one without.
pub fn reason_of(code: Code, details: &ErrorDetails) -> Reason {
    let said = details.error_info().and_then(|info| Reason::named(&info.reason));
    said.unwrap_or_else(|| Reason::of_status(http_status(code)))
}

/// A part of a request that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = FieldViolation)]
pub struct Violation {
    /// Which part.
    #[schema(example = "resource_id")]
    pub field: String,
    /// Which rule.
    #[schema(example = "must be greater than 0, got -1")]
    pub description: String,
}

/// A refused or failed call as HTTP answers it.
#[derive(Debug, PartialEq, Eq)]
pub struct HttpError {
    /// What it says.
    pub error: ApiError,
    /// Seconds until it makes sense to ask again.
    pub retry_after: Option<u64>,
    /// Everything that is wrong with the request, where that is known; the error says the first.
    pub violations: Vec<Violation>,
}

impl From<Status> for HttpError {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let delay = details.retry_info().and_then(|info| info.retry_delay);
        let retry_after = delay.map(|delay| (delay.as_secs() + u64::from(delay.subsec_nanos() > 0)).max(1));
        let error = ApiError::new(http_status(status.code()), status.message());
        let violations = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        let violations = violations
            .iter()
            .map(|one| Violation { field: one.field.clone(), description: one.description.clone() })
            .collect();
        Self { error: error.because(reason_of(status.code(), &details)), retry_after, violations }
    }
}

impl From<ApiError> for HttpError {
    fn from(error: ApiError) -> Self {
        Self { error, retry_after: None, violations: Vec::new() }
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let mut response = if self.violations.is_empty() {
            self.error.into_response()
        } else {
            let mut body = self.error.body();
            body["field_violations"] = json!(self.violations);
            (self.error.status, Json(body)).into_response()
        };
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Codes that these calls never answer are faults.
const fn http_status(code: Code) -> StatusCode {
    match code {
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use interaction_proto::code_name;

    #[test]
    fn retry_info_travels_with_the_code() {
        let status = like(&LikeError::RateLimited { retry_after: Duration::from_millis(1500) });
        assert_eq!(status.code(), Code::ResourceExhausted);
        let details = status.get_error_details();
        assert_eq!(details.retry_info().and_then(|info| info.retry_delay), Some(Duration::from_millis(1500)));
        let unavailable = like(&LikeError::Unavailable { reason: "x".to_owned(), retry_after: Duration::ZERO });
        assert_eq!(unavailable.code(), Code::Unavailable);
        assert!(
            unavailable.get_error_details().retry_info().is_some_and(|info| info.retry_delay > Some(Duration::ZERO))
        );
    }

    #[test]
    fn http_says_the_same_in_its_own_words() {
        let limited = LikeError::RateLimited { retry_after: Duration::from_millis(1_500) };
        let unavailable = LikeError::Unavailable { reason: "x".to_owned(), retry_after: Duration::ZERO };
        for (status, code, retry_after) in [
            (like(&limited), 429, Some("2")),
            (like(&unavailable), 503, Some("1")),
            (like(&LikeError::Refused("x".to_owned())), 500, None),
            (like(&LikeError::Deleted), 404, None),
            (refuse(Reason::InvalidRequest, "user_id: must be given"), 400, None),
        ] {
            let response = HttpError::from(status).into_response();
            let header = response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap());
            assert_eq!((response.status().as_u16(), header), (code, retry_after));
        }
    }

    #[test]
    fn every_refusal_says_why() {
        let expired = like(&LikeError::Expired);
        let details = expired.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("EXPIRED", "interaction-sync"));
        assert!(details.retry_info().is_some());
        for reason in Reason::ALL {
            let status = refuse(*reason, "why");
            assert_eq!(HttpError::from(status).error.reason, *reason);
        }
        let reused = like(&LikeError::KeyReused).get_error_details();
        assert_eq!(reused.error_info().map(|info| info.reason.as_str()), Some("IDEMPOTENCY_KEY_REUSED"));
        assert_eq!(reused.bad_request().map(|bad| bad.field_violations.len()), Some(1));
    }

    #[test]
    fn the_document_has_every_reason_with_its_code() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../", "docs/API.md");
        let text = std::fs::read_to_string(file).unwrap();
        let (_, table) = text.split_once("| reason | code |").expect("no table of reasons in docs/API.md");
        let rows: Vec<(&str, &str)> = table
            .lines()
            .skip(2)
            .map_while(|line| line.strip_prefix("| `"))
            .map(|row| {
                let mut cells = row.split('|').map(|cell| cell.trim().trim_matches('`'));
                (cells.next().unwrap(), cells.next().unwrap())
            })
            .collect();
        let expected: Vec<_> = Reason::ALL.iter().map(|reason| (reason.name(), code_name(code(*reason)))).collect();
        assert_eq!(rows, expected);
    }
}
