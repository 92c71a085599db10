//! Relay: accepted events to the sink, at once and in batches.
//!
//! A batch is whatever was accepted while the one before was being confirmed: one event when there is no load, up to
//! `batch_size` under load. A message costs broker, consumer and database about a millisecond of CPU whatever it carries,
//! so under load a batch also waits a little for more. Nothing here can lose an event: it is in the journal until it is
//! settled, so everything that is not confirmed is simply left to the rescuer.

use super::fate;
use super::kept::Kept;
use crate::apply::Applier;
use crate::metrics;
use crate::planted;
use crate::stores::{Stores, faults};
use crate::trace::{Stage, Traces};
use domain::codec::EncodedEvent;
use event_bus::{BusError, Headers, Publisher};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_util::sync::CancellationToken;

/// After a refusal (queue full) the relay rests: the broker asked for it.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// How long a batch waits for more under load.
const LINGER: Duration = Duration::from_millis(5);

/// How long it waits at most where no broker is: the transaction is then all that a batch costs, SQLite's, and of one of 500
/// events each costs two fifths of what it costs in one of 75.
const LINGER_DIRECT: Duration = Duration::from_millis(50);

/// Load: events per second of the batch before. Below it a message more or less makes no difference.
const BUSY: f64 = 2_500.0;

/// How long applying directly may take before the broker's return ends it: other processes can hold the rows for long.
const DIRECT_PATIENCE: Duration = Duration::from_secs(1);

/// How often the broker's return is looked for then.
const RETURN_POLL: Duration = Duration::from_millis(50);

/// Takes accepted events; never waits.
#[derive(Debug, Clone)]
pub struct RelayHandle {
    sender: mpsc::Sender<EncodedEvent>,
    kept: Option<Kept>,
}

impl RelayHandle {
    /// Hands over an event that is in the journal. When the relay is behind, the journal keeps it.
    pub fn offer(&self, event: EncodedEvent) {
        fate::tell(fate::IN_MEMORY, std::slice::from_ref(&event));
        if let Err(TrySendError::Full(event) | TrySendError::Closed(event)) = self.sender.try_send(event) {
            spilled(self.kept.as_ref(), "relay_full", &[event]);
        }
    }

    /// Remembers an event that somebody else accepted and that an answer of this process relies on: the journal may be all that
    /// has it, because whoever accepted it never heard so.
    pub(crate) fn remember(&self, event: EncodedEvent) {
        if let Some(kept) = &self.kept {
            fate::tell(fate::IN_MEMORY, std::slice::from_ref(&event));
            kept.keep("relied_on", &[event]);
        }
    }

    /// Waits until the relay has room for an event; nothing if it has ended.
    pub(super) async fn room(&self) -> Option<Room<'_>> {
        self.sender.reserve().await.ok().map(Room)
    }
}

/// Room for one event.
pub(super) struct Room<'a>(mpsc::Permit<'a, EncodedEvent>);

impl Room<'_> {
    pub(super) fn take(self, event: EncodedEvent) {
        fate::tell(fate::IN_MEMORY, std::slice::from_ref(&event));
        self.0.send(event);
    }
}

/// Moves events from memory to RabbitMQ, or to the applier while the broker is unreachable.
pub struct Relay {
    stores: Stores,
    applier: Applier,
    publisher: Option<Publisher>,
    receiver: mpsc::Receiver<EncodedEvent>,
    kept: Option<Kept>,

    batch_size: usize,
}

impl Relay {
    /// The relay and its handle. Without a publisher every batch is applied directly; without a memory the journal alone has
    /// what cannot be delivered.
    pub fn new(
        stores: Stores,
        applier: Applier,
        publisher: Option<Publisher>,
        kept: Option<Kept>,
        capacity: usize,
        batch_size: usize,
    ) -> (RelayHandle, Self) {
        let (sender, receiver) = mpsc::channel(capacity);
        let handle = RelayHandle { sender, kept: kept.clone() };
        (handle, Self { stores, applier, publisher, receiver, kept, batch_size })
    }

    /// Runs until every handle is gone and all is relayed, or `hard` says to leave the rest to the journal.
    pub fn run(self, hard: CancellationToken) -> BoxFuture<'static, ()> {
        self.run_inner(hard).boxed()
    }

    async fn run_inner(mut self, hard: CancellationToken) {
        let mut batch = Vec::with_capacity(self.batch_size);
        let mut busy = false;
        loop {
            batch.clear();
            let began = Instant::now();
            let relayed = async {
                let mut count = self.receiver.recv_many(&mut batch, self.batch_size).await;
                if busy && count > 0 && count < self.batch_size {
                    self.linger(count).await;
                    while count < self.batch_size {
                        let Ok(event) = self.receiver.try_recv() else { break };
                        batch.push(event);
                        count += 1;
                    }
                }
                if count > 0 {
                    self.relay_batch(&batch).await;
                }
                count
            };
            let count = tokio::select! {
                biased;
                () = hard.cancelled() => break,
                count = relayed => count,
            };
            if count == 0 {
                break;
            }
            busy = count as f64 >= BUSY * began.elapsed().as_secs_f64();
        }
        if let Some(publisher) = self.publisher {
            publisher.close().await;
        }
    }
}

impl Relay {
    /// Waits for more than `count` events, until they fill a batch or have waited for long enough.
    async fn linger(&self, count: usize) {
        let most = if self.publisher.is_some() { LINGER } else { LINGER_DIRECT };
        let mut waited = Duration::ZERO;
        // In steps, not from event to event: to be woken for each would cost more than is saved.
        while waited < most && !self.receiver.is_closed() && count + self.receiver.len() < self.batch_size {
            tokio::time::sleep(LINGER).await;
            waited += LINGER;
        }
    }

    async fn relay_batch(&mut self, batch: &[EncodedEvent]) {
        let Self { stores, applier, kept, .. } = self;
        let kept = kept.as_ref();
        loop {
            if let Some(publisher) = self.publisher.as_mut()
                && !stores.broker_circuit.is_open()
            {
                match publish(&stores.traces, publisher, batch).await {
                    Ok(()) => {
                        planted::delete_at_publish(applier, batch).await;
                        return stores.broker_circuit.success();
                    }
                    Err(error) if error.is_unavailable() => stores.broker_circuit.trip(&error),
                    Err(error) => {
                        tracing::debug!(%error, events = batch.len(), "batch refused, left in the journal");
                        spilled(kept, "refused", batch);
                        return tokio::time::sleep(REFUSED_PAUSE).await;
                    }
                }
            }
            // Both ways at once would be harmless, too: versions decide.
            tokio::select! {
                biased;
                () = apply_directly(stores, applier, kept, batch) => return,
                () = broker_returns(stores), if self.publisher.is_some() => {}
            }
        }
    }
}

/// Waits until the broker answers again, and no shorter than [`DIRECT_PATIENCE`].
async fn broker_returns(stores: &Stores) {
    tokio::time::sleep(DIRECT_PATIENCE).await;
    while stores.broker_circuit.is_open() {
        tokio::time::sleep(RETURN_POLL).await;
    }
}

/// Publishes one batch; a broken connection gets one second chance, because it need not mean that the broker is unreachable.
pub(crate) async fn publish(
    traces: &Traces,
    publisher: &mut Publisher,
    batch: &[EncodedEvent],
) -> Result<(), BusError> {
    let started = Instant::now();
    fail::fail_point!("relay.read");
    let mut result = publisher.publish(batch, &Headers::new()).await;
    if matches!(
        &result,
        Err(BusError::Unavailable { .. } | BusError::NotConfirmed(event_bus::NotConfirmed::Returned { .. }))
    ) {
        result = publisher.publish(batch, &Headers::new()).await;
    }
    if traces.are_on() {
        let events: Vec<_> = batch.iter().filter_map(|encoded| encoded.decode().ok()).collect();
        let error = result.as_ref().err().map(ToString::to_string);
        traces.stage(Stage::Publish, started, events.iter(), error.as_deref());
    }
    if result.is_ok() {
        fate::tell(fate::PUBLISHED, batch);
        fail::fail_point!("relay.confirmed");
        metrics::published(batch.len(), started.elapsed());
    }
    result
}

async fn apply_directly(stores: &Stores, applier: &Applier, kept: Option<&Kept>, batch: &[EncodedEvent]) {
    if stores.database_circuit.is_open() {
        return spilled(kept, "database_unreachable", batch);
    }
    let mut events = Vec::with_capacity(batch.len());
    for encoded in batch {
        match encoded.decode() {
            Ok(event) => events.push(event),
            Err(error) => drop(faults::tell("decoding an accepted event", &error)),
        }
    }
    match applier.apply(&events).await {
        Ok(_) => fate::tell(fate::APPLIED, batch),
        Err(_) => spilled(kept, "database_unreachable", batch),
    }
}

/// The journal has them, and so has this process until they are settled, where it keeps such.
fn spilled(kept: Option<&Kept>, reason: &'static str, events: &[EncodedEvent]) {
    metrics::spilled(reason, events.len());
    match kept {
        Some(kept) => kept.keep(reason, events),
        None => fate::left(reason, events),
    }
}
