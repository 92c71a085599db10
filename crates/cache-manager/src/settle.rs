//! `settle.lua`: one call per shard after each commit.

use crate::fill::{unconfirmed_secs, unknown_secs};
use crate::keys::Keys;
use crate::meaning::shard_error;
use crate::routes::Routes;
use crate::script::Script;
use deadpool_redis::redis::cmd;
use domain::cache::{CacheResult, CacheRules, CommitNumber, SettleReport, SettledResource, Settlement, ToldCommit};
use domain::{Pair, PairState, ShardId, Version};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

pub(crate) struct Settle {
    script: Script,
}

#[derive(Default)]
struct Part<'a> {
    resources: Vec<&'a SettledResource>,
    pairs: Vec<(Pair, PairState)>,
}

impl Settle {
    pub(crate) fn new() -> Self {
        Self { script: Script::new(include_str!("scripts/settle.lua")) }
    }

    pub(crate) async fn run(
        &self,
        routes: &Arc<Routes>,
        keys: &Keys,
        rules: &CacheRules,
        settlement: &Settlement,
    ) -> CacheResult<SettleReport> {
        let mut parts: BTreeMap<ShardId, Part<'_>> = BTreeMap::new();
        for resource in &settlement.resources {
            parts.entry(rules.shards.of(resource.resource)).or_default().resources.push(resource);
        }
        for (pair, state) in &settlement.pairs {
            parts.entry(rules.shards.of(pair.resource)).or_default().pairs.push((*pair, *state));
        }
        // One shard that knows the commit is enough.
        let mut commit = settlement.commit;
        let calls = parts.iter().map(|(shard, part)| self.run_shard(routes, keys, rules, *shard, part, commit.take()));
        let mut total = SettleReport::default();
        let mut failure = None;
        // Every shard is tried, whatever became of the others: settling is harmless to repeat.
        for result in futures::future::join_all(calls).await {
            match result {
                Ok(report) => total += report,
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(total), Err)
    }

    async fn run_shard(
        &self,
        routes: &Arc<Routes>,
        keys: &Keys,
        rules: &CacheRules,
        shard: ShardId,
        part: &Part<'_>,
        commit: Option<CommitNumber>,
    ) -> CacheResult<SettleReport> {
        let mut call = self.script.call(3 + part.resources.len() + part.pairs.len());
        call.arg(keys.journal(shard)).arg(keys.clock(shard)).arg(keys.writers(shard));
        for settled in &part.resources {
            call.arg(keys.counter(settled.resource));
        }
        for (pair, _) in &part.pairs {
            call.arg(keys.pair(*pair));
        }
        call.arg(part.resources.len())
            .arg(part.pairs.len())
            .arg(rules.counter_ttl.as_secs().max(1))
            .arg(unconfirmed_secs(rules.counter_ttl))
            .arg(rules.pair_ttl.as_secs().max(1))
            .arg(unknown_secs(rules, rules.counter_ttl.min(rules.pair_ttl)));
        let (lane, number) = commit.map_or((String::new(), 0), |commit| {
            (format!("{}:{}", commit.writer.simple(), commit.lane), commit.number)
        });
        call.arg(lane).arg(number);
        for settled in &part.resources {
            let (revision, count, last_version) = settled
                .stored
                .map_or((-1, 0, 0), |stored| (stored.revision, stored.count, stored.last_version.if_possible().0));
            call.arg(settled.entries.len()).arg(revision).arg(count).arg(last_version);
            for version in &settled.entries {
                call.arg(version.0);
            }
        }
        for (_, state) in &part.pairs {
            call.arg(encode_state(*state));
        }
        // Shards are settled side by side: those before this one are on their way, those after it are not.
        fail::fail_point!("settle.shard");
        let (removed, corrections, refreshed): (u64, u64, u64) =
            // Not on the connection of likes: they would wait behind it.
            self.script.run_in_bulk(routes, routes.slot(shard), &call).await.map_err(|error| shard_error(error, keys, shard))?;
        Ok(SettleReport { removed, corrections, refreshed })
    }
}

/// The last commit of every lane that the shards remember.
pub(crate) async fn commits(routes: &Arc<Routes>, keys: &Keys, rules: &CacheRules) -> CacheResult<Vec<ToldCommit>> {
    let calls = rules.shards.all().map(|shard| async move {
        let mut call = cmd("HGETALL");
        call.arg(keys.writers(shard));
        let told = routes.ask::<BTreeMap<String, String>>(routes.slot(shard), &call).await;
        told.map_err(|error| shard_error(error, keys, shard))
    });
    let replies = futures::future::try_join_all(calls).await?;
    let mut newest: BTreeMap<(Uuid, u32), ToldCommit> = BTreeMap::new();
    // What somebody else wrote there is none.
    for told in replies.iter().flatten().filter_map(|(lane, last)| told(lane, last)) {
        let held = newest.entry((told.commit.writer, told.commit.lane)).or_insert(told);
        if held.commit.number < told.commit.number {
            *held = told;
        }
    }
    Ok(newest.into_values().collect())
}

fn told(lane: &str, last: &str) -> Option<ToldCommit> {
    let (writer, lane) = lane.split_once(':')?;
    let (number, seconds) = last.split_once(':')?;
    let commit =
        CommitNumber { writer: Uuid::try_parse(writer).ok()?, lane: lane.parse().ok()?, number: number.parse().ok()? };
    Some(ToldCommit { commit, at: Version(seconds.parse::<i64>().ok()?.checked_mul(1_000_000)?) })
}

/// A pair's state as one integer that orders like the state does. A version that cannot be one is the oldest.
pub(crate) fn encode_state(state: PairState) -> i64 {
    state.version.if_possible().0 * 2 + i64::from(state.liked)
}

/// The state of a cached pair; the sign only tells whether it was accepted here or seen in the database.
pub(crate) fn decode_state(value: i64) -> PairState {
    let value = value.abs();
    PairState { liked: value & 1 == 1, version: domain::Version(value >> 1) }
}
