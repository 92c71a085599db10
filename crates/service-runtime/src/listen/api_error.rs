//! An error as every HTTP route answers it: JSON, `{"status": 404, "reason": "NOT_FOUND", "error": "..."}`.

use super::reason::Reason;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// An error as these routes answer it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// The same, more exactly, for a program.
    pub reason: Reason,
    /// What is wrong, for a person.
    pub message: String,
}

impl ApiError {
    /// An error with its status, and the usual reason for it.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, reason: Reason::of_status(status), message: message.into() }
    }

    /// The same for another reason.
    #[must_use]
    pub fn because(self, reason: Reason) -> Self {
        Self { reason, ..self }
    }

    /// As it is sent.
    pub fn body(&self) -> Value {
        json!({ "status": self.status.as_u16(), "reason": self.reason.name(), "error": self.message })
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 503.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        // Whoever says it in another form finds it here.
        response.extensions_mut().insert(self);
        response
    }
}
