//! A plain page with live numbers, from `/metrics` and `/health`.

use axum::Router;
use axum::response::Html;
use axum::routing::get;

const PAGE: &str = include_str!("page.html");

pub(crate) fn routes() -> Router {
    Router::new().route("/", get(async || Html(PAGE)))
}
