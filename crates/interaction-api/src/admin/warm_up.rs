//! `WarmUp`, `POST /cache/warmup`: what will be asked for is cached before somebody asks, at a bounded rate.

use super::Admin;
use crate::request::{Violations, convert};
use crate::status::{self, HttpError, Reason};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use consistency::openapi::{ResourceTypeName, id};
use domain::{Resource, ResourceType};
use interaction_proto::v1;
use serde::{Deserialize, Serialize};
use service_runtime::listen::request::{Whole, json_or_default};
use sync_engine::read::warm_up::{MAX_RESOURCES, WarmupError, WarmupPlan, WarmupReport};
use tonic::Status;
use utoipa::ToSchema;

/// Most resources that one call may name.
pub const MAX_LISTED: usize = 5_000;

/// What is asked, by HTTP; nothing, or an empty object, asks for what is configured.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WarmupPlan)]
pub(super) struct Body {
    /// So many resources of each kind with the largest counts.
    #[schema(minimum = 0, maximum = 20_000)]
    top_resources: Option<i32>,
    /// Resources and pairs of so many newest events.
    #[schema(minimum = 0, maximum = 20_000)]
    recent_events: Option<i32>,
    /// These.
    #[schema(max_items = 5_000)]
    resources: Option<Vec<Listed>>,
}

/// A resource.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ListedResource)]
struct Listed {
    #[schema(value_type = ResourceTypeName, required)]
    resource_type: Option<ResourceType>,
    #[schema(schema_with = id, required)]
    resource_id: Option<Whole>,
}

/// What a warm-up did.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[schema(as = WarmupReport)]
pub(super) struct Answer {
    /// Counters looked at.
    counters: u64,
    /// Those that were not cached and are now.
    counters_filled: u64,
    /// Pairs looked at.
    pairs: u64,
    /// Those that were not cached and are now.
    pairs_filled: u64,
    /// Milliseconds that it took.
    took_ms: u64,
}

impl From<WarmupReport> for Answer {
    fn from(report: WarmupReport) -> Self {
        let WarmupReport { counters, counters_filled, pairs, pairs_filled, took_ms } = report;
        Self { counters, counters_filled, pairs, pairs_filled, took_ms }
    }
}

/// What to cache; a plan of nothing stands for what is configured.
fn request<T>(
    mut violations: Violations,
    top_resources: i32,
    recent_events: i32,
    listed: Vec<T>,
    resource: impl Fn(&mut Violations, &str, T) -> Option<Resource>,
) -> Result<WarmupPlan, Status> {
    let mut bounded = |field, given: i32| match u32::try_from(given) {
        Ok(number) if number <= MAX_RESOURCES => number,
        _ => {
            violations.add(field, format!("must be 0 to {MAX_RESOURCES}, got {given}"));
            0
        }
    };
    let top_resources = bounded("top_resources", top_resources);
    let recent_events = bounded("recent_events", recent_events);
    let mut resources = Vec::new();
    if listed.len() > MAX_LISTED {
        violations.add("resources", format!("must have at most {MAX_LISTED} items, got {}", listed.len()));
    } else {
        let each = listed.into_iter().enumerate();
        resources = each.filter_map(|(i, one)| resource(&mut violations, &format!("resources[{i}]."), one)).collect();
    }
    violations.finish()?;
    Ok(WarmupPlan { top_resources, recent_events, resources })
}

async fn call(admin: &Admin, plan: WarmupPlan) -> Result<WarmupReport, Status> {
    let plan = if plan == WarmupPlan::default() { admin.warmer.plan() } else { plan };
    Box::pin(admin.warmer.warm(&plan)).await.map_err(|error| match error {
        WarmupError::Busy => status::refuse_for_now(Reason::WarmUpRunning, error.to_string()),
        other => status::stores(other.is_unavailable(), "warming up", &other),
    })
}

pub(super) async fn grpc(admin: &Admin, given: v1::WarmUpRequest) -> Result<v1::WarmUpResponse, Status> {
    let v1::WarmUpRequest { top_resources, recent_events, resources } = given;
    let plan = request(Violations::default(), top_resources, recent_events, resources, |violations, prefix, one| {
        convert::resource(violations, prefix, Some(one))
    })?;
    let WarmupReport { counters, counters_filled, pairs, pairs_filled, took_ms } = call(admin, plan).await?;
    Ok(v1::WarmUpResponse { counters, counters_filled, pairs, pairs_filled, took_ms })
}

fn of_body(body: &[u8]) -> Result<WarmupPlan, HttpError> {
    let given: Body = json_or_default(body)?;
    let (top, recent) = (given.top_resources.unwrap_or(0), given.recent_events.unwrap_or(0));
    let listed = given.resources.unwrap_or_default();
    let plan = request(Violations::http(), top, recent, listed, |violations, prefix, one| {
        violations.resource(prefix, one.resource_type, one.resource_id.map(|Whole(id)| id))
    })?;
    Ok(plan)
}

/// Caches what will be asked for, at a bounded rate.
///
/// Nothing, or an empty object, asks for what is configured. What is cached is left alone.
#[utoipa::path(post, path = "/cache/warmup", operation_id = "cacheWarmup", request_body = Option<Body>,
    responses((status = 200, description = "What was done.", body = Answer), (status = 400, description = "Names the field."),
        (status = 429, description = "A warm-up is running already.")))]
pub(super) async fn http(State(admin): State<Admin>, body: Bytes) -> Result<Json<Answer>, HttpError> {
    let plan = of_body(&body)?;
    Ok(Json(call(&admin, plan).await?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_names_its_field() {
        for (text, expected) in [
            ("[", "body: "),
            (r#"{"top":1}"#, "top: unknown field"),
            (r#"{"top_resources":20001}"#, "top_resources: must be 0 to 20000, got 20001"),
            (r#"{"top_resources":3000000000}"#, "top_resources: invalid value"),
            (r#"{"recent_events":-1}"#, "recent_events: must be 0 to 20000, got -1"),
            (r#"{"recent_events":"many"}"#, "recent_events: invalid type"),
            (r#"{"resources":{}}"#, "resources: invalid type"),
            (r#"{"resources":[{"resource_type":"film"}]}"#, "resources[0].resource_type: unknown variant"),
            (r#"{"resources":[{"resource_type":"video"}]}"#, "resources[0].resource_id: must be given"),
            (
                r#"{"resources":[{"resource_type":"video","resource_id":0}]}"#,
                "resources[0].resource_id: must be greater",
            ),
        ] {
            let refusal = of_body(text.as_bytes()).expect_err(text);
            assert_eq!(refusal.error.status, 400, "{text}");
            assert!(refusal.error.message.starts_with(expected), "{text}: {refusal:?}");
        }
        let plan =
            of_body(br#"{"top_resources":3,"resources":[{"resource_type":"video","resource_id":"7"}]}"#).unwrap();
        assert_eq!((plan.top_resources, plan.resources[0].to_string()), (3, "video:7".to_owned()));
        assert_eq!(of_body(b" ").unwrap(), WarmupPlan::default());
    }
}
