//! `accept.lua`: one call per shard, one round trip.

mod codec;

use crate::combine::AskShard;
use crate::connection::Connections;
use crate::fill::unconfirmed_secs;
use crate::keys::Keys;
use crate::mark::Marks;
use crate::meaning::cache_error;
use crate::script::Script;
use codec::*;
use deadpool_redis::redis::{Cmd, RedisError};
use domain::cache::{AcceptOutcome, AcceptRequest, Answer, CacheError, CacheResult, CacheRules, MissingCount};
use domain::{PairState, ShardId, Version};
use planted_bugs::is_planted;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

pub use codec::accept_script;
pub(crate) use codec::first_answer;

pub(crate) struct Accept {
    connections: Arc<Connections>,
    script: Script,
    marks: Arc<Marks>,

    keys: Keys,
    rules: CacheRules,
}

impl Accept {
    pub(crate) fn new(connections: Arc<Connections>, marks: Arc<Marks>, keys: Keys, rules: CacheRules) -> Self {
        Self { connections, script: Script::new(accept_code()), marks, keys, rules }
    }

    /// Accepts a batch: one call per shard it touches.
    pub(crate) async fn run(&self, requests: &[AcceptRequest]) -> Vec<CacheResult<AcceptOutcome>> {
        let began = Instant::now();
        let mut by_shard: BTreeMap<ShardId, Vec<usize>> = BTreeMap::new();
        for (index, request) in requests.iter().enumerate() {
            by_shard.entry(self.rules.shards.of(request.intent.pair.resource)).or_default().push(index);
        }
        let calls = by_shard.into_iter().map(|(shard, indexes)| async move {
            let group: Vec<&AcceptRequest> = indexes.iter().map(|index| &requests[*index]).collect();
            (self.ask_shard(shard, &group, began).await, indexes)
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

    /// Asks once.
    async fn ask(&self, shard: ShardId, requests: &[&AcceptRequest], began: Instant) -> Vec<CacheResult<Reply>> {
        match self.send(shard, requests, began).await {
            Ok((numbers, own)) if numbers.len() == 1 + requests.len() * 3 => {
                let items = numbers[1..].chunks_exact(3);
                let highest = items.clone().map(|item| item[2]).max().unwrap_or(0);
                self.connections.shared.answered(Version(highest));
                // Only what the script gave to this call: other versions may be given to others.
                let given = items.clone().filter(|item| matches!(item[0], ACCEPTED | RESERVED)).map(|item| item[2]);
                self.marks.answered(shard, Version(given.max().unwrap_or(0)));
                if numbers[0] != 0 {
                    went_back(shard);
                }
                items.zip(own).map(|(item, own)| reply(item[0], item[1], item[2], own)).collect()
            }
            Ok(_) => vec![Err(wrong_reply()); requests.len()],
            Err(error) => vec![Err(cache_error(error)); requests.len()],
        }
    }

    /// The reply, and which of the items had a deadline of their own, earlier than that of the call.
    async fn send(
        &self,
        shard: ShardId,
        requests: &[&AcceptRequest],
        began: Instant,
    ) -> Result<(Vec<i64>, Vec<bool>), RedisError> {
        let shared = &self.connections.shared;
        let deadline = shared.deadline(began).await?;
        let mut own = Vec::with_capacity(requests.len());
        for request in requests {
            let until = shared.redis_time(request.until.into());
            own.push((!is_planted("expired_asked_afresh") && until < deadline).then_some(until));
        }
        let server = shared.server().await?;
        let call = self.build(shard, requests, deadline, &own, &server.run);
        let numbers = self.script.run_at(shared.way(), &server, &call).await?;
        Ok((numbers, own.into_iter().map(|own| own.is_some()).collect()))
    }

    fn build(
        &self,
        shard: ShardId,
        requests: &[&AcceptRequest],
        deadline: Version,
        own: &[Option<Version>],
        run: &str,
    ) -> Cmd {
        let Self { keys, rules, .. } = self;
        let options: Vec<u32> = requests
            .iter()
            .zip(own)
            .map(|(request, own)| options(request, rules) | if own.is_some() { OWN_DEADLINE } else { 0 })
            .collect();
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
            .arg(deadline.0)
            .arg(self.connections.shared.ceiling().0)
            .arg(self.marks.field())
            .arg(self.marks.floor(shard).0)
            .arg(run)
            .arg(self.connections.shared.carried().0);
        for ((request, options), own) in requests.iter().zip(&options).zip(own) {
            match request.reserve {
                Some(above) => call.arg(*options).arg(above.0),
                None => call.arg(*options).arg(&request.payload[..]),
            };
            if let MissingCount::Fill(stored) = request.missing {
                call.arg(stored.count).arg(stored.revision).arg(stored.last_version.0);
            }
            if let Some(own) = own {
                call.arg(own.0);
            }
        }
        call
    }
}

impl AskShard for Accept {
    async fn ask_shard(
        &self,
        shard: ShardId,
        requests: &[&AcceptRequest],
        began: Instant,
    ) -> Vec<CacheResult<AcceptOutcome>> {
        let outcomes = self.ask(shard, requests, began).await;
        let asked_again: Vec<usize> =
            (0..outcomes.len()).filter(|i| matches!(outcomes[*i], Ok(Reply::TooLate))).collect();
        let mut outcomes: Vec<CacheResult<AcceptOutcome>> = outcomes.into_iter().map(conclude).collect();
        if asked_again.is_empty() {
            return outcomes;
        }
        // Redis answers, so it is alive: either the call was stuck on its way, or our idea of its clock is old. Nothing was
        // written. Measure the clock anew and ask once more, as far as the callers' own deadlines allow it.
        metrics::counter!("cache_calls_repeated_total").increment(asked_again.len() as u64);
        let again: Vec<&AcceptRequest> = asked_again.iter().map(|i| requests[*i]).collect();
        let answers = match self.connections.shared.measure_clock().await {
            Ok(()) => self.ask(shard, &again, Instant::now()).await,
            Err(error) => vec![Err(cache_error(error)); again.len()],
        };
        for (i, answer) in asked_again.into_iter().zip(answers) {
            outcomes[i] = conclude(answer);
        }
        outcomes
    }
}

/// The script says so once: it has taken the caller's mark for its own then.
fn went_back(shard: ShardId) {
    metrics::counter!("cache_steps_back_total").increment(1);
    tracing::warn!(%shard, "redis went back in time: it has forgotten what it answered");
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

/// What one item came to.
#[derive(Clone, Copy)]
enum Reply {
    Outcome(AcceptOutcome),
    /// The call's patience was over, not the item's own time.
    TooLate,
}

fn reply(code: i64, count: i64, version: i64, own_deadline: bool) -> CacheResult<Reply> {
    let answer = Answer { count: (count >= 0).then_some(count), version: Version(version) };
    Ok(Reply::Outcome(match code {
        ACCEPTED => AcceptOutcome::Accepted(answer),
        UNCHANGED => AcceptOutcome::Unchanged(answer),
        REPEATED_ACCEPTED => AcceptOutcome::Repeated { answer, changed: true },
        REPEATED_UNCHANGED => AcceptOutcome::Repeated { answer, changed: false },
        COUNT_MISSING => AcceptOutcome::CountMissing,
        OVERLOADED => AcceptOutcome::Overloaded,
        RATE_LIMITED => AcceptOutcome::RateLimited { retry_after: Duration::from_millis(count.unsigned_abs()) },
        RESERVED => {
            let state = PairState { liked: count % 2 == 1, version: Version(count / 2) };
            AcceptOutcome::Reserved { version: Version(version), held: (count > 0).then_some(state) }
        }
        KEY_REUSED => AcceptOutcome::KeyReused,
        EXPIRED if own_deadline => AcceptOutcome::Expired,
        EXPIRED => return Ok(Reply::TooLate),
        _ => return Err(wrong_reply()),
    }))
}

fn conclude(reply: CacheResult<Reply>) -> CacheResult<AcceptOutcome> {
    match reply? {
        Reply::Outcome(outcome) => Ok(outcome),
        Reply::TooLate => Err(CacheError::Unavailable(Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(
            "the call reached redis too late",
        )))),
    }
}

/// Something stands there that is no script of ours.
fn wrong_reply() -> CacheError {
    CacheError::Unavailable(Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(
        "accept.lua: reply of unexpected shape",
    )))
}
