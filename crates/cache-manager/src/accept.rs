//! `accept.lua`: one call per shard, one round trip.

use crate::config::cache_error;
use crate::connection::Connections;
use crate::fill::unconfirmed_secs;
use crate::keys::Keys;
use crate::script::Script;
use deadpool_redis::redis::{Cmd, RedisError};
use domain::cache::{AcceptOutcome, AcceptRequest, Answer, CacheError, CacheResult, CacheRules, MissingCount};
use domain::{PairState, ShardId, Version};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const LIKE: u32 = 1;
const IDEMPOTENCY_KEY: u32 = 2;
const USER_LIMIT: u32 = 4;
const FILL: u32 = 8;
const WITHOUT_COUNT: u32 = 16;
const REWRITE: u32 = 32;
const RESERVE: u32 = 64;

/// Code of an item that came after its deadline; then all items of the call did.
const EXPIRED: i64 = 6;

pub(crate) struct Accept {
    connections: Arc<Connections>,
    script: Script,

    keys: Keys,
    rules: CacheRules,
}

impl Accept {
    pub(crate) fn new(connections: Arc<Connections>, keys: Keys, rules: CacheRules) -> Self {
        Self { connections, script: Script::new(include_str!("scripts/accept.lua")), keys, rules }
    }

    /// Accepts a batch: one call per shard it touches.
    pub(crate) async fn run(&self, requests: &[AcceptRequest]) -> Vec<CacheResult<AcceptOutcome>> {
        let since = Instant::now();
        let mut by_shard: BTreeMap<ShardId, Vec<usize>> = BTreeMap::new();
        for (index, request) in requests.iter().enumerate() {
            by_shard.entry(self.rules.shards.of(request.intent.pair.resource)).or_default().push(index);
        }
        let calls = by_shard.into_iter().map(|(shard, indexes)| async move {
            let group: Vec<&AcceptRequest> = indexes.iter().map(|index| &requests[*index]).collect();
            (self.run_shard(shard, &group, since).await, indexes)
        });
        // Concurrent calls on the shared connection leave in one write: the batch is one round trip.
        let mut outcomes: Vec<Option<CacheResult<AcceptOutcome>>> = vec![None; requests.len()];
        for (answers, indexes) in futures::future::join_all(calls).await {
            for (answer, index) in answers.into_iter().zip(indexes) {
                outcomes[index] = Some(answer);
            }
        }
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(wrong_reply()))).collect()
    }

    /// One call; the first of its callers has waited since `since`.
    pub(crate) async fn run_shard(
        &self,
        shard: ShardId,
        requests: &[&AcceptRequest],
        since: Instant,
    ) -> Vec<CacheResult<AcceptOutcome>> {
        let shared = &self.connections.shared;
        let mut reply = self.send(shard, requests, since).await;
        if let Ok(numbers) = &reply
            && numbers.first() == Some(&EXPIRED)
        {
            // Redis answers, so it is alive: either the call was stuck on its way, or our idea of its clock is old.
            // Nothing was written; measure the clock anew and ask once more.
            reply = match shared.measure_clock().await {
                Ok(_) => self.send(shard, requests, Instant::now()).await,
                Err(error) => Err(error),
            };
        }
        match reply {
            Ok(numbers) if numbers.len() == requests.len() * 3 => {
                let highest = numbers.chunks_exact(3).map(|item| item[2]).max().unwrap_or(0);
                shared.answered(Version(highest));
                numbers.chunks_exact(3).map(|item| outcome(item[0], item[1], item[2])).collect()
            }
            Ok(_) => vec![Err(wrong_reply()); requests.len()],
            Err(error) => vec![Err(cache_error(error)); requests.len()],
        }
    }

    async fn send(&self, shard: ShardId, requests: &[&AcceptRequest], since: Instant) -> Result<Vec<i64>, RedisError> {
        let deadline = self.connections.shared.deadline(since).await?;
        let call = self.build(shard, requests, deadline);
        self.script.run(&self.connections, &call).await
    }

    fn build(&self, shard: ShardId, requests: &[&AcceptRequest], deadline: Version) -> Cmd {
        let Self { keys, rules, .. } = self;
        let options: Vec<u32> = requests.iter().map(|request| options(request, rules)).collect();
        let extra: u32 =
            options.iter().map(|o| u32::from(o & IDEMPOTENCY_KEY != 0) + u32::from(o & USER_LIMIT != 0)).sum();
        let mut call = self.script.call(2 + 2 * requests.len() + extra as usize);
        call.arg(keys.journal(shard)).arg(keys.clock(shard));
        for (request, options) in requests.iter().zip(&options) {
            let pair = request.intent.pair;
            call.arg(keys.pair(pair)).arg(keys.counter(pair.resource));
            if options & IDEMPOTENCY_KEY != 0 {
                let key = request.intent.idempotency_key.as_deref().unwrap_or_default();
                call.arg(keys.idempotency(pair, key));
            }
            if options & USER_LIMIT != 0 {
                call.arg(keys.user_limit(pair.user));
            }
        }
        let (interval_us, period_us) = rules.user_limit.map_or((0, 0), |limit| {
            let period = limit.period.as_micros();
            (period / u128::from(limit.actions.max(1)), period)
        });
        call.arg(requests.len())
            .arg(rules.journal_limit)
            .arg(rules.pair_ttl.as_secs().max(1))
            .arg(unconfirmed_secs(rules.counter_ttl))
            .arg(rules.idempotency_ttl.as_secs().max(1))
            .arg(interval_us.to_string())
            .arg(period_us.to_string())
            .arg(deadline.0);
        for (request, options) in requests.iter().zip(&options) {
            match request.reserve {
                Some(above) => call.arg(*options).arg(above.0),
                None => call.arg(*options).arg(&request.payload[..]),
            };
            if let MissingCount::Fill(stored) = request.missing {
                call.arg(stored.count).arg(stored.revision).arg(stored.last_version.0);
            }
        }
        call
    }
}

fn options(request: &AcceptRequest, rules: &CacheRules) -> u32 {
    let mut options = if request.intent.action.liked() { LIKE } else { 0 };
    if request.intent.idempotency_key.is_some() {
        options |= IDEMPOTENCY_KEY;
    }
    if request.limited && rules.user_limit.is_some() {
        options |= USER_LIMIT;
    }
    if request.rewrite {
        options |= REWRITE;
    }
    if request.reserve.is_some() {
        options |= RESERVE;
    }
    options
        | match request.missing {
            MissingCount::Report => 0,
            MissingCount::Fill(_) => FILL,
            MissingCount::Without => WITHOUT_COUNT,
        }
}

fn outcome(code: i64, count: i64, version: i64) -> CacheResult<AcceptOutcome> {
    let answer = Answer { count: (count >= 0).then_some(count), version: Version(version) };
    match code {
        0 => Ok(AcceptOutcome::Accepted(answer)),
        1 => Ok(AcceptOutcome::Unchanged(answer)),
        2 => Ok(AcceptOutcome::Repeated { answer, changed: true }),
        7 => Ok(AcceptOutcome::Repeated { answer, changed: false }),
        3 => Ok(AcceptOutcome::CountMissing),
        4 => Ok(AcceptOutcome::Overloaded),
        5 => Ok(AcceptOutcome::RateLimited { retry_after: Duration::from_millis(count.unsigned_abs()) }),
        8 => {
            let state = PairState { liked: count % 2 == 1, version: Version(count / 2) };
            Ok(AcceptOutcome::Reserved { version: Version(version), held: (count > 0).then_some(state) })
        }
        EXPIRED => Err(CacheError::Unavailable(Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(
            "the call reached redis after its deadline",
        )))),
        _ => Err(wrong_reply()),
    }
}

fn wrong_reply() -> CacheError {
    CacheError::Rejected(Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(
        "accept.lua: reply of unexpected shape",
    )))
}
