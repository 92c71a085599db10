//! Many likes and unlikes in one call, of which each one succeeds or fails on its own.

use super::{Interactions, Who, response};
use crate::status;
use domain::LikeIntent;
use interaction_proto::v1;
use interaction_proto::v1::like_result::Outcome as WireOutcome;
use std::time::Duration;
use sync_engine::accept::{Call, LikeAnswer, LikeError};
use tonic::Status;
use tonic_types::StatusExt;

/// What became of an operation.
pub(super) enum Outcome {
    /// It was accepted.
    Answered(LikeAnswer),
    /// The engine did not accept it.
    Failed(LikeError),
    /// It is malformed, or not for this caller: the engine was not asked.
    Refused(Box<Status>),
}

/// Applies what may be applied, in its order, and answers each operation at its place. Fails as a whole only for the limits of
/// the caller, before anything is asked; what is refused anyway does not count there.
pub(super) async fn apply(
    interactions: &Interactions,
    who: &Who,
    operations: Vec<Result<LikeIntent, Status>>,
    call: Call,
) -> Result<Vec<Outcome>, Status> {
    let mut outcomes = Vec::with_capacity(operations.len());
    let (mut intents, mut places) = (Vec::with_capacity(operations.len()), Vec::with_capacity(operations.len()));
    for (place, operation) in operations.into_iter().enumerate() {
        let allowed = operation.and_then(|intent| who.may_like(&intent).map(|()| intent));
        outcomes.push(match allowed {
            Ok(intent) => {
                intents.push(intent);
                places.push(place);
                // Until the engine has said its own.
                Outcome::Failed(LikeError::Refused("no answer".to_owned()))
            }
            Err(refusal) => Outcome::Refused(Box::new(refusal)),
        });
    }
    if intents.is_empty() {
        return Ok(outcomes);
    }
    interactions.limits.likes(who, intents.len())?;
    for (place, result) in places.into_iter().zip(interactions.acceptor.accept(intents, call).await) {
        outcomes[place] = match result {
            Ok(answer) => Outcome::Answered(answer),
            Err(LikeError::KeyReused) => {
                Outcome::Refused(Box::new(status::key_reused(&format!("operations[{place}]."))))
            }
            Err(error) => Outcome::Failed(error),
        };
    }
    Ok(outcomes)
}

/// The answer to one operation.
pub(super) fn result(outcome: &Outcome) -> v1::LikeResult {
    let outcome = match outcome {
        Outcome::Answered(answer) => WireOutcome::Response(response(answer)),
        refused => WireOutcome::Error(error(refused)),
    };
    v1::LikeResult { outcome: Some(outcome) }
}

/// Why an operation has no answer.
pub(super) fn error(outcome: &Outcome) -> v1::LikeError {
    match outcome {
        // Where a limit is met there are many of these: they are said without a status of their own.
        Outcome::Failed(error) => {
            let (reason, retry_after) = status::of_like(error);
            v1::LikeError {
                code: status::code(reason).into(),
                message: error.to_string(),
                retry_after_ms: retry_after.map(millis),
                field_violations: Vec::new(),
                reason: reason.name().to_owned(),
            }
        }
        Outcome::Refused(status) => refusal(status),
        // It has one.
        Outcome::Answered(_) => v1::LikeError::default(),
    }
}

fn refusal(status: &Status) -> v1::LikeError {
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
    let violations = violations
        .iter()
        .map(|one| v1::FieldViolation { field: one.field.clone(), description: one.description.clone() });
    v1::LikeError {
        code: status.code().into(),
        reason: status::reason_of(status.code(), &details).name().to_owned(),
        message: status.message().to_owned(),
        retry_after_ms: details.retry_info().and_then(|info| info.retry_delay).map(millis),
        field_violations: violations.collect(),
    }
}

/// The wire has no use for a zero delay.
fn millis(delay: Duration) -> i64 {
    i64::try_from(delay.as_millis()).unwrap_or(i64::MAX).max(1)
}
