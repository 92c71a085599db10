//! Which events of the ledger are meant, in both forms of the wire.

use crate::request::{Violations, convert};
use chrono::{DateTime, Utc};
use consistency::openapi::{ResourceTypeName, id, one_of};
use domain::{ResourceType, UserId};
use event_store::{EventFilter, EventStatus};
use interaction_proto::v1;
use serde::Deserialize;
use service_runtime::listen::request::Whole;
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use uuid::Uuid;

/// A filter as it was given; everything may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = EventFilter)]
pub(super) struct Filter {
    /// Only these; dead ones if nothing is said.
    #[schema(schema_with = given_up)]
    pub(super) status: Option<EventStatus>,
    /// Of one resource, with `resource_id`.
    #[schema(value_type = Option<ResourceTypeName>)]
    pub(super) resource_type: Option<ResourceType>,
    /// Of one resource, with `resource_type`.
    #[schema(schema_with = id)]
    pub(super) resource_id: Option<Whole>,
    /// Of one user.
    #[schema(schema_with = id)]
    pub(super) user_id: Option<Whole>,
    /// Accepted at or after.
    pub(super) since: Option<DateTime<Utc>>,
    /// Accepted before.
    pub(super) until: Option<DateTime<Utc>>,
    /// Only this one.
    pub(super) id: Option<Uuid>,
    /// Its error has this text, in any case of its letters.
    #[schema(max_length = 200)]
    pub(super) error: Option<String>,
    /// Its error is of this group, as `GET /events/groups` names it.
    #[schema(max_length = 1_200)]
    pub(super) error_group: Option<String>,
}

/// Longest text that is looked for in errors, in bytes.
const MAX_ERROR: usize = 200;

/// Longest name of a group of errors in bytes: 300 characters.
const MAX_GROUP: usize = 1_200;

fn given_up() -> RefOr<Schema> {
    one_of([EventStatus::Failed, EventStatus::Dead].map(EventStatus::name))
}

impl Filter {
    /// A message; what cannot be read is noted under `prefix`.
    pub(super) fn of_wire(violations: &mut Violations, prefix: &str, given: Option<v1::EventFilter>) -> Self {
        let v1::EventFilter { status, resource, user_id, since, until } = given.unwrap_or_default();
        let status = match read_status(status) {
            Ok(status) => status,
            Err(reason) => {
                violations.add(format!("{prefix}status"), reason);
                None
            }
        };
        let (resource_type, resource_id) = convert::parts(violations, prefix, resource);
        let mut time = |name: &str, given: Option<prost_types::Timestamp>| {
            let given = given?;
            let nanos = u32::try_from(given.nanos).ok();
            let time = nanos.and_then(|nanos| DateTime::from_timestamp(given.seconds, nanos));
            if time.is_none() {
                violations.add(format!("{prefix}{name}"), "is not a time");
            }
            time
        };
        Self {
            status,
            resource_type,
            resource_id: resource_id.map(Whole),
            // A message cannot leave a number out: 0 says so.
            user_id: Some(Whole(user_id)).filter(|user| *user != Whole(0)),
            since: time("since", since),
            until: time("until", until),
            ..Self::default()
        }
    }

    /// The filter; violations are noted under `prefix`.
    pub(super) fn check(self, violations: &mut Violations, prefix: &str) -> EventFilter {
        let Self { status, resource_type, resource_id, user_id, since, until, id, error, error_group } = self;
        let resource = if resource_type.is_some() || resource_id.is_some() {
            violations.resource(prefix, resource_type, resource_id.map(|Whole(id)| id))
        } else {
            None
        };
        let user = user_id.and_then(|Whole(id)| violations.take(prefix, UserId::new(id)));
        for (field, text, most) in [("error", &error, MAX_ERROR), ("error_group", &error_group, MAX_GROUP)] {
            let length = text.as_ref().map_or(0, String::len);
            if length > most {
                violations.add(format!("{prefix}{field}"), format!("must be at most {most} bytes, got {length}"));
            }
        }
        let error = error.filter(|text| !text.is_empty());
        EventFilter { status, resource, user, since, until, id, error, error_group }
    }
}

pub(super) const fn wire_status(status: EventStatus) -> v1::EventStatus {
    match status {
        EventStatus::Pending => v1::EventStatus::Pending,
        EventStatus::Processing => v1::EventStatus::Processing,
        EventStatus::Completed => v1::EventStatus::Completed,
        EventStatus::Failed => v1::EventStatus::Failed,
        EventStatus::Dead => v1::EventStatus::Dead,
        EventStatus::Discarded => v1::EventStatus::Discarded,
    }
}

fn read_status(value: i32) -> Result<Option<EventStatus>, String> {
    if value == i32::from(v1::EventStatus::Unspecified) {
        return Ok(None);
    }
    let known = EventStatus::ALL.into_iter().find(|status| i32::from(wire_status(*status)) == value);
    known.map(Some).ok_or_else(|| format!("unknown value {value}"))
}
