//! Plain reads: counters and pairs as cached.

use crate::config::cache_error;
use crate::connection::Connections;
use crate::keys::Keys;
use crate::settle::decode_state;
use deadpool_redis::redis::cmd;
use domain::cache::{CacheResult, CachedCount};
use domain::{Pair, PairState, Resource, Version};

type CounterFields = (Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>);

pub(crate) async fn counts(
    connections: &Connections,
    keys: &Keys,
    resources: &[Resource],
) -> CacheResult<Vec<Option<CachedCount>>> {
    let calls = resources.iter().map(|resource| async move {
        let mut call = cmd("HMGET");
        call.arg(keys.counter(*resource)).arg(&["n", "p", "v", "dn", "dr"]);
        let fields: CounterFields = connections.shared.query(&call).await?;
        Ok(cached(fields))
    });
    futures::future::try_join_all(calls).await.map_err(cache_error)
}

fn cached(fields: CounterFields) -> Option<CachedCount> {
    let (served, pending, version, stored, revision) = fields;
    Some(CachedCount {
        served: served?,
        pending: pending.unwrap_or(0),
        last_version: Version(version.unwrap_or(0)),
        stored: stored.unwrap_or(0),
        stored_revision: revision.unwrap_or(0),
    })
}

pub(crate) async fn states(
    connections: &Connections,
    keys: &Keys,
    pairs: &[Pair],
) -> CacheResult<Vec<Option<PairState>>> {
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let mut call = cmd("MGET");
    for pair in pairs {
        call.arg(keys.pair(*pair));
    }
    let values: Vec<Option<i64>> = connections.shared.query(&call).await.map_err(cache_error)?;
    Ok(values.into_iter().map(|value| value.map(decode_state)).collect())
}
