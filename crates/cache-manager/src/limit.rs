//! A user's limit in a cluster: it is in a slot of its own, so it is asked before the likes are, and given back what was no
//! answer.
//!
//! Elsewhere it is part of `accept.lua`. Whoever is over it is told what `accept.lua` says before it looks at the limit, as
//! far as the answer depends neither on a counter nor on whether the resource is deleted. A limit whose node is away limits
//! nobody: likes of other nodes go on.

use crate::keys::Keys;
use crate::routes::Routes;
use crate::script::Script;
use deadpool_redis::redis::cmd;
use domain::cache::{AcceptOutcome, AcceptRequest, Answer, CacheResult, CacheRules, UserLimit};
use domain::{UserId, Version};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// A like does not wait longer for a limit.
const PATIENCE: Duration = Duration::from_millis(200);

pub(crate) struct Limit {
    take: Script,
    limit: UserLimit,
    keys: Keys,
    rules: CacheRules,
    routes: Arc<Routes>,
}

impl Limit {
    /// Nothing where there is no limit, or where `accept.lua` keeps it.
    pub(crate) fn new(routes: &Arc<Routes>, keys: &Keys, rules: &CacheRules) -> Option<Self> {
        let limit = rules.user_limit.filter(|_| routes.is_cluster())?;
        let take = Script::new(include_str!("scripts/take_token.lua"));
        Some(Self { take, limit, keys: keys.clone(), rules: rules.clone(), routes: Arc::clone(routes) })
    }

    /// Takes a token of each user, one by one: who is over the limit is answered here.
    pub(crate) async fn take(&self, requests: &[AcceptRequest]) -> Vec<Option<CacheResult<AcceptOutcome>>> {
        let calls = requests.iter().map(|request| async move {
            if !request.limited {
                return None;
            }
            let over = self.tokens(request.intent.pair.user, 1).await.filter(|over| *over > 0)?;
            let refused = AcceptOutcome::RateLimited { retry_after: Duration::from_millis(over.unsigned_abs()) };
            Some(self.first_answer(request).await.map(|first| first.unwrap_or(refused)))
        });
        futures::future::join_all(calls).await
    }

    /// Gives back the tokens of attempts that were not answered.
    pub(crate) async fn give_back<'a>(&self, unanswered: impl Iterator<Item = &'a AcceptRequest>) {
        let calls = unanswered.map(|request| self.tokens(request.intent.pair.user, -1));
        futures::future::join_all(calls).await;
    }

    /// Whether an attempt with this outcome keeps its token.
    pub(crate) const fn is_answer(outcome: &CacheResult<AcceptOutcome>) -> bool {
        // What was not answered at all may have been accepted.
        !matches!(
            outcome,
            Ok(AcceptOutcome::Repeated { .. }
                | AcceptOutcome::KeyReused
                | AcceptOutcome::Deleted
                | AcceptOutcome::Expired
                | AcceptOutcome::CountMissing
                | AcceptOutcome::Overloaded
                | AcceptOutcome::RateLimited { .. })
        )
    }

    /// Takes or gives back so many; the milliseconds until one is there, 0 if it was.
    async fn tokens(&self, user: UserId, tokens: i64) -> Option<i64> {
        let key = self.keys.user_limit(user);
        let slot = self.routes.slot_of(&key);
        let period = self.limit.period.as_micros();
        let interval = period / u128::from(self.limit.actions.max(1));
        let mut call = self.take.call(1);
        call.arg(key).arg(interval.to_string()).arg(period.to_string()).arg(tokens);
        match timeout(PATIENCE, self.take.run(&self.routes, slot, &call)).await {
            Ok(Ok(over)) => Some(over),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a user's limit is away");
                None
            }
            Err(_) => None,
        }
    }

    /// What the key of this request was answered first.
    async fn first_answer(&self, request: &AcceptRequest) -> CacheResult<Option<AcceptOutcome>> {
        let Some(key) = &request.intent.idempotency_key else { return Ok(None) };
        let pair = request.intent.pair;
        let mut get = cmd("GET");
        get.arg(self.keys.idempotency(pair, key));
        let slot = self.routes.slot(self.rules.shards.of(pair.resource));
        let first: Option<String> = self.routes.ask(slot, &get).await.map_err(crate::meaning::cache_error)?;
        Ok(first.as_deref().and_then(|first| outcome_of(first, request.intent.action.liked())))
    }
}

/// `code:count:version:liked`, as `accept.lua` writes it.
fn outcome_of(first: &str, wanted: bool) -> Option<AcceptOutcome> {
    let mut parts = first.split(':');
    let code: i64 = parts.next()?.parse().ok()?;
    let count: i64 = parts.next()?.parse().ok()?;
    let version = Version(parts.next()?.parse().ok()?);
    if parts.next().is_some_and(|liked| !liked.is_empty() && liked != if wanted { "1" } else { "0" }) {
        return Some(AcceptOutcome::KeyReused);
    }
    let answer = Answer { count: (count >= 0).then_some(count), version };
    Some(AcceptOutcome::Repeated { answer, changed: code == 0 })
}
