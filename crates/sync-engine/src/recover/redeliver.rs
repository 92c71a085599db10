//! Rescue: the journal is the truth, so whatever stays in it too long is brought on its way again.
//!
//! An entry is stuck when it is older than `republish_after` and the queue cannot still hold it: the consumers have
//! settled entries well beyond it, or the queue is empty. A queue that merely has a backlog is never multiplied. Each
//! entry comes again with a growing interval. While the broker is unreachable, stuck entries are applied directly.
//!
//! While a database is recovered its journals are left to who recovers it: all that was committed meanwhile is in them, and the
//! queue would carry it once more. That is over with the latch, and a little later: when a recovery has settled the journals, or
//! has not after [half a minute](crate::stores::database_history).
//!
//! Who holds the lease looks each `rescue_interval`, which costs several commands for each shard. The others ask for the lease now
//! and then (`Lease`), and see the journals as a probe has seen them every quarter of `republish_after`. Whoever gets the lease
//! looks at once.
//!
//! One process at a time holds the lease; two at once would only publish twice, which versions make harmless. Only a process
//! that reaches the database competes for it, and a holder that does not gives it back: another one may reach it.

use super::entry_age::EntryAge;
use crate::apply::Applier;
use crate::deliver::relay::publish;
use crate::metrics;
use crate::planted;
use crate::stores::lease::Lease;
use crate::stores::{Stores, faults};
use domain::cache::{CacheError, JournalPages, ShardStatus};
use domain::codec::EncodedEvent;
use domain::{LikeEvent, ShardId, Version};
use event_bus::Publisher;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const LEASE: &str = "rescue";
const LEASE_TTL: Duration = Duration::from_secs(5);

/// Most pages of one shard looked at in one round.
const PAGES: usize = 8;

/// Longest interval between two publications of the same entry.
const LONGEST_INTERVAL: Duration = Duration::from_secs(300);

/// Brings stuck entries on their way.
pub struct Rescuer {
    stores: Stores,
    applier: Applier,
    publisher: Option<Publisher>,

    lease: Lease,
    batch_size: usize,
    republish_after: Duration,
    interval: Duration,

    /// Entries published again and not settled yet; bounded by the pages looked at.
    attempts: HashMap<(ShardId, Version), Attempt>,
    /// One per shard.
    ages: HashMap<ShardId, EntryAge>,
    /// At the journals.
    looked: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Attempt {
    count: u32,
    next: Instant,
}

impl Rescuer {
    /// `owner` must differ between processes. Without a publisher stuck entries are applied directly.
    pub fn new(
        stores: Stores,
        applier: Applier,
        publisher: Option<Publisher>,
        owner: String,
        config: &crate::SyncConfig,
    ) -> Self {
        let lease = Lease::new(Arc::clone(&stores.cache), LEASE, owner, LEASE_TTL);
        Self {
            stores,
            applier,
            publisher,
            lease,
            batch_size: config.batch_size,
            republish_after: config.republish_after,
            interval: config.rescue_interval,
            attempts: HashMap::new(),
            ages: HashMap::new(),
            looked: None,
        }
    }

    /// Runs until `stop`.
    pub fn run(self, stop: CancellationToken) -> BoxFuture<'static, ()> {
        self.run_inner(stop).boxed()
    }

    async fn run_inner(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(self.interval) => {}
            }
            let open = self.stores.cache_circuit.is_open();
            if open && !self.stores.cache.is_full() || self.stores.resharded().is_some() {
                continue;
            }
            let round = tokio::select! {
                () = stop.cancelled() => break,
                round = self.round() => round,
            };
            match round {
                Ok(()) => {}
                // Nothing new.
                Err(_) if open => {}
                Err(error) if error.is_unavailable() => self.stores.cache_failed_somewhere(&error),
                Err(error) => drop(faults::tell("looking at the journals", &error)),
            }
        }
        let _ = self.lease.give_back().await;
        if let Some(publisher) = self.publisher {
            publisher.close().await;
        }
    }

    async fn round(&mut self) -> Result<(), CacheError> {
        let lease = self.holds_lease().await;
        let at = Instant::now();
        if !matches!(lease, Ok(true)) && !looks_anyway(self.looked, at, self.republish_after) {
            return self.leave_to_holder(lease.map(drop));
        }
        let ours = matches!(lease, Ok(true));
        let cache = &self.stores.cache;
        let status = if ours { cache.shard_status().await? } else { cache.shard_status_lately().await? };
        let at = Instant::now();
        self.looked = Some(at);
        for shard in &status {
            let age = self.ages.entry(shard.shard).or_default();
            // Of before what was seen here says nothing new, and not that the cache begins anew either.
            if ours || !age.is_behind(shard.now) {
                age.mark(at, shard.now, self.republish_after / 8);
            }
        }
        let oldest = status.iter().map(|shard| self.oldest_age(shard)).max().unwrap_or_default();
        metrics::journals(&status, oldest);
        self.stores.flow.saw_journals(status.iter().map(|shard| shard.journal_len).sum());
        if !matches!(lease, Ok(true)) {
            return self.leave_to_holder(lease.map(drop));
        }
        if self.stores.is_latched() || self.stores.history.settles_journals() {
            // Most of them are committed. They are settled by who recovers; if nobody does, the wait ends by itself.
            self.attempts.clear();
            return Ok(());
        }
        let direct = self.publisher.is_none() || self.stores.broker_circuit.is_open();
        let mut queue_empty = true;
        if let Some(publisher) = self.publisher.as_mut().filter(|_| !direct) {
            match publisher.queue_depth().await {
                Ok(depth) => {
                    metrics::queue(depth.ready, depth.consumers);
                    self.stores.flow.saw_consumers(Some(depth.consumers));
                    // One whose leader nobody knows looks empty, too: its backlog would be published once more.
                    queue_empty = depth.ready == 0 && depth.known;
                }
                Err(error) => {
                    self.stores.broker_circuit.failure(&error);
                    return Ok(());
                }
            }
        }
        let stuck: Vec<ShardStatus> =
            status.into_iter().filter(|shard| self.oldest_age(shard) > self.republish_after).collect();
        if stuck.is_empty() {
            self.attempts.clear();
        }
        if direct {
            for shard in stuck {
                self.apply_shard(&shard).await?;
            }
            return Ok(());
        }
        // Together: a confirm takes as long for one entry as for a batch.
        let mut due = Vec::new();
        for shard in stuck {
            if !self.collect_due(&shard, queue_empty, &mut due).await? {
                return Ok(());
            }
        }
        self.republish(&due).await;
        Ok(())
    }

    /// Its holder shows the queue; what this process once saw is not true any more. Where nobody knows who that is, it stays.
    fn leave_to_holder(&mut self, lease: Result<(), CacheError>) -> Result<(), CacheError> {
        lease?;
        self.attempts.clear();
        metrics::queue(0, 0);
        self.stores.flow.saw_consumers(None);
        Ok(())
    }

    /// Takes or keeps the lease, if the work can be done from here: without the database nothing stuck can be applied, and
    /// whether consumers settle is not known.
    async fn holds_lease(&self) -> Result<bool, CacheError> {
        if self.stores.database_circuit.is_open() {
            self.lease.give_back().await?;
            return Ok(false);
        }
        self.lease.is_ours().await
    }

    /// Zero if there is none.
    fn oldest_age(&self, shard: &ShardStatus) -> Duration {
        shard.oldest.map_or(Duration::ZERO, |oldest| self.age(shard, oldest))
    }

    fn age(&self, shard: &ShardStatus, version: Version) -> Duration {
        let by_version = || shard.now.since(version);
        self.ages.get(&shard.shard).map_or_else(by_version, |age| age.age(Instant::now(), shard.now, version))
    }

    /// Whether consumers have settled what was accepted so long after it.
    fn is_passed(&self, shard: &ShardStatus, version: Version) -> bool {
        let by_version = || shard.settled_up_to.since(version);
        let age = self.ages.get(&shard.shard);
        let passed = age.map_or_else(by_version, |age| age.between(version, shard.settled_up_to));
        passed > self.republish_after
    }

    /// The broker is unreachable: what is stuck goes to the database from here.
    async fn apply_shard(&self, shard: &ShardStatus) -> Result<(), CacheError> {
        let mut pages = JournalPages::new(self.stores.cache.as_ref(), shard.shard, self.batch_size, PAGES);
        while !self.stores.database_circuit.is_open()
            && let Some(page) = pages.next().await?
        {
            fail::fail_point!("rescue.read");
            let events: Vec<LikeEvent> = page
                .iter()
                .filter(|entry| self.age(shard, entry.version) > self.republish_after)
                .filter_map(decoded)
                .collect();
            if events.is_empty() || self.applier.apply(&events).await.is_err() {
                return Ok(());
            }
            metrics::rescued("applied", events.len());
        }
        Ok(())
    }

    /// Adds what is due in this shard, and publishes whenever a batch is full; false if that failed.
    async fn collect_due(
        &mut self,
        shard: &ShardStatus,
        queue_empty: bool,
        due: &mut Vec<Due>,
    ) -> Result<bool, CacheError> {
        // What left the journal needs no memory.
        let oldest = shard.oldest.unwrap_or(Version::ZERO);
        self.attempts.retain(|(of, version), _| *of != shard.shard || *version >= oldest);

        if !queue_empty && !self.is_passed(shard, oldest) {
            // Nobody has passed the oldest entry, so none of them: a backlog is not even read.
            return Ok(true);
        }
        let cache = Arc::clone(&self.stores.cache);
        let mut pages = JournalPages::new(cache.as_ref(), shard.shard, self.batch_size, PAGES);
        while let Some(page) = pages.next().await? {
            fail::fail_point!("rescue.read");
            let newest = page.last().map(|entry| entry.version);
            let now = Instant::now();
            due.extend(page.into_iter().filter_map(|entry| {
                let passed = self.is_passed(shard, entry.version);
                let old = self.age(shard, entry.version) > self.republish_after;
                let waited = self.attempts.get(&(shard.shard, entry.version)).is_none_or(|attempt| attempt.next <= now);
                let stuck = old && waited && (queue_empty || passed);
                (stuck && decoded(&entry).is_some()).then_some(Due { shard: shard.shard, entry })
            }));
            if due.len() >= self.batch_size && !self.republish(&std::mem::take(due)).await {
                return Ok(false);
            }
            if newest.is_some_and(|newest| self.age(shard, newest) <= self.republish_after) {
                return Ok(true);
            }
        }
        Ok(true)
    }

    /// Publishes in messages of at most `batch_size` events; false if one of them failed.
    async fn republish(&mut self, due: &[Due]) -> bool {
        for message in due.chunks(self.batch_size) {
            if !self.republish_message(message).await {
                return false;
            }
        }
        true
    }

    async fn republish_message(&mut self, due: &[Due]) -> bool {
        let entries: Vec<EncodedEvent> = due.iter().map(|due| due.entry.clone()).collect();
        if planted::rescuer_drops(&self.applier, &entries).await {
            return true;
        }
        let Some(publisher) = &mut self.publisher else { return false };
        match publish(&self.stores.traces, publisher, &entries).await {
            Ok(()) => {
                for Due { shard, entry } in due {
                    let count = self.attempts.get(&(*shard, entry.version)).map_or(0, |attempt| attempt.count + 1);
                    let interval = self.republish_after.saturating_mul(1 << count.min(16)).min(LONGEST_INTERVAL);
                    self.attempts.insert((*shard, entry.version), Attempt { count, next: Instant::now() + interval });
                }
                metrics::rescued("republished", due.len());
                tracing::info!(events = due.len(), "stuck journal entries published again");
                true
            }
            Err(error) => {
                if error.is_unavailable() {
                    // They have waited long enough: the next round applies them directly.
                    self.stores.broker_circuit.trip(&error);
                } else {
                    faults::tell("publishing stuck entries again", &error);
                }
                false
            }
        }
    }
}

/// Whether a process without the lease looks at the journals: its gauges and marks are to be recent. An age by marks is a lower bound
/// and lacks at most the time between two; versions, which are times as a rule, lack nothing.
fn looks_anyway(looked: Option<Instant>, now: Instant, republish_after: Duration) -> bool {
    looked.is_none_or(|looked| now.saturating_duration_since(looked) >= republish_after / 4)
}

/// A stuck entry whose turn it is.
struct Due {
    shard: ShardId,
    entry: EncodedEvent,
}

fn decoded(entry: &EncodedEvent) -> Option<LikeEvent> {
    match entry.decode() {
        Ok(event) => Some(event),
        Err(error) => {
            // Only a foreign writer can do this. It stays where it is, and the journal's age raises the alarm.
            if let Some(times) = faults::again("journal entry cannot be decoded") {
                tracing::error!(%error, times, version = %entry.version, "journal entry cannot be decoded");
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_lease_journals_are_looked_at_four_times_before_an_entry_is_stuck() {
        let (start, after) = (Instant::now(), Duration::from_secs(4));
        assert!(looks_anyway(None, start, after));
        let looks = |millis| looks_anyway(Some(start), start + Duration::from_millis(millis), after);
        assert_eq!([looks(0), looks(500), looks(999), looks(1_000)], [false, false, false, true]);
    }
}
