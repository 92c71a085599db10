//! Counters that the cache does not know are loaded once, for all that ask at the same time.

use super::call::let_cancel;
use super::{Acceptor, FILL_TIMEOUT, positions};
use domain::cache::{AcceptOutcome, AcceptRequest, CacheResult, MissingCount};
use domain::{Resource, StoredCount};
use futures::FutureExt;
use moka::future::Cache;
use std::sync::Arc;
use std::time::Duration;

/// How long a loaded count serves those who asked for it at the same time. It may be old by then: every fill is
/// checked again afterwards.
const SINGLE_FLIGHT_TTL: Duration = Duration::from_millis(100);

const SINGLE_FLIGHT_ENTRIES: u64 = 100_000;

/// Loads that are shared.
pub(super) fn single_flight() -> Cache<Resource, StoredCount> {
    Cache::builder().max_capacity(SINGLE_FLIGHT_ENTRIES).time_to_live(SINGLE_FLIGHT_TTL).build()
}

impl Acceptor {
    /// Asks again about those whose counters the cache did not know; false if nobody can say the counts.
    pub(super) async fn ask_with_counts(
        &self,
        requests: &mut [AcceptRequest],
        outcomes: &mut [CacheResult<AcceptOutcome>],
        began: tokio::time::Instant,
    ) -> bool {
        let missing = positions(outcomes, |outcome| matches!(outcome, Ok(AcceptOutcome::CountMissing)));
        if missing.is_empty() {
            return true;
        }
        let said = self.say_counts(requests, &missing).boxed().await;
        let_cancel(began).await;
        let again: Vec<AcceptRequest> = missing.iter().map(|i| requests[*i].clone()).collect();
        for (i, outcome) in missing.iter().zip(self.ask_cache(&again).await) {
            outcomes[*i] = outcome;
        }
        if said {
            self.recheck.liked(again.iter().map(|request| request.intent.pair.resource));
        }
        said
    }

    /// Puts what the database says into requests whose counter is unknown; false if the database cannot say.
    async fn say_counts(&self, requests: &mut [AcceptRequest], missing: &[usize]) -> bool {
        let counts = if self.stores.database_circuit.is_open() {
            None
        } else {
            let resources: Vec<Resource> = missing.iter().map(|i| requests[*i].intent.pair.resource).collect();
            match tokio::time::timeout(FILL_TIMEOUT, self.load_counts(&resources).boxed()).await {
                Ok(counts) => counts,
                Err(elapsed) => {
                    self.stores.database_circuit.failure(&elapsed);
                    None
                }
            }
        };
        for (position, index) in missing.iter().enumerate() {
            requests[*index].missing =
                counts.as_ref().map_or(MissingCount::Without, |counts| MissingCount::Fill(counts[position]));
        }
        counts.is_some()
    }

    async fn load_counts(&self, resources: &[Resource]) -> Option<Vec<StoredCount>> {
        let loaded = if let [only] = resources {
            // A hot resource's first likes arrive together: one of them loads for all.
            let load = async { self.stores.likes.load_counts(&[*only]).await.map(|counts| counts[0]) };
            self.loads.try_get_with(*only, load).boxed().await.map(|count| vec![count])
        } else {
            self.stores.likes.load_counts(resources).await.map_err(Arc::new)
        };
        match loaded {
            Ok(counts) => {
                self.stores.database_circuit.success();
                Some(counts)
            }
            Err(error) => {
                self.stores.database_circuit.failure(&error);
                None
            }
        }
    }
}
