//! `/events`, `/events/replay`, `/events/discard`, `/explain`: the ledger for operators.

use super::wire::Deeds;
use super::{Admin, DEFAULT_OPERATED, MAX_ACTOR, MAX_REASON, Refusal, Source, bad};
use crate::convert::{DEFAULT_PAGE, MAX_PAGE};
use crate::page;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use chrono::{DateTime, Utc};
use consistency::body::Body;
use domain::{Pair, UserId};
use event_store::{EventFilter, EventStatus, LedgerEntry, Operation, OperatorAction, StoreError};
use serde::Serialize;
use serde_json::json;
use service_runtime::listen::access::Caller;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use sync_engine::operate::events::{MAX_OPERATED, OperateError, Operated, Selection};
use sync_engine::operate::explain::explain;
use uuid::Uuid;

const FILTER: [&str; 6] = ["status", "resource_type", "resource_id", "user_id", "since", "until"];
const OPERATE: [&str; 7] = ["ids", "filter", "limit", "page_token", "dry_run", "actor", "reason"];
const EXPLAIN: [&str; 3] = ["user_id", "resource_type", "resource_id"];

/// A time as RFC 3339 may be this long.
const MAX_TIME_LEN: usize = 64;

/// An event of the ledger as JSON.
#[derive(Debug, Serialize)]
struct Event<'a> {
    id: Uuid,
    user_id: i64,
    resource_type: &'static str,
    resource_id: i64,
    action: &'static str,
    version: i64,
    origin: &'static str,
    status: EventStatus,
    retry_count: u32,
    max_retries: u32,
    next_retry_at: Option<DateTime<Utc>>,
    error: Option<&'a str>,
    accepted_at: DateTime<Utc>,
    processed_at: Option<DateTime<Utc>>,
    updated_at: DateTime<Utc>,
    operators: &'a [OperatorAction],
}

fn events<'a>(entries: &'a [LedgerEntry], deeds: &'a Deeds) -> Vec<Event<'a>> {
    let one = |entry: &'a LedgerEntry| {
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
            error: entry.error.as_deref(),
            accepted_at: entry.created_at,
            processed_at: entry.processed_at,
            updated_at: entry.updated_at,
            operators: deeds.get(&event.intent.id).map_or(&[], Vec::as_slice),
        }
    };
    entries.iter().map(one).collect()
}

pub(super) async fn list(
    State(admin): State<Admin>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Response, Refusal> {
    let (filter, size, after) = listing(query).map_err(bad)?;
    let page = admin.stores.database.list_events(&filter, size, after).await.map_err(store_failed)?;
    let deeds = admin.operator.actions_on(&page.events).await.map_err(store_failed)?;
    let body = json!({
        "events": events(&page.events, &deeds),
        "next_page_token": page::event_token(page.next),
    });
    Ok(Json(body).into_response())
}

pub(super) async fn replay(
    State(admin): State<Admin>,
    caller: Option<Extension<Caller>>,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let (selection, operation, dry_run) = operating(&body, &source(caller, peer), false).map_err(bad)?;
    let operated = admin.operator.replay(selection, operation, dry_run).await.map_err(operate_failed)?;
    Ok(answer(&operated))
}

pub(super) async fn discard(
    State(admin): State<Admin>,
    caller: Option<Extension<Caller>>,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let (selection, operation, dry_run) = operating(&body, &source(caller, peer), true).map_err(bad)?;
    let operated = admin.operator.discard(selection, operation, dry_run).await.map_err(operate_failed)?;
    Ok(answer(&operated))
}

pub(super) async fn story(
    State(admin): State<Admin>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Response, Refusal> {
    let pair = pair(query).map_err(bad)?;
    Ok(Json(explain(&admin.stores, pair).await.map_err(store_failed)?).into_response())
}

fn answer(operated: &Operated) -> Response {
    let skipped: Vec<_> = operated.skipped.iter().map(|one| json!({ "id": one.id, "status": one.status })).collect();
    Json(json!({
        "dry_run": operated.dry_run,
        "count": operated.events.len(),
        "events": events(&operated.events, &Deeds::new()),
        "skipped": skipped,
        "next_page_token": page::event_token(operated.next),
        "due_until": operated.due_until,
    }))
    .into_response()
}

fn listing(query: BTreeMap<String, String>) -> Result<(EventFilter, u32, Option<Uuid>), String> {
    let known = [&FILTER[..], &["page_size", "page_token"]].concat();
    let mut query = Body::query(query, &known, &["resource_id", "user_id", "page_size"])?;
    let size = match query.number("page_size", MAX_PAGE.unsigned_abs())? {
        None | Some(0) => DEFAULT_PAGE,
        Some(size) => size,
    };
    let after = page_token(&mut query)?;
    Ok((filter(&mut query)?, size, after))
}

fn pair(query: BTreeMap<String, String>) -> Result<Pair, String> {
    let mut query = Body::query(query, &EXPLAIN, &["resource_id", "user_id"])?;
    let user = query.id("user_id")?.ok_or_else(|| query.bad("user_id", "must be given"))?;
    let resource = query.resource()?;
    let user = UserId::new(user).map_err(|invalid| query.bad("user_id", &invalid.reason))?;
    Ok(Pair { resource, user })
}

fn page_token(body: &mut Body) -> Result<Option<Uuid>, String> {
    let token = body.text("page_token", 64)?.unwrap_or_default();
    page::event_cursor(&token).map_err(|reason| body.bad("page_token", reason))
}

fn filter(body: &mut Body) -> Result<EventFilter, String> {
    let status = match body.text("status", 16)? {
        None => None,
        Some(word) => Some(word.parse::<EventStatus>().map_err(|invalid| body.bad("status", &invalid.reason))?),
    };
    let resource = body.optional_resource()?;
    let user = match body.id("user_id")? {
        None => None,
        Some(id) => Some(UserId::new(id).map_err(|invalid| body.bad("user_id", &invalid.reason))?),
    };
    let mut time = |name: &str| {
        let Some(text) = body.text(name, MAX_TIME_LEN)? else { return Ok(None) };
        DateTime::parse_from_rfc3339(&text)
            .map(|time| Some(time.to_utc()))
            .map_err(|_| body.bad(name, &format!("expected a time such as 2026-01-31T07:00:00Z, got {text:?}")))
    };
    Ok(EventFilter { status, resource, user, since: time("since")?, until: time("until")? })
}

fn source(caller: Option<Extension<Caller>>, peer: Option<Extension<ConnectInfo<SocketAddr>>>) -> Source {
    Source { caller: caller.map(|Extension(caller)| caller), peer: peer.map(|Extension(ConnectInfo(peer))| peer) }
}

/// What to operate on, who asks and why, and whether only to say so.
fn operating(bytes: &[u8], source: &Source, reason_needed: bool) -> Result<(Selection, Operation, bool), String> {
    let mut body = Body::parse(bytes, &OPERATE, false)?;
    let ids = body.texts("ids", MAX_OPERATED as usize)?;
    let by = body.object("filter", &FILTER)?;
    let limit = body.number("limit", MAX_OPERATED)?.filter(|limit| *limit > 0).unwrap_or(DEFAULT_OPERATED);
    let after = page_token(&mut body)?;
    let dry_run = body.flag("dry_run")?;
    let actor = body.text("actor", MAX_ACTOR)?;
    let reason = body.text("reason", MAX_REASON)?;
    if reason_needed && !dry_run && reason.is_none() {
        return Err(body.bad("reason", "must be given"));
    }
    let selection = match (ids, by) {
        (Some(ids), None) => {
            let parse = |(i, id): (usize, &String)| {
                Uuid::try_parse(id).map_err(|_| body.bad(&format!("ids[{i}]"), &format!("is not a UUID: {id:?}")))
            };
            Selection::Ids(ids.iter().enumerate().map(parse).collect::<Result<_, _>>()?)
        }
        (None, Some(mut by)) => {
            let filter = filter(&mut by)?;
            if !filter.status.is_none_or(|status| matches!(status, EventStatus::Failed | EventStatus::Dead)) {
                return Err(by.bad("status", "must be failed or dead"));
            }
            Selection::Filter { filter, after, limit }
        }
        (None, None) | (Some(_), Some(_)) => return Err(body.bad("ids", "must have either ids or a filter")),
    };
    Ok((selection.clone(), super::operation(actor, source, reason, &selection), dry_run))
}

fn store_failed(error: StoreError) -> Refusal {
    let status =
        if error.is_unavailable() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::INTERNAL_SERVER_ERROR };
    (status, error.to_string())
}

fn operate_failed(error: OperateError) -> Refusal {
    match error {
        OperateError::Status(_) => bad(format!("filter.status: {error}")),
        OperateError::TooMany(_) => bad(format!("ids: {error}")),
        OperateError::Store(error) => store_failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> BTreeMap<String, String> {
        text.split('&').filter_map(|part| part.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    #[test]
    fn every_mistake_names_its_field() {
        for (text, expected) in [
            ("x=1", "x: unknown field"),
            ("status=bad", "status: unknown status"),
            ("user_id=0", "user_id: must be greater than 0"),
            ("user_id=x", "user_id: expected a whole number"),
            ("resource_id=1", "resource_type: must be given"),
            ("resource_type=film&resource_id=1", "resource_type: "),
            ("since=yesterday", "since: expected a time"),
            ("page_size=101", "page_size: expected 0 to 100"),
            ("page_token=1-1-1", "page_token: is not a token"),
        ] {
            let error = listing(query(text)).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        let (filter, size, _) = listing(query("status=dead&user_id=7&since=2026-01-31T07:00:00Z")).unwrap();
        assert_eq!((filter.status, filter.user.map(UserId::get), size), (Some(EventStatus::Dead), Some(7), 20));
        assert_eq!(filter.since.unwrap().timestamp(), 1_769_842_800);

        for (text, expected) in [
            ("", "body: "),
            ("{}", "ids: must have either"),
            ("{\"ids\":[],\"filter\":{}}", "ids: must have either"),
            ("{\"ids\":[\"x\"]}", "ids[0]: is not a UUID"),
            ("{\"ids\":[7]}", "ids[0]: expected a text"),
            ("{\"filter\":{\"status\":\"completed\"}}", "filter.status: must be failed or dead"),
            ("{\"filter\":{\"what\":1}}", "filter.what: unknown field"),
            ("{\"filter\":{},\"limit\":1001}", "limit: expected 0 to 1000"),
            ("{\"filter\":{},\"dry_run\":\"no\"}", "dry_run: expected true or false"),
            ("{\"filter\":{},\"page_token\":\"x\"}", "page_token: "),
        ] {
            let error = operating(text.as_bytes(), &source(None, None), false).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        assert!(
            operating(b"{\"filter\":{}}", &source(None, None), true).unwrap_err().starts_with("reason: must be given")
        );
        assert!(operating(b"{\"filter\":{},\"dry_run\":true}", &source(None, None), true).is_ok());
    }
}
