//! Events and their stories, for the wire and from it.

use super::timestamp;
use crate::convert::{self, Violations, wire_resource};
use crate::page;
use chrono::{DateTime, Utc};
use domain::cache::CachedCount;
use domain::{Action, UserId};
use event_store::{EventFilter, EventStatus, LedgerEntry, OperatorAction};
use interaction_proto::v1;
use std::collections::HashMap;
use sync_engine::operate::events::{MAX_OPERATED, Operated, Selection};
use sync_engine::operate::explain::{CachedNow, ExplainedEvent, Explanation, Step};
use uuid::Uuid;

/// What operators did, by event.
pub(crate) type Deeds = HashMap<Uuid, Vec<OperatorAction>>;

const fn wire_status(status: EventStatus) -> v1::EventStatus {
    match status {
        EventStatus::Pending => v1::EventStatus::Pending,
        EventStatus::Processing => v1::EventStatus::Processing,
        EventStatus::Completed => v1::EventStatus::Completed,
        EventStatus::Failed => v1::EventStatus::Failed,
        EventStatus::Dead => v1::EventStatus::Dead,
        EventStatus::Discarded => v1::EventStatus::Discarded,
    }
}

fn status(value: i32) -> Result<Option<EventStatus>, String> {
    Ok(Some(match v1::EventStatus::try_from(value).map_err(|_| format!("unknown value {value}"))? {
        v1::EventStatus::Unspecified => return Ok(None),
        v1::EventStatus::Pending => EventStatus::Pending,
        v1::EventStatus::Processing => EventStatus::Processing,
        v1::EventStatus::Completed => EventStatus::Completed,
        v1::EventStatus::Failed => EventStatus::Failed,
        v1::EventStatus::Dead => EventStatus::Dead,
        v1::EventStatus::Discarded => EventStatus::Discarded,
    }))
}

const fn wire_action(action: Action) -> v1::Action {
    match action {
        Action::Like => v1::Action::Like,
        Action::Unlike => v1::Action::Unlike,
    }
}

/// A filter; violations are noted under `prefix`.
pub(crate) fn filter(violations: &mut Violations, prefix: &str, given: Option<v1::EventFilter>) -> EventFilter {
    let given = given.unwrap_or_default();
    let mut filter = EventFilter::default();
    match status(given.status) {
        Ok(status) => filter.status = status,
        Err(reason) => violations.add(format!("{prefix}status"), reason),
    }
    if given.resource.is_some() {
        filter.resource = convert::resource(violations, prefix, given.resource);
    }
    if given.user_id != 0 {
        match UserId::new(given.user_id) {
            Ok(user) => filter.user = Some(user),
            Err(invalid) => violations.add(format!("{prefix}user_id"), invalid.reason),
        }
    }
    let mut time = |name: &str, given: Option<prost_types::Timestamp>| {
        let given = given?;
        let nanos = u32::try_from(given.nanos).ok();
        let time = nanos.and_then(|nanos| DateTime::<Utc>::from_timestamp(given.seconds, nanos));
        if time.is_none() {
            violations.add(format!("{prefix}{name}"), "is not a time");
        }
        time
    };
    filter.since = time("since", given.since);
    filter.until = time("until", given.until);
    filter
}

/// Which events to replay or discard.
pub(crate) fn selection(violations: &mut Violations, given: Option<v1::EventSelection>) -> Selection {
    let v1::EventSelection { ids, filter: by, limit, page_token } = given.unwrap_or_default();
    if ids.is_empty() == by.is_none() {
        violations.add("selection", "must have either ids or a filter");
    }
    if by.is_none() {
        if ids.len() > MAX_OPERATED as usize {
            violations.add("selection.ids", format!("must have at most {MAX_OPERATED} items, got {}", ids.len()));
            return Selection::Ids(Vec::new());
        }
        let mut parsed = Vec::with_capacity(ids.len());
        for (i, id) in ids.iter().enumerate() {
            match Uuid::try_parse(id) {
                Ok(id) => parsed.push(id),
                Err(_) => violations.add(format!("selection.ids[{i}]"), "is not a UUID"),
            }
        }
        return Selection::Ids(parsed);
    }
    let filter = filter(violations, "selection.filter.", by);
    if !filter.status.is_none_or(|status| matches!(status, EventStatus::Failed | EventStatus::Dead)) {
        violations.add("selection.filter.status", "must be failed or dead");
    }
    let limit = match u32::try_from(limit) {
        Ok(0) => super::super::DEFAULT_OPERATED,
        Ok(limit) if limit <= MAX_OPERATED => limit,
        _ => {
            violations.add("selection.limit", format!("must be 0 to {MAX_OPERATED}, got {limit}"));
            1
        }
    };
    let after = page::event_cursor(&page_token).unwrap_or_else(|reason| {
        violations.add("selection.page_token", reason);
        None
    });
    Selection::Filter { filter, after, limit }
}

pub(crate) fn events(entries: &[LedgerEntry], deeds: &Deeds) -> Vec<v1::SyncEvent> {
    entries.iter().map(|entry| event(entry, deeds.get(&entry.event.intent.id).map_or(&[], Vec::as_slice))).collect()
}

fn event(entry: &LedgerEntry, deeds: &[OperatorAction]) -> v1::SyncEvent {
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
        operators: deeds.iter().map(deed).collect(),
    }
}

fn deed(action: &OperatorAction) -> v1::OperatorAction {
    v1::OperatorAction {
        id: action.id.to_string(),
        action: action.action.clone(),
        actor: action.actor.clone(),
        reason: action.reason.clone().unwrap_or_default(),
        at: Some(timestamp(action.at)),
    }
}

fn skipped(operated: &Operated) -> Vec<v1::SkippedEvent> {
    let one = |skipped: &sync_engine::operate::events::Skipped| v1::SkippedEvent {
        id: skipped.id.to_string(),
        status: skipped.status.map_or(v1::EventStatus::Unspecified, wire_status).into(),
    };
    operated.skipped.iter().map(one).collect()
}

pub(crate) fn replayed(operated: &Operated) -> v1::ReplayEventsResponse {
    v1::ReplayEventsResponse {
        dry_run: operated.dry_run,
        events: events(&operated.events, &Deeds::new()),
        skipped: skipped(operated),
        next_page_token: page::event_token(operated.next),
        due_until: operated.due_until.map(timestamp),
    }
}

pub(crate) fn discarded(operated: &Operated) -> v1::DiscardEventsResponse {
    v1::DiscardEventsResponse {
        dry_run: operated.dry_run,
        events: events(&operated.events, &Deeds::new()),
        skipped: skipped(operated),
        next_page_token: page::event_token(operated.next),
    }
}

pub(crate) fn explanation(told: Explanation) -> v1::ExplainLikeResponse {
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
