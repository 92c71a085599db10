//! `GET /events/groups`: what the events of a filter failed with, and how many of them with each. By gRPC there is none: a
//! program reads the events themselves.

use super::Admin;
use super::event::StatusName;
use super::filter::Filter;
use crate::request::Violations;
use crate::status::{self, HttpError};
use axum::Json;
use axum::extract::{RawQuery, State};
use chrono::{DateTime, Utc};
use consistency::openapi::{AnyObject, ResourceTypeName, id};
use domain::ResourceType;
use event_store::{ErrorGroups, EventFilter, EventStatus};
use serde::Deserialize;
use service_runtime::listen::request::{Whole, query};
use utoipa::IntoParams;

/// Which events; everything may be left out.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Parameters {
    /// Only these.
    #[param(value_type = Option<StatusName>)]
    status: Option<EventStatus>,
    /// Of one resource, with `resource_id`.
    #[param(value_type = Option<ResourceTypeName>)]
    resource_type: Option<ResourceType>,
    /// Of one resource, with `resource_type`.
    #[param(schema_with = id, required = false)]
    resource_id: Option<Whole>,
    /// Of one user.
    #[param(schema_with = id, required = false)]
    user_id: Option<Whole>,
    /// Accepted at or after.
    since: Option<DateTime<Utc>>,
    /// Accepted before.
    until: Option<DateTime<Utc>>,
    /// Its error has this text, in any case of its letters.
    #[param(max_length = 200)]
    error: Option<String>,
}

fn of_query(given: Option<&str>) -> Result<EventFilter, HttpError> {
    let Parameters { status, resource_type, resource_id, user_id, since, until, error } = query(given)?;
    let filter = Filter { status, resource_type, resource_id, user_id, since, until, error, ..Filter::default() };
    let mut violations = Violations::http();
    let filter = filter.check(&mut violations, "");
    Ok(violations.given(Some(filter))?)
}

/// Groups of errors of the newest events of a filter.
#[utoipa::path(get, path = "/events/groups", operation_id = "eventGroups", params(Parameters),
    responses((status = 200, description = "Groups, those with most events first; `capped`: older events were left out.", body = AnyObject),
        (status = 400, description = "Names the parameter.")))]
pub(super) async fn http(
    State(admin): State<Admin>,
    RawQuery(given): RawQuery,
) -> Result<Json<ErrorGroups>, HttpError> {
    let filter = of_query(given.as_deref())?;
    let groups = admin.stores.database.error_groups(&filter).await.map_err(|error| status::store(&error))?;
    Ok(Json(groups))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_names_its_field() {
        for (text, expected) in [
            ("page_size=1", "page_size: unknown field"),
            ("status=bad", "status: unknown variant `bad`"),
            ("resource_type=video", "resource_id: must be given"),
            ("since=yesterday", "since: "),
        ] {
            let refusal = of_query(Some(text)).expect_err(text);
            assert!(refusal.error.message.starts_with(expected), "{text}: {refusal:?}");
        }
        let filter = of_query(Some("status=dead&error=x")).unwrap();
        assert_eq!((filter.status, filter.error.as_deref()), (Some(EventStatus::Dead), Some("x")));
    }
}
