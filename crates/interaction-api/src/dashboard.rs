//! `GET /` of a server: the dashboard. Embedded files, no build step, nothing loaded from anywhere else.
//!
//! It shows `/health`, `/metrics`, `/overview`, `/consistency/report` and `/events`, and acts by `/events/replay`,
//! `/events/discard`, `/consistency/check` and `/explain`, each time with the bearer token that was typed in. Its own files
//! hold no data, and the policy lets it run nothing but them.
//!
//! uPlot 1.6.32 (MIT licence) draws the charts: its files in `dashboard/uplot` are as published on npm, and go out with
//! their licence.

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Path, kind and content of the page and its files.
const FILES: [(&str, &str, &str); 6] = [
    ("/", HTML, include_str!("dashboard/index.html")),
    ("/assets/dashboard.css", CSS, include_str!("dashboard/dashboard.css")),
    ("/assets/dashboard.js", JAVASCRIPT, include_str!("dashboard/dashboard.js")),
    ("/assets/charts.js", JAVASCRIPT, include_str!("dashboard/charts.js")),
    (
        "/assets/uplot.css",
        CSS,
        concat!("/*\n", include_str!("dashboard/uplot/LICENSE"), "*/\n", include_str!("dashboard/uplot/uPlot.min.css")),
    ),
    (
        "/assets/uplot.js",
        JAVASCRIPT,
        concat!(
            "/*\n",
            include_str!("dashboard/uplot/LICENSE"),
            "*/\n",
            include_str!("dashboard/uplot/uPlot.iife.min.js")
        ),
    ),
];

/// The page and its files.
pub fn routes() -> Router {
    let with = |router: Router, (path, kind, content)| router.route(path, get(async move || file(kind, content)));
    FILES.into_iter().fold(Router::new(), with)
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
        for (path, kind, text) in FILES {
            if kind != HTML {
                assert!(page.contains(&format!("\"{path}\"")), "{path} is not asked for");
                // uPlot says where it comes from, once.
                let text = text.replacen("/*! https://github.com/leeoniya/uPlot (v1.6.32) */", "", 1);
                for never in ["http:", "https:", "@import", "innerHTML", "eval(", "url("] {
                    assert!(!text.contains(never), "{path}: {never}");
                }
            }
        }
        assert!(POLICY.is_ascii());
    }

    #[test]
    fn uplot_goes_out_with_its_licence() {
        for path in ["/assets/uplot.css", "/assets/uplot.js"] {
            let (_, _, text) = FILES.into_iter().find(|(one, ..)| *one == path).unwrap();
            let licence = text.split("*/").next().unwrap();
            assert!(licence.contains("The MIT License") && licence.contains("Leon Sorokin"), "{path}: {licence}");
        }
    }
}
