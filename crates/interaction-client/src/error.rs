//! What a caller is told when a call fails.

use crate::v1;
use std::error::Error as _;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A call, or an operation of a batch, that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code:?}{}: {message}", reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default())]
pub struct Error {
    /// Canonical status code.
    pub code: Code,
    /// Why, for a program: a name that stays, such as `USER_LIMIT`. Absent where no server said it.
    pub reason: Option<String>,
    /// What is wrong, for a person.
    pub message: String,
    /// When it makes sense to ask again, if the server knows.
    pub retry_after: Option<Duration>,
    /// Everything that is wrong with the request.
    pub field_violations: Vec<v1::FieldViolation>,
    /// Nobody answered: the connection broke, or there was none.
    pub(crate) is_broken: bool,
}

impl Error {
    /// What the caller gave to this crate makes no sense.
    pub(crate) fn of_caller(message: String) -> Self {
        Self {
            code: Code::InvalidArgument,
            reason: None,
            message,
            retry_after: None,
            field_violations: vec![],
            is_broken: false,
        }
    }

    pub(crate) fn unanswered(patience: Duration) -> Self {
        let message = format!("no answer within {patience:?}");
        Self { code: Code::DeadlineExceeded, is_broken: true, ..Self::of_caller(message) }
    }

    /// Whether the same call may succeed later. What is over a limit is, where the server says when.
    pub fn is_temporary(&self) -> bool {
        match self.code {
            Code::Unavailable => true,
            Code::ResourceExhausted => self.retry_after.is_some(),
            _ => self.is_broken,
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let violations = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        let violations = violations
            .iter()
            .map(|one| v1::FieldViolation { field: one.field.clone(), description: one.description.clone() });
        Self {
            code: status.code(),
            reason: details.error_info().map(|info| info.reason.clone()),
            message: status.message().to_owned(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            field_violations: violations.collect(),
            // A server's word has no cause on this side.
            is_broken: status.source().is_some(),
        }
    }
}

impl From<v1::LikeError> for Error {
    fn from(error: v1::LikeError) -> Self {
        let v1::LikeError { code, message, retry_after_ms, field_violations, reason } = error;
        let retry_after = retry_after_ms.and_then(|wait| u64::try_from(wait).ok()).map(Duration::from_millis);
        let reason = Some(reason).filter(|reason| !reason.is_empty());
        Self { code: Code::from_i32(code), reason, message, retry_after, field_violations, is_broken: false }
    }
}
