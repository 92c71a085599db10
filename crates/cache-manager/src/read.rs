//! Plain reads: counters and pairs as cached. Many of them are asked for in pieces, between which others get their turn.

use crate::connection::{CHUNK, FEW};
use crate::keys::Keys;
use crate::meaning::{Meaning, cache_error, meaning};
use crate::routes::{Routes, Way};
use crate::settle::decode_state;
use crate::slots::Slot;
use deadpool_redis::redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Value, cmd, from_redis_value};
use domain::cache::{CacheResult, CacheRules, CachedCount};
use domain::{Pair, PairState, Resource, ShardId, Version};
use std::sync::Arc;

type CounterFields = (Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>);

pub(crate) async fn counts(
    routes: &Arc<Routes>,
    keys: &Keys,
    rules: &CacheRules,
    resources: &[Resource],
) -> CacheResult<Vec<Option<CachedCount>>> {
    of_counters(routes, keys, rules, resources, ("HMGET", &["n", "p", "v", "dn", "dr"]), count).await
}

/// Only what readers get.
pub(crate) async fn served_counts(
    routes: &Arc<Routes>,
    keys: &Keys,
    rules: &CacheRules,
    resources: &[Resource],
) -> CacheResult<Vec<Option<i64>>> {
    of_counters(routes, keys, rules, resources, ("HGET", &["n"]), served).await
}

/// These fields of each counter.
async fn of_counters<T>(
    routes: &Arc<Routes>,
    keys: &Keys,
    rules: &CacheRules,
    resources: &[Resource],
    (name, fields): (&str, &[&str]),
    read: fn(RedisResult<Value>) -> RedisResult<Option<T>>,
) -> CacheResult<Vec<Option<T>>> {
    let mut key = String::new();
    let mut command = |resource: &Resource| {
        keys.write_counter(&mut key, *resource);
        let mut command = Cmd::with_capacity(2 + fields.len(), name.len() + key.len() + 2 * fields.len());
        command.arg(name).arg(&key).arg(fields);
        command
    };
    if routes.is_cluster() {
        let calls = resources.iter().map(|resource| (rules.shards.of(*resource), command(resource)));
        return one_by_one(routes, calls.collect(), read).await;
    }
    let only = routes.only().await.map_err(cache_error)?;
    let mut counts = Vec::with_capacity(resources.len());
    for some in resources.chunks(CHUNK) {
        let mut calls = Pipeline::with_capacity(some.len());
        calls.ignore_errors();
        for resource in some {
            calls.add_command(command(resource));
        }
        let (way, _turn) = only.way_of_read(resources.len(), some.len()).await;
        let answers: Vec<RedisResult<Value>> = way.query_all(&calls).await.map_err(cache_error)?;
        for answer in answers {
            counts.push(read(answer).map_err(|error| cache_error(way.of_one_command(error)))?);
        }
    }
    Ok(counts)
}

/// One key each, each to where it is.
async fn one_by_one<T>(
    routes: &Arc<Routes>,
    calls: Vec<(ShardId, Cmd)>,
    read: fn(RedisResult<Value>) -> RedisResult<Option<T>>,
) -> CacheResult<Vec<Option<T>>> {
    let all = calls.len();
    let mut answers = Vec::with_capacity(all);
    for some in calls.chunks(CHUNK) {
        // Nobody closes it.
        let _turn = if all > FEW { routes.turns.acquire().await.ok() } else { None };
        let asked = some.iter().map(|(shard, command)| {
            let ask =
                move |to: Way| async move { read(to.connections.way_of_key(all).query(command, to.asking).await) };
            routes.follow(routes.slot(*shard), ask)
        });
        answers.extend(futures::future::try_join_all(asked).await.map_err(cache_error)?);
    }
    Ok(answers)
}

fn count(answer: RedisResult<Value>) -> RedisResult<Option<CachedCount>> {
    match answer.and_then(|value| from_redis_value::<CounterFields>(value).map_err(Into::into)) {
        Ok(fields) => Ok(cached(fields)),
        Err(error) => somebody_elses(error),
    }
}

/// What is no number is somebody else's.
fn served(answer: RedisResult<Value>) -> RedisResult<Option<i64>> {
    match answer {
        Ok(Value::BulkString(value)) => Ok(number(&value)),
        Ok(_) => Ok(None),
        Err(error) => somebody_elses(error),
    }
}

fn state(answer: RedisResult<Value>) -> RedisResult<Option<PairState>> {
    match answer.and_then(|value| from_redis_value::<Option<Vec<u8>>>(value).map_err(Into::into)) {
        Ok(value) => Ok(value.as_deref().and_then(number).map(decode_state)),
        Err(error) => somebody_elses(error),
    }
}

/// Somebody else's value under this key: as if it were not cached. Whoever fills it puts it right.
fn somebody_elses<T>(error: RedisError) -> RedisResult<Option<T>> {
    let is_one = matches!(error.kind(), ErrorKind::Parse | ErrorKind::UnexpectedReturnType);
    if is_one || meaning(&error) == Meaning::Key { Ok(None) } else { Err(error) }
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
    routes: &Arc<Routes>,
    keys: &Keys,
    rules: &CacheRules,
    pairs: &[Pair],
) -> CacheResult<Vec<Option<PairState>>> {
    if routes.is_cluster() {
        let get = |pair: &Pair| {
            let mut get = cmd("GET");
            get.arg(keys.pair(*pair));
            (rules.shards.of(pair.resource), get)
        };
        return one_by_one(routes, pairs.iter().map(get).collect(), state).await;
    }
    let only = routes.only().await.map_err(cache_error)?;
    let mut states = Vec::with_capacity(pairs.len());
    for some in pairs.chunks(CHUNK) {
        let mut call = cmd("MGET");
        for pair in some {
            call.arg(keys.pair(*pair));
        }
        let (way, _turn) = only.way_of_read(pairs.len(), some.len()).await;
        let values: Vec<Option<Vec<u8>>> = way.query(&call, false).await.map_err(cache_error)?;
        states.extend(values.into_iter().map(|value| value.as_deref().and_then(number).map(decode_state)));
    }
    Ok(states)
}

/// Where a scan goes on: the server's own cursor, and above it whose that is. In a cluster: which of the primaries, and of which
/// set of them; else the run of the server.
const OWN_CURSOR_BITS: u32 = 48;
const OWN_CURSOR: u64 = (1 << OWN_CURSOR_BITS) - 1;

pub(crate) async fn cached_pairs(
    routes: &Arc<Routes>,
    keys: &Keys,
    cursor: u64,
    about: u32,
) -> CacheResult<(Vec<Pair>, u64)> {
    let (names, next) = scan(routes, &keys.any_pair(), cursor, about).await?;
    let pair = |name: &Vec<u8>| keys.pair_of(std::str::from_utf8(name).ok()?);
    Ok((names.iter().filter_map(pair).collect(), next))
}

/// Pairs under names of a former number of shards, as they were then. No walk is begun where there was none.
pub(crate) async fn pairs_of_before(
    routes: &Arc<Routes>,
    keys: &Keys,
    rules: &CacheRules,
    cursor: u64,
    about: u32,
) -> CacheResult<(Vec<(Pair, PairState)>, u64)> {
    if rules.shards.epoch() == 0 {
        return Ok((Vec::new(), 0));
    }
    let (names, next) = scan(routes, &keys.any_pair(), cursor, about).await?;
    let former = names.iter().filter_map(|name| std::str::from_utf8(name).ok());
    let former: Vec<(&str, Pair)> = former.filter_map(|name| Some((name, keys.pair_of_before(name)?))).collect();
    let mut pairs = Vec::with_capacity(former.len());
    for some in former.chunks(CHUNK) {
        let asked = some.iter().map(|(name, pair)| async move {
            let mut get = cmd("GET");
            get.arg(name);
            let value = state(routes.ask(routes.slot_of(name), &get).await);
            value.map(|state| state.map(|state| (*pair, state)))
        });
        pairs.extend(futures::future::try_join_all(asked).await.map_err(cache_error)?.into_iter().flatten());
    }
    Ok((pairs, next))
}

/// Looks at about so many keys for those with this pattern, and where to go on: 0 is beginning and end.
pub(crate) async fn scan(
    routes: &Arc<Routes>,
    pattern: &str,
    cursor: u64,
    about: u32,
) -> CacheResult<(Vec<Vec<u8>>, u64)> {
    let (version, primaries) = routes.in_order().await?;
    let scan = |cursor: u64| {
        let mut call = cmd("SCAN");
        call.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(about);
        call
    };
    if !routes.is_cluster() {
        let only = routes.only().await.map_err(cache_error)?;
        let _turn = only.turn().await;
        let server = only.bulk.server().await.map_err(cache_error)?;
        // Another server, or another start of this one, has its keys in another order: then all are looked at once more.
        let run = u64::from(Slot::of(&server.run).0) << OWN_CURSOR_BITS;
        let own = if cursor & !OWN_CURSOR == run { cursor & OWN_CURSOR } else { 0 };
        let (next, names): (u64, Vec<Vec<u8>>) = only.bulk.ask(&server, &scan(own)).await.map_err(cache_error)?;
        return Ok((names, if next == 0 { 0 } else { run | next & OWN_CURSOR }));
    }
    let of = |at: usize, own: u64| (u64::from(version) << 8 | at as u64) << OWN_CURSOR_BITS | own;
    let (seen, at) = (cursor >> (OWN_CURSOR_BITS + 8), (cursor >> OWN_CURSOR_BITS & 0xff) as usize);
    // Keys may have gone to a node that was passed over already: then all are looked at once more.
    let (at, own) = if seen == u64::from(version) { (at, cursor & OWN_CURSOR) } else { (0, 0) };
    let Some(primary) = primaries.get(at) else { return Ok((Vec::new(), 0)) };
    let (next, names): (u64, Vec<Vec<u8>>) = primary.run(&scan(own)).await?;
    let next = match next {
        0 if at + 1 < primaries.len().min(0x100) => of(at + 1, 0),
        0 => 0,
        next => of(at, next & OWN_CURSOR),
    };
    Ok((names, next))
}

/// None for what is no number: somebody else's value.
fn number(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}
