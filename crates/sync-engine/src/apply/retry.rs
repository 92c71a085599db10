//! Retries: events that failed alone come back from the ledger with backoff, and end as dead letters.

use crate::apply::{Applier, DatabaseUnreachable, Refused, jitter};
use crate::clock::wall_clock;
use crate::metrics;
use crate::stores::lease::Lease;
use crate::stores::{Stores, faults};
use chrono::{DateTime, Utc};
use domain::LikeEvent;
use domain::codec::{EncodedEvent, encode_batch};
use domain::retry::RetryPolicy;
use event_bus::{Headers, Publisher};
use event_store::{ClaimedEvent, RetryFailure};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const BATCH: usize = 100;

/// A claimed event that is not concluded within this time is claimable again: its worker died.
const CLAIM_LEASE: Duration = Duration::from_secs(60);

const LEASE: &str = "retry";

/// Of who looks all the time. Others look, too, but seldom while they find nothing.
const LEASE_TTL: Duration = Duration::from_secs(10);

/// How often they do.
const SELDOM: Duration = Duration::from_secs(5);

/// Takes due events from the ledger.
pub struct Retrier {
    stores: Stores,
    applier: Applier,
    dead_letters: Option<Publisher>,

    policy: RetryPolicy,
    poll_interval: Duration,
    claim_lease: Duration,
    lease: Option<Lease>,
    /// When nothing was due.
    nothing: Option<Instant>,
}

impl Retrier {
    /// Dead letters are also published, if there is a broker.
    pub fn new(stores: Stores, applier: Applier, dead_letters: Option<Publisher>, policy: RetryPolicy) -> Self {
        let poll_interval = (policy.base_delay / 2).clamp(Duration::from_millis(50), Duration::from_secs(1));
        let applier = applier.of_retries();
        let (claim_lease, lease, nothing) = (CLAIM_LEASE, None, None);
        Self { stores, applier, dead_letters, policy, poll_interval, claim_lease, lease, nothing }
    }

    /// Leaves most looks, while nothing is due, to one of the processes that do this. `owner` must differ between them.
    #[must_use]
    pub fn in_turns(self, owner: String) -> Self {
        let lease = Lease::new(Arc::clone(&self.stores.cache), LEASE, owner, LEASE_TTL);
        Self { lease: Some(lease), ..self }
    }

    /// Another lease than a minute.
    #[must_use]
    pub fn with_claim_lease(self, claim_lease: Duration) -> Self {
        Self { claim_lease, ..self }
    }

    /// Runs until `stop`.
    pub fn run(self, stop: CancellationToken) -> BoxFuture<'static, ()> {
        self.run_inner(stop).boxed()
    }

    async fn run_inner(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(self.poll_interval) => {}
            }
            if self.stores.database_circuit.is_open() || self.is_left_to_another().await {
                continue;
            }
            while !stop.is_cancelled() {
                match self.retry_due().await {
                    Ok(count) if count == BATCH => {}
                    Ok(count) => {
                        self.nothing = (count == 0).then(Instant::now);
                        break;
                    }
                    // Claims run out: what was not concluded comes back.
                    Err(DatabaseUnreachable(_)) => break,
                }
            }
        }
        if let Some(lease) = &self.lease {
            let _ = lease.give_back().await;
        }
        if let Some(publisher) = self.dead_letters {
            publisher.close().await;
        }
    }

    /// Whether nothing was due a moment ago, and somebody else looks. Where nobody can say who does, it is not.
    async fn is_left_to_another(&self) -> bool {
        let Some(lease) = self.lease.as_ref().filter(|_| !self.stores.cache_circuit.is_open()) else { return false };
        let ours = lease.is_ours().await.unwrap_or(true);
        !ours && self.nothing.is_some_and(|at| at.elapsed() < SELDOM)
    }

    async fn retry_due(&mut self) -> Result<usize, DatabaseUnreachable> {
        let claimed = self.stores.database.claim_due(wall_clock(), BATCH as u32, self.claim_lease).await;
        let claimed = claimed.map_err(|error| self.applier.unreachable(error))?;
        if !claimed.is_empty() {
            fail::fail_point!("retry.claimed", |_| Ok(0));
        }
        // All of them together: once what was wrong is repaired, a backlog goes by in few transactions.
        let events: Vec<LikeEvent> = claimed.iter().map(|claimed| claimed.event.clone()).collect();
        let refused = Box::pin(self.applier.apply_good(&events)).await?;
        // Whatever else is refused as well says nothing about these: their claims run out, and no attempt is counted.
        self.applier.blame(&refused).await?;
        metrics::retried("completed", claimed.len() - refused.len());
        let mut claims: HashMap<Uuid, &ClaimedEvent> = claimed.iter().map(|one| (one.event.intent.id, one)).collect();
        let mut failures = Vec::with_capacity(refused.len());
        let now = wall_clock();
        for Refused { event, error } in refused {
            if let Some(claimed) = claims.remove(&event.intent.id) {
                failures.extend(self.failure(claimed, error.to_string(), now).await);
            }
        }
        // First the letters, then the ledger: stopping in between writes some twice, none not at all.
        let recorded = self.stores.database.record_retry_failures(&failures, now).await;
        recorded.map_err(|error| self.applier.unreachable(error))?;
        let dead = failures.iter().filter(|failure| failure.next_retry_at.is_none()).count();
        metrics::retried("failed", failures.len() - dead);
        metrics::retried("dead", dead);
        metrics::dead("retries_exhausted", dead);
        if let Some(first) = failures.iter().find(|failure| failure.next_retry_at.is_none())
            && let Some(times) = faults::again("retries exhausted, dead")
        {
            tracing::warn!(events = dead, times, first = %first.id, reason = first.error, "retries exhausted, dead");
        }
        Ok(claimed.len())
    }

    /// What is to be written down; nothing yet if it is to die and its letter is not taken: the claim runs out and it
    /// comes back.
    async fn failure(&mut self, claimed: &ClaimedEvent, error: String, now: DateTime<Utc>) -> Option<RetryFailure> {
        let policy = RetryPolicy { max_retries: claimed.max_retries, ..self.policy };
        let next_retry_at = match policy.delay(claimed.retry_count + 1, jitter()) {
            Some(delay) => Some(now + delay),
            None if self.publish_dead(claimed, &error).await => None,
            None => return None,
        };
        Some(RetryFailure { id: claimed.event.intent.id, error, next_retry_at })
    }

    /// False if the letter is to be tried again. One that the broker refuses, because its queue is full, is done without: the
    /// ledger has the event and its reason.
    async fn publish_dead(&mut self, claimed: &ClaimedEvent, reason: &str) -> bool {
        let Some(publisher) = &mut self.dead_letters else { return true };
        let body = encode_batch(&[EncodedEvent::from_event(&claimed.event)]);
        match publisher.publish_dead(&body, reason, &Headers::new()).await {
            Ok(()) => true,
            Err(error) if !error.is_unavailable() => {
                faults::tell("publishing a dead letter, which the ledger has alone now,", &error);
                true
            }
            Err(error) => {
                faults::tell("publishing a dead letter, which is tried again,", &error);
                false
            }
        }
    }
}
