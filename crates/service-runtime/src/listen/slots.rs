//! Requests of ops HTTP that are worked on at once. One takes its turn when it is whole: who sends slowly holds up nobody.

use crate::listen::api_error::ApiError;
use crate::listen::ops::MAX_BODY_LEN;
use crate::listen::unfinished::{Refused, Unfinished};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    unfinished: Unfinished,
}

impl Slots {
    pub(crate) fn new(number: usize, unfinished: Unfinished) -> Self {
        Self { free: Arc::new(Semaphore::new(number)), unfinished }
    }
}

/// A middleware; the body was bounded before.
pub(crate) async fn slot(State(slots): State<Slots>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let body = match to_bytes(body, MAX_BODY_LEN).await {
        Ok(body) => body,
        // Its reason is said by whoever bounded it.
        Err(error) => return ApiError::bad_request(format!("body: {error}")).into_response(),
    };
    let permit = match turn(&slots, &body).await {
        Ok(permit) => permit,
        Err(why) => return ApiError::unavailable(why.to_string()).because(why.because()).into_response(),
    };
    let response = next.run(Request::from_parts(head, Body::from(body))).await;
    drop(permit);
    response
}

/// What waits for its turn is held in memory, as what is not complete.
async fn turn<'a>(slots: &'a Slots, body: &Bytes) -> Result<Option<SemaphorePermit<'a>>, Refused> {
    if let Ok(permit) = slots.free.try_acquire() {
        return Ok(Some(permit));
    }
    tokio::select! {
        // It is never closed.
        permit = slots.free.acquire() => Ok(permit.ok()),
        why = slots.unfinished.crowded(body.len()) => Err(why),
    }
}
