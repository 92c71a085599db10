//! What this process accepted and could not deliver: the journal has it, and so does this memory, until it is settled.
//!
//! Redis may go back in time (a replica that was behind is promoted, a copy is loaded, somebody empties it). Then the journal
//! has forgotten entries, and what was neither published nor applied would be lost although the process that answered it is
//! alive. So it keeps them, asks the shards every second how they stand, and offers again what a shard has forgotten. An
//! event that comes twice changes nothing: the version decides.
//!
//! Bounded in bytes; beyond that the oldest are given up, and the journal alone has them.

use super::fate;
use super::relay::RelayHandle;
use crate::metrics;
use crate::stores::{Stores, faults};
use domain::cache::{CacheError, ShardStanding};
use domain::codec::EncodedEvent;
use domain::{ShardCount, ShardId, Version};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often the shards are asked while something is kept.
const INTERVAL: Duration = Duration::from_secs(1);

/// Journal entries read at a time.
const PAGE: usize = 1_000;

/// What an event takes beside its payload.
const OVERHEAD: usize = 160;

#[derive(Debug)]
struct Entry {
    event: EncodedEvent,
    /// The journal was seen to have it since the shard went back to this version.
    seen_since: Version,
}

#[derive(Debug, Default)]
struct Memory {
    entries: BTreeMap<(Version, ShardId), Entry>,
    bytes: usize,
}

/// The memory; clones share it.
#[derive(Debug, Clone)]
pub struct Kept {
    shards: ShardCount,
    limit: usize,
    memory: Arc<Mutex<Memory>>,
}

impl Kept {
    /// For events of data with so many shards, at most so many bytes.
    pub fn new(shards: ShardCount, limit: usize) -> Self {
        Self { shards, limit, memory: Arc::default() }
    }

    /// Keeps events that are in the journal.
    pub(super) fn keep(&self, reason: &'static str, events: &[EncodedEvent]) {
        let mut memory = self.lock();
        let mut given_up = Vec::new();
        for event in events {
            let Ok(decoded) = event.decode() else { continue };
            let shard = self.shards.of(decoded.pair().resource);
            memory.bytes += size(event);
            let entry = Entry { event: event.clone(), seen_since: Version::ZERO };
            if let Some(former) = memory.entries.insert((event.version, shard), entry) {
                memory.bytes -= size(&former.event);
            }
            while memory.bytes > self.limit {
                let Some((_, oldest)) = memory.entries.pop_first() else { break };
                memory.bytes -= size(&oldest.event);
                given_up.push(oldest.event);
            }
        }
        metrics::kept(memory.entries.len(), memory.bytes);
        drop(memory);
        if !given_up.is_empty() {
            fate::left(reason, &given_up);
            metrics::given_up(given_up.len());
        }
    }

    /// How many events are kept.
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The events of a shard about which its standing leaves doubt.
    fn doubtful(&self, standing: &ShardStanding) -> BTreeSet<Version> {
        let in_doubt = |(key, entry): (&(Version, ShardId), &Entry)| {
            let mine = key.1 == standing.shard;
            let in_doubt = !standing.whole
                || key.0 <= standing.back && entry.seen_since != standing.back
                || key.0 > standing.up_to;
            (mine && in_doubt).then_some(key.0)
        };
        self.lock().entries.iter().filter_map(in_doubt).collect()
    }

    /// What is settled goes.
    fn forget_settled(&self, standing: &ShardStanding) {
        let mut memory = self.lock();
        let mut settled = Vec::new();
        let Memory { entries, bytes } = &mut *memory;
        entries.retain(|(version, shard), entry| {
            let seen = ShardStanding {
                back: if entry.seen_since == standing.back { Version::ZERO } else { standing.back },
                ..*standing
            };
            let goes = *shard == standing.shard && seen.has_settled(*version);
            if goes {
                *bytes -= size(&entry.event);
                settled.push(entry.event.clone());
            }
            !goes
        });
        metrics::kept(entries.len(), *bytes);
        drop(memory);
        fate::left("settled", &settled);
    }

    /// The journal has these.
    fn seen(&self, standing: &ShardStanding, there: &BTreeSet<Version>) {
        let mut memory = self.lock();
        for version in there {
            if let Some(entry) = memory.entries.get_mut(&(*version, standing.shard)) {
                entry.seen_since = standing.back;
            }
        }
    }

    /// Hands an event out, if it is still kept.
    fn take(&self, version: Version, shard: ShardId) -> Option<EncodedEvent> {
        let mut memory = self.lock();
        let entry = memory.entries.remove(&(version, shard))?;
        memory.bytes -= size(&entry.event);
        metrics::kept(memory.entries.len(), memory.bytes);
        Some(entry.event)
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(event: &EncodedEvent) -> usize {
    event.payload.len() + OVERHEAD
}

/// Looks after what is kept.
pub struct Keeper {
    stores: Stores,
    kept: Kept,
    relay: RelayHandle,
}

impl Keeper {
    /// What the shards have forgotten goes to `relay` again.
    pub const fn new(stores: Stores, kept: Kept, relay: RelayHandle) -> Self {
        Self { stores, kept, relay }
    }

    /// Runs until `stop`.
    pub fn run(self, stop: CancellationToken) -> BoxFuture<'static, ()> {
        async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(INTERVAL) => {}
                }
                if self.kept.is_empty() || self.stores.cache_circuit.is_open() {
                    continue;
                }
                let round = tokio::select! {
                    () = stop.cancelled() => return,
                    round = self.round() => round,
                };
                match round {
                    Ok(()) => {}
                    Err(error) if error.is_unavailable() => self.stores.cache_failed_somewhere(&error),
                    Err(error) => drop(faults::tell("looking after what is kept", &error)),
                }
            }
        }
        .boxed()
    }

    async fn round(&self) -> Result<(), CacheError> {
        for standing in self.stores.cache.standings().await? {
            let doubtful = self.kept.doubtful(&standing);
            if !doubtful.is_empty() {
                self.look_for(&standing, &doubtful).await?;
            }
            self.kept.forget_settled(&standing);
        }
        Ok(())
    }

    /// What the journal does not have of these was settled, or forgotten; it is offered again in either case.
    async fn look_for(&self, standing: &ShardStanding, doubtful: &BTreeSet<Version>) -> Result<(), CacheError> {
        let Some((first, last)) = doubtful.first().zip(doubtful.last()) else { return Ok(()) };
        let mut there = BTreeSet::new();
        let mut after = Version(first.0 - 1);
        while after < *last {
            let page = self.stores.cache.journal_page(standing.shard, after, PAGE).await?;
            let Some(end) = page.last() else { break };
            after = end.version;
            there.extend(page.iter().map(|event| event.version).filter(|version| doubtful.contains(version)));
        }
        self.kept.seen(standing, &there);
        let shard = standing.shard;
        // A later one than was answered by then is another process's, and settled already; or it is forgotten.
        let forgotten = doubtful.difference(&there).filter(|version| **version <= standing.up_to).count();
        if forgotten > 0 && !planted_bugs::is_planted("reoffer_forgotten") {
            tracing::warn!(%shard, events = forgotten, "the journal has forgotten them: offered again");
            metrics::offered_again(forgotten);
        }
        for version in doubtful.difference(&there) {
            // It is kept until there is room: a relay that is behind would only give it back.
            let Some(room) = self.relay.room().await else { break };
            if let Some(event) = self.kept.take(*version, shard)
                && !planted_bugs::is_planted("reoffer_forgotten")
            {
                room.take(event);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Action;

    fn event(version: i64) -> EncodedEvent {
        EncodedEvent::from_event(&test_support::build::event(1, 1, Action::Like, version))
    }

    fn versions(kept: &Kept) -> Vec<i64> {
        kept.lock().entries.keys().map(|(version, _)| version.0).collect()
    }

    /// A look at an empty journal says nothing of what comes there a moment later.
    #[test]
    fn what_was_kept_after_the_look_is_not_taken_for_settled() {
        let shards = ShardCount::new(1).unwrap();
        let kept = Kept::new(shards, 1 << 20);
        kept.keep("test", &[event(5), event(7)]);
        let standing =
            ShardStanding { shard: ShardId(0), whole: true, back: Version::ZERO, up_to: Version(5), oldest: None };
        assert_eq!(kept.doubtful(&standing), BTreeSet::from([Version(7)]));
        kept.forget_settled(&standing);
        assert_eq!(versions(&kept), [7]);
        kept.forget_settled(&ShardStanding { up_to: Version(7), oldest: Some(Version(7)), ..standing });
        assert_eq!(versions(&kept), [7], "it is there still");
        kept.forget_settled(&ShardStanding { up_to: Version(7), ..standing });
        assert!(kept.is_empty());
    }
}
