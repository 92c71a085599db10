//! An event of the ledger, in both forms of the wire.

use super::filter::wire_status;
use super::timestamp;
use crate::request::convert::wire_resource;
use chrono::{DateTime, Utc};
use consistency::openapi::{ResourceTypeName, one_of};
use domain::Action;
use event_store::{EventStatus, LedgerEntry, OperatorAction};
use interaction_proto::v1;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::HashMap;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

/// What operators did, by event.
pub(super) type Actions = HashMap<Uuid, Vec<OperatorAction>>;

/// An event as JSON.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Event {
    id: Uuid,
    user_id: i64,
    #[schema(value_type = ResourceTypeName)]
    resource_type: &'static str,
    resource_id: i64,
    #[schema(schema_with = action_names)]
    action: &'static str,
    /// Microseconds since 1970.
    version: i64,
    origin: &'static str,
    #[schema(value_type = StatusName)]
    status: EventStatus,
    retry_count: u32,
    max_retries: u32,
    next_retry_at: Option<DateTime<Utc>>,
    error: Option<String>,
    accepted_at: DateTime<Utc>,
    processed_at: Option<DateTime<Utc>>,
    updated_at: DateTime<Utc>,
    /// What operators did with it.
    #[schema(value_type = Vec<Object>)]
    operators: Vec<OperatorAction>,
}

/// [`EventStatus`] in documents.
#[derive(Debug, Clone, Copy)]
pub(super) struct StatusName;

impl PartialSchema for StatusName {
    fn schema() -> RefOr<Schema> {
        one_of(EventStatus::ALL.map(EventStatus::name))
    }
}

impl ToSchema for StatusName {
    fn name() -> Cow<'static, str> {
        "EventStatus".into()
    }
}

fn action_names() -> RefOr<Schema> {
    one_of([Action::Like, Action::Unlike].map(Action::name))
}

/// Events as JSON, with what operators did.
pub(super) fn http(entries: Vec<LedgerEntry>, mut actions: Actions) -> Vec<Event> {
    let one = |entry: LedgerEntry| {
        let (event, pair) = (&entry.event, entry.event.pair());
        Event {
            id: event.intent.id,
            user_id: pair.user.get(),
            resource_type: pair.resource.kind.name(),
            resource_id: pair.resource.id.get(),
            action: event.intent.action.name(),
            version: event.version.0,
            origin: event.origin.name(),
            status: entry.status,
            retry_count: entry.retry_count,
            max_retries: entry.max_retries,
            next_retry_at: entry.next_retry_at,
            error: entry.error,
            accepted_at: entry.created_at,
            processed_at: entry.processed_at,
            updated_at: entry.updated_at,
            operators: actions.remove(&event.intent.id).unwrap_or_default(),
        }
    };
    entries.into_iter().map(one).collect()
}

/// Events as messages, with what operators did.
pub(super) fn grpc(entries: &[LedgerEntry], actions: &Actions) -> Vec<v1::SyncEvent> {
    let one = |entry: &LedgerEntry| message(entry, actions.get(&entry.event.intent.id).map_or(&[], Vec::as_slice));
    entries.iter().map(one).collect()
}

fn message(entry: &LedgerEntry, actions: &[OperatorAction]) -> v1::SyncEvent {
    let event = &entry.event;
    v1::SyncEvent {
        id: event.intent.id.to_string(),
        user_id: event.pair().user.get(),
        resource: Some(wire_resource(event.pair().resource)),
        action: wire_action(event.intent.action).into(),
        version: event.version.0,
        origin: event.origin.name().to_owned(),
        status: wire_status(entry.status).into(),
        retry_count: entry.retry_count,
        max_retries: entry.max_retries,
        next_retry_at: entry.next_retry_at.map(timestamp),
        error: entry.error.clone().unwrap_or_default(),
        accepted_at: Some(timestamp(entry.created_at)),
        processed_at: entry.processed_at.map(timestamp),
        updated_at: Some(timestamp(entry.updated_at)),
        operators: actions.iter().map(done).collect(),
    }
}

fn done(action: &OperatorAction) -> v1::OperatorAction {
    v1::OperatorAction {
        id: action.id.to_string(),
        action: action.action.clone(),
        actor: action.actor.clone(),
        reason: action.reason.clone().unwrap_or_default(),
        at: Some(timestamp(action.at)),
    }
}

pub(super) const fn wire_action(action: Action) -> v1::Action {
    match action {
        Action::Like => v1::Action::Like,
        Action::Unlike => v1::Action::Unlike,
    }
}
