//! Embedded files of a page: no build step, nothing loaded from anywhere else, and a policy that lets them run nothing but
//! each other.

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// What the page may do: its own scripts and styles, and requests to where it came from.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
                          base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Kind of a page.
pub const HTML: &str = "text/html; charset=utf-8";
/// Kind of a style sheet.
pub const CSS: &str = "text/css; charset=utf-8";
/// Kind of a script.
pub const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// A file: where it is served, its kind, and its content.
pub type Asset = (&'static str, &'static str, &'static str);

/// Serves files.
pub fn routes(files: &[Asset]) -> Router {
    let with = |router: Router, (path, kind, content): &Asset| {
        let (kind, content) = (*kind, *content);
        router.route(path, get(async move || file(kind, content)))
    };
    files.iter().fold(Router::new(), with)
}

fn file(kind: &'static str, content: &'static str) -> Response {
    let headers: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // The next build has the same names.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, content).into_response()
}
