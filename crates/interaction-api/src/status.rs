//! The one place where errors become gRPC codes, and these the status of an HTTP answer.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use metrics::counter;
use service_runtime::listen::api_error::ApiError;
use std::fmt::Display;
use std::time::Duration;
use sync_engine::accept::LikeError;
use sync_engine::read::ReadError;
use sync_engine::stores::faults;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// How often a caller should ask again when nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Code and retry hint of a like that was not accepted.
pub const fn of_like(error: &LikeError) -> (Code, Option<Duration>) {
    match error {
        LikeError::RateLimited { retry_after } | LikeError::Overloaded { retry_after, .. } => {
            (Code::ResourceExhausted, Some(*retry_after))
        }
        LikeError::Unavailable { retry_after, .. } => (Code::Unavailable, Some(*retry_after)),
        // Nothing was written: repeating the call is safe.
        LikeError::Expired => (Code::Unavailable, Some(RETRY_AFTER)),
        LikeError::KeyReused => (Code::InvalidArgument, None),
        LikeError::Refused(_) => (Code::Internal, None),
    }
}

/// A like that was not accepted.
pub fn like(error: &LikeError) -> Status {
    if matches!(error, LikeError::KeyReused) {
        return key_reused("");
    }
    let (code, retry_after) = of_like(error);
    with_retry(code, error.to_string(), retry_after)
}

/// The key belongs to another call; its field is named under `prefix`.
pub fn key_reused(prefix: &str) -> Status {
    let field = format!("{prefix}idempotency_key");
    let reason = "was used for the other action on this resource; a key belongs to one call";
    let message = format!("{field}: {reason}");
    let details = ErrorDetails::with_bad_request_violation(field, reason);
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// Neither store could answer.
pub fn read(error: &ReadError) -> Status {
    with_retry(Code::Unavailable, error.to_string(), Some(RETRY_AFTER))
}

/// A list comes from the database alone.
pub fn store(error: &event_store::StoreError) -> Status {
    let message = faults::for_caller("the database", error);
    if error.is_unavailable() || error.is_conflict() {
        with_retry(Code::Unavailable, message, Some(RETRY_AFTER))
    } else {
        Status::internal(message)
    }
}

/// This server's own limits: `what` is counted, `limit` is whose it is.
pub fn limited(what: &'static str, limit: &'static str, retry_after: Duration) -> Status {
    counter!("calls_limited_total", "limit" => limit, "what" => what).increment(1);
    let whose = match limit {
        "ip" => "from this address",
        "token" => "with this token",
        _ => "in all",
    };
    with_retry(Code::ResourceExhausted, format!("too many {what} {whose}"), Some(retry_after))
}

/// A call that found a store unreachable, or unhappy. Operators, too, find its words in the log.
pub fn stores(unavailable: bool, doing: &str, error: &dyn Display) -> Status {
    let message = faults::for_caller(doing, error);
    if unavailable { with_retry(Code::Unavailable, message, Some(RETRY_AFTER)) } else { Status::internal(message) }
}

/// The token is for others.
pub fn out_of_scope(what: &str) -> Status {
    counter!("access_denied_total", "surface" => "grpc", "reason" => "scope").increment(1);
    Status::permission_denied(format!("the token is limited to other {what}"))
}

/// One at a time, and somebody else came first.
pub fn busy(message: String) -> Status {
    with_retry(Code::ResourceExhausted, message, Some(RETRY_AFTER))
}

/// There is no place for this connection, by the bound of this key; another server may have one.
pub fn no_place(key: &str) -> Status {
    with_retry(Code::Unavailable, format!("too many connections ({key})"), Some(RETRY_AFTER))
}

/// This server stops; another one, or the same after its restart, may be asked at once.
pub fn stopping() -> Status {
    with_retry(Code::Unavailable, "the server is stopping".to_owned(), Some(RETRY_AFTER))
}

/// Likes are not accepted yet, or no more.
pub fn not_serving() -> Status {
    with_retry(Code::Unavailable, "the server is starting or stopping".to_owned(), Some(RETRY_AFTER))
}

fn with_retry(code: Code, message: String, retry_after: Option<Duration>) -> Status {
    match retry_after {
        Some(after) => {
            // The wire has no use for a zero delay, and a client that takes it literally would spin.
            let after = after.max(Duration::from_millis(1));
            Status::with_error_details(code, message, ErrorDetails::with_retry_info(Some(after)))
        }
        None => Status::new(code, message),
    }
}

/// A refused or failed call as HTTP answers it.
#[derive(Debug, PartialEq, Eq)]
pub struct HttpError {
    /// What it says.
    pub error: ApiError,
    /// Seconds until it makes sense to ask again.
    pub retry_after: Option<u64>,
}

impl From<Status> for HttpError {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let delay = details.retry_info().and_then(|info| info.retry_delay);
        let retry_after = delay.map(|delay| (delay.as_secs() + u64::from(delay.subsec_nanos() > 0)).max(1));
        Self { error: ApiError::new(http_status(status.code()), status.message()), retry_after }
    }
}

impl From<ApiError> for HttpError {
    fn from(error: ApiError) -> Self {
        Self { error, retry_after: None }
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let mut response = self.error.into_response();
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
            (Status::invalid_argument("user_id: must be given"), 400, None),
        ] {
            let response = HttpError::from(status).into_response();
            let header = response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap());
            assert_eq!((response.status().as_u16(), header), (code, retry_after));
        }
    }
}
