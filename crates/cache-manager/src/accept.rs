//! `accept.lua`: one call per shard, one round trip.

mod codec;

use crate::combine::{AskShard, Reply, Waits, ask_shard};
use crate::confirm::Confirm;
use crate::connection::Server;
use crate::fill::unconfirmed_secs;
use crate::keys::Keys;
use crate::mark::Marks;
use crate::meaning::{cache_error, shard_error};
use crate::routes::{Routes, Way};
use crate::script::{LOADS, Script, if_known};
use codec::*;
use deadpool_redis::redis::{Cmd, ErrorKind, RedisError};
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
    routes: Arc<Routes>,
    script: Script,
    marks: Arc<Marks>,

    keys: Keys,
    rules: CacheRules,
}

impl Accept {
    pub(crate) fn new(routes: Arc<Routes>, marks: Arc<Marks>, keys: Keys, rules: CacheRules) -> Self {
        Self { routes, script: Script::new(accept_code()), marks, keys, rules }
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
            // Its caller waits as long as this future is polled.
            (ask_shard(self, shard, &group, began, &|_| true).await, indexes)
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

    /// The answer about those of these requests whose callers still wait. An unknown script ran nothing: it is loaded, and
    /// they are asked about as if for the first time. So they are where another node of the cluster has the shard.
    async fn send(
        &self,
        shard: ShardId,
        requests: &[&AcceptRequest],
        began: Instant,
        waits: Waits<'_>,
    ) -> Result<Sent, RedisError> {
        // Well before its deadline, so that a slot that is on its way for longer lets the like go around the cache in time.
        let mut journey = self.routes.journey(self.routes.slot(shard), began + self.routes.patience / 2);
        let mut loads = 0;
        loop {
            let way = journey.way().await?;
            match self.send_there(&way, shard, requests, began, waits).await {
                Ok(Attempt::Answered(sent)) => return Ok(sent),
                Ok(Attempt::Left) => journey.again(way),
                Ok(Attempt::Unknown(server)) if loads < LOADS => {
                    self.script.load(way.connections.shared.way(), &server).await?;
                    loads += 1;
                    journey.again(way);
                }
                Ok(Attempt::Unknown(_)) => {
                    return Err(RedisError::from((ErrorKind::Client, "accept.lua is flushed again and again")));
                }
                Err(error) => journey.turned_away(error).await?,
            }
        }
    }

    async fn send_there(
        &self,
        way: &Way,
        shard: ShardId,
        requests: &[&AcceptRequest],
        began: Instant,
        waits: Waits<'_>,
    ) -> Result<Attempt, RedisError> {
        let shared = &way.connections.shared;
        let deadline = shared.deadline(began).await?;
        // Who only takes a version writes its word to the database, and is answered from there.
        let confirm = way.connections.confirm.as_ref();
        let confirm = confirm.filter(|_| requests.iter().any(|request| request.reserve.is_none()));
        // This may have to connect, or wait for a turn, so it is done before the look at the callers.
        let (server, seat) = match confirm {
            Some(confirm) => {
                let seat = confirm.seat().await?;
                shared.met(&seat.server);
                (Arc::clone(&seat.server), Some(seat))
            }
            None => (shared.server().await?, None),
        };
        let asked: Vec<usize> = (0..requests.len()).filter(|i| waits(*i)).collect();
        if asked.is_empty() {
            return Ok(Attempt::Answered(Sent::default()));
        }
        let requests: Vec<&AcceptRequest> = asked.iter().map(|i| requests[*i]).collect();
        let own: Vec<Option<Version>> = requests
            .iter()
            .map(|request| {
                let until = shared.redis_time(request.until.into());
                (!is_planted("expired_asked_afresh") && until < deadline).then_some(until)
            })
            .collect();
        let call = self.build(shard, &requests, deadline, &own, &server.run);
        let (reply, confirmed) = match seat {
            Some(seat) => {
                let until = requests.iter().map(|request| request.until.into()).max().unwrap_or(began);
                let Some(told) = seat.ask(shard, call, way.asking, until).await? else { return Ok(Attempt::Left) };
                (told.reply, told.confirmed)
            }
            None => (shared.way().ask_as(&server, &call, way.asking).await, true),
        };
        Ok(match if_known(reply)? {
            Some(numbers) => Attempt::Answered(Sent { asked, own, numbers, confirmed }),
            None => Attempt::Unknown(server),
        })
    }

    /// What was answered to callers goes on only if replicas have it, or the configuration says so.
    ///
    /// An "unchanged" and the answer of a key write nothing, and rely on a word of before, which may be as unconfirmed as this
    /// one: they wait as well. The others promise nothing that Redis could lose.
    fn look_at_replicas(&self, confirm: &Confirm, replies: &mut [CacheResult<Reply>], confirmed: bool) {
        let mut promises: Vec<(&mut CacheResult<Reply>, Option<Version>)> = Vec::new();
        for reply in replies {
            let written = match reply {
                Ok(Reply::Outcome(AcceptOutcome::Accepted(answer))) => Some(answer.version),
                Ok(Reply::Outcome(AcceptOutcome::Unchanged(_) | AcceptOutcome::Repeated { .. })) => None,
                _ => continue,
            };
            promises.push((reply, written));
        }
        if confirmed {
            metrics::counter!("interaction_cache_confirmations_total", "outcome" => "confirmed")
                .increment(promises.len() as u64);
        } else if !promises.is_empty() && !not_confirmed(confirm, promises.len()) {
            fail::fail_point!("accept.unconfirmed");
            for (reply, written) in promises {
                *reply = Ok(Reply::Outcome(AcceptOutcome::Unconfirmed { written }));
            }
        }
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
        let mut call = self.script.call(3 + 2 * requests.len() + extra as usize);
        call.arg(keys.journal(shard)).arg(keys.clock(shard)).arg(keys.deleted(shard));
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
            .arg(self.routes.common().ceiling().0)
            .arg(self.marks.field())
            .arg(self.marks.floor(shard).0)
            .arg(run)
            .arg(self.routes.carried().0);
        for ((request, options), own) in requests.iter().zip(&options).zip(own) {
            match request.reserve {
                Some(above) => call.arg(*options).arg(above.if_possible().0),
                None => call.arg(*options).arg(&request.payload[..]),
            };
            if let MissingCount::Fill(stored) = request.missing {
                call.arg(stored.count).arg(stored.revision).arg(stored.last_version.if_possible().0);
            }
            if let Some(own) = own {
                call.arg(own.0);
            }
        }
        call
    }
}

/// What became of a call where it was sent.
enum Attempt {
    Answered(Sent),
    /// Its group had left without it: nothing was sent.
    Left,
    /// The server does not know the script: nothing was run.
    Unknown(Arc<Server>),
}

/// What was asked, about which of the requests, and the reply.
#[derive(Default)]
struct Sent {
    asked: Vec<usize>,
    /// Deadlines of their own, where earlier than that of the call.
    own: Vec<Option<Version>>,
    numbers: Vec<i64>,
    /// As many replicas as are asked for have all that this says.
    confirmed: bool,
}

impl AskShard for Accept {
    async fn ask(
        &self,
        shard: ShardId,
        requests: &[&AcceptRequest],
        began: Instant,
        waits: Waits<'_>,
    ) -> Vec<CacheResult<Reply>> {
        let confirm = self.routes.confirm(shard);
        if let Some(confirm) = confirm.as_ref().filter(|confirm| confirm.refuses()) {
            // Nobody is there to confirm it: better not to begin.
            if requests.iter().all(|request| request.reserve.is_none()) {
                not_confirmed(confirm, requests.len());
                return vec![Ok(Reply::Outcome(AcceptOutcome::Unconfirmed { written: None })); requests.len()];
            }
        }
        let Sent { asked, own, numbers, confirmed } = match self.send(shard, requests, began, waits).await {
            Ok(sent) => sent,
            Err(error) => return vec![Err(shard_error(error, &self.keys, shard)); requests.len()],
        };
        let mut replies = vec![Ok(Reply::Outcome(AcceptOutcome::Expired)); requests.len()];
        if asked.is_empty() {
            return replies;
        }
        if numbers.len() != 1 + asked.len() * 3 {
            return vec![Err(wrong_reply()); requests.len()];
        }
        let items = numbers[1..].chunks_exact(3);
        let highest = items.clone().map(|item| item[2]).max().unwrap_or(0);
        self.routes.common().answered(shard, Version(highest));
        // Only what the script gave to this call: other versions may be given to others.
        let given = items.clone().filter(|item| matches!(item[0], ACCEPTED | RESERVED)).map(|item| item[2]);
        self.marks.answered(shard, Version(given.max().unwrap_or(0)));
        if numbers[0] != 0 {
            went_back(shard);
        }
        for ((i, item), own) in asked.into_iter().zip(items).zip(own) {
            replies[i] = reply(item[0], item[1], item[2], own.is_some());
        }
        if let Some(confirm) = &confirm {
            self.look_at_replicas(confirm, &mut replies, confirmed);
        }
        replies
    }

    async fn measure_clock(&self, shard: ShardId) -> CacheResult<()> {
        let slot = self.routes.slot(shard);
        let way = self.routes.journey(slot, Instant::now()).way().await.map_err(cache_error)?;
        way.connections.shared.measure_clock().await.map_err(cache_error)
    }
}

/// So many answers were not confirmed in time; whether they may be given all the same.
fn not_confirmed(confirm: &Confirm, answers: usize) -> bool {
    metrics::counter!("interaction_cache_confirmations_total", "outcome" => "unconfirmed").increment(answers as u64);
    confirm.not_confirmed(answers)
}

/// The script says so once: it has taken the caller's mark for its own then.
fn went_back(shard: ShardId) {
    metrics::counter!("interaction_cache_steps_back_total").increment(1);
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
        DELETED => AcceptOutcome::Deleted,
        EXPIRED if own_deadline => AcceptOutcome::Expired,
        EXPIRED => return Ok(Reply::TooLate),
        _ => return Err(wrong_reply()),
    }))
}

/// Something stands there that is no script of ours.
fn wrong_reply() -> CacheError {
    CacheError::Unavailable(Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(
        "accept.lua: reply of unexpected shape",
    )))
}
