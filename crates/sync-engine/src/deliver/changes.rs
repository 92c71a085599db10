//! Changes for others to hear: what a batch has touched is published before its messages are acknowledged.
//!
//! A process that dies in between gets its messages again, and publishes again what they touch, whether or not it changes
//! by them. The cache is told afterwards, so the journal has the events until then, too. Whoever commits without a message
//! of the queue leaves a note with what it commits; see [`unpublished`](super::unpublished).
//!
//! What the exchange does not take is noted as well, and no batch waits for it any more: first for as long as a confirm may
//! take, then it is not tried for a while.

use super::change_events::ChangeEvents;
use crate::clock::wall_clock;
use crate::metrics;
use crate::stores::{Stores, faults};
use domain::Pair;
use event_bus::{BusConfig, ChangePublisher};
use event_store::{Applied, EventStore};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// Neither the exchange nor the database took anything.
const PAUSE: Duration = Duration::from_millis(100);

/// Tells of batches. Clones share the connection.
#[derive(Clone)]
pub struct ChangeFeed {
    stores: Stores,
    /// One that notes.
    database: EventStore,
    prefix: Arc<str>,
    publisher: Arc<Mutex<ChangePublisher>>,
}

impl ChangeFeed {
    /// None unless it is wanted.
    pub fn wanted(stores: &Stores, bus: &BusConfig) -> Option<Self> {
        bus.changes.enabled.then(|| Self {
            stores: stores.clone(),
            database: stores.database.clone().with_change_notes(true),
            prefix: bus.prefix.as_str().into(),
            publisher: Arc::new(Mutex::new(ChangePublisher::new(bus.clone()))),
        })
    }

    /// Publishes what a committed batch has touched, or notes it; as long as neither is possible it waits. False if the
    /// process is to end first: then nobody was told, and the batch must come again.
    pub(crate) async fn tell(&self, applied: &Applied, soft: &CancellationToken) -> bool {
        let (messages, events) = ChangeEvents::of(&self.prefix).messages(&applied.counts, &applied.pairs);
        loop {
            if self.stores.changes.may_try(Instant::now()) {
                let started = Instant::now();
                let mut publisher = self.publisher.lock().await;
                match publisher.publish(&messages).await {
                    Ok(()) => {
                        self.stores.changes.taken();
                        metrics::changes_published("at_once", events, started.elapsed());
                        fail::fail_point!("changes.published");
                        return true;
                    }
                    Err(error) => {
                        metrics::change_publish_failed();
                        faults::tell("publishing changes, which are noted,", &error);
                        self.stores.changes.refused(Instant::now(), error.to_string());
                    }
                }
            }
            let pairs: Vec<Pair> = applied.pairs.iter().map(|(pair, _)| *pair).collect();
            match self.database.note_changes(&pairs, wall_clock()).await {
                Ok(()) => {
                    metrics::changes_noted(pairs.len());
                    return true;
                }
                Err(error) => self.stores.database_circuit.failure(&error),
            }
            tokio::select! {
                () = soft.cancelled() => return false,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Ends the connection.
    pub(crate) async fn close(&self) {
        self.publisher.lock().await.close().await;
    }
}
