//! What is liked most: each process that commits likes writes down what they came to, every few seconds.
//!
//! It is counted in memory, so a like pays for no row of it ([`EventStore::write_gains`](event_store::EventStore::write_gains)).
//! What was committed since the last time is lost with a process that dies; one that is stopped writes it.

use crate::stores::{Stores, faults};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const INTERVAL: Duration = Duration::from_secs(10);

/// Writes it down.
pub struct MostLiked {
    stores: Stores,
    interval: Duration,
}

impl MostLiked {
    /// From here on it is counted what this process commits.
    pub fn new(stores: Stores) -> Self {
        stores.database.count_gains();
        Self { stores, interval: INTERVAL }
    }

    /// Writes more or less often.
    #[must_use]
    pub fn with_interval(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// Runs until `stop`, and writes then what is left.
    pub fn run(self, stop: CancellationToken) -> BoxFuture<'static, ()> {
        self.run_inner(stop).boxed()
    }

    async fn run_inner(self, stop: CancellationToken) {
        let mut stopped = false;
        while !stopped {
            tokio::select! {
                () = stop.cancelled() => stopped = true,
                () = tokio::time::sleep(self.interval) => {}
            }
            if self.stores.database_circuit.is_open() {
                continue;
            }
            // It is tried again with what comes then.
            match self.stores.database.write_gains().await {
                Ok(_) => {}
                Err(error) if error.is_unavailable() => self.stores.database_circuit.failure(&error),
                Err(error) => drop(faults::tell("writing down what is liked most", &error)),
            }
        }
    }
}
