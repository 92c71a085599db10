//! Changes that were noted: published later, by one process at a time.
//!
//! A note says what changed; what it is now is read from its row. So many notes of one pair are one event, and a process that
//! dies between publishing and deleting them has the next one publish once more.
//!
//! The lease only keeps others from doing the same work. Where the cache that gives it is unreachable everybody does it:
//! that is when likes go around the queue.
//!
//! Whether there are to be any is written down for the commands of operators, which know no configuration.
//!
//! Bounds: a batch in memory. Notes are kept until they are published, however long that takes.

use super::afterwards::{BATCH, BATCHES, COUNTED, INTERVAL, LEASE_TTL, RoundError};
use super::change_events::ChangeEvents;
use crate::clock::wall_clock;
use crate::metrics;
use crate::stores::lease::Lease;
use crate::stores::{Stores, faults};
use domain::cache::CacheError;
use domain::{Pair, Resource};
use event_bus::{BusConfig, ChangePublisher};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const LEASE: &str = "changes";

/// Publishes what was noted.
pub struct UnpublishedChanges {
    stores: Stores,
    bus: BusConfig,
    publisher: ChangePublisher,
    declared: bool,
    lease: Lease,
    interval: Duration,
}

impl UnpublishedChanges {
    /// `owner` must differ between processes.
    pub fn new(stores: Stores, bus: BusConfig, owner: String) -> Self {
        let publisher = ChangePublisher::new(bus.clone());
        let lease = Lease::new(Arc::clone(&stores.cache), LEASE, owner, LEASE_TTL);
        Self { stores, bus, publisher, declared: false, lease, interval: INTERVAL }
    }

    /// Looks more or less often.
    #[must_use]
    pub fn with_interval(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// Runs until `stop`, or until it is written down that nobody is to be told.
    pub fn run(self, stop: CancellationToken) -> BoxFuture<'static, ()> {
        self.run_inner(stop).boxed()
    }

    async fn run_inner(mut self, stop: CancellationToken) {
        let mut ordered = false;
        while self.bus.changes.enabled || !ordered {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(self.interval) => {}
            }
            let round = async {
                if !ordered {
                    self.stores.database.order_change_notes(self.bus.changes.enabled).await?;
                    ordered = true;
                }
                if self.bus.changes.enabled { self.round().await } else { Ok(()) }
            };
            let round = tokio::select! {
                () = stop.cancelled() => break,
                round = round => round,
            };
            match round {
                Ok(()) => {}
                Err(RoundError::Cache(error)) if error.is_unavailable() => self.stores.cache_failed_somewhere(&error),
                Err(RoundError::Store(error)) if error.is_unavailable() => self.stores.database_circuit.failure(&error),
                Err(RoundError::Bus(error)) => {
                    metrics::change_publish_failed();
                    faults::tell("publishing noted changes", &error);
                    self.stores.changes.refused(Instant::now(), error.to_string());
                }
                Err(error) => drop(faults::tell("looking for noted changes", &error)),
            }
        }
        if !self.bus.changes.enabled {
            return;
        }
        let _ = self.lease.give_back().await;
        self.publisher.close().await;
    }

    async fn round(&mut self) -> Result<(), RoundError> {
        if !self.declared && self.stores.changes.may_try(Instant::now()) {
            // Who listens binds to it before anything is told.
            self.publisher.connect().await?;
            self.declared = true;
        }
        if self.stores.database_circuit.is_open() {
            return Ok(());
        }
        if !self.owns().await? {
            // Its holder shows them.
            self.show(0, Duration::ZERO);
            return Ok(());
        }
        let told = self.publish_all().await;
        // Also where nothing can be published: that is when they pile up.
        let standing = self.stores.database.unpublished_standing(COUNTED).await?;
        let age = standing.oldest.map(|oldest| (wall_clock() - oldest).to_std().unwrap_or_default());
        self.show(standing.waiting, age.unwrap_or_default());
        told
    }

    async fn publish_all(&mut self) -> Result<(), RoundError> {
        for _ in 0..BATCHES {
            if !self.stores.changes.may_try(Instant::now()) {
                break;
            }
            if self.publish_batch().await? < BATCH || !self.owns().await? {
                break;
            }
        }
        Ok(())
    }

    async fn publish_batch(&mut self) -> Result<usize, RoundError> {
        let notes = self.stores.database.unpublished(BATCH as u32).await?;
        if notes.is_empty() {
            return Ok(0);
        }
        let resources: BTreeSet<Resource> = notes.iter().map(|note| note.resource).collect();
        let pairs: BTreeSet<Pair> =
            notes.iter().filter_map(|note| note.user.map(|user| Pair { resource: note.resource, user })).collect();
        let (resources, pairs) = (Vec::from_iter(resources), Vec::from_iter(pairs));
        let states = self.stores.database.stored_states(&resources, &pairs).await?;
        let (messages, events) = ChangeEvents::of(&self.bus.prefix).messages(&states.counts, &states.pairs);
        let started = Instant::now();
        self.publisher.publish(&messages).await?;
        self.stores.changes.taken();
        metrics::changes_published("later", events, started.elapsed());
        fail::fail_point!("changes.told");
        self.stores.database.published(&notes.iter().map(|note| note.id).collect::<Vec<_>>()).await?;
        Ok(notes.len())
    }

    /// Whether it is this process's turn.
    async fn owns(&self) -> Result<bool, CacheError> {
        if self.stores.cache_circuit.is_open() {
            return Ok(true);
        }
        match self.lease.is_ours().await {
            Err(error) if error.is_unavailable() => {
                self.stores.cache_failed_somewhere(&error);
                Ok(true)
            }
            ours => ours,
        }
    }

    fn show(&self, waiting: u64, oldest: Duration) {
        self.stores.changes.saw_waiting(waiting, oldest);
        metrics::changes_waiting(waiting, oldest);
    }
}
