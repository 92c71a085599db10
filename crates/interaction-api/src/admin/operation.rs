//! What replay and discard have in common: which events, who asks, and why.

use super::event::{self, Event, StatusName};
use super::filter;
use super::filter::Filter;
use crate::request::{Violations, page};
use crate::status::{self, HttpError, Reason};
use axum::extract::FromRequestParts;
use axum::http::Extensions;
use axum::http::request::Parts;
use chrono::{DateTime, Utc};
use event_store::{EventStatus, Operation};
use interaction_proto::v1;
use serde::{Deserialize, Serialize};
use service_runtime::listen::access::{Caller, CallerAddress};
use service_runtime::listen::request::json;
use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use sync_engine::operate::events::{MAX_OPERATED, OperateError, Operated, Selection};
use tonic::{Request, Status};
use utoipa::ToSchema;
use uuid::Uuid;

/// Events that one replay or discard by filter takes if nothing is said.
const DEFAULT_OPERATED: u32 = 100;

/// Longest name that an operator gives, in bytes; whose token it was, and the address, come behind it.
pub const MAX_ACTOR: usize = 64;

/// Longest reason in bytes.
pub const MAX_REASON: usize = 500;

/// Who calls, as far as we know it ourselves: whose token it was and where the call came from.
#[derive(Debug, Default)]
pub(super) struct Source {
    caller: Option<Caller>,
    address: Option<IpAddr>,
}

impl Source {
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        Self::from_extensions(request.extensions())
    }

    fn from_extensions(extensions: &Extensions) -> Self {
        let address = extensions.get().and_then(|CallerAddress(address)| *address);
        Self { caller: extensions.get().cloned(), address }
    }
}

impl<S: Sync> FromRequestParts<S> for Source {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self::from_extensions(&parts.extensions))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.caller.as_ref().and_then(Caller::token_name) {
            write!(f, "token {name}, ")?;
        }
        match self.address {
            Some(address) => write!(f, "{address}"),
            None => f.write_str("unknown address"),
        }
    }
}

/// What is asked.
#[derive(Debug)]
pub(super) struct Operate {
    pub(super) selection: Selection,
    pub(super) operation: Operation,
    pub(super) dry_run: bool,
}

/// Which events, who asks, and why; either ids or a filter.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Operation)]
pub(super) struct Body {
    /// These events.
    #[schema(max_items = 1_000, value_type = Option<Vec<Uuid>>)]
    pub(super) ids: Option<Vec<String>>,
    /// Those of a filter, newest first.
    pub(super) filter: Option<Filter>,
    /// At most so many of a filter; 100 if absent or 0.
    #[schema(minimum = 0, maximum = 1_000)]
    pub(super) limit: Option<i32>,
    /// Where the last call ended.
    #[schema(max_length = 64)]
    pub(super) page_token: Option<String>,
    /// Only says which events.
    pub(super) dry_run: Option<bool>,
    /// Who asks.
    #[schema(max_length = 64)]
    pub(super) actor: Option<String>,
    /// Why.
    #[schema(max_length = 500)]
    pub(super) reason: Option<String>,
}

impl Body {
    /// A message; what cannot be read is noted.
    pub(super) fn of_wire(
        violations: &mut Violations,
        selection: Option<v1::EventSelection>,
        dry_run: bool,
        actor: String,
        reason: String,
    ) -> Self {
        let v1::EventSelection { ids, filter, limit, page_token } = selection.unwrap_or_default();
        Self {
            ids: Some(ids).filter(|ids| !ids.is_empty()),
            filter: filter.map(|given| Filter::of_wire(violations, "selection.filter.", Some(given))),
            limit: Some(limit),
            page_token: Some(page_token),
            dry_run: Some(dry_run),
            actor: Some(actor),
            reason: Some(reason),
        }
    }

    /// The request; `needs_reason` unless it is a dry run.
    pub(super) fn check(
        self,
        mut violations: Violations,
        source: &Source,
        needs_reason: bool,
    ) -> Result<Operate, Status> {
        let dry_run = self.dry_run.unwrap_or(false);
        let selection = select(&mut violations, self.ids, self.filter, self.limit, self.page_token.as_deref());
        let by = signed(&mut violations, source, self.actor, self.reason);
        if needs_reason && !dry_run && by.reason.is_none() {
            violations.add("reason", "must be given");
        }
        let selection = violations.given(selection)?;
        let operation = Operation { selection: Some(in_words(&selection)), ..by };
        Ok(Operate { selection, operation, dry_run })
    }
}

/// Who asks, and why.
pub(super) fn signed(
    violations: &mut Violations,
    source: &Source,
    actor: Option<String>,
    reason: Option<String>,
) -> Operation {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (actor, reason) = (given(actor), given(reason));
    for (field, text, most) in [("actor", &actor, MAX_ACTOR), ("reason", &reason, MAX_REASON)] {
        let length = text.as_ref().map_or(0, String::len);
        if length > most {
            violations.add(field, format!("must be at most {most} bytes, got {length}"));
        }
    }
    let actor = actor.map_or_else(|| source.to_string(), |actor| format!("{actor} ({source})"));
    Operation { actor, reason, selection: None }
}

/// A request as JSON.
pub(super) fn of_body(body: &[u8], source: &Source, needs_reason: bool) -> Result<Operate, HttpError> {
    Ok(json::<Body>(body)?.check(Violations::http(), source, needs_reason)?)
}

fn select(
    violations: &mut Violations,
    ids: Option<Vec<String>>,
    by: Option<Filter>,
    limit: Option<i32>,
    page_token: Option<&str>,
) -> Option<Selection> {
    match (ids, by) {
        (Some(ids), None) => select_ids(violations, &ids),
        (None, Some(by)) => {
            let prefix = violations.inside("selection", "filter.");
            let filter = by.check(violations, &prefix);
            if !filter.status.is_none_or(|status| matches!(status, EventStatus::Failed | EventStatus::Dead)) {
                violations.add(format!("{prefix}status"), "must be failed or dead");
            }
            let limit = match u32::try_from(limit.unwrap_or(0)) {
                Ok(0) => DEFAULT_OPERATED,
                Ok(limit) if limit <= MAX_OPERATED => limit,
                _ => {
                    let reason = format!("must be 0 to {MAX_OPERATED}, got {}", limit.unwrap_or(0));
                    violations.add(violations.inside("selection", "limit"), reason);
                    return None;
                }
            };
            let after = page::event_cursor(page_token.unwrap_or_default())
                .map_err(|reason| violations.add(violations.inside("selection", "page_token"), reason));
            Some(Selection::Filter { filter, after: after.ok()?, limit })
        }
        (None, None) | (Some(_), Some(_)) => {
            violations.add(violations.named("selection", "ids"), "must have either ids or a filter");
            None
        }
    }
}

fn select_ids(violations: &mut Violations, ids: &[String]) -> Option<Selection> {
    let field = violations.inside("selection", "ids");
    if ids.len() > MAX_OPERATED as usize {
        violations.add(field, format!("must have at most {MAX_OPERATED} items, got {}", ids.len()));
        return None;
    }
    let mut parsed = Vec::with_capacity(ids.len());
    for (i, id) in ids.iter().enumerate() {
        match Uuid::try_parse(id) {
            Ok(id) => parsed.push(id),
            Err(_) => violations.add(format!("{field}[{i}]"), "is not a UUID"),
        }
    }
    Some(Selection::Ids(parsed))
}

/// As it is written down.
fn in_words(selection: &Selection) -> String {
    match selection {
        Selection::Ids(ids) => format!("{} by id", ids.len()),
        Selection::Filter { filter, limit, .. } => {
            let mut text = format!("at most {limit} {}", filter.status.unwrap_or(EventStatus::Dead));
            text.extend(filter.resource.map(|resource| format!(" of {resource}")));
            text.extend(filter.user.map(|user| format!(" by user {user}")));
            text.extend(filter.since.map(|since| format!(" since {since}")));
            text.extend(filter.until.map(|until| format!(" until {until}")));
            text.extend(filter.id.map(|id| format!(" with id {id}")));
            text.extend(filter.error.as_ref().map(|error| format!(" with error {error:?}")));
            text.extend(filter.error_group.as_ref().map(|group| format!(" with errors like {group:?}")));
            text
        }
    }
}

pub(super) fn failed(error: &OperateError) -> Status {
    match error {
        OperateError::Store(error) => status::store(error),
        OperateError::Status(_) | OperateError::TooMany(_) => status::refuse(Reason::InvalidRequest, error.to_string()),
    }
}

/// What was done, or would be.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Operated)]
pub(super) struct Answer {
    dry_run: bool,
    /// Number of `events`.
    count: usize,
    /// As they were before.
    events: Vec<Event>,
    /// Named ones that were left alone.
    skipped: Vec<SkippedEvent>,
    /// Where the next call goes on; empty at the end.
    next_page_token: String,
    /// When the last of them is due, of a replay.
    due_until: Option<DateTime<Utc>>,
}

/// An event that was left alone.
#[derive(Debug, Serialize, ToSchema)]
struct SkippedEvent {
    id: Uuid,
    /// What it is; null: the ledger does not have it.
    #[schema(value_type = Option<StatusName>)]
    status: Option<EventStatus>,
}

impl From<Operated> for Answer {
    fn from(operated: Operated) -> Self {
        let skipped = operated.skipped.iter().map(|one| SkippedEvent { id: one.id, status: one.status });
        Self {
            dry_run: operated.dry_run,
            count: operated.events.len(),
            skipped: skipped.collect(),
            next_page_token: page::event_token(operated.next),
            due_until: operated.due_until,
            events: event::http(operated.events, event::Actions::new()),
        }
    }
}

/// Named events that were left alone, as messages.
pub(super) fn skipped(operated: &Operated) -> Vec<v1::SkippedEvent> {
    let one = |skipped: &sync_engine::operate::events::Skipped| v1::SkippedEvent {
        id: skipped.id.to_string(),
        status: skipped.status.map_or(v1::EventStatus::Unspecified, filter::wire_status).into(),
    };
    operated.skipped.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_names_its_field() {
        for (text, expected) in [
            ("", "body: "),
            ("{}", "ids: must have either"),
            (r#"{"ids":[],"filter":{}}"#, "ids: must have either"),
            (r#"{"ids":["x"]}"#, "ids[0]: is not a UUID"),
            (r#"{"ids":[7]}"#, "ids[0]: invalid type"),
            (r#"{"filter":{"status":"completed"}}"#, "filter.status: must be failed or dead"),
            (r#"{"filter":{"what":1}}"#, "filter.what: unknown field"),
            (r#"{"filter":{"user_id":-1}}"#, "filter.user_id: must be greater than 0"),
            (r#"{"filter":{"resource_id":1}}"#, "filter.resource_type: must be given"),
            (r#"{"filter":{"id":"7"}}"#, "filter.id: "),
            (r#"{"filter":{},"limit":1001}"#, "limit: must be 0 to 1000"),
            (r#"{"filter":{},"dry_run":"no"}"#, "dry_run: invalid type"),
            (r#"{"filter":{},"page_token":"x"}"#, "page_token: "),
        ] {
            let refusal = of_body(text.as_bytes(), &Source::default(), false).expect_err(text);
            assert_eq!(refusal.error.status, 400, "{text}");
            assert!(refusal.error.message.starts_with(expected), "{text}: {refusal:?}");
        }
    }

    #[test]
    fn what_gives_events_up_needs_a_reason() {
        let ask = |text: &str| of_body(text.as_bytes(), &Source::default(), true);
        assert!(ask(r#"{"filter":{}}"#).unwrap_err().error.message.starts_with("reason: must be given"));
        assert!(ask(r#"{"filter":{},"dry_run":true}"#).unwrap().dry_run);
        let asked =
            ask(r#"{"filter":{"resource_type":"video","resource_id":"7"},"reason":"r","actor":"ann"}"#).unwrap();
        assert_eq!(asked.operation.actor, "ann (unknown address)");
        assert_eq!(asked.operation.selection.as_deref(), Some("at most 100 dead of video:7"));
    }
}
