//! The redo log beside the queue: looked after, and told of what went around the broker.
//!
//! What is published goes there with the same message. What was applied directly, by whatever way, is marked in its row of the
//! ledger, in its own transaction ([`EventStore::unlogged`](event_store::EventStore::unlogged)); from there one process at a
//! time brings it to the log, and takes the mark away after the log has confirmed it. So a process that dies anywhere loses
//! none, and the worst is that the log has one twice.
//!
//! Bounds: a batch in memory; what waits in the ledger is deleted with the ledger's other completed events
//! (`retention.completed_events`). Until it is in the log, the database has the only copy of it.

use super::afterwards::{BATCH, BATCHES, COUNTED, INTERVAL, LEASE_TTL, RoundError};
use crate::metrics;
use crate::stores::lease::Lease;
use crate::stores::{Stores, faults};
use chrono::{DateTime, Utc};
use domain::Version;
use domain::cache::CacheError;
use domain::codec::EncodedEvent;
use event_bus::{BusConfig, LogState, Publisher};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const LEASE: &str = "redo_log";

/// And a broker that has none: it may be another one by then.
const ABSENT_INTERVAL: Duration = Duration::from_secs(60);

/// Fences told at once.
const FENCES: u32 = 1_000;

/// The log forgets what is old, so it is told all fences again.
const FENCES_AGAIN: Duration = Duration::from_secs(6 * 3600);

/// Looks after the log.
pub struct RedoLog {
    stores: Stores,
    bus: BusConfig,
    publisher: Publisher,
    lease: Lease,
    interval: Duration,
    /// When the newest fence was written, or a resource restored, that the log has, and when it was told.
    fences: Option<(DateTime<Utc>, Instant)>,
}

impl RedoLog {
    /// `owner` must differ between processes. From here on what goes around the broker is marked, if there is to be a log:
    /// before anything is applied.
    pub fn new(stores: Stores, bus: BusConfig, owner: String) -> Self {
        stores.database.keep_unlogged(bus.log.enabled);
        let publisher = Publisher::new(bus.clone());
        let lease = Lease::new(Arc::clone(&stores.cache), LEASE, owner, LEASE_TTL);
        Self { stores, bus, publisher, lease, interval: INTERVAL, fences: None }
    }

    /// Looks more or less often.
    #[must_use]
    pub fn with_interval(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// Runs until `stop`.
    pub fn run(self, stop: CancellationToken) -> BoxFuture<'static, ()> {
        self.run_inner(stop).boxed()
    }

    async fn run_inner(mut self, stop: CancellationToken) {
        if !self.bus.log.enabled {
            return;
        }
        loop {
            let pause =
                if matches!(self.bus.log_state(), LogState::Absent(_)) { ABSENT_INTERVAL } else { self.interval };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause.max(self.interval)) => {}
            }
            let round = tokio::select! {
                () = stop.cancelled() => break,
                round = self.round() => round,
            };
            match round {
                Ok(()) => {}
                Err(RoundError::Cache(error)) if error.is_unavailable() => self.stores.cache_failed_somewhere(&error),
                Err(RoundError::Store(error)) if error.is_unavailable() => self.stores.database_circuit.failure(&error),
                Err(error) => drop(faults::tell("looking after the redo log", &error)),
            }
        }
        let _ = self.lease.give_back().await;
        self.publisher.close().await;
    }

    async fn round(&mut self) -> Result<(), RoundError> {
        if self.stores.broker_circuit.is_open() {
            return Ok(());
        }
        let state = self.publisher.check_log().await?;
        // Where there is none, marks would only pile up.
        self.stores.database.keep_unlogged(!matches!(state, LogState::Absent(_) | LogState::Off));
        metrics::redo_log_up(state == LogState::Up);
        if self.stores.cache_circuit.is_open() || self.stores.database_circuit.is_open() {
            return Ok(());
        }
        if !self.owns().await? {
            // Its holder shows them.
            metrics::redo_log_waiting(0);
            return Ok(());
        }
        if state == LogState::Up {
            self.tell_fences().await?;
            for _ in 0..BATCHES {
                if self.join_batch().await? < BATCH || !self.owns().await? {
                    break;
                }
            }
        }
        metrics::redo_log_waiting(self.stores.database.unlogged_backlog(COUNTED).await?);
        Ok(())
    }

    async fn join_batch(&mut self) -> Result<usize, RoundError> {
        let events = self.stores.database.unlogged(BATCH as u32).await?;
        if events.is_empty() {
            return Ok(0);
        }
        let encoded: Vec<EncodedEvent> = events.iter().map(EncodedEvent::from_event).collect();
        self.publisher.append(&encoded).await?;
        fail::fail_point!("log.joined");
        let ids: Vec<Uuid> = events.iter().map(|event| event.intent.id).collect();
        self.stores.database.logged(&ids).await?;
        metrics::redo_log_joined(ids.len());
        Ok(ids.len())
    }

    /// A copy of the database from before an erasure does not have its fence: whoever replays the log finds it there.
    async fn tell_fences(&mut self) -> Result<(), RoundError> {
        let newest = self.stores.database.newest_fence().await?;
        let lately = self.fences.filter(|(_, at)| at.elapsed() < FENCES_AGAIN);
        if let Some((told, at)) = lately {
            if told == newest {
                return Ok(());
            }
            // News alone: all of them, each time, would push events out of the log.
            let fences = self.stores.database.fences_since(told, FENCES).await?;
            let marks = self.stores.database.deleted_since(Version(told.timestamp_micros()), FENCES).await?;
            if newest > told && fences.len().max(marks.len()) < FENCES as usize {
                if !fences.is_empty() {
                    self.publisher.append_fences(&fences).await?;
                }
                if !marks.is_empty() {
                    self.publisher.append_deleted(&marks).await?;
                }
                self.fences = Some((newest, at));
                return Ok(());
            }
        }
        let mut after = 0;
        loop {
            let fences = self.stores.database.fences_after(after, FENCES).await?;
            let Some((last, _)) = fences.last() else { break };
            after = last.get();
            self.publisher.append_fences(&fences).await?;
        }
        let mut after = None;
        loop {
            let marks = self.stores.database.deleted_after(after, FENCES).await?;
            let Some((last, _)) = marks.last() else { break };
            after = Some(*last);
            self.publisher.append_deleted(&marks).await?;
        }
        self.fences = Some((newest, Instant::now()));
        Ok(())
    }

    async fn owns(&self) -> Result<bool, CacheError> {
        self.lease.is_ours().await
    }
}
