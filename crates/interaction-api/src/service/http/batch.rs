//! `POST /v1/likes/batch`: the same as `ApplyLikes`. Each operation is read alone, so that one that is no operation at all
//! fails alone, too.

use super::super::{Who, batch};
use super::{LikeRequest, LikeResponse, Opening, read_like, traced};
use crate::request::Violations;
use crate::request::convert::{self, MAX_ITEMS};
use crate::status::{HttpError, Violation};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Extensions, HeaderMap};
use domain::LikeIntent;
use interaction_proto::{code_name, v1};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_runtime::listen::request::json;
use sync_engine::trace::on_behalf;
use tonic::{Code, Status};
use utoipa::ToSchema;

/// Likes, and likes that are taken back; those of one pair happen in their order.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LikesRequest, example = json!({ "operations": [
    { "user_id": "1", "resource_type": "video", "resource_id": "42", "action": "like" },
    { "user_id": "2", "resource_type": "comment", "resource_id": "7", "action": "unlike" },
] }))]
pub(super) struct Request {
    #[serde(default)]
    #[schema(value_type = Vec<LikeRequest>, min_items = 1, max_items = 500, required)]
    operations: Vec<Value>,
}

/// What became of each.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LikesResponse)]
pub(super) struct Answer {
    /// In the order of the operations.
    results: Vec<Outcome>,
}

/// One of both.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LikeResult)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Response(LikeResponse),
    Error(Refusal),
}

/// Why an operation was not accepted.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LikeError)]
struct Refusal {
    /// Canonical status code.
    #[schema(example = "RESOURCE_EXHAUSTED")]
    code: &'static str,
    /// Why, for a program.
    #[schema(example = "USER_LIMIT")]
    reason: String,
    /// What is wrong, for a person.
    message: String,
    /// When a retry makes sense, if it does.
    #[schema(required)]
    retry_after_ms: Option<String>,
    /// Everything that is wrong with a malformed operation.
    field_violations: Vec<Violation>,
}

fn outcome(outcome: &batch::Outcome) -> Outcome {
    match outcome {
        batch::Outcome::Answered(answer) => Outcome::Response(LikeResponse::from(*answer)),
        refused => Outcome::Error(refusal(batch::error(refused))),
    }
}

fn refusal(error: v1::LikeError) -> Refusal {
    let violations = error.field_violations.into_iter();
    Refusal {
        code: code_name(Code::from_i32(error.code)),
        reason: error.reason,
        message: error.message,
        retry_after_ms: error.retry_after_ms.map(|after| after.to_string()),
        field_violations: violations.map(|one| Violation { field: one.field, description: one.description }).collect(),
    }
}

fn operation(place: usize, given: &Value) -> Result<LikeIntent, Status> {
    let whole = format!("operations[{place}]");
    let prefix = format!("{whole}.");
    match json::<LikeRequest>(given.to_string().as_bytes()) {
        Ok(request) => read_like(&prefix, request),
        Err(error) => {
            let (field, rule) = error.message.split_once(": ").unwrap_or(("body", &error.message));
            let mut violations = Violations::http();
            violations.add(if field == "body" { whole } else { format!("{prefix}{field}") }, rule);
            violations.given(None)
        }
    }
}

fn operations(body: &[u8]) -> Result<Vec<Result<LikeIntent, Status>>, HttpError> {
    let Request { operations } = json(body)?;
    let mut violations = Violations::http();
    convert::bounded(&mut violations, "operations", operations.len(), MAX_ITEMS);
    violations.finish()?;
    Ok(operations.iter().enumerate().map(|(place, given)| operation(place, given)).collect())
}

/// Up to 500 likes and unlikes; each one succeeds or fails on its own.
#[utoipa::path(post, path = "/v1/likes/batch", operation_id = "likes", request_body = Request,
    responses((status = 200, description = "Each of them has its own outcome.", body = Answer),
        (status = 400, description = "None or too many, or no JSON of this kind."),
        (status = 429, description = "More than the limits of the caller allow: none of them has happened.")))]
pub(super) async fn likes(
    State(opening): State<Opening>,
    extensions: Extensions,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Answer>, HttpError> {
    let interactions = opening.get()?;
    let call = interactions.arrived(&extensions).await;
    let operations = operations(&body)?;
    let who = Who::of(&extensions);
    let applied = batch::apply(&interactions, &who, operations, call);
    let outcomes = Box::pin(on_behalf(traced(&headers), applied)).await?;
    Ok(Json(Answer { results: outcomes.iter().map(outcome).collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::StatusExt;

    #[test]
    fn each_operation_is_read_alone() {
        let body = br#"{"operations":[
            {"user_id":1,"resource_type":"video","resource_id":"42","action":"like"},
            {"user_id":"none","resource_type":"video","resource_id":42,"action":"like"},
            {"user_id":0,"resource_type":"film","resource_id":42,"action":"like"},
            {"user_id":0,"resource_id":-1},
            7,
            {"user_id":1,"resource_type":"comment","resource_id":1,"action":"unlike","liked":true}
        ]}"#;
        let read = operations(body).unwrap();
        let named: Vec<Vec<String>> = read
            .into_iter()
            .map(|operation| match operation {
                Ok(intent) => vec![intent.pair.resource.to_string()],
                Err(status) => {
                    let details = status.get_error_details();
                    let violations = details.bad_request().unwrap().field_violations.iter();
                    violations.map(|violation| violation.field.clone()).collect()
                }
            })
            .collect();
        let expected: [&[&str]; 6] = [
            &["video:42"],
            &["operations[1].user_id"],
            &["operations[2].resource_type"],
            &["operations[3].user_id", "operations[3].resource_type", "operations[3].action"],
            &["operations[4]"],
            &["operations[5].liked"],
        ];
        assert_eq!(named, expected);
    }

    #[test]
    fn none_and_too_many_fail_as_a_whole() {
        let like = r#"{"user_id":1,"resource_type":"video","resource_id":"42","action":"like"}"#;
        let many = format!(r#"{{"operations":[{}{like}]}}"#, format!("{like},").repeat(500));
        for body in ["{}", r#"{"operations":[]}"#, &many, r#"{"operations":{}}"#] {
            let refusal = operations(body.as_bytes()).unwrap_err();
            assert!(refusal.error.message.starts_with("operations: "), "{refusal:?}");
        }
        assert!(operations(b"[]").is_err());
    }
}
