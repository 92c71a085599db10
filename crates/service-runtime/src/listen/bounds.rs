//! Each call of ops HTTP within the bounds of its connection and of the process.

use crate::listen::access::guard::{is_open, is_probe};
use crate::listen::answer::Answer;
use crate::listen::api_error::ApiError;
use crate::listen::link::{Call, Link, Stage};
use crate::listen::ops::MAX_BODY_LEN;
use crate::listen::reason::Reason;
use crate::listen::unfinished::{Bounded, Refused, Unfinished, head_len};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::{Arc, OnceLock};

/// A middleware in front of all routes.
pub(crate) async fn bound(State(unfinished): State<Unfinished>, mut request: Request, next: Next) -> Response {
    let link = request.extensions_mut().remove::<Link>();
    if let Some(link) = &link {
        request.extensions_mut().insert(link.arrived());
    }
    let open = is_open(request.method(), request.uri().path());
    let call = link.as_ref().map(|link| link.call(open));
    let stage = call.as_ref().map(Call::stage);
    // Else requests that a caller sent ahead are answered before anybody else's turn.
    tokio::task::yield_now().await;
    let full = link.and_then(|link| link.lacks_place()).filter(|_| !is_probe(request.uri().path()));
    let response = match full {
        Some(key) => no_place(key),
        None => {
            if let Some(stage) = &stage {
                request.extensions_mut().insert(stage.clone());
            }
            run(request, next, unfinished, stage).await
        }
    };
    match call {
        Some(call) => {
            let stranger = open || response.status() == StatusCode::UNAUTHORIZED;
            // Who sends many ahead has each but the first for nothing.
            let response = if stranger { closing(response) } else { response };
            response.map(|body| Body::new(Answer::new(body, call)))
        }
        None => response,
    }
}

/// The listener has no place for the connection, because this bound is full.
pub(crate) fn no_place(key: &'static str) -> Response {
    let message = format!("too many connections ({key}): on this one only /health is answered");
    let error = ApiError::unavailable(message).because(Reason::TooManyConnections);
    closing(refusal("reserve", error))
}

/// What a handler says about a body that was refused is replaced by the reason.
async fn run(request: Request, next: Next, unfinished: Unfinished, stage: Option<Stage>) -> Response {
    let refused = Arc::new(OnceLock::<Refused>::new());
    let (fate, head) = (Arc::clone(&refused), head_len(request.headers()));
    let request = request.map(|body| {
        let refuse = move |why| {
            let _ = fate.set(why);
            why.into()
        };
        Body::new(Bounded::new(body, MAX_BODY_LEN, head, unfinished, stage, refuse))
    });
    let response = next.run(request).await;
    let Some(why) = refused.get() else { return response };
    let status = match why {
        Refused::Long(_) => StatusCode::PAYLOAD_TOO_LARGE,
        Refused::Late => StatusCode::REQUEST_TIMEOUT,
        Refused::Crowded => StatusCode::SERVICE_UNAVAILABLE,
    };
    closing(refusal(why.reason(), ApiError::new(status, why.to_string()).because(why.because())))
}

fn refusal(reason: &'static str, error: ApiError) -> Response {
    metrics::counter!("interaction_calls_refused_total", "surface" => "http", "reason" => reason).increment(1);
    error.into_response()
}

/// The rest of the request is not waited for.
fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
