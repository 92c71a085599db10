//! Plain reads: counters and pairs as cached.

use crate::connection::Connections;
use crate::keys::Keys;
use crate::meaning::{Meaning, cache_error, meaning};
use crate::settle::decode_state;
use deadpool_redis::redis::{ErrorKind, cmd};
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
        match connections.shared.query::<CounterFields>(&call).await {
            Ok(fields) => Ok(cached(fields)),
            // Somebody else's value under this key: as if it were not cached. Whoever fills it puts it right.
            Err(error)
                if meaning(&error) == Meaning::Key
                    || matches!(error.kind(), ErrorKind::Parse | ErrorKind::UnexpectedReturnType) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
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
    let values: Vec<Option<Vec<u8>>> = connections.shared.query(&call).await.map_err(cache_error)?;
    Ok(values.into_iter().map(|value| value.as_deref().and_then(number).map(decode_state)).collect())
}

pub(crate) async fn cached_pairs(
    connections: &Connections,
    keys: &Keys,
    cursor: u64,
    about: u32,
) -> CacheResult<(Vec<Pair>, u64)> {
    let mut call = cmd("SCAN");
    call.arg(cursor).arg("MATCH").arg(keys.any_pair()).arg("COUNT").arg(about);
    let (next, names): (u64, Vec<Vec<u8>>) = connections.run(&call).await?;
    let pair = |name: &Vec<u8>| keys.pair_of(std::str::from_utf8(name).ok()?);
    Ok((names.iter().filter_map(pair).collect(), next))
}

/// None for what is no number: somebody else's value.
fn number(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}
