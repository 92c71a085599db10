//! `/session`: a browser signs in once, by cookie, and its links work from then on.
//!
//! | call | answer |
//! |---|---|
//! | `GET /session` | whether a token is needed, who is signed in, and in which role |
//! | `POST /session` `{"token":"..."}` | signs in; the role must be at least `read`, and the token unlimited |
//! | `DELETE /session` | signs out |

use super::context::Context;
use crate::listen::access::guard::denied;
use crate::listen::access::{Caller, Role, session};
use crate::listen::api_error::ApiError;
use crate::listen::request::json;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

#[derive(Serialize)]
struct Session<'a> {
    /// Whether anybody needs a token.
    needs_token: bool,
    /// Whether this browser may look.
    signed_in: bool,
    /// Of the token; null where nobody needs one.
    name: Option<&'a str>,
    /// What it may do; null unless signed in.
    role: Option<&'static str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignIn {
    token: String,
}

fn answer(context: &Context, caller: Option<&Caller>) -> Response {
    let session = Session {
        needs_token: context.gate.access.needs_token(),
        signed_in: caller.is_some(),
        name: caller.and_then(Caller::token_name),
        role: caller.map(|caller| caller.role.name()),
    };
    ([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(session)).into_response()
}

pub(super) async fn who(State(context): State<Context>, headers: HeaderMap) -> Response {
    let caller = session::caller(&context.gate.access, &headers, Role::Read, false).ok();
    answer(&context, caller.as_ref())
}

pub(super) async fn sign_in(
    State(context): State<Context>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let SignIn { token } = json(&body)?;
    let token = token.trim();
    let caller = context.gate.access.check_token(token.as_bytes(), Role::Read, false).map_err(denied)?;
    let mut response = answer(&context, Some(&caller));
    // Where nobody needs a token none is kept.
    if caller.token_name().is_some() {
        let cookie = session::sign_in(&context.gate, &headers, token);
        response.headers_mut().extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
        tracing::info!(name = &*caller.name, role = caller.role.name(), "signed in with a browser");
    }
    Ok(response)
}

pub(super) async fn sign_out(State(context): State<Context>, headers: HeaderMap) -> Response {
    let mut response = answer(&context, None);
    let cookie = session::sign_out(&context.gate, &headers);
    response.headers_mut().extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
    response
}
