//! `GetCacheStats`, `GET /cache/stats`: every shard's accounting, and what reads of this process found.

use super::Admin;
use super::consistency_report::trouble;
use crate::status::{self, HttpError};
use axum::Json;
use axum::extract::State;
use domain::cache::ShardStatus;
use interaction_proto::v1;
use serde::Serialize;
use std::time::Instant;
use sync_engine::clock::wall_clock;
use sync_engine::read::CacheUse;
use sync_engine::stores::standing::troubles;
use tonic::Status;
use utoipa::ToSchema;

/// The answer by HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CacheStats {
    /// False while the cache is unreachable: then there are no shards.
    pub available: bool,
    /// Unsettled entries of all shards.
    pub pending: u64,
    /// Milliseconds since the oldest of them was accepted.
    #[schema(required)]
    pub oldest_age_ms: Option<u64>,
    /// What reads of this process found.
    pub reads: Reads,
    /// Part of the reads that the cache answered, 0 to 1; none if nothing was read.
    #[schema(required)]
    pub hit_rate: Option<f64>,
    /// Every shard's accounting.
    #[schema(value_type = Vec<Object>)]
    pub shards: Vec<ShardStatus>,
}

/// How counts and states were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reads {
    /// In the cache.
    pub hits: u64,
    /// In the database, and cached then.
    pub misses: u64,
    /// In the database, the cache being unreachable.
    pub without_cache: u64,
}

impl From<CacheUse> for Reads {
    fn from(CacheUse { hits, misses, without_cache }: CacheUse) -> Self {
        Self { hits, misses, without_cache }
    }
}

/// The journals' accounting and what reads found.
pub(super) async fn call(admin: &Admin) -> Result<CacheStats, Status> {
    let status =
        if admin.stores.cache_circuit.is_open() { None } else { Some(admin.stores.cache.shard_status().await) };
    let (available, shards) = match status {
        None => (false, Vec::new()),
        Some(Ok(shards)) => (true, shards),
        Some(Err(error)) if error.is_unavailable() => (false, Vec::new()),
        Some(Err(error)) => return Err(status::stores(false, "the cache", &error)),
    };
    let reads = Reads::from(admin.reader.cache_use());
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

fn oldest_age_ms(shard: &ShardStatus) -> Option<u64> {
    shard.oldest_age().map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}

pub(super) async fn grpc(admin: &Admin) -> Result<v1::GetCacheStatsResponse, Status> {
    let stats = call(admin).await?;
    let figures = admin.stores.standings.latest(Instant::now(), wall_clock());
    Ok(v1::GetCacheStatsResponse { troubles: troubles(&figures).into_iter().map(trouble).collect(), ..answer(&stats) })
}

/// Every shard's accounting, and what reads of this process found.
#[utoipa::path(get, path = "/cache/stats", operation_id = "cacheStats",
    responses((status = 200, description = "Accounting.", body = CacheStats)))]
pub(super) async fn http(State(admin): State<Admin>) -> Result<Json<CacheStats>, HttpError> {
    Ok(Json(call(&admin).await?))
}

fn answer(stats: &CacheStats) -> v1::GetCacheStatsResponse {
    let accounting = |shard| {
        let oldest_age_ms = oldest_age_ms(shard).map(|age| i64::try_from(age).unwrap_or(i64::MAX));
        v1::ShardAccounting {
            shard: shard.shard.0.into(),
            accepted: shard.accepted,
            settled: shard.settled,
            pending: shard.journal_len,
            oldest_age_ms,
        }
    };
    v1::GetCacheStatsResponse {
        available: stats.available,
        shards: stats.shards.iter().map(accounting).collect(),
        hits: stats.reads.hits,
        misses: stats.reads.misses,
        without_cache: stats.reads.without_cache,
        troubles: Vec::new(),
    }
}
