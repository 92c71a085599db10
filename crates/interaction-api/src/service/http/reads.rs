//! `GET /v1/counts`, `/v1/states` and `/v1/summaries`: the same as `GetLikeCounts`, `GetLikeStates` and `GetLikeSummaries`.

use super::super::{Who, reads};
use super::Opening;
use crate::request::convert::MAX_ITEMS;
use crate::status::HttpError;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::Extensions;
use consistency::openapi::{ResourceTypeName, id};
use domain::{Resource, UserId, Version};
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

/// What counts must contain.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what is read by hand, with the resources")]
pub(super) struct Least {
    /// Every like of the resources up to this version: that of a like which another server has answered.
    #[param(minimum = 0)]
    least_version: Option<i64>,
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

/// The resources of a query, and the least version.
fn resources(query: Option<&str>) -> Result<(Vec<Resource>, Version), ApiError> {
    let ([least], resources) = asked(query, ["least_version"])?;
    Ok((resources, least_version(least)?))
}

/// The resources of a query, and the user.
fn own(query: Option<&str>) -> Result<(UserId, Vec<Resource>), HttpError> {
    let ([given], resources) = asked(query, ["user_id"])?;
    Ok((user(given)?, resources))
}

/// The same, and the least version.
fn own_counted(query: Option<&str>) -> Result<(UserId, Vec<Resource>, Version), HttpError> {
    let ([given, least], resources) = asked(query, ["user_id", "least_version"])?;
    Ok((user(given)?, resources, least_version(least)?))
}

fn user(given: Option<String>) -> Result<UserId, ApiError> {
    let given = given.ok_or_else(|| ApiError::bad_request("user_id: must be given"))?;
    let user = given.parse().ok().and_then(|id| UserId::new(id).ok());
    user.ok_or_else(|| ApiError::bad_request(format!("user_id: expected a whole number greater than 0, got {given:?}")))
}

fn least_version(given: Option<String>) -> Result<Version, ApiError> {
    let Some(given) = given else { return Ok(Version::ZERO) };
    let version = given.parse().ok().filter(|version| *version >= 0).map(Version);
    version.ok_or_else(|| {
        ApiError::bad_request(format!("least_version: expected a whole number of at least 0, got {given:?}"))
    })
}

/// What was given for these other parameters, each at most once, and the resources.
fn asked<const N: usize>(
    query: Option<&str>,
    others: [&str; N],
) -> Result<([Option<String>; N], Vec<Resource>), ApiError> {
    let (mut given, mut named) = ([const { None }; N], Vec::new());
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if name == "resource" {
            named.push(value);
            continue;
        }
        let Some(other) = others.iter().position(|other| name == *other) else {
            let expected: String = others.iter().map(|other| format!("{other} or ")).collect();
            return Err(ApiError::bad_request(format!("{name}: unknown parameter, expected {expected}resource")));
        };
        if given[other].replace(value.into_owned()).is_some() {
            return Err(ApiError::bad_request(format!("{name}: was given more than once")));
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
    Ok((given, resources?))
}

/// How many like these resources.
#[utoipa::path(get, path = "/v1/counts", operation_id = "counts", params(Least, Resources),
    responses((status = 200, description = "In the order of the question.", body = CountsResponse),
        (status = 400, description = "Names the parameter."),
        (status = 429, description = "Too many large reads; Retry-After says when to come back.")))]
pub(super) async fn counts(
    State(opening): State<Opening>,
    extensions: Extensions,
    RawQuery(given): RawQuery,
) -> Result<Json<CountsResponse>, HttpError> {
    let interactions = opening.get()?;
    let (resources, least) = resources(given.as_deref())?;
    let read = reads::counts(&interactions, &Who::of(&extensions), &resources, least).await?;
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
#[utoipa::path(get, path = "/v1/summaries", operation_id = "summaries", params(Own, Least, Resources),
    responses((status = 200, description = "In the order of the question.", body = SummariesResponse),
        (status = 400, description = "Names the parameter."),
        (status = 429, description = "Too many large reads; Retry-After says when to come back.")))]
pub(super) async fn summaries(
    State(opening): State<Opening>,
    extensions: Extensions,
    RawQuery(given): RawQuery,
) -> Result<Json<SummariesResponse>, HttpError> {
    let interactions = opening.get()?;
    let (user, resources, least) = own_counted(given.as_deref())?;
    let read = reads::summaries(&interactions, &Who::of(&extensions), user, &resources, least).await?;
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
        let (read, least) = resources(Some("resource=video:42&least_version=7&resource=comment%3A7")).unwrap();
        assert_eq!(read.iter().map(ToString::to_string).collect::<Vec<_>>(), ["video:42", "comment:7"]);
        assert_eq!(least, Version(7));
        assert_eq!(resources(Some("resource=video:42")).unwrap().1, Version::ZERO);
        for wrong in ["", "resource=", "resource=42", "resource=film:1", "resource=video:0", "resource=video:x"] {
            assert!(resources(Some(wrong)).unwrap_err().message.starts_with("resource: "), "{wrong}");
        }
        assert!(resources(Some("user_id=1")).unwrap_err().message.starts_with("user_id: unknown parameter"));
        for wrong in ["-1", "x", "", "9223372036854775808"] {
            let refusal = resources(Some(&format!("resource=video:1&least_version={wrong}"))).unwrap_err();
            assert!(refusal.message.starts_with("least_version: expected"), "{wrong}");
        }
        assert!(resources(Some(&"resource=video:1&".repeat(501))).is_err());
    }

    #[test]
    fn every_mistake_names_its_parameter() {
        let (user, read) = own(Some("user_id=7&resource=video:42")).unwrap();
        assert_eq!((user.get(), read.len()), (7, 1));
        let (user, read, least) = own_counted(Some("least_version=9&user_id=7&resource=video:42")).unwrap();
        assert_eq!((user.get(), read.len(), least), (7, 1, Version(9)));
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
        let refusal = own_counted(Some("user_id=1&user=2")).unwrap_err();
        assert!(refusal.error.message.ends_with("expected user_id or least_version or resource"), "{refusal:?}");
    }
}
