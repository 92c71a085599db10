//! Many likes and unlikes in one call, of which each may fail alone.

use crate::policy::Attempts;
use crate::{Client, Error, fresh_key, v1};
use std::collections::HashSet;

type Outcome = Result<v1::LikeResponse, Error>;

/// What an operation is about: those of one pair take effect in their order.
fn pair(operation: &v1::LikeOperation) -> (i64, i32, i64) {
    let resource = operation.resource.unwrap_or_default();
    (operation.user_id, resource.r#type, resource.id)
}

/// Which operations may be sent again: those whose refusal is temporary, unless a later word on the same pair was accepted, or
/// refused for good, after it: sent again, the earlier one would become the last.
fn to_repeat(operations: &[v1::LikeOperation], outcomes: &[Option<Outcome>]) -> Vec<usize> {
    let mut decided = HashSet::new();
    let mut repeated = Vec::new();
    for (place, outcome) in outcomes.iter().enumerate().rev() {
        let pair = pair(&operations[place]);
        match outcome {
            Some(Err(error)) if error.is_temporary() => {
                if !decided.contains(&pair) {
                    repeated.push(place);
                }
            }
            _ => _ = decided.insert(pair),
        }
    }
    repeated.reverse();
    repeated
}

impl Client {
    /// 1 to 500 likes and unlikes; what became of each, in their order. Operations without a key get one. Those whose
    /// refusal is temporary are sent again, alone, as long as the deadline allows.
    ///
    /// # Errors
    /// If the call as a whole failed: then none of what was sent with it last has happened, unless nobody answered.
    pub async fn apply(&self, mut operations: Vec<v1::LikeOperation>) -> Result<Vec<Outcome>, Error> {
        for operation in &mut operations {
            if operation.idempotency_key.is_empty() {
                operation.idempotency_key = fresh_key();
            }
        }
        let mut outcomes: Vec<Option<Outcome>> = vec![None; operations.len()];
        let mut sent: Vec<usize> = (0..operations.len()).collect();
        let mut attempts = Attempts::begin(self.policy);
        loop {
            let message =
                v1::ApplyLikesRequest { operations: sent.iter().map(|place| operations[*place].clone()).collect() };
            let call = async |mut calls: crate::Calls<crate::Channel>, request| calls.apply_likes(request).await;
            match self.attempt(&attempts, message, call).await {
                Ok(answer) => {
                    for (place, result) in sent.iter().zip(answer.results) {
                        outcomes[*place] = Some(outcome(result));
                    }
                }
                // What was said before stays said.
                Err(error) => match attempts.wait_after(error.clone()).await {
                    Ok(()) => continue,
                    Err(error) if outcomes.iter().all(Option::is_none) => return Err(error),
                    Err(_) => break,
                },
            }
            sent = to_repeat(&operations, &outcomes);
            let waits = sent.iter().filter_map(|place| outcomes[*place].as_ref()?.as_ref().err());
            let Some(longest) = waits.max_by_key(|error| error.retry_after).cloned() else { break };
            if attempts.wait_after(longest).await.is_err() {
                break;
            }
        }
        let missing =
            || Err(Error::from(tonic::Status::internal("the server's answer has no outcome for this operation")));
        Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(missing)).collect())
    }
}

fn outcome(result: v1::LikeResult) -> Outcome {
    match result.outcome {
        Some(v1::like_result::Outcome::Response(response)) => Ok(response),
        Some(v1::like_result::Outcome::Error(error)) => Err(Error::from(error)),
        None => Err(Error::from(tonic::Status::internal(
            "the server's answer has an outcome of a kind that is not known here",
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video;
    use tonic::{Code, Status};

    #[test]
    fn an_earlier_word_is_not_said_after_a_later_one() {
        let of = |user_id, id| v1::LikeOperation { user_id, resource: Some(video(id)), ..Default::default() };
        let accepted = || Some(Ok(v1::LikeResponse::default()));
        let later = || Some(Err(Error::from(Status::unavailable("x"))));
        let wrong = || Some(Err(Error::from(Status::new(Code::InvalidArgument, "x"))));
        let operations = [of(1, 1), of(2, 1), of(1, 1), of(1, 2), of(3, 1), of(3, 1)];
        let outcomes = [later(), later(), accepted(), later(), later(), later()];
        assert_eq!(to_repeat(&operations, &outcomes), [1, 3, 4, 5]);
        let outcomes = [accepted(), wrong(), accepted(), accepted(), later(), wrong()];
        assert_eq!(to_repeat(&operations, &outcomes), Vec::<usize>::new());
    }
}
