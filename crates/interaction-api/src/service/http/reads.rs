//! `GET /v1/counts`, `/v1/states` and `/v1/summaries`: the same as `GetLikeCounts`, `GetLikeStates` and `GetLikeSummaries`.

use super::super::{Who, reads};
use super::Opening;
use crate::request::convert::MAX_ITEMS;
use crate::status::HttpError;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::Extensions;
use consistency::openapi::{ResourceTypeName, id};
use domain::{Resource, UserId};
use serde::Serialize;
use service_runtime::listen::api_error::ApiError;
use service_runtime::listen::request::Whole;
use utoipa::{IntoParams, ToSchema};

/// Which resources.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what is read by hand: a query may name several resources")]
pub(super) struct Resources {
    /// Such as `video:42`; up to 500, each a parameter of its own.
    #[param(style = Form, explode, example = json!(["video:42"]), min_items = 1, max_items = 500)]
    resource: Vec<String>,
}

/// Whose states.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what is read by hand, with the resources")]
pub(super) struct Own {
    /// The user.
    #[param(schema_with = id, required)]
    user_id: Whole,
}

/// Counts, in the order of the question.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "counts": [{ "resource_type": "video", "resource_id": "42", "count": "7" }], "degraded": false }))]
pub(super) struct CountsResponse {
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

/// States, in the order of the question.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({ "states": [{
    "resource_type": "video", "resource_id": "42", "liked": true, "version": "1760000000000000" }], "degraded": false }))]
pub(super) struct StatesResponse {
    states: Vec<LikeState>,
    /// Whether a store was unreachable: then states may be old.
    degraded: bool,
}

/// Whether the user likes a resource.
#[derive(Debug, Serialize, ToSchema)]
struct LikeState {
    #[schema(value_type = ResourceTypeName)]
    resource_type: &'static str,
    resource_id: String,
    liked: bool,
    /// 0 if the user never liked it.
    version: String,
}

/// Counts and states, in the order of the question.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({ "summaries": [{ "resource_type": "video", "resource_id": "42", "count": "7", "liked": true,
    "version": "1760000000000000" }], "degraded": false }))]
pub(super) struct SummariesResponse {
    summaries: Vec<Summary>,
    /// Whether a store was unreachable.
    degraded: bool,
}

/// How many like a resource, and whether the user does.
#[derive(Debug, Serialize, ToSchema)]
struct Summary {
    #[schema(value_type = ResourceTypeName)]
    resource_type: &'static str,
    resource_id: String,
    count: String,
    liked: bool,
    /// 0 if the user never liked it.
    version: String,
}

pub(super) fn resource_id(resource: Resource) -> String {
    resource.id.get().to_string()
}

/// The resources of a query.
fn resources(query: Option<&str>) -> Result<Vec<Resource>, ApiError> {
    asked(query, None).map(|(_, resources)| resources)
}

/// The same, and the user.
fn own(query: Option<&str>) -> Result<(UserId, Vec<Resource>), HttpError> {
    let (users, resources) = asked(query, Some("user_id"))?;
    let wrong =
        |given: &str| ApiError::bad_request(format!("user_id: expected a whole number greater than 0, got {given:?}"));
    let user = match users.as_slice() {
        [] => return Err(ApiError::bad_request("user_id: must be given").into()),
        [given] => given.parse().ok().and_then(|id| UserId::new(id).ok()).ok_or_else(|| wrong(given))?,
        _ => return Err(ApiError::bad_request("user_id: was given more than once").into()),
    };
    Ok((user, resources))
}

/// What was given for one other parameter, and the resources.
fn asked(query: Option<&str>, other: Option<&str>) -> Result<(Vec<String>, Vec<Resource>), ApiError> {
    let (mut others, mut named) = (Vec::new(), Vec::new());
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*name {
            "resource" => named.push(value),
            name if Some(name) == other => others.push(value.into_owned()),
            unknown => {
                let expected = other.map(|other| format!("{other} or ")).unwrap_or_default();
                return Err(ApiError::bad_request(format!(
                    "{unknown}: unknown parameter, expected {expected}resource"
                )));
            }
        }
    }
    if !(1..=MAX_ITEMS).contains(&named.len()) {
        let reason = format!("must be given 1 to {MAX_ITEMS} times, got {}", named.len());
        return Err(ApiError::bad_request(format!("resource: {reason}")));
    }
    let one = |text: &str| {
        let (kind, id) = text.split_once(':')?;
        Resource::new(kind.parse().ok()?, id.parse().ok()?).ok()
    };
    let wrong = |text: &str| ApiError::bad_request(format!("resource: expected one such as video:42, got {text:?}"));
    let resources: Result<_, _> = named.iter().map(|text| one(text).ok_or_else(|| wrong(text))).collect();
    Ok((others, resources?))
}

/// How many like these resources.
#[utoipa::path(get, path = "/v1/counts", operation_id = "counts", params(Resources),
    responses((status = 200, description = "In the order of the question.", body = CountsResponse),
        (status = 400, description = "Names the parameter."),
        (status = 429, description = "Too many large reads; Retry-After says when to come back.")))]
pub(super) async fn counts(
    State(opening): State<Opening>,
    extensions: Extensions,
    RawQuery(given): RawQuery,
) -> Result<Json<CountsResponse>, HttpError> {
    let interactions = opening.get()?;
    let resources = resources(given.as_deref())?;
    let read = reads::counts(&interactions, &Who::of(&extensions), &resources).await?;
    let counts = resources.into_iter().zip(read.values).map(|(resource, count)| Count {
        resource_type: resource.kind.name(),
        resource_id: resource_id(resource),
        count: count.to_string(),
    });
    Ok(Json(CountsResponse { counts: counts.collect(), degraded: read.degraded }))
}

/// Whether a user likes these resources.
#[utoipa::path(get, path = "/v1/states", operation_id = "states", params(Own, Resources),
    responses((status = 200, description = "In the order of the question.", body = StatesResponse),
        (status = 400, description = "Names the parameter."),
        (status = 429, description = "Too many large reads; Retry-After says when to come back.")))]
pub(super) async fn states(
    State(opening): State<Opening>,
    extensions: Extensions,
    RawQuery(given): RawQuery,
) -> Result<Json<StatesResponse>, HttpError> {
    let interactions = opening.get()?;
    let (user, resources) = own(given.as_deref())?;
    let read = reads::states(&interactions, &Who::of(&extensions), user, &resources).await?;
    let states = resources.into_iter().zip(read.values).map(|(resource, state)| LikeState {
        resource_type: resource.kind.name(),
        resource_id: resource_id(resource),
        liked: state.liked,
        version: state.version.0.to_string(),
    });
    Ok(Json(StatesResponse { states: states.collect(), degraded: read.degraded }))
}

/// How many like these resources, and whether a user does.
#[utoipa::path(get, path = "/v1/summaries", operation_id = "summaries", params(Own, Resources),
    responses((status = 200, description = "In the order of the question.", body = SummariesResponse),
        (status = 400, description = "Names the parameter."),
        (status = 429, description = "Too many large reads; Retry-After says when to come back.")))]
pub(super) async fn summaries(
    State(opening): State<Opening>,
    extensions: Extensions,
    RawQuery(given): RawQuery,
) -> Result<Json<SummariesResponse>, HttpError> {
    let interactions = opening.get()?;
    let (user, resources) = own(given.as_deref())?;
    let read = reads::summaries(&interactions, &Who::of(&extensions), user, &resources).await?;
    let summaries = resources.into_iter().zip(read.values).map(|(resource, (count, state))| Summary {
        resource_type: resource.kind.name(),
        resource_id: resource_id(resource),
        count: count.to_string(),
        liked: state.liked,
        version: state.version.0.to_string(),
    });
    Ok(Json(SummariesResponse { summaries: summaries.collect(), degraded: read.degraded }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_named_in_the_query() {
        let read = resources(Some("resource=video:42&resource=comment%3A7")).unwrap();
        assert_eq!(read.iter().map(ToString::to_string).collect::<Vec<_>>(), ["video:42", "comment:7"]);
        for wrong in ["", "resource=", "resource=42", "resource=film:1", "resource=video:0", "resource=video:x"] {
            assert!(resources(Some(wrong)).unwrap_err().message.starts_with("resource: "), "{wrong}");
        }
        assert!(resources(Some("user_id=1")).unwrap_err().message.starts_with("user_id: unknown parameter"));
        assert!(resources(Some(&"resource=video:1&".repeat(501))).is_err());
    }

    #[test]
    fn every_mistake_names_its_parameter() {
        let (user, read) = own(Some("user_id=7&resource=video:42")).unwrap();
        assert_eq!((user.get(), read.len()), (7, 1));
        for (wrong, named) in [
            ("resource=video:1", "user_id: must be given"),
            ("user_id=0&resource=video:1", "user_id: expected"),
            ("user_id=x&resource=video:1", "user_id: expected"),
            ("user_id=1&user_id=2&resource=video:1", "user_id: was given more than once"),
            ("user_id=1", "resource: must be given"),
            ("user_id=1&user=2", "user: unknown parameter, expected user_id or resource"),
        ] {
            let refusal = own(Some(wrong)).unwrap_err();
            assert!(refusal.error.message.starts_with(named), "{wrong}: {refusal:?}");
        }
    }
}
