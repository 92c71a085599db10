//! HTTP for operators: what stands before the routes, and how they are served.
//!
//! Every error is JSON, `{"status": 404, "reason": "NOT_FOUND", "error": "..."}`; so are those of routes that answer an error in plain text.
//! Headers, bodies, times, connections and concurrent requests are bounded.
//!
//! Who may ask for what is decided before any route ([`crate::listen::access`]): `GET` needs the role `read`, or `metrics` for
//! `/metrics`, everything else `operate`, or `write` or `read` where the routes say so ([`Paths`]); open are health, the page at `/`, files below `/assets/`, and `/session`, which decides itself.

use crate::listen::access::guard::{self, Certified, Guard};
use crate::listen::api_error::ApiError;
use crate::listen::bounds::bound;
use crate::listen::cors::{self, Cors};
use crate::listen::gate::Gate;
use crate::listen::grpc_web;
use crate::listen::paths::Paths;
use crate::listen::request_id::RequestIdLayer;
use crate::listen::slots::{Slots, slot};
use crate::listen::tls::Protocol;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::any::Any;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

/// Longest request body in bytes.
pub const MAX_BODY_LEN: usize = 1 << 20;
/// Longest time for an answer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Requests worked on at once, and as many likes beside them; more of them wait.
pub const MAX_CONCURRENT: usize = 64;

/// Longest head of a request in bytes: its first line and all headers.
pub const MAX_HEAD_LEN: usize = 16 << 10;
/// Most headers of a request.
pub const MAX_HEADERS: usize = 64;
/// Longest time for the head of a request, and between two of them.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_ERROR_LEN: usize = 4096;
/// How long open connections may take to end after the shutdown.
const GOODBYE: Duration = Duration::from_secs(5);

/// A program's own routes.
#[derive(Debug, Default)]
pub struct OpsRoutes {
    /// Their handlers.
    pub router: Router,
    /// What is otherwise about some of them.
    pub paths: Paths,
}

impl From<Router> for OpsRoutes {
    fn from(router: Router) -> Self {
        Self { router, paths: Paths::default() }
    }
}

/// What stands before every route: tokens, bounds, request ids, and errors of one shape.
///
/// `common` are the routes that every process has. They look at the process alone, so they take no place from the others, nor
/// wait for one: a store that hangs must not make a process seem dead.
pub(crate) fn guarded(gate: &Gate, common: Router, routes: OpsRoutes) -> Router {
    let paths = routes.paths;
    let guard = Guard { gate: gate.clone(), paths };
    let cors = Cors { origins: Arc::clone(gate.cors_origins()), paths };
    routes
        .router
        .layer(from_fn_with_state(Slots::new(MAX_CONCURRENT, paths.writes, gate.unfinished().clone()), slot))
        .layer(RequestBodyLimitLayer::new(MAX_BODY_LEN))
        .merge(common)
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, REQUEST_TIMEOUT))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(guard, guard::guard))
        .layer(from_fn_with_state(cors.clone(), cors::preflight))
        .layer(from_fn_with_state(gate.unfinished().clone(), bound))
        .layer(map_response(errors_as_json))
        .layer(from_fn_with_state(paths.grpc_web, grpc_web::errors_as_grpc))
        .layer(from_fn_with_state(cors, cors::shown))
        .layer(RequestIdLayer)
}

/// Serves until `shutdown`, then lets requests end, for at most five seconds.
pub async fn serve(gate: &Gate, listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let mut incoming = gate.accept(listener, Protocol::Http1, shutdown.clone());
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_LEN)
        .max_headers(MAX_HEADERS);
    let mut connections = JoinSet::new();
    // Ends with the shutdown.
    while let Some(connection) = incoming.recv().await {
        while connections.try_join_next().is_some() {}
        let (peer, link) = (connection.peer(), connection.link());
        let leaving = match connection.leaving() {
            Ok(leaving) => leaving,
            // No descriptor is left: whoever waits for an answer would wait in vain.
            Err(error) => {
                tracing::debug!("a connection of ops HTTP was dropped: {error}");
                continue;
            }
        };
        let service = router.clone().map_request(move |mut request: Request<hyper::body::Incoming>| {
            // Handlers may ask who called.
            request.extensions_mut().insert(ConnectInfo(peer));
            if link.is_certified() {
                request.extensions_mut().insert(Certified);
            }
            request.extensions_mut().insert(link.clone());
            request.map(Body::new)
        });
        let served = builder.serve_connection(TokioIo::new(connection), TowerToHyperService::new(service));
        let shutdown = shutdown.clone();
        connections.spawn(async move {
            let mut served = pin!(served);
            let result = tokio::select! {
                result = served.as_mut() => result,
                // Its call goes with it.
                () = leaving.left() => return,
                () = shutdown.cancelled() => {
                    served.as_mut().graceful_shutdown();
                    tokio::select! {
                        result = served => result,
                        () = leaving.left() => return,
                    }
                }
            };
            if let Err(error) = result {
                tracing::debug!("a connection of ops HTTP ended: {error}");
            }
        });
    }
    let ended = async { while connections.join_next().await.is_some() {} };
    // What has not ended is cut with the set.
    let _ = tokio::time::timeout(GOODBYE, ended).await;
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown");
    tracing::error!("a request handler panicked: {text}");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error").into_response()
}

/// Gives plain-text and empty errors (of the router, the extractors, the limits) the one shape.
async fn errors_as_json(response: Response) -> Response {
    let status = response.status();
    let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let plain = content_type.is_none_or(|kind| kind.starts_with("text/plain"));
    if !(status.is_client_error() || status.is_server_error()) || !plain {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = to_bytes(body, MAX_ERROR_LEN).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let message = match text.trim() {
        "" => status.canonical_reason().unwrap_or("error").to_lowercase(),
        text => text.to_owned(),
    };
    let error = ApiError::new(status, message);
    let body = error.body().to_string();
    parts.extensions.insert(error);
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Response::from_parts(parts, Body::from(body))
}
