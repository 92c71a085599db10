//! Retries: events that failed alone come back from the ledger with backoff, and end as dead letters.

use crate::apply::{Applier, jitter};
use crate::metrics;
use crate::stores::{Stores, wall_clock};
use domain::codec::{EncodedEvent, encode_batch};
use domain::retry::RetryPolicy;
use event_bus::{Headers, Publisher};
use event_store::{ClaimedEvent, StoreError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const BATCH: usize = 100;

/// A claimed event that is not concluded within this time is claimable again: its worker died.
const CLAIM_LEASE: Duration = Duration::from_secs(60);

/// Takes due events from the ledger.
pub struct Retrier {
    stores: Stores,
    applier: Applier,
    dead_letters: Option<Publisher>,

    policy: RetryPolicy,
    poll_interval: Duration,
    claim_lease: Duration,
}

impl Retrier {
    /// Dead letters are also published, if there is a broker.
    pub fn new(stores: Stores, applier: Applier, dead_letters: Option<Publisher>, policy: RetryPolicy) -> Self {
        let poll_interval = (policy.base_delay / 2).clamp(Duration::from_millis(50), Duration::from_secs(1));
        Self { stores, applier, dead_letters, policy, poll_interval, claim_lease: CLAIM_LEASE }
    }

    /// Another lease than a minute.
    #[must_use]
    pub fn with_claim_lease(self, claim_lease: Duration) -> Self {
        Self { claim_lease, ..self }
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(self.poll_interval) => {}
            }
            if self.stores.database_circuit.is_open() {
                continue;
            }
            while !stop.is_cancelled() {
                match self.retry_due().await {
                    Ok(count) if count == BATCH => {}
                    Ok(_) => break,
                    Err(error) => {
                        self.stores.database_circuit.failure(&error);
                        break;
                    }
                }
            }
        }
        if let Some(publisher) = self.dead_letters {
            publisher.close().await;
        }
    }

    async fn retry_due(&mut self) -> Result<usize, StoreError> {
        let claimed = self.stores.database.claim_due(wall_clock(), BATCH as u32, self.claim_lease).await?;
        if !claimed.is_empty() {
            fail::fail_point!("retry.claimed", |_| Ok(0));
        }
        for event in &claimed {
            self.retry(event).await?;
        }
        Ok(claimed.len())
    }

    async fn retry(&mut self, claimed: &ClaimedEvent) -> Result<(), StoreError> {
        let Err(error) = self.applier.apply_again(&claimed.event).await else {
            metrics::retried("completed");
            return Ok(());
        };
        if error.is_unavailable() {
            // Not the event's fault: its claim runs out and it is tried again.
            return Err(error);
        }
        let reason = error.to_string();
        let failures = claimed.retry_count + 1;
        let policy = RetryPolicy { max_retries: claimed.max_retries, ..self.policy };
        match policy.delay(failures, jitter()) {
            Some(delay) => {
                metrics::retried("failed");
                let now = wall_clock();
                let id = claimed.event.intent.id;
                self.stores.database.record_retry_failure(id, &reason, Some(now + delay), now).await
            }
            None => {
                // First the letter, then the ledger: stopping in between writes it twice, never not at all.
                if !self.publish_dead(claimed, &reason).await {
                    return Ok(());
                }
                metrics::retried("dead");
                metrics::dead("retries_exhausted");
                tracing::warn!(event = %claimed.event.intent.id, pair = %claimed.event.pair(), reason, "event is dead");
                self.stores.database.record_retry_failure(claimed.event.intent.id, &reason, None, wall_clock()).await
            }
        }
    }

    /// False if the broker did not take the letter: the claim runs out and the event comes back.
    async fn publish_dead(&mut self, claimed: &ClaimedEvent, reason: &str) -> bool {
        let Some(publisher) = &mut self.dead_letters else { return true };
        let body = encode_batch(&[EncodedEvent::from_event(&claimed.event)]);
        match publisher.publish_dead(&body, reason, &Headers::new()).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, event = %claimed.event.intent.id, "dead letter not confirmed, will try again");
                false
            }
        }
    }
}
