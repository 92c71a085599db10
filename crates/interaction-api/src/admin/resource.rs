//! `GET /resource`: what is known of one resource, wherever it is known. Whatever cannot be asked is null.

use super::{Admin, explain_like};
use crate::request::Violations;
use crate::status::HttpError;
use axum::Json;
use axum::extract::{RawQuery, State};
use chrono::{DateTime, Utc};
use consistency::openapi::{AnyObject, ResourceTypeName, id};
use consistency::{Finding, Kind};
use domain::cache::CachedCount;
use domain::{Resource, ResourceType, StoredCount};
use event_store::{EventFilter, EventStatus, FindingLife, StoreError};
use serde::{Deserialize, Serialize};
use service_runtime::listen::request::{Whole, query};
use std::time::Duration;
use tokio::time::timeout;
use utoipa::IntoParams;

/// Slower stores are left out.
const PATIENCE: Duration = Duration::from_secs(5);

/// Unfinished events of a status are counted up to here.
const COUNTED: u32 = 1_000;

const FINDINGS: u32 = 50;

/// Statuses of events that are in no row.
const UNFINISHED: [EventStatus; 4] =
    [EventStatus::Pending, EventStatus::Processing, EventStatus::Failed, EventStatus::Dead];

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Parameters {
    /// Of which kind.
    #[param(value_type = ResourceTypeName, required)]
    resource_type: Option<ResourceType>,
    /// Which.
    #[param(schema_with = id, required = true)]
    resource_id: Option<Whole>,
}

#[derive(Debug, Serialize)]
pub(super) struct Answer {
    at: DateTime<Utc>,
    resource_type: &'static str,
    resource_id: i64,
    cache: Option<Cached>,
    database: Option<Stored>,
    /// What is wrong with its counters, or on its way, as a check says it; null: a store does not answer.
    counters: Option<Vec<Finding>>,
}

/// What the cache has of it.
#[derive(Debug, Serialize)]
struct Cached {
    /// None: it is not cached.
    count: Option<CachedCount>,
}

/// What the database has of it.
#[derive(Debug, Serialize)]
struct Stored {
    /// The counter; none: nobody has liked it yet.
    count: Option<StoredCount>,
    /// Rows of likes that hold.
    live: i64,
    unfinished: Vec<Unfinished>,
    findings: Vec<FindingLife>,
}

/// Events of one status.
#[derive(Debug, Serialize)]
struct Unfinished {
    status: EventStatus,
    count: usize,
    /// Whether there are more.
    capped: bool,
}

/// The one that is named.
pub(super) fn of_query(given: Option<&str>) -> Result<Resource, HttpError> {
    let Parameters { resource_type, resource_id } = query(given)?;
    let mut violations = Violations::http();
    let resource = violations.resource("", resource_type, resource_id.map(|Whole(id)| id));
    Ok(violations.given(resource)?)
}

/// What cache and database know of one resource.
#[utoipa::path(get, path = "/resource", operation_id = "resource", params(Parameters),
    responses((status = 200, description = "What is known; null where a store is unreachable.", body = AnyObject),
        (status = 400, description = "Names the parameter.")))]
pub(super) async fn http(State(admin): State<Admin>, RawQuery(given): RawQuery) -> Result<Json<Answer>, HttpError> {
    let resource = of_query(given.as_deref())?;
    let stores = &admin.stores;
    let cache = async {
        if stores.cache_circuit.is_open() {
            return None;
        }
        let counts = stores.cache.counts(&[resource]).await.ok()?;
        Some(Cached { count: counts.into_iter().next().flatten() })
    };
    let database = async { if stores.database_circuit.is_open() { None } else { stored(&admin, resource).await.ok() } };
    let (cache, database, counters) =
        tokio::join!(timeout(PATIENCE, cache), timeout(PATIENCE, database), explain_like::counted(&admin, resource));
    Ok(Json(Answer {
        at: sync_engine::clock::wall_clock(),
        resource_type: resource.kind.name(),
        resource_id: resource.id.get(),
        cache: cache.ok().flatten(),
        database: database.ok().flatten(),
        counters,
    }))
}

async fn stored(admin: &Admin, resource: Resource) -> Result<Stored, StoreError> {
    let database = &admin.stores.database;
    let audit = database.audit_counts(&[resource]).await?.into_iter().next();
    let mut unfinished = Vec::with_capacity(UNFINISHED.len());
    for status in UNFINISHED {
        let filter = EventFilter { status: Some(status), resource: Some(resource), ..EventFilter::default() };
        let page = database.list_events(&filter, COUNTED, None).await?;
        unfinished.push(Unfinished { status, count: page.events.len(), capped: page.next.is_some() });
    }
    Ok(Stored {
        count: audit.and_then(|audit| audit.stored),
        live: audit.map_or(0, |audit| audit.live),
        unfinished,
        findings: database.findings_of(resource, &Kind::ALL.map(Kind::name), FINDINGS).await?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_names_its_field() {
        for (text, expected) in [
            ("", "resource_type: must be given"),
            ("resource_type=video", "resource_id: must be given"),
            ("resource_type=video&resource_id=x", "resource_id: invalid value"),
            ("id=1", "id: unknown field"),
        ] {
            let refusal = of_query(Some(text)).expect_err(text);
            assert!(refusal.error.message.starts_with(expected), "{text}: {refusal:?}");
        }
        let asked = of_query(Some("resource_type=video&resource_id=9007199254740993")).unwrap();
        assert_eq!(asked.to_string(), "video:9007199254740993");
    }
}
