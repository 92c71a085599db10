//! `interaction.v1.SyncAdminService`, and the same for ops HTTP ([`routes`]).

mod events;
mod overview;
mod routes;
mod wire;

use crate::convert::{self, Violations};
use crate::{page, status};
use axum::http::StatusCode;
use consistency::{CheckError, Checker, DEFAULT_HOURS, MAX_HOURS};
use domain::Pair;
use domain::cache::{CacheError, ShardStatus};
use event_bus::Publisher;
use event_store::{EventStatus, Operation};
use interaction_proto::v1;
use interaction_proto::v1::sync_admin_service_server::SyncAdminService;
use serde::Serialize;
use service_runtime::listen::access::Caller;
use std::fmt;
use std::net::SocketAddr;
use sync_engine::Stores;
use sync_engine::operate::events::{OperateError, Operator, Selection};
use sync_engine::operate::explain::explain;
use sync_engine::read::warm_up::{MAX_RESOURCES, Warmer, WarmupError, WarmupPlan};
use sync_engine::read::{CacheUse, Reader};
use tonic::{Request, Response, Status};

pub use routes::routes;

use overview::OverviewCache;

/// Most resources that one call may name.
pub const MAX_LISTED: usize = 5_000;

/// Events that one replay or discard by filter takes if nothing is said.
pub const DEFAULT_OPERATED: u32 = 100;

/// Longest name that an operator gives, in bytes; whose token it was, and the address, come behind it.
pub const MAX_ACTOR: usize = 64;

/// Longest reason in bytes.
pub const MAX_REASON: usize = 500;

/// An error as these routes answer it.
type Refusal = (StatusCode, String);

fn bad(reason: String) -> Refusal {
    (StatusCode::BAD_REQUEST, reason)
}

/// Who calls, as far as we know it ourselves: whose token it was and where the call came from.
struct Source {
    caller: Option<Caller>,
    peer: Option<SocketAddr>,
}

impl Source {
    fn of<T>(request: &Request<T>) -> Self {
        Self { caller: request.extensions().get().cloned(), peer: request.remote_addr() }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.caller.as_ref().and_then(Caller::token_name) {
            write!(f, "token {name}, ")?;
        }
        match self.peer {
            Some(peer) => write!(f, "{}", peer.ip()),
            None => f.write_str("unknown address"),
        }
    }
}

/// What is written down about a call: the name that was given, and who it was.
fn operation(actor: Option<String>, source: &Source, reason: Option<String>, selection: &Selection) -> Operation {
    let selection = match selection {
        Selection::Ids(ids) => format!("{} by id", ids.len()),
        Selection::Filter { filter, limit, .. } => {
            let mut text = format!("at most {limit} {}", filter.status.unwrap_or(EventStatus::Dead));
            text.extend(filter.resource.map(|resource| format!(" of {resource}")));
            text.extend(filter.user.map(|user| format!(" by user {user}")));
            text.extend(filter.since.map(|since| format!(" since {since}")));
            text.extend(filter.until.map(|until| format!(" until {until}")));
            text
        }
    };
    Operation {
        actor: actor.map_or_else(|| source.to_string(), |actor| format!("{actor} ({source})")),
        reason,
        selection: Some(selection),
    }
}

/// What operators ask of a server.
#[derive(Clone)]
pub struct Admin {
    stores: Stores,
    reader: Reader,
    warmer: Warmer,
    checker: Checker,
    operator: Operator,
    overview_cache: OverviewCache,
}

/// `GET /cache/stats`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CacheStats {
    /// False while the cache is unreachable: then there are no shards.
    pub available: bool,
    /// Unsettled entries of all shards.
    pub pending: u64,
    /// Milliseconds since the oldest of them was accepted.
    pub oldest_age_ms: Option<u64>,
    /// What reads of this process found.
    pub reads: CacheUse,
    /// Part of the reads that the cache answered, 0 to 1; none if nothing was read.
    pub hit_rate: Option<f64>,
    /// Every shard's accounting.
    pub shards: Vec<ShardStatus>,
}

impl Admin {
    /// All parts of one server; `queue` asks how much waits there, if there is a broker.
    pub fn new(stores: Stores, reader: Reader, warmer: Warmer, checker: Checker, queue: Option<Publisher>) -> Self {
        let operator = Operator::new(stores.clone());
        Self { stores, reader, warmer, checker, operator, overview_cache: OverviewCache::new(queue) }
    }

    /// The journals' accounting and what reads found.
    pub async fn cache_stats(&self) -> Result<CacheStats, CacheError> {
        let status =
            if self.stores.cache_circuit.is_open() { None } else { Some(self.stores.cache.shard_status().await) };
        let (available, shards) = match status {
            None => (false, Vec::new()),
            Some(Ok(shards)) => (true, shards),
            Some(Err(error)) if error.is_unavailable() => (false, Vec::new()),
            Some(Err(error)) => return Err(error),
        };
        let reads = self.reader.cache_use();
        let all = reads.hits + reads.misses + reads.without_cache;
        Ok(CacheStats {
            available,
            pending: shards.iter().map(|shard| shard.journal_len).sum(),
            oldest_age_ms: shards.iter().filter_map(oldest_age_ms).max(),
            reads,
            hit_rate: (all > 0).then(|| reads.hits as f64 / all as f64),
            shards,
        })
    }
}

fn oldest_age_ms(shard: &ShardStatus) -> Option<u64> {
    shard.oldest_age().map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}

#[tonic::async_trait]
impl SyncAdminService for Admin {
    async fn check_consistency(
        &self,
        request: Request<v1::CheckConsistencyRequest>,
    ) -> Result<Response<v1::CheckConsistencyResponse>, Status> {
        let v1::CheckConsistencyRequest { resource, dry_run } = request.into_inner();
        let mut violations = Violations::default();
        let resource = convert::resource(&mut violations, "", resource);
        violations.finish()?;
        let resource = resource.ok_or_else(|| Status::internal("a valid request has no resource"))?;
        let outcome = Box::pin(self.checker.check(resource, dry_run)).await.map_err(|error| check_failed(&error))?;
        Ok(Response::new(wire::outcome(outcome)))
    }

    async fn get_consistency_report(
        &self,
        request: Request<v1::GetConsistencyReportRequest>,
    ) -> Result<Response<v1::GetConsistencyReportResponse>, Status> {
        let mut violations = Violations::default();
        let hours = match request.into_inner().hours {
            0 => DEFAULT_HOURS,
            given => u32::try_from(given).unwrap_or(0),
        };
        if !(1..=MAX_HOURS).contains(&hours) {
            violations.add("hours", format!("must be 1 to {MAX_HOURS}, or 0 for {DEFAULT_HOURS}"));
        }
        violations.finish()?;
        let report = Box::pin(self.checker.report(hours)).await.map_err(|error| check_failed(&error))?;
        Ok(Response::new(wire::report(report)))
    }

    async fn warm_up(&self, request: Request<v1::WarmUpRequest>) -> Result<Response<v1::WarmUpResponse>, Status> {
        let request = request.into_inner();
        let mut violations = Violations::default();
        let mut bounded = |field, given: i32| match u32::try_from(given) {
            Ok(number) if number <= MAX_RESOURCES => number,
            _ => {
                violations.add(field, format!("must be 0 to {MAX_RESOURCES}, got {given}"));
                0
            }
        };
        let top_resources = bounded("top_resources", request.top_resources);
        let recent_events = bounded("recent_events", request.recent_events);
        if request.resources.len() > MAX_LISTED {
            violations
                .add("resources", format!("must have at most {MAX_LISTED} items, got {}", request.resources.len()));
            violations.finish()?;
            return Err(Status::internal("a violation was lost"));
        }
        let each = request.resources.into_iter().enumerate();
        let resources = each
            .filter_map(|(i, given)| convert::resource(&mut violations, &format!("resources[{i}]."), Some(given)))
            .collect();
        violations.finish()?;
        let plan = WarmupPlan { top_resources, recent_events, resources };
        let plan = if plan == WarmupPlan::default() { self.warmer.plan() } else { plan };
        let report = Box::pin(self.warmer.warm(&plan)).await.map_err(|error| warmup_failed(&error))?;
        Ok(Response::new(v1::WarmUpResponse {
            counters: report.counters,
            counters_filled: report.counters_filled,
            pairs: report.pairs,
            pairs_filled: report.pairs_filled,
            took_ms: report.took_ms,
        }))
    }

    async fn get_cache_stats(
        &self,
        _request: Request<v1::GetCacheStatsRequest>,
    ) -> Result<Response<v1::GetCacheStatsResponse>, Status> {
        let stats = self.cache_stats().await.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(wire::stats(&stats)))
    }

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let v1::ListEventsRequest { filter, page_size, page_token } = request.into_inner();
        let mut violations = Violations::default();
        let filter = wire::filter(&mut violations, "filter.", filter);
        let size = convert::page_size(&mut violations, "page_size", page_size);
        let after = page::event_cursor(&page_token).map_err(|reason| violations.add("page_token", reason));
        violations.finish()?;
        let after = after.map_err(|()| Status::internal("a violation was lost"))?;
        let page = self.stores.database.list_events(&filter, size, after).await;
        let page = page.map_err(|error| status::store(&error))?;
        let deeds = self.operator.actions_on(&page.events).await.map_err(|error| status::store(&error))?;
        Ok(Response::new(v1::ListEventsResponse {
            events: wire::events(&page.events, &deeds),
            next_page_token: page::event_token(page.next),
        }))
    }

    async fn replay_events(
        &self,
        request: Request<v1::ReplayEventsRequest>,
    ) -> Result<Response<v1::ReplayEventsResponse>, Status> {
        let source = Source::of(&request);
        let v1::ReplayEventsRequest { selection, dry_run, actor, reason } = request.into_inner();
        let (selection, operation) = operating(selection, &source, actor, reason, false)?;
        let operated =
            self.operator.replay(selection, operation, dry_run).await.map_err(|error| operate_failed(&error))?;
        Ok(Response::new(wire::replayed(&operated)))
    }

    async fn discard_events(
        &self,
        request: Request<v1::DiscardEventsRequest>,
    ) -> Result<Response<v1::DiscardEventsResponse>, Status> {
        let source = Source::of(&request);
        let v1::DiscardEventsRequest { selection, dry_run, actor, reason } = request.into_inner();
        let (selection, operation) = operating(selection, &source, actor, reason, !dry_run)?;
        let operated =
            self.operator.discard(selection, operation, dry_run).await.map_err(|error| operate_failed(&error))?;
        Ok(Response::new(wire::discarded(&operated)))
    }

    async fn explain_like(
        &self,
        request: Request<v1::ExplainLikeRequest>,
    ) -> Result<Response<v1::ExplainLikeResponse>, Status> {
        let v1::ExplainLikeRequest { user_id, resource } = request.into_inner();
        let mut violations = Violations::default();
        let user = convert::user(&mut violations, user_id);
        let resource = convert::resource(&mut violations, "", resource);
        violations.finish()?;
        let pair = user.zip(resource).map(|(user, resource)| Pair { resource, user });
        let pair = pair.ok_or_else(|| Status::internal("a valid request lacks a part"))?;
        let told = Box::pin(explain(&self.stores, pair)).await.map_err(|error| status::store(&error))?;
        Ok(Response::new(wire::explanation(told)))
    }
}

/// Which events, who asks, and why.
fn operating(
    selection: Option<v1::EventSelection>,
    source: &Source,
    actor: String,
    reason: String,
    reason_needed: bool,
) -> Result<(Selection, Operation), Status> {
    let mut violations = Violations::default();
    let selection = wire::selection(&mut violations, selection);
    for (field, text, most) in [("actor", &actor, MAX_ACTOR), ("reason", &reason, MAX_REASON)] {
        if text.len() > most {
            violations.add(field, format!("must be at most {most} bytes, got {}", text.len()));
        }
    }
    if reason_needed && reason.is_empty() {
        violations.add("reason", "must be given");
    }
    violations.finish()?;
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let operation = operation(given(actor), source, given(reason), &selection);
    Ok((selection, operation))
}

fn operate_failed(error: &OperateError) -> Status {
    match error {
        OperateError::Store(error) => status::store(error),
        OperateError::Status(_) | OperateError::TooMany(_) => Status::invalid_argument(error.to_string()),
    }
}

fn check_failed(error: &CheckError) -> Status {
    status::operator(error.is_unavailable(), error.to_string())
}

fn warmup_failed(error: &WarmupError) -> Status {
    match error {
        WarmupError::Busy => status::busy(error.to_string()),
        other => status::operator(other.is_unavailable(), other.to_string()),
    }
}
