//! Likes among the dead letters: what the broker moved there by itself is applied.
//!
//! A policy (`message-ttl`, `max-length` with `drop-head`, a low `delivery-limit`) moves good messages where nobody
//! consumes. Nobody is told, so the letters are looked at: whatever the broker moved and can be decoded is applied like
//! any batch. That is safe whatever became of the events meanwhile, since the version of the row decides.
//!
//! Letters that were published as such (undecodable messages, events whose retries are exhausted) stay: they go to the end
//! of the queue with their reason, and are acknowledged after that. So a letter may be there twice, and none is missing.
//! One that is longer than any message of ours, of which only the beginning was taken in, stays where it is.
//! A letter of events that are finished meanwhile, applied or discarded, is taken out: the ledger says what became of them.
//! Letters are gone through when more of them wait than stayed the last time, or when the ledger holds fewer unfinished
//! events than then; by one consumer at a time, and one letter after the other: one that not even the client library can read
//! breaks the connection, and with it the acknowledgements of all that came with it. It comes first with every connection, so
//! what is behind it waits until somebody takes it out; whatever of that is in the journal is delivered again from there.

use crate::apply::Applier;
use crate::metrics;
use crate::stores::{Stores, faults};
use domain::LikeEvent;
use domain::codec::decode_batch;
use event_bus::{BusConfig, BusError, Consumer, Delivery, Publisher, REASON_HEADER};
use event_store::{EventStatus, StoreError};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often the broker is asked how many there are.
const LOOK: Duration = Duration::from_secs(5);

/// Going through many letters that stay is work for nothing: it may take one part in so many of the time.
const SHARE: u32 = 4;

/// Behind one that cannot be read is nothing to be had before somebody takes it out: so many times the usual pause.
const BLOCKED: u32 = 12;

/// Another consumer may have taken the rest.
const IDLE: Duration = Duration::from_secs(1);

/// Goes through the dead letters.
pub struct DeadLetters {
    stores: Stores,
    applier: Applier,
    bus: BusConfig,
    publisher: Publisher,

    every: Duration,
    /// Letters that are there for good, as far as is known.
    stayed: u32,
    /// Unfinished events in the ledger when that was seen: a replayed one is not finished yet.
    unfinished: u64,
}

/// How far the letters were gone through.
enum Walk {
    /// To their end; so many stay.
    Through(u32),
    /// Not to their end.
    Stopped,
    /// To one that cannot be read.
    Blocked(BusError),
}

/// What a letter is.
enum Letter {
    /// The broker moved it: good events, and why.
    Moved(Vec<LikeEvent>, String),
    /// It stays, for this reason, as long as one of its events (if it has any) is not finished.
    Stays(String, Vec<LikeEvent>),
}

impl DeadLetters {
    /// Applies what the broker moved.
    pub fn new(stores: Stores, applier: Applier, bus: BusConfig) -> Self {
        let publisher = Publisher::new(bus.clone());
        let bus = BusConfig { prefetch: 1, ..bus };
        Self { stores, applier, bus, publisher, every: LOOK, stayed: 0, unfinished: 0 }
    }

    /// Looks more or less often.
    #[must_use]
    pub fn with_interval(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// Runs until `soft`: a letter in hand then is finished, or goes back.
    pub fn run(self, soft: CancellationToken) -> BoxFuture<'static, ()> {
        self.run_inner(soft).boxed()
    }

    async fn run_inner(mut self, soft: CancellationToken) {
        let mut pause = self.every;
        loop {
            tokio::select! {
                () = soft.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
            pause = self.every;
            if self.stores.database_circuit.is_open() || self.stores.broker_circuit.is_open() {
                continue;
            }
            let started = Instant::now();
            match self.look(&soft).await {
                Ok(Walk::Blocked(error)) => {
                    pause = self.every * BLOCKED;
                    if let Some(times) = faults::again("dead letter cannot be read") {
                        tracing::warn!(%error, times, "a dead letter cannot be read, what is behind it waits until somebody takes it out");
                    }
                }
                Ok(Walk::Through(stayed)) => self.stayed = stayed,
                Ok(Walk::Stopped) => {}
                Err(error) => drop(faults::tell("going through the dead letters", &error)),
            }
            pause = pause.max(started.elapsed() * SHARE);
        }
        self.publisher.close().await;
    }

    async fn look(&mut self, soft: &CancellationToken) -> Result<Walk, BusError> {
        let depth = self.publisher.dead_depth().await?;
        metrics::dead_letters(depth.ready);
        // Somebody goes through them now.
        if depth.consumers > 0 {
            return Ok(Walk::Stopped);
        }
        self.stayed = self.stayed.min(depth.ready);
        let unfinished = self.unfinished();
        if depth.ready <= self.stayed && (self.stayed == 0 || unfinished >= self.unfinished) {
            self.unfinished = unfinished;
            return Ok(Walk::Stopped);
        }
        let mut consumer = Consumer::connect_dead(&self.bus).await?;
        let walk = self.go_through(&mut consumer, depth.ready, soft).await;
        // What was not handled goes back to the queue.
        consumer.close().await;
        if matches!(walk, Ok(Walk::Through(_))) {
            self.unfinished = unfinished;
        }
        walk
    }

    /// Events that are in no row, as this process saw the ledger last; what is not known has not changed.
    fn unfinished(&self) -> u64 {
        let seen = self.stores.standings.latest(std::time::Instant::now(), crate::clock::wall_clock());
        seen.standing.map_or(self.unfinished, |standing| standing.ledger.iter().map(|one| one.count).sum())
    }

    /// Whether the ledger is done with all of these.
    async fn finished(&self, events: &[LikeEvent]) -> Result<bool, StoreError> {
        let ids: Vec<_> = events.iter().map(|event| event.intent.id).collect();
        let held = self.stores.database.events(&ids).await?;
        let done = |status| matches!(status, EventStatus::Completed | EventStatus::Discarded);
        Ok(!ids.is_empty()
            && ids.iter().all(|id| held.iter().any(|one| one.event.intent.id == *id && done(one.status))))
    }

    async fn go_through(
        &mut self,
        consumer: &mut Consumer,
        letters: u32,
        soft: &CancellationToken,
    ) -> Result<Walk, BusError> {
        let mut stayed = 0;
        for _ in 0..letters {
            let delivery = tokio::select! {
                () = soft.cancelled() => return Ok(Walk::Stopped),
                delivery = consumer.next() => match delivery {
                    Err(error) if error.is_unreadable() => return Ok(Walk::Blocked(error)),
                    delivery => delivery?,
                },
                () = tokio::time::sleep(IDLE) => return Ok(Walk::Stopped),
            };
            if delivery.cut {
                stayed += 1;
                consumer.go_on().await?;
                continue;
            }
            match read(&delivery) {
                Letter::Moved(events, reason) => {
                    // The circuit tells; the letters wait for it.
                    if let Err(error) = self.applier.apply(&events).await {
                        faults::tell("applying dead letters", &error);
                        return Ok(Walk::Stopped);
                    }
                    tell(&reason, events.len());
                }
                Letter::Stays(reason, events) => match self.finished(&events).await {
                    Ok(true) => {}
                    Ok(false) => {
                        self.publisher.publish_dead(&delivery.body, &reason, &delivery.headers).await?;
                        stayed += 1;
                    }
                    Err(error) => {
                        faults::tell("asking for the events of dead letters", &error);
                        return Ok(Walk::Stopped);
                    }
                },
            }
            consumer.ack([&delivery]).await?;
        }
        Ok(Walk::Through(stayed))
    }
}

fn read(delivery: &Delivery) -> Letter {
    let said = || delivery.headers.get(REASON_HEADER).cloned();
    let Some(moved) = &delivery.moved else {
        return Letter::Stays(said().unwrap_or_default(), decode_batch(&delivery.body).unwrap_or_default());
    };
    match decode_batch(&delivery.body) {
        Ok(events) => Letter::Moved(events, moved.clone()),
        Err(error) => {
            let reason = said().unwrap_or_else(|| format!("{error} (the broker moved it: {moved})"));
            Letter::Stays(reason, Vec::new())
        }
    }
}

fn tell(reason: &str, events: usize) {
    let (reason, cause) = match reason {
        "expired" => ("expired", "a policy sets message-ttl"),
        "maxlen" => ("maxlen", "the queue drops its oldest: overflow must be reject-publish"),
        "delivery_limit" => {
            ("delivery_limit", "they were delivered too often: consumers die, or a policy sets delivery-limit")
        }
        "rejected" => ("rejected", "somebody rejected them"),
        _ => ("other", "for a reason that only the broker knows"),
    };
    metrics::moved(reason, events);
    if let Some(times) = faults::again(&format!("moved letters: {reason}")) {
        tracing::warn!(reason, cause, times, "the broker moved likes to the dead letters, they are applied from there");
    }
}
