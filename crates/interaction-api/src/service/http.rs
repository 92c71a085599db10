//! The calls of callers for whoever has no gRPC, with the same checks, limits and errors. Numbers of 64 bits are strings in
//! answers; requests may have either.

mod batch;
mod lists;
mod reads;

use super::{Interactions, Who, web};
use crate::request::Violations;
use crate::request::convert;
use crate::status::{self, HttpError};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Extensions, HeaderMap};
use consistency::openapi::{ResourceTypeName, id, one_of};
use domain::{Action, Invalid, LikeIntent, ResourceType, UserId};
use serde::{Deserialize, Serialize};
use service_runtime::listen::Paths;
use service_runtime::listen::grpc_web::GrpcWeb;
use service_runtime::listen::request::{Whole, json};
use std::sync::{Arc, PoisonError, RwLock};
use sync_engine::accept::LikeAnswer;
use sync_engine::trace::on_behalf;
use tonic::Status;
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Routes of JSON and gRPC-Web, and what is otherwise about them than about those of operators.
pub(crate) const PATHS: Paths = Paths {
    writes: &["/v1/likes", "/v1/likes/batch", web::LIKE, web::UNLIKE, web::APPLY_LIKES],
    reads: &[
        web::GET_LIKE_COUNTS,
        web::GET_LIKE_STATES,
        web::GET_LIKE_SUMMARIES,
        web::LIST_LIKED_RESOURCES,
        web::LIST_LIKERS,
        web::LIST_HOT_RESOURCES,
        web::WATCH_LIKE_COUNTS,
    ],
    scoped: &[
        "/v1/likes",
        "/v1/likes/batch",
        "/v1/counts",
        "/v1/states",
        "/v1/summaries",
        "/v1/liked",
        "/v1/likers",
        "/v1/hot",
        web::LIKE,
        web::UNLIKE,
        web::APPLY_LIKES,
        web::GET_LIKE_COUNTS,
        web::GET_LIKE_STATES,
        web::GET_LIKE_SUMMARIES,
        web::LIST_LIKED_RESOURCES,
        web::LIST_LIKERS,
        web::LIST_HOT_RESOURCES,
        web::WATCH_LIKE_COUNTS,
    ],
    grpc_web: Some(GrpcWeb { below: web::BELOW, refusal: web::refusal }),
};

/// The calls, from when the stores are prepared until gRPC has ended. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Opening(Arc<RwLock<Option<Interactions>>>);

impl Opening {
    pub(crate) fn open(&self, interactions: Interactions) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(interactions);
    }

    /// Requests in hand keep what they have.
    pub(crate) fn close(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn get(&self) -> Result<Interactions, Status> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(status::not_serving)
    }
}

pub(crate) fn routes(opening: Opening) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(like))
        .routes(routes!(batch::likes))
        .routes(routes!(reads::counts))
        .routes(routes!(reads::states))
        .routes(routes!(reads::summaries))
        .routes(routes!(lists::liked))
        .routes(routes!(lists::likers))
        .routes(routes!(lists::hot))
        .with_state(opening)
}

/// A like, or that it is taken back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "user_id": "1", "resource_type": "video", "resource_id": "42", "action": "like" }))]
struct LikeRequest {
    #[schema(schema_with = id, required)]
    user_id: Option<Whole>,
    #[schema(value_type = ResourceTypeName, required)]
    resource_type: Option<ResourceType>,
    #[schema(schema_with = id, required)]
    resource_id: Option<Whole>,
    #[schema(schema_with = actions, required)]
    action: Option<Action>,
    /// The first answer is repeated to whoever repeats a key.
    #[schema(max_length = 128)]
    idempotency_key: Option<String>,
}

fn actions() -> RefOr<Schema> {
    one_of([Action::Like, Action::Unlike].map(Action::name))
}

/// What became of it.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({ "liked": true, "count": "1", "version": "1760000000000000", "changed": true, "degraded": false }))]
struct LikeResponse {
    /// State after the call.
    liked: bool,
    /// Likes of the resource; null if nobody could say.
    #[schema(required)]
    count: Option<String>,
    /// Version of the state, microseconds since 1970.
    version: String,
    /// Whether this call, or the first one of its key, changed the state.
    changed: bool,
    /// Whether a store was unreachable.
    degraded: bool,
}

impl From<LikeAnswer> for LikeResponse {
    fn from(answer: LikeAnswer) -> Self {
        Self {
            liked: answer.liked,
            count: answer.count.map(|count| count.to_string()),
            version: answer.version.0.to_string(),
            changed: answer.changed,
            degraded: answer.degraded,
        }
    }
}

fn intent(body: &[u8]) -> Result<LikeIntent, HttpError> {
    Ok(read_like("", json(body)?)?)
}

/// A like as it was given; what is wrong is named under `prefix`.
fn read_like(prefix: &str, given: LikeRequest) -> Result<LikeIntent, Status> {
    let LikeRequest { user_id, resource_type, resource_id, action, idempotency_key } = given;
    let mut violations = Violations::http();
    let user = user_id.ok_or_else(|| Invalid::new("user_id", "must be given"));
    let user = violations.take(prefix, user.and_then(|Whole(id)| UserId::new(id)));
    let resource = violations.resource(prefix, resource_type, resource_id.map(|Whole(id)| id));
    let action = violations.take(prefix, action.ok_or_else(|| Invalid::new("action", "must be given")));
    let key = idempotency_key.unwrap_or_default();
    let intent = convert::intended(&mut violations, prefix, user, resource, action.unwrap_or(Action::Like), key);
    violations.given(intent)
}

/// The span that a call is part of, by W3C Trace Context.
fn traced(headers: &HeaderMap) -> Option<Arc<str>> {
    headers.get("traceparent").and_then(|value| value.to_str().ok()).map(Arc::from)
}

/// Likes a resource, or takes a like back.
#[utoipa::path(post, path = "/v1/likes", operation_id = "like", request_body = LikeRequest,
    responses((status = 200, description = "Kept, whatever happens now.", body = LikeResponse),
        (status = 400, description = "Names the field."),
        (status = 404, description = "The resource is deleted."),
        (status = 429, description = "Too many likes; Retry-After says when to come back.")))]
async fn like(
    State(opening): State<Opening>,
    extensions: Extensions,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<LikeResponse>, HttpError> {
    let interactions = opening.get()?;
    let who = Who::of(&extensions);
    let call = interactions.arrived(&extensions).await;
    let intent = intent(&body)?;
    let answer = Box::pin(on_behalf(traced(&headers), interactions.accept_one(&who, intent, call))).await?;
    Ok(Json(answer.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_names_its_field() {
        let whole = |field: &str, value: &str| {
            let mut body = serde_json::json!({
                "user_id": "1", "resource_type": "video", "resource_id": 42, "action": "like"
            });
            body[field] = serde_json::from_str(value).unwrap();
            body.to_string()
        };
        for (field, value) in [
            ("user_id", "null"),
            ("user_id", "\"one\""),
            ("user_id", "0"),
            ("user_id", "1.5"),
            ("resource_type", "null"),
            ("resource_type", "\"film\""),
            ("resource_id", "-1"),
            ("resource_id", "\"9223372036854775808\""),
            ("action", "null"),
            ("action", "\"love\""),
            ("idempotency_key", "7"),
            ("liked", "true"),
        ] {
            let refusal = intent(whole(field, value).as_bytes()).expect_err(field);
            assert_eq!(refusal.error.status, 400);
            assert!(refusal.error.message.starts_with(&format!("{field}: ")), "{field} {value}: {refusal:?}");
        }
        let long = format!("\"{}\"", "k".repeat(129));
        let refusal = intent(whole("idempotency_key", &long).as_bytes()).unwrap_err();
        assert!(refusal.error.message.starts_with("idempotency_key: must be at most 128 bytes"), "{refusal:?}");
        let read = intent(whole("idempotency_key", "\"k\"").as_bytes()).unwrap();
        assert_eq!((read.pair.user.get(), read.pair.resource.to_string()), (1, "video:42".to_owned()));
        assert_eq!((read.action, read.idempotency_key.as_deref()), (Action::Like, Some("k")));
    }

    #[test]
    fn before_the_start_and_after_the_end_likes_are_refused() {
        let opening = Opening::default();
        let refusal = HttpError::from(opening.get().map(drop).unwrap_err());
        assert_eq!((refusal.error.status.as_u16(), refusal.retry_after), (503, Some(1)));
    }
}
