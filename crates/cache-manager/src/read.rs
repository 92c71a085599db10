//! Plain reads: counters and pairs as cached. Many of them are asked for in pieces, between which others get their turn.

use crate::connection::{CHUNK, Connections};
use crate::keys::Keys;
use crate::meaning::{Meaning, cache_error, meaning};
use crate::settle::decode_state;
use deadpool_redis::redis::{ErrorKind, RedisResult, Value, cmd, from_redis_value, pipe};
use domain::cache::{CacheResult, CachedCount};
use domain::{Pair, PairState, Resource, Version};

type CounterFields = (Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>);

pub(crate) async fn counts(
    connections: &Connections,
    keys: &Keys,
    resources: &[Resource],
) -> CacheResult<Vec<Option<CachedCount>>> {
    let mut counts = Vec::with_capacity(resources.len());
    for some in resources.chunks(CHUNK) {
        let mut calls = pipe();
        calls.ignore_errors();
        for resource in some {
            calls.cmd("HMGET").arg(keys.counter(*resource)).arg(&["n", "p", "v", "dn", "dr"]);
        }
        let (way, _turn) = connections.way_of_read(resources.len()).await;
        let answers: Vec<RedisResult<Value>> = way.query_all(&calls).await.map_err(cache_error)?;
        for answer in answers {
            let fields = answer.and_then(|value| from_redis_value::<CounterFields>(value).map_err(Into::into));
            counts.push(match fields {
                Ok(fields) => cached(fields),
                // Somebody else's value under this key: as if it were not cached. Whoever fills it puts it right.
                Err(error)
                    if meaning(&error) == Meaning::Key
                        || matches!(error.kind(), ErrorKind::Parse | ErrorKind::UnexpectedReturnType) =>
                {
                    None
                }
                Err(error) => return Err(way.of_one_command(error)),
            });
        }
    }
    Ok(counts)
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
    let mut states = Vec::with_capacity(pairs.len());
    for some in pairs.chunks(CHUNK) {
        let mut call = cmd("MGET");
        for pair in some {
            call.arg(keys.pair(*pair));
        }
        let (way, _turn) = connections.way_of_read(pairs.len()).await;
        let values: Vec<Option<Vec<u8>>> = way.query(&call).await.map_err(cache_error)?;
        states.extend(values.into_iter().map(|value| value.as_deref().and_then(number).map(decode_state)));
    }
    Ok(states)
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
