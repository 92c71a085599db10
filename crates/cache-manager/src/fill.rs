//! `fill_counts.lua` and `fill_states.lua`: what the database said, for keys that are not cached.

use crate::connection::CHUNK;
use crate::keys::Keys;
use crate::meaning::{cache_error, shard_error};
use crate::routes::Routes;
use crate::script::Script;
use crate::settle::encode_state;
use domain::cache::{CacheResult, CacheRules, UNCONFIRMED_TTL};
use domain::{Pair, PairState, Resource, ShardId, StoredCount};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Fill {
    counts: Script,
    states: Script,
}

impl Fill {
    pub(crate) fn new() -> Self {
        Self {
            counts: Script::new(include_str!("scripts/fill_counts.lua")),
            states: Script::new(include_str!("scripts/fill_states.lua")),
        }
    }

    pub(crate) async fn counts(
        &self,
        routes: &Arc<Routes>,
        keys: &Keys,
        rules: &CacheRules,
        counts: &[(Resource, StoredCount)],
    ) -> CacheResult<()> {
        fail::fail_point!("cache.filling");
        let groups = by_shard(counts, |(resource, _)| rules.shards.of(*resource));
        let pieces = groups.iter().flat_map(|(shard, group)| group.chunks(CHUNK).map(move |piece| (shard, piece)));
        let calls = pieces.map(|(shard, group)| async move {
            let mut call = self.counts.call(1 + group.len());
            call.arg(keys.clock(*shard));
            for (resource, _) in group {
                call.arg(keys.counter(*resource));
            }
            call.arg(unconfirmed_secs(rules.counter_ttl))
                .arg(unknown_secs(rules, rules.counter_ttl.min(UNCONFIRMED_TTL)));
            for (_, stored) in group {
                call.arg(stored.count).arg(stored.revision).arg(stored.last_version.if_possible().0);
            }
            let filled = self.counts.run_in_turn::<i64>(routes, routes.slot(*shard), &call).await;
            filled.map_err(|error| shard_error(error, keys, *shard))
        });
        futures::future::try_join_all(calls).await.map(drop)
    }

    pub(crate) async fn states(
        &self,
        routes: &Arc<Routes>,
        keys: &Keys,
        rules: &CacheRules,
        states: &[(Pair, PairState)],
    ) -> CacheResult<()> {
        let groups = by_shard(states, |(pair, _)| rules.shards.of(pair.resource));
        let pieces = groups.iter().flat_map(|(shard, group)| group.chunks(CHUNK).map(move |piece| (shard, piece)));
        let calls = pieces.map(|(shard, group)| async move {
            let mut call = self.states.call(group.len());
            for (pair, _) in group {
                call.arg(keys.pair(*pair));
            }
            call.arg(unconfirmed_secs(rules.pair_ttl)).arg(unknown_secs(rules, rules.pair_ttl.min(UNCONFIRMED_TTL)));
            for (_, state) in group {
                call.arg(encode_state(*state));
            }
            self.states.run_in_turn::<i64>(routes, routes.slot(*shard), &call).await
        });
        futures::future::try_join_all(calls).await.map(drop).map_err(cache_error)
    }
}

/// Lifetime in seconds of something unconfirmed that otherwise lives for `ttl`.
pub(crate) fn unconfirmed_secs(ttl: Duration) -> u64 {
    ttl.min(UNCONFIRMED_TTL).as_secs().max(1)
}

/// Lifetime in seconds of something that the database does not know and that otherwise lives for `ttl`.
pub(crate) fn unknown_secs(rules: &CacheRules, ttl: Duration) -> u64 {
    ttl.min(rules.unknown_ttl).as_secs().max(1)
}

pub(crate) fn by_shard<T>(items: &[T], shard_of: impl Fn(&T) -> ShardId) -> BTreeMap<ShardId, Vec<&T>> {
    let mut groups: BTreeMap<ShardId, Vec<&T>> = BTreeMap::new();
    for item in items {
        groups.entry(shard_of(item)).or_default().push(item);
    }
    groups
}
