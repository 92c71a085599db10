//! gRPC-Web beside JSON: what stands before the routes refuses its calls in their own words.
//!
//! The calls themselves are answered by whoever brings the routes: nothing here knows gRPC.

use crate::listen::api_error::ApiError;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;

/// Where it is spoken, and how.
#[derive(Debug, Clone, Copy)]
pub struct GrpcWeb {
    /// All paths that begin so.
    pub below: &'static str,
    /// A refusal as its clients read it; the status of HTTP and the headers count, and the body.
    pub refusal: fn(&ApiError) -> Response,
}

impl GrpcWeb {
    /// Whether it is spoken at this path.
    pub(crate) fn is_below(self, path: &str) -> bool {
        path.starts_with(self.below)
    }
}

/// Whether a request says that it is one of gRPC-Web, of any form.
pub(crate) fn is_asked(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/grpc-web"))
}

/// Errors of HTTP, of whatever stands in between, as gRPC-Web says them. Their headers stay.
pub(crate) async fn errors_as_grpc(State(web): State<Option<GrpcWeb>>, request: Request, next: Next) -> Response {
    let web = web.filter(|web| web.is_below(request.uri().path()) && is_asked(request.headers()));
    let response = next.run(request).await;
    let Some(web) = web else { return response };
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut head, _) = response.into_parts();
    let error = head.extensions.remove::<ApiError>();
    let error = error.unwrap_or_else(|| ApiError::new(status, status.canonical_reason().unwrap_or("error")));
    let (said, body) = (web.refusal)(&error).into_parts();
    head.status = said.status;
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.extend(said.headers);
    Response::from_parts(head, body)
}
