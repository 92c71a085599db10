//! Pages of other sites: which ones may ask what callers ask.
//!
//! A browser hands an answer to a page of another site, and sends for it what no form could send, only where the answer says that it
//! may. It says so to the origins of `service.cors_origins`, on the routes that are for callers, and nowhere else: not one by
//! default, and never for what operators do. Cookies are not allowed; a page brings its own token.

use crate::config::PublicOrigin;
use crate::listen::paths::Paths;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST");

/// Headers that a page may send: those of JSON, and those that clients of gRPC-Web set themselves.
const SENT: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, grpc-timeout, traceparent, x-grpc-web, x-request-id, x-user-agent",
);

/// Headers of an answer that a page may read, beside the usual ones: what was refused, why, and for how long.
const SHOWN: HeaderValue = HeaderValue::from_static(
    "grpc-message, grpc-status, grpc-status-details-bin, retry-after, www-authenticate, x-request-id",
);

/// For so many seconds a browser need not ask again whether it may.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// Who may ask what.
#[derive(Debug, Clone)]
pub(crate) struct Cors {
    pub(crate) origins: Arc<[PublicOrigin]>,
    pub(crate) paths: Paths,
}

impl Cors {
    fn is_for(&self, path: &str) -> bool {
        !self.origins.is_empty() && self.paths.scoped.contains(&path)
    }

    /// The origin of the page that asks, if it may.
    fn guest<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        let from = origin.to_str().ok().and_then(PublicOrigin::parse)?;
        self.origins.contains(&from).then_some(origin)
    }
}

/// A middleware that answers a browser that asks whether it may ask; such a question brings no token.
pub(crate) async fn preflight(State(cors): State<Cors>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let asks = *request.method() == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if !asks || !cors.is_for(request.uri().path()) || cors.guest(headers).is_none() {
        return next.run(request).await;
    }
    let allowed = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, SENT),
        (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE),
    ];
    (StatusCode::NO_CONTENT, allowed).into_response()
}

/// A middleware in front of all others: refusals are shown, too.
pub(crate) async fn shown(State(cors): State<Cors>, request: Request, next: Next) -> Response {
    if !cors.is_for(request.uri().path()) {
        return next.run(request).await;
    }
    let guest = cors.guest(request.headers()).cloned();
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    // What is kept for one page is not for another.
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = guest {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, SHOWN);
    }
    response
}
