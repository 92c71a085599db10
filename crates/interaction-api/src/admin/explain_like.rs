//! `ExplainLike`, `GET /explain`: what became of a user's likes of a resource.

use super::event::wire_action;
use super::filter::wire_status;
use super::{Admin, timestamp};
use crate::request::{Violations, convert};
use crate::status::{self, HttpError};
use axum::Json;
use axum::extract::{RawQuery, State};
use consistency::openapi::{AnyObject, ResourceTypeName, id};
use consistency::{CountConclusion, Finding};
use domain::cache::CachedCount;
use domain::{Invalid, Pair, Resource, ResourceType, UserId};
use interaction_proto::v1;
use serde::Deserialize;
use service_runtime::listen::request::{Whole, query};
use std::time::Duration;
use sync_engine::operate::conclusion::Conclusion;
use sync_engine::operate::explain::{CachedNow, ExplainedEvent, Explanation, Step, explain};
use tokio::time::timeout;
use tonic::Status;
use utoipa::IntoParams;

/// What seems wrong is looked at twice.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked, by HTTP.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Parameters {
    /// Whose.
    #[param(schema_with = id, required = true)]
    user_id: Option<Whole>,
    /// Of what.
    #[param(value_type = ResourceTypeName, required)]
    resource_type: Option<ResourceType>,
    /// Of what.
    #[param(schema_with = id, required = true)]
    resource_id: Option<Whole>,
}

fn request(violations: Violations, user: Option<UserId>, resource: Option<Resource>) -> Result<Pair, Status> {
    violations.given(user.zip(resource).map(|(user, resource)| Pair { resource, user }))
}

async fn call(admin: &Admin, pair: Pair) -> Result<Explanation, Status> {
    let told = Box::pin(explain(&admin.stores, pair)).await.map_err(|error| status::store(&error))?;
    let counts = CountConclusion::of(pair.resource, counted(admin, pair.resource).await.as_deref());
    Ok(Explanation { conclusion: with_counts(told.conclusion, counts), ..told })
}

/// What is wrong with the counters of a resource, or on its way, as a check says it; none if a store does not answer. The page of
/// the resource and the explanation of a like ask the same.
pub(super) async fn counted(admin: &Admin, resource: Resource) -> Option<Vec<Finding>> {
    if admin.stores.cache_circuit.is_open() || admin.stores.database_circuit.is_open() {
        return None;
    }
    timeout(PATIENCE, admin.checker.counts_of(resource)).await.ok()?.ok()
}

/// The pair and the count it is part of: one may be wrong without the other.
fn with_counts(pair: Conclusion, counts: CountConclusion) -> Conclusion {
    let hints = [pair.hint, counts.hint];
    let hints: Vec<_> = hints.iter().filter(|hint| !hint.is_empty()).map(String::as_str).collect();
    Conclusion {
        fine: pair.fine && counts.fine,
        says: format!("{}; {}", pair.says, counts.says),
        hint: hints.join("; "),
    }
}

pub(super) async fn grpc(admin: &Admin, given: v1::ExplainLikeRequest) -> Result<v1::ExplainLikeResponse, Status> {
    let mut violations = Violations::default();
    let user = convert::user(&mut violations, given.user_id);
    let resource = convert::resource(&mut violations, "", given.resource);
    let pair = request(violations, user, resource)?;
    Ok(answer(call(admin, pair).await?))
}

fn of_query(given: Option<&str>) -> Result<Pair, HttpError> {
    let Parameters { user_id, resource_type, resource_id } = query(given)?;
    let mut violations = Violations::http();
    let user = user_id.ok_or_else(|| Invalid::new("user_id", "must be given")).and_then(|Whole(id)| UserId::new(id));
    let user = violations.take("", user);
    let resource = violations.resource("", resource_type, resource_id.map(|Whole(id)| id));
    Ok(request(violations, user, resource)?)
}

/// What became of a user's likes of a resource.
#[utoipa::path(get, path = "/explain", operation_id = "explain", params(Parameters),
    responses((status = 200, description = "What is known.", body = AnyObject), (status = 400, description = "Names the parameter.")))]
pub(super) async fn http(
    State(admin): State<Admin>,
    RawQuery(given): RawQuery,
) -> Result<Json<Explanation>, HttpError> {
    let pair = of_query(given.as_deref())?;
    Ok(Json(call(&admin, pair).await?))
}

fn answer(told: Explanation) -> v1::ExplainLikeResponse {
    let cache = told.cache.unwrap_or(CachedNow { pair: None, count: None });
    let row = told.row.map(|row| v1::ExplainedRow {
        liked: row.liked,
        version: row.version.0,
        created_at: Some(timestamp(row.created_at)),
        updated_at: Some(timestamp(row.updated_at)),
        deleted_at: row.deleted_at.map(timestamp),
    });
    v1::ExplainLikeResponse {
        at: Some(timestamp(told.at)),
        timeline: told.timeline.into_iter().map(step).collect(),
        events: told.events.into_iter().map(explained).collect(),
        row,
        stored_count: told.stored_count.count,
        stored_revision: told.stored_count.revision,
        cache_available: told.cache.is_some(),
        cached_pair: cache.pair.map(|pair| v1::ExplainedState { liked: pair.liked, version: pair.version.0 }),
        cached_count: cache.count.map(cached_count),
        searched_since: told.searched_since.map(timestamp),
        conclusion: Some(v1::ExplainedConclusion {
            fine: told.conclusion.fine,
            says: told.conclusion.says,
            hint: told.conclusion.hint,
        }),
    }
}

fn cached_count(count: CachedCount) -> v1::ConsistencySide {
    v1::ConsistencySide {
        value: count.served,
        version: Some(count.last_version.0),
        revision: Some(count.stored_revision),
        pending: Some(count.pending),
    }
}

fn step(step: Step) -> v1::ExplainedStep {
    v1::ExplainedStep {
        event_id: step.event_id.to_string(),
        step: step.step.to_owned(),
        at: step.at.map(timestamp),
        detail: step.detail,
    }
}

fn explained(event: ExplainedEvent) -> v1::ExplainedEvent {
    v1::ExplainedEvent {
        id: event.id.to_string(),
        action: wire_action(event.action).into(),
        version: event.version.0,
        origin: event.origin.unwrap_or_default().to_owned(),
        status: event.status.map_or(v1::EventStatus::Unspecified, wire_status).into(),
        retry_count: event.retry_count,
        error: event.error.unwrap_or_default(),
        in_history: event.in_history,
        in_journal: event.in_journal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_that_is_well_does_not_hide_a_count_that_is_not() {
        let conclusion = |fine, says: &str, hint: &str| Conclusion { fine, says: says.into(), hint: hint.into() };
        let counts = |fine, hint: &str| CountConclusion { fine, says: "the count".into(), hint: hint.into() };
        let told = with_counts(conclusion(true, "the pair", ""), counts(false, "repair it"));
        assert_eq!(told, conclusion(false, "the pair; the count", "repair it"));
        let told = with_counts(conclusion(false, "the pair", "replay it"), counts(true, ""));
        assert_eq!(told, conclusion(false, "the pair; the count", "replay it"));
        assert!(with_counts(conclusion(true, "the pair", ""), counts(true, "")).fine);
    }

    #[test]
    fn every_mistake_names_its_field() {
        for (text, expected) in [
            ("", "user_id: must be given"),
            ("user_id=1", "resource_type: must be given"),
            ("user_id=1&resource_type=video", "resource_id: must be given"),
            ("user_id=0&resource_type=video&resource_id=1", "user_id: must be greater than 0"),
            ("user_id=1&resource_type=video&resource_id=x", "resource_id: invalid value"),
            ("user=1", "user: unknown field"),
        ] {
            let refusal = of_query(Some(text)).expect_err(text);
            assert!(refusal.error.message.starts_with(expected), "{text}: {refusal:?}");
        }
        let pair = of_query(Some("user_id=7&resource_type=comment&resource_id=9")).unwrap();
        assert_eq!((pair.user.get(), pair.resource.to_string()), (7, "comment:9".to_owned()));
    }
}
