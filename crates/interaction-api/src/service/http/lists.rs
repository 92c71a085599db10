//! `GET /v1/liked`, `/v1/likers` and `/v1/hot`: the same as `ListLikedResources`, `ListLikers` and `ListHotResources`.

use super::super::reads::{self, Page, Part};
use super::super::{Who, hot};
use super::Opening;
use super::reads::resource_id;
use crate::request::Violations;
use crate::request::convert;
use crate::request::page::{self, List};
use crate::status::HttpError;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::Extensions;
use chrono::{DateTime, Utc};
use consistency::openapi::{ResourceTypeName, id};
use domain::{Invalid, Resource, ResourceType, UserId, Version};
use event_store::{Window, Within};
use serde::{Deserialize, Serialize};
use service_runtime::listen::request::{Whole, query};
use utoipa::{IntoParams, ToSchema};

/// Which part of what a user likes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Liked {
    /// The user.
    #[param(schema_with = id, required)]
    user_id: Option<Whole>,
    /// Of which kind.
    #[param(value_type = ResourceTypeName, required)]
    resource_type: Option<ResourceType>,
    /// Only likes since then.
    since: Option<DateTime<Utc>>,
    /// Only likes before.
    until: Option<DateTime<Utc>>,
    /// 20 if absent or 0; 100 if more.
    #[param(minimum = 0)]
    page_size: Option<i32>,
    /// Of the page before.
    #[param(max_length = 64)]
    page_token: Option<String>,
}

/// Which part of who likes a resource.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Likers {
    /// Kind of the resource.
    #[param(value_type = ResourceTypeName, required)]
    resource_type: Option<ResourceType>,
    /// Its number within the kind.
    #[param(schema_with = id, required)]
    resource_id: Option<Whole>,
    /// Only likes since then.
    since: Option<DateTime<Utc>>,
    /// Only likes before.
    until: Option<DateTime<Utc>>,
    /// 20 if absent or 0; 100 if more.
    #[param(minimum = 0)]
    page_size: Option<i32>,
    /// Of the page before.
    #[param(max_length = 64)]
    page_token: Option<String>,
}

/// How much of what is hot.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Hot {
    /// Only of this kind.
    #[param(value_type = Option<ResourceTypeName>)]
    resource_type: Option<ResourceType>,
    /// 20 if absent or 0; 100 if more.
    #[param(minimum = 0)]
    limit: Option<i32>,
    /// What gained most likes within it; at the moment if absent.
    #[param(inline)]
    window: Option<HotWindow>,
}

/// For how long likes are counted: the last hour, day or seven days, and what has begun of the next ten minutes, hour or six
/// hours.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum HotWindow {
    Hour,
    Day,
    Week,
}

impl From<HotWindow> for Window {
    fn from(window: HotWindow) -> Self {
        match window {
            HotWindow::Hour => Self::Hour,
            HotWindow::Day => Self::Day,
            HotWindow::Week => Self::Week,
        }
    }
}

/// A page of what a user likes, the latest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({ "resources": [{
    "resource_type": "video", "resource_id": "42", "liked_at": "2026-01-31T07:00:00Z" }], "next_page_token": "", "max_age_ms": 0 }))]
pub(super) struct LikedResponse {
    resources: Vec<LikedResource>,
    /// Empty at the end.
    next_page_token: String,
    /// How long ago, at most, the list was so: it may be read from a replica of the database. 0: it is up to date.
    max_age_ms: i64,
}

/// A resource that the user likes.
#[derive(Debug, Serialize, ToSchema)]
struct LikedResource {
    #[schema(value_type = ResourceTypeName)]
    resource_type: &'static str,
    resource_id: String,
    liked_at: DateTime<Utc>,
}

/// A page of who likes a resource, the latest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({ "likers": [{ "user_id": "1", "liked_at": "2026-01-31T07:00:00Z" }], "next_page_token": "", "max_age_ms": 0 }))]
pub(super) struct LikersResponse {
    likers: Vec<Liker>,
    /// Empty at the end.
    next_page_token: String,
    /// How long ago, at most, the list was so: it may be read from a replica of the database. 0: it is up to date.
    max_age_ms: i64,
}

/// Who likes it.
#[derive(Debug, Serialize, ToSchema)]
struct Liker {
    user_id: String,
    liked_at: DateTime<Utc>,
}

/// The hottest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({ "resources": [{
    "resource_type": "video", "resource_id": "42", "count": "7", "recent_changes": 3, "gained": "0" }], "degraded": false }))]
pub(super) struct HotResponse {
    resources: Vec<HotResource>,
    /// Whether the counts were read without the cache.
    degraded: bool,
}

/// A hot resource.
#[derive(Debug, Serialize, ToSchema)]
struct HotResource {
    #[schema(value_type = ResourceTypeName)]
    resource_type: &'static str,
    resource_id: String,
    count: String,
    /// Likes and unlikes of it among the newest 5000 of all; 0 with a window.
    recent_changes: i32,
    /// Likes within the window, less those taken back within it; 0 without a window.
    gained: String,
}

fn time(version: Version) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(version.0).unwrap_or_default()
}

fn within(since: Option<DateTime<Utc>>, until: Option<DateTime<Utc>>) -> Within {
    let version = |time: DateTime<Utc>| Version(time.timestamp_micros());
    Within { since: since.map(version), until: until.map(version) }
}

fn part(
    violations: &mut Violations,
    list: Option<List>,
    within: Within,
    size: Option<i32>,
    token: Option<&str>,
) -> Option<Part> {
    let size = convert::page_size(violations, "page_size", size.unwrap_or(0));
    let after = page::cursor(list, token.unwrap_or_default());
    let after = after.map_err(|reason| violations.add("page_token", reason)).ok()?;
    Some(Part { size, after, within })
}

fn liked_of(given: Option<&str>) -> Result<(UserId, ResourceType, Part), HttpError> {
    let Liked { user_id, resource_type, since, until, page_size, page_token } = query(given)?;
    let within = within(since, until);
    let mut violations = Violations::http();
    let user = user_id.ok_or_else(|| Invalid::new("user_id", "must be given"));
    let user = violations.take("", user.and_then(|Whole(id)| UserId::new(id)));
    let kind = violations.take("", resource_type.ok_or_else(|| Invalid::new("resource_type", "must be given")));
    let list = user.zip(kind).map(|(user, kind)| List::Liked(user, kind, within));
    let part = part(&mut violations, list, within, page_size, page_token.as_deref());
    let ((user, kind), part) = violations.given(user.zip(kind).zip(part))?;
    Ok((user, kind, part))
}

fn likers_of(given: Option<&str>) -> Result<(Resource, Part), HttpError> {
    let Likers { resource_type, resource_id, since, until, page_size, page_token } = query(given)?;
    let within = within(since, until);
    let mut violations = Violations::http();
    let resource = violations.resource("", resource_type, resource_id.map(|Whole(id)| id));
    let list = resource.map(|resource| List::Likers(resource, within));
    let part = part(&mut violations, list, within, page_size, page_token.as_deref());
    Ok(violations.given(resource.zip(part))?)
}

/// What a user likes, the latest first; a like appears when it is settled.
#[utoipa::path(get, path = "/v1/liked", operation_id = "liked", params(Liked),
    responses((status = 200, description = "A page.", body = LikedResponse),
        (status = 400, description = "Names the parameter."),
        (status = 429, description = "Too many large reads; Retry-After says when to come back.")))]
pub(super) async fn liked(
    State(opening): State<Opening>,
    extensions: Extensions,
    RawQuery(given): RawQuery,
) -> Result<Json<LikedResponse>, HttpError> {
    let interactions = opening.get()?;
    let (user, kind, part) = liked_of(given.as_deref())?;
    let Page { likes, next_page_token, max_age_ms } =
        reads::liked(&interactions, &Who::of(&extensions), user, kind, part).await?;
    let resources = likes.iter().map(|like| LikedResource {
        resource_type: like.pair.resource.kind.name(),
        resource_id: resource_id(like.pair.resource),
        liked_at: time(like.version),
    });
    Ok(Json(LikedResponse { resources: resources.collect(), next_page_token, max_age_ms }))
}

/// Who likes a resource, the latest first; a like appears when it is settled.
#[utoipa::path(get, path = "/v1/likers", operation_id = "likers", params(Likers),
    responses((status = 200, description = "A page.", body = LikersResponse),
        (status = 400, description = "Names the parameter."),
        (status = 429, description = "Too many large reads; Retry-After says when to come back.")))]
pub(super) async fn likers(
    State(opening): State<Opening>,
    extensions: Extensions,
    RawQuery(given): RawQuery,
) -> Result<Json<LikersResponse>, HttpError> {
    let interactions = opening.get()?;
    let (resource, part) = likers_of(given.as_deref())?;
    let Page { likes, next_page_token, max_age_ms } =
        reads::likers(&interactions, &Who::of(&extensions), resource, part).await?;
    let likers =
        likes.iter().map(|like| Liker { user_id: like.pair.user.get().to_string(), liked_at: time(like.version) });
    Ok(Json(LikersResponse { likers: likers.collect(), next_page_token, max_age_ms }))
}

/// What is liked and unliked most at the moment, or gained most likes within a window.
#[utoipa::path(get, path = "/v1/hot", operation_id = "hot", params(Hot),
    responses((status = 200, description = "The hottest first.", body = HotResponse),
        (status = 400, description = "Names the parameter."),
        (status = 429, description = "Too many large reads; Retry-After says when to come back.")))]
pub(super) async fn hot(
    State(opening): State<Opening>,
    extensions: Extensions,
    RawQuery(given): RawQuery,
) -> Result<Json<HotResponse>, HttpError> {
    let interactions = opening.get()?;
    let Hot { resource_type, limit, window } = query(given.as_deref())?;
    let mut violations = Violations::http();
    let limit = convert::page_size(&mut violations, "limit", limit.unwrap_or(0));
    violations.finish()?;
    let read = interactions
        .hot
        .list(resource_type, window.map(Into::into), limit, &Who::of(&extensions), &interactions.limits)
        .await?;
    let resources = read.values.into_iter().map(|hot::Hot { resource, count, recent_changes, gained }| HotResource {
        resource_type: resource.kind.name(),
        resource_id: resource_id(resource),
        count: count.to_string(),
        recent_changes,
        gained: gained.to_string(),
    });
    Ok(Json(HotResponse { resources: resources.collect(), degraded: read.degraded }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_names_its_parameter() {
        for (wrong, named) in [
            ("", "user_id: must be given"),
            ("user_id=1", "resource_type: must be given"),
            ("user_id=1&resource_type=film", "resource_type: "),
            ("user_id=1&resource_type=video&page_size=-1", "page_size: must not be negative"),
            ("user_id=1&resource_type=video&page_token=x", "page_token: is not a token"),
            ("user_id=1&resource_type=video&since=yesterday", "since: "),
            ("user_id=1&resource_type=video&page=2", "page: unknown field"),
        ] {
            let refusal = liked_of(Some(wrong)).unwrap_err();
            assert!(refusal.error.message.starts_with(named), "{wrong}: {refusal:?}");
        }
        let refusal = likers_of(Some("resource_id=1&page_size=-1")).unwrap_err();
        let fields: Vec<_> = refusal.violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["resource_type", "page_size"]);
        assert_eq!(likers_of(Some("resource_type=video&resource_id=7&page_size=500")).unwrap().1.size, 100);
    }
}
