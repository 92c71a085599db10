//! `GET /` of a server: the dashboard. Three embedded files, no build step, nothing loaded from anywhere else.
//!
//! It shows `/health`, `/metrics`, `/overview`, `/consistency/report` and `/events`, and acts by `/events/replay`,
//! `/events/discard`, `/consistency/check` and `/explain`, each time with the bearer token that was typed in. Its own files
//! hold no data, and the policy lets it run nothing but them.

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page and its two files.
pub fn routes() -> Router {
    Router::new()
        .route("/", get(async || file("text/html; charset=utf-8", include_str!("dashboard/index.html"))))
        .route(
            "/assets/dashboard.css",
            get(async || file("text/css; charset=utf-8", include_str!("dashboard/dashboard.css"))),
        )
        .route(
            "/assets/dashboard.js",
            get(async || file("text/javascript; charset=utf-8", include_str!("dashboard/dashboard.js"))),
        )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_inline_and_nothing_is_loaded_from_elsewhere() {
        let page = include_str!("dashboard/index.html");
        for never in ["<script>", "<style", " style=", " onclick", " onload", "http://localhost", "https://"] {
            assert!(!page.contains(never), "{never}");
        }
        for (name, text) in
            [("css", include_str!("dashboard/dashboard.css")), ("js", include_str!("dashboard/dashboard.js"))]
        {
            for never in ["http:", "https:", "@import", "innerHTML", "eval(", "url("] {
                assert!(!text.contains(never), "{name}: {never}");
            }
        }
        assert!(POLICY.is_ascii());
    }
}
