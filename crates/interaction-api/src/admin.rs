//! `interaction.v1.SyncAdminService`, and the same for ops HTTP ([`routes`]).

mod routes;
mod wire;

use crate::convert::{self, Violations};
use crate::status;
use consistency::{CheckError, Checker, DEFAULT_HOURS, MAX_HOURS};
use domain::cache::{CacheError, ShardStatus};
use interaction_proto::v1;
use interaction_proto::v1::sync_admin_service_server::SyncAdminService;
use serde::Serialize;
use sync_engine::Stores;
use sync_engine::read::{CacheUse, Reader};
use sync_engine::warm::{MAX_RESOURCES, Warmer, WarmupError, WarmupPlan};
use tonic::{Request, Response, Status};

pub use routes::routes;

/// Most resources that one call may name.
pub const MAX_LISTED: usize = 5_000;

/// What operators ask of a server.
#[derive(Clone)]
pub struct Admin {
    stores: Stores,
    reader: Reader,
    warmer: Warmer,
    checker: Checker,
}

/// `GET /cache/stats`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CacheStats {
    /// False while the cache is away: then there are no shards.
    pub available: bool,
    /// Unsettled entries of all shards.
    pub pending: u64,
    /// Milliseconds since the oldest of them was accepted.
    pub oldest_age_ms: Option<u64>,
    /// What reads of this process found.
    pub reads: CacheUse,
    /// Part of the reads that the cache answered, 0 to 1; none if nothing was read.
    pub hit_rate: Option<f64>,
    /// Every shard's books.
    pub shards: Vec<ShardStatus>,
}

impl Admin {
    /// All parts of one server.
    pub fn new(stores: Stores, reader: Reader, warmer: Warmer, checker: Checker) -> Self {
        Self { stores, reader, warmer, checker }
    }

    /// The journals' books and what reads found.
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
