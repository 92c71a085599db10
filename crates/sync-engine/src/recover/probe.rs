//! Probes: the only ones that close a circuit, and the first to notice an outage when there is no traffic.
//!
//! A probe asks for all that a part must be able to do, for every program alike. What fails it may leave some calls as they
//! were (a missing right, one key, a table that somebody locks), and each call that goes well would make up for a probe that
//! did not. So probes that fail are counted by themselves, and as many in a row as of calls open the circuit. After one that
//! failed the next comes as soon as while the circuit is open: what it met may have been the end of a server whose successor
//! answers already.

use crate::recover::catch_up;
use crate::stores::Stores;
use crate::stores::circuit_breaker::Circuit;
use event_bus::Publisher;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// A probe that takes longer has failed.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// While all is well, parts are looked at this often; the cache's clock is measured with it.
const CALM_INTERVAL: Duration = Duration::from_secs(1);

/// Watches the cache; while both stores answer, tells it what degraded writes it missed.
pub fn watch_cache(stores: Stores, interval: Duration, stop: CancellationToken) -> BoxFuture<'static, ()> {
    watch_cache_inner(stores, interval, stop).boxed()
}

async fn watch_cache_inner(stores: Stores, interval: Duration, stop: CancellationToken) {
    let mut failed = FailedInARow::default();
    while pause_for_cache(&stores, &failed, interval, &stop).await {
        if let Some(resharded) = stores.resharded() {
            failed.tell(&stores.cache_circuit, &resharded);
            continue;
        }
        // A cache that comes back may be another one: it is examined like at start.
        let open = stores.cache_circuit.is_open() || stores.shard_circuits.any();
        let look = async {
            let examined = if open { stores.cache.prepare().await } else { Ok(()) };
            // While all is well one process probes for all. Whoever met trouble looks by itself.
            let alone = open || failed.any();
            let asked = if alone { stores.cache.ping_shards().await } else { stores.cache.watch_shards().await };
            examined.and(asked)
        };
        let away = match timeout(PROBE_TIMEOUT, look).await {
            Ok(Ok(away)) => {
                failed = FailedInARow::default();
                away
            }
            Ok(Err(error)) => {
                failed.tell(&stores.cache_circuit, &error);
                continue;
            }
            Err(elapsed) => {
                failed.tell(&stores.cache_circuit, &elapsed);
                continue;
            }
        };
        for (shard, error) in &away {
            stores.shard_circuits.failure(*shard, error);
        }
        stores.clocks.compare_cache(&*stores.cache);
        match timeout(PROBE_TIMEOUT, stores.cache.durability()).await {
            Ok(Ok(Some(durability))) => stores.cache_disk.saw(Instant::now(), durability),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the cache did not speak of its disk"),
            Err(error) => tracing::debug!(%error, "the cache did not speak of its disk"),
        }
        let told = if stores.cache_circuit.is_open() {
            catch_up::close_cache_circuit(&stores).await
        } else if stores.database_circuit.is_open() {
            Ok(())
        } else {
            stores.cache_circuit.success();
            catch_up::drain(&stores).await.map(drop)
        };
        look_at_told(&stores, told);
        let mut back = stores.shard_circuits.may_close();
        back.retain(|shard| !away.iter().any(|(away, _)| away == shard));
        if !back.is_empty() && !stores.cache_circuit.is_open() {
            look_at_told(&stores, catch_up::close_shard_circuits(&stores, &back).await);
        }
    }
}

fn look_at_told(stores: &Stores, told: Result<(), catch_up::RefreshError>) {
    match told {
        Ok(()) => {}
        Err(catch_up::RefreshError::Cache(error)) => stores.cache_failed_somewhere(&error),
        Err(catch_up::RefreshError::Store(error)) => stores.database_circuit.failure(&error),
    }
}

async fn pause_for_cache(stores: &Stores, failed: &FailedInARow, interval: Duration, stop: &CancellationToken) -> bool {
    if !stores.cache_circuit.is_open() && stores.shard_circuits.any() {
        return wait(interval.max(stores.shard_circuits.held()), stop).await;
    }
    pause(&stores.cache_circuit, failed, interval, stop).await
}

/// Watches the database.
pub fn watch_database(stores: Stores, interval: Duration, stop: CancellationToken) -> BoxFuture<'static, ()> {
    watch_database_inner(stores, interval, stop).boxed()
}

async fn watch_database_inner(stores: Stores, interval: Duration, stop: CancellationToken) {
    let mut failed = FailedInARow::default();
    while pause(&stores.database_circuit, &failed, interval, &stop).await {
        // No deadline of ours: a first migration may take long, and every call within has its own.
        let alone = stores.database_circuit.is_open() || failed.any();
        let looked = if alone { stores.prepare_database().await } else { stores.watch_database().await };
        match looked {
            Ok(()) => {
                failed = FailedInARow::default();
                stores.database_circuit.close();
            }
            Err(error) => failed.tell(&stores.database_circuit, &error),
        }
    }
}

/// Watches the broker over a connection of its own.
pub fn watch_broker(
    stores: Stores,
    publisher: Publisher,
    interval: Duration,
    stop: CancellationToken,
) -> BoxFuture<'static, ()> {
    watch_broker_inner(stores, publisher, interval, stop).boxed()
}

async fn watch_broker_inner(stores: Stores, mut publisher: Publisher, interval: Duration, stop: CancellationToken) {
    let mut failed = FailedInARow::default();
    while pause(&stores.broker_circuit, &failed, interval, &stop).await {
        match publisher.probe().await {
            Ok(()) => {
                failed = FailedInARow::default();
                stores.broker_circuit.close();
            }
            Err(error) => failed.tell(&stores.broker_circuit, &error),
        }
    }
    publisher.close().await;
}

/// Probes of one part that failed, since the last one that passed.
#[derive(Debug, Default)]
struct FailedInARow(u32);

impl FailedInARow {
    const fn any(&self) -> bool {
        self.0 > 0
    }

    fn tell(&mut self, circuit: &Circuit, error: &dyn std::fmt::Display) {
        self.0 = self.0.saturating_add(1);
        if self.0 >= circuit.threshold() { circuit.trip(error) } else { circuit.failure(error) }
    }

    /// Until the next probe.
    fn pause(&self, circuit: &Circuit, interval: Duration) -> Duration {
        match (circuit.is_open(), self.0) {
            // After a relapse a probe that passes is not believed for a while, so there is none.
            (true, _) => interval.max(circuit.held()),
            (false, 0) => CALM_INTERVAL,
            (false, _) => interval.min(CALM_INTERVAL),
        }
    }
}

/// Waits until it is time to look; false at the end.
async fn pause(circuit: &Circuit, failed: &FailedInARow, interval: Duration, stop: &CancellationToken) -> bool {
    wait(failed.pause(circuit, interval), stop).await
}

async fn wait(time: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = sleep(time) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_that_fail_count_whatever_calls_do() {
        let (circuit, mut failed) = (Circuit::new("test", 3), FailedInARow::default());
        for probe in 1..=3 {
            assert!(!circuit.is_open(), "before probe {probe}");
            failed.tell(&circuit, &"a right is missing");
            circuit.success();
        }
        assert!(circuit.is_open());
    }

    #[test]
    fn after_a_probe_that_failed_the_next_comes_soon() {
        let (circuit, mut failed) = (Circuit::new("test", 3), FailedInARow::default());
        let interval = Duration::from_millis(250);
        assert_eq!(failed.pause(&circuit, interval), CALM_INTERVAL);
        for _ in 0..2 {
            failed.tell(&circuit, &"the connection broke");
            assert_eq!(failed.pause(&circuit, interval), interval);
            assert_eq!(failed.pause(&circuit, 3 * CALM_INTERVAL), CALM_INTERVAL);
        }
        failed.tell(&circuit, &"the connection broke");
        assert_eq!(failed.pause(&circuit, 3 * CALM_INTERVAL), 3 * CALM_INTERVAL);
        failed = FailedInARow::default();
        circuit.close();
        assert_eq!(failed.pause(&circuit, interval), CALM_INTERVAL);
    }
}
