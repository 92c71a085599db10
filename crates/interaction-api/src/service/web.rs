//! gRPC-Web for browsers, on the port of HTTP: a browser speaks HTTP/1.1 where there is no TLS, and pages come from there. What
//! stands before JSON (tokens, bounds, turns, CORS) stands before this; what stands behind gRPC answers.
//!
//! Deliberately absent: the calls of operators, whose page speaks JSON.

use super::callers;
use super::deadline::timeout;
use super::http::Opening;
use crate::request::lengths::longest_body;
use crate::request::unread::told;
use crate::status::{self, Reason, code};
use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use service_runtime::listen::api_error::ApiError;
use tonic::{Code, Status};
use tonic_web::GrpcWebLayer;
use tower::util::MapResponse;
use tower::{Layer, ServiceExt};

/// Every call stands below.
pub(crate) const BELOW: &str = "/interaction.v1.InteractionService/";

pub(crate) const LIKE: &str = "/interaction.v1.InteractionService/Like";
pub(crate) const UNLIKE: &str = "/interaction.v1.InteractionService/Unlike";
pub(crate) const APPLY_LIKES: &str = "/interaction.v1.InteractionService/ApplyLikes";
pub(crate) const GET_LIKE_COUNTS: &str = "/interaction.v1.InteractionService/GetLikeCounts";
pub(crate) const GET_LIKE_STATES: &str = "/interaction.v1.InteractionService/GetLikeStates";
pub(crate) const GET_LIKE_SUMMARIES: &str = "/interaction.v1.InteractionService/GetLikeSummaries";
pub(crate) const LIST_LIKED_RESOURCES: &str = "/interaction.v1.InteractionService/ListLikedResources";
pub(crate) const LIST_LIKERS: &str = "/interaction.v1.InteractionService/ListLikers";
pub(crate) const LIST_HOT_RESOURCES: &str = "/interaction.v1.InteractionService/ListHotResources";
pub(crate) const WATCH_LIKE_COUNTS: &str = "/interaction.v1.InteractionService/WatchLikeCounts";

const BINARY: HeaderValue = HeaderValue::from_static("application/grpc-web+proto");

/// Base64 of the same, for clients that read answers as text.
const TEXT: &str = "application/grpc-web-text";

/// What stands before a message, and behind a text of it.
const PREFIX_AND_PADDING: u64 = 8;

pub(crate) fn routes(opening: Opening) -> Router {
    Router::new().route("/interaction.v1.InteractionService/{method}", post(call)).with_state(opening)
}

/// Whatever it asks: tonic knows the methods.
async fn call(State(opening): State<Opening>, request: Request) -> Response {
    let interactions = match admitted(&request).and_then(|()| opening.get()) {
        Ok(interactions) => interactions,
        Err(status) => return said(status),
    };
    let told = MapResponse::new(callers(interactions), told);
    let answer = GrpcWebLayer::new().layer(told).oneshot(request);
    match Box::pin(answer).await {
        Ok(answer) => answer.map(Body::new),
        Err(never) => match never {},
    }
}

/// The bounds that each call has by gRPC, of its deadline and its length. Its body is there.
fn admitted(request: &Request) -> Result<(), Status> {
    timeout(request.headers()).map_err(|why| refuse("timeout", Reason::InvalidRequest, why))?;
    let (len, longest) = (request.body().size_hint().lower(), longest_body(request.uri().path()) as u64);
    let longest = if is_text(request.headers()) { longest / 3 * 4 + PREFIX_AND_PADDING } else { longest };
    if len <= longest {
        return Ok(());
    }
    let message = format!("the message is longer than any legal one: {len} bytes, at most {longest}");
    Err(refuse("long", Reason::MessageTooLong, message))
}

fn refuse(bound: &'static str, reason: Reason, message: String) -> Status {
    metrics::counter!("interaction_calls_refused_total", "surface" => "http", "reason" => bound).increment(1);
    status::refuse(reason, message)
}

fn is_text(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(TEXT.as_bytes()))
}

/// What stands before the routes refused a call.
pub(crate) fn refusal(error: &ApiError) -> Response {
    let message = error.message.clone();
    let waits = matches!(code(error.reason), Code::Unavailable | Code::ResourceExhausted);
    said(if waits && error.reason != Reason::MessageTooLong {
        status::refuse_for_now(error.reason, message)
    } else {
        status::refuse(error.reason, message)
    })
}

/// An answer without a message: all of it is in the headers.
fn said(status: Status) -> Response {
    let mut response = status.into_http::<Body>().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, BINARY);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::StatusExt;

    #[test]
    fn a_refusal_has_its_code_its_reason_and_a_hint_where_waiting_helps() {
        for (reason, code, waits) in [
            (Reason::TokenMissing, Code::Unauthenticated, false),
            (Reason::CrossSite, Code::PermissionDenied, false),
            (Reason::TooManyConnections, Code::Unavailable, true),
            (Reason::CrowdedOut, Code::ResourceExhausted, true),
            (Reason::MessageTooLong, Code::ResourceExhausted, false),
            (Reason::NoAnswerInTime, Code::DeadlineExceeded, false),
        ] {
            let response = refusal(&ApiError::bad_request("why").because(reason));
            assert_eq!((response.status().as_u16(), &response.headers()[header::CONTENT_TYPE]), (200, &BINARY));
            let status = Status::from_header_map(response.headers()).unwrap();
            assert_eq!((status.code(), status.message()), (code, "why"));
            let details = status.get_error_details();
            assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some(reason.name()));
            assert_eq!(details.retry_info().is_some(), waits, "{reason:?}");
        }
    }

    #[test]
    fn calls_have_the_bounds_that_they_have_by_grpc() {
        let asked = |kind: &str, timeout: &str, len: usize| {
            let request = Request::post(LIKE).header("content-type", kind).header("grpc-timeout", timeout);
            admitted(&request.body(Body::from(vec![0; len])).unwrap()).map_err(|status| status.code())
        };
        let longest = longest_body(LIKE);
        assert_eq!(asked("application/grpc-web", "1S", longest), Ok(()));
        assert_eq!(asked("application/grpc-web", "1S", longest + 1), Err(Code::ResourceExhausted));
        assert_eq!(asked("application/grpc-web-text", "1S", longest.div_ceil(3) * 4), Ok(()));
        assert_eq!(asked("application/grpc-web-text", "1S", longest * 2), Err(Code::ResourceExhausted));
        assert_eq!(asked("application/grpc-web", "soon", 5), Err(Code::InvalidArgument));
    }
}
