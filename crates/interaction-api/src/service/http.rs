//! A like, and counts, for whoever has no gRPC: `POST /v1/likes` and `GET /v1/counts`. The same checks, limits and errors as
//! `Like`, `Unlike` and `GetLikeCounts`. Numbers of 64 bits are strings in answers; requests may have either.

use super::{Interactions, Who, reads};
use crate::request::Violations;
use crate::request::convert::{self, MAX_ITEMS};
use crate::status::{self, HttpError};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{Extensions, HeaderMap};
use consistency::openapi::{ResourceTypeName, id, one_of};
use domain::{Action, Invalid, LikeIntent, Resource, ResourceType, UserId};
use serde::{Deserialize, Serialize};
use service_runtime::listen::api_error::ApiError;
use service_runtime::listen::request::{Whole, json};
use std::sync::{Arc, PoisonError, RwLock};
use sync_engine::accept::LikeAnswer;
use sync_engine::trace::on_behalf;
use tonic::Status;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Routes that need no more than the role `write`.
pub(crate) const WRITES: &[&str] = &["/v1/likes"];

/// Routes that look at the limits of a token.
pub(crate) const SCOPED: &[&str] = &["/v1/likes", "/v1/counts"];

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

    fn get(&self) -> Result<Interactions, Status> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(status::not_serving)
    }
}

pub(crate) fn routes(opening: Opening) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(like)).routes(routes!(counts)).with_state(opening)
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
    let LikeRequest { user_id, resource_type, resource_id, action, idempotency_key } = json(body)?;
    let mut violations = Violations::http();
    let given = |field: &'static str, value: Option<Whole>| value.ok_or_else(|| Invalid::new(field, "must be given"));
    let user = violations.take("", given("user_id", user_id).and_then(|Whole(id)| UserId::new(id)));
    let resource = violations.resource("", resource_type, resource_id.map(|Whole(id)| id));
    let action = violations.take("", action.ok_or_else(|| Invalid::new("action", "must be given")));
    let key = idempotency_key.unwrap_or_default();
    let intent = convert::intended(&mut violations, "", user, resource, action.unwrap_or(Action::Like), key);
    Ok(violations.given(intent)?)
}

/// Likes a resource, or takes a like back.
#[utoipa::path(post, path = "/v1/likes", operation_id = "like", request_body = LikeRequest,
    responses((status = 200, description = "Kept, whatever happens now.", body = LikeResponse),
        (status = 400, description = "Names the field."),
        (status = 429, description = "Too many likes; Retry-After says when to come back.")))]
async fn like(
    State(opening): State<Opening>,
    extensions: Extensions,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<LikeResponse>, HttpError> {
    let interactions = opening.get()?;
    let who = Who::of(&extensions);
    let caller = headers.get("traceparent").and_then(|value| value.to_str().ok()).map(Arc::from);
    let call = interactions.arriving_now().await;
    let intent = intent(&body)?;
    let answer = Box::pin(on_behalf(caller, interactions.accept_one(&who, intent, call))).await?;
    Ok(Json(answer.into()))
}

/// Which counts.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what read by hand: a query may name several resources")]
struct Counted {
    /// Such as `video:42`; up to 500, each a parameter of its own.
    #[param(style = Form, explode, example = json!(["video:42"]), min_items = 1, max_items = 500)]
    resource: Vec<String>,
}

/// Counts, in the order of the question.
#[derive(Debug, Serialize, ToSchema)]
struct CountsResponse {
    counts: Vec<Count>,
    /// Whether a store was unreachable: then counts may be old.
    degraded: bool,
}

/// How many like a resource.
#[derive(Debug, Serialize, ToSchema)]
struct Count {
    #[schema(value_type = ResourceTypeName)]
    resource_type: &'static str,
    resource_id: String,
    count: String,
}

fn resources(query: Option<&str>) -> Result<Vec<Resource>, ApiError> {
    let given: Vec<_> = form_urlencoded::parse(query.unwrap_or_default().as_bytes()).collect();
    if let Some((unknown, _)) = given.iter().find(|(name, _)| name != "resource") {
        return Err(ApiError::bad_request(format!("{unknown}: unknown parameter, expected resource")));
    }
    if !(1..=MAX_ITEMS).contains(&given.len()) {
        let reason = format!("must be given 1 to {MAX_ITEMS} times, got {}", given.len());
        return Err(ApiError::bad_request(format!("resource: {reason}")));
    }
    let one = |(_, text): &(_, std::borrow::Cow<'_, str>)| {
        let (kind, id) = text.split_once(':')?;
        Resource::new(kind.parse().ok()?, id.parse().ok()?).ok()
    };
    let wrong = |text: &str| ApiError::bad_request(format!("resource: expected one such as video:42, got {text:?}"));
    given.iter().map(|pair| one(pair).ok_or_else(|| wrong(&pair.1))).collect()
}

/// How many like these resources.
#[utoipa::path(get, path = "/v1/counts", operation_id = "counts", params(Counted),
    responses((status = 200, description = "In the order of the question.", body = CountsResponse),
        (status = 400, description = "Names the parameter."),
        (status = 429, description = "Too many large reads; Retry-After says when to come back.")))]
async fn counts(
    State(opening): State<Opening>,
    extensions: Extensions,
    RawQuery(given): RawQuery,
) -> Result<Json<CountsResponse>, HttpError> {
    let interactions = opening.get()?;
    let resources = resources(given.as_deref())?;
    let read = reads::counts(&interactions, &Who::of(&extensions), &resources).await?;
    let counts = resources.iter().zip(read.values).map(|(resource, count)| Count {
        resource_type: resource.kind.name(),
        resource_id: resource.id.get().to_string(),
        count: count.to_string(),
    });
    Ok(Json(CountsResponse { counts: counts.collect(), degraded: read.degraded }))
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
    fn resources_are_named_in_the_query() {
        let read = resources(Some("resource=video:42&resource=comment%3A7")).unwrap();
        assert_eq!(read.iter().map(ToString::to_string).collect::<Vec<_>>(), ["video:42", "comment:7"]);
        for wrong in ["", "resource=", "resource=42", "resource=film:1", "resource=video:0", "resource=video:x"] {
            assert!(resources(Some(wrong)).unwrap_err().message.starts_with("resource: "), "{wrong}");
        }
        assert!(resources(Some("user=1")).unwrap_err().message.starts_with("user: unknown parameter"));
        assert!(resources(Some(&"resource=video:1&".repeat(501))).is_err());
    }

    #[test]
    fn before_the_start_and_after_the_end_likes_are_refused() {
        let opening = Opening::default();
        let refusal = HttpError::from(opening.get().map(drop).unwrap_err());
        assert_eq!((refusal.error.status.as_u16(), refusal.retry_after), (503, Some(1)));
    }
}
