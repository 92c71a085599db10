//! `ListEvents`, `GET /events`: the ledger, newest first.

use super::Admin;
use super::event::{self, Event, StatusName};
use super::filter::Filter;
use crate::request::{Violations, convert, page};
use crate::status::{self, HttpError};
use axum::Json;
use axum::extract::{RawQuery, State};
use chrono::{DateTime, Utc};
use consistency::openapi::{ResourceTypeName, id};
use domain::ResourceType;
use event_store::{EventFilter, EventPage, EventStatus};
use interaction_proto::v1;
use serde::{Deserialize, Serialize};
use service_runtime::listen::request::{Whole, query};
use tonic::Status;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// What is asked.
#[derive(Debug)]
struct ListEvents {
    filter: EventFilter,
    size: u32,
    after: Option<Uuid>,
}

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
    /// Only this one.
    id: Option<Uuid>,
    /// Its error has this text, in any case of its letters.
    #[param(max_length = 200)]
    error: Option<String>,
    /// Its error is of this group, as `GET /events/groups` names it.
    #[param(max_length = 1_200)]
    error_group: Option<String>,
    /// 20 if absent or 0; 100 if more.
    #[param(minimum = 0)]
    page_size: Option<i32>,
    /// Of the page before.
    #[param(max_length = 64)]
    page_token: Option<String>,
}

/// A page.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Events)]
pub(super) struct Answer {
    events: Vec<Event>,
    /// Empty after the last page.
    next_page_token: String,
}

fn request(
    mut violations: Violations,
    filter: Filter,
    prefix: &str,
    page_size: i32,
    page_token: &str,
) -> Result<ListEvents, Status> {
    let filter = filter.check(&mut violations, prefix);
    let size = convert::page_size(&mut violations, "page_size", page_size);
    let after = page::event_cursor(page_token).map_err(|reason| violations.add("page_token", reason));
    let after = violations.given(after.ok())?;
    Ok(ListEvents { filter, size, after })
}

async fn call(admin: &Admin, request: ListEvents) -> Result<(EventPage, event::Actions), Status> {
    let page = admin.stores.database.list_events(&request.filter, request.size, request.after).await;
    let page = page.map_err(|error| status::store(&error))?;
    let actions = admin.operator.actions_on(&page.events).await.map_err(|error| status::store(&error))?;
    Ok((page, actions))
}

pub(super) async fn grpc(admin: &Admin, given: v1::ListEventsRequest) -> Result<v1::ListEventsResponse, Status> {
    let mut violations = Violations::default();
    let filter = Filter::of_wire(&mut violations, "filter.", given.filter);
    let request = request(violations, filter, "filter.", given.page_size, &given.page_token)?;
    let (page, actions) = call(admin, request).await?;
    let events = event::grpc(&page.events, &actions);
    Ok(v1::ListEventsResponse { events, next_page_token: page::event_token(page.next) })
}

fn of_query(given: Option<&str>) -> Result<ListEvents, HttpError> {
    let mut parameters: Parameters = query(given)?;
    let (page_size, page_token) = (parameters.page_size.take(), parameters.page_token.take());
    let Parameters { status, resource_type, resource_id, user_id, since, until, id, error, error_group, .. } =
        parameters;
    let filter = Filter { status, resource_type, resource_id, user_id, since, until, id, error, error_group };
    let page_token = page_token.unwrap_or_default();
    Ok(request(Violations::http(), filter, "", page_size.unwrap_or(0), &page_token)?)
}

/// The ledger, newest first; everything may be left out.
#[utoipa::path(get, path = "/events", operation_id = "events", params(Parameters),
    responses((status = 200, description = "A page.", body = Answer), (status = 400, description = "Names the parameter.")))]
pub(super) async fn http(State(admin): State<Admin>, RawQuery(given): RawQuery) -> Result<Json<Answer>, HttpError> {
    let (page, actions) = call(&admin, of_query(given.as_deref())?).await?;
    let next_page_token = page::event_token(page.next);
    Ok(Json(Answer { events: event::http(page.events, actions), next_page_token }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::UserId;

    #[test]
    fn every_mistake_names_its_field() {
        let long = format!("error={}", "x".repeat(201));
        for (text, expected) in [
            ("x=1", "x: unknown field"),
            ("status=bad", "status: unknown variant `bad`"),
            ("user_id=0", "user_id: must be greater than 0"),
            ("user_id=x", "user_id: invalid value"),
            ("resource_id=1", "resource_type: must be given"),
            ("resource_type=video", "resource_id: must be given"),
            ("resource_type=film&resource_id=1", "resource_type: unknown variant"),
            ("since=yesterday", "since: "),
            ("page_size=-1", "page_size: must not be negative"),
            ("id=7", "id: "),
            (long.as_str(), "error: must be at most 200 bytes"),
            ("page_token=1-1-1", "page_token: is not a token"),
        ] {
            let refusal = of_query(Some(text)).expect_err(text);
            assert_eq!(refusal.error.status, 400, "{text}");
            assert!(refusal.error.message.starts_with(expected), "{text}: {refusal:?}");
        }
        let ListEvents { filter, size, after } =
            of_query(Some("status=dead&user_id=7&since=2026-01-31T07:00:00Z")).unwrap();
        assert_eq!((filter.status, filter.user.map(UserId::get)), (Some(EventStatus::Dead), Some(7)));
        assert_eq!((size, after, filter.since.unwrap().timestamp()), (20, None, 1_769_842_800));
    }
}
