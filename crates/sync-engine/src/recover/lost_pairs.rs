//! Brings back from cached pairs what a database has lost that became what it once was.
//!
//! A cached pair that is newer than its row, and in no journal, was settled: the database had it. So it is applied again, by
//! its version, under an id that follows from pair and version: whoever does this twice, or stops half way and begins
//! again, changes nothing twice, and whatever else brings the event back (a queue, a log, a user) wins or loses by version
//! as ever. Counters come right by the transitions of their rows; one that the cache knows a newer revision of is counted
//! again, above that revision, so that the cache believes it.
//!
//! The order of the looks makes the proof: pair, journal, row. What has left the journal was committed before.
//!
//! # What is not here
//!
//! What is not cached any more nobody has, and what a user did before the last word of a pair is not in the pair: both
//! need a log of events. This is one step of a whole recovery ([`automatic`](super::automatic)); by itself it loses nothing either:
//! consumers go on meanwhile.

use crate::apply::{Applier, DatabaseUnreachable};
use crate::clock::wall_clock;
use crate::recover::replay::Listener;
use crate::stores::Stores;
use domain::cache::{CacheError, Settlement};
use domain::{Action, LikeEvent, LikeIntent, Origin, Pair, PairState, Resource, StoredCount, Version};
use event_store::{Fenced, StoreError};
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Pairs looked at together, about.
const PAGE: u32 = 500;

/// Looks at the journals that are under way together.
const LOOKS: usize = 16;

/// What was found, and done about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Recovered {
    /// Cached pairs that were looked at.
    pub pairs: u64,
    /// Those that the database had lost.
    pub lost: u64,
    /// Those of them that are in the database again.
    pub applied: u64,
    /// Newer ones whose event waits in the ledger, or was discarded: left alone.
    pub in_ledger: u64,
    /// Counters that were counted again because the cache had heard of a newer revision.
    pub recounted: u64,
    /// Everything was looked at.
    pub finished: bool,
}

/// Why it stopped; begin again.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was reached before.
    #[error(transparent)]
    Unreachable(#[from] DatabaseUnreachable),
    /// A checker has begun to repair with a newer token.
    #[error("another process repairs: begin again")]
    Fenced,
}

/// What a walk through the cached pairs does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walk {
    /// Brings back pairs, and counts again what the cache knows a newer revision of.
    Everything,
    /// Brings back pairs; the cache hears nothing.
    Pairs,
    /// Looks whether a pair lacks still, and makes every cached counter what the database says.
    Counters,
}

/// Goes through the cached pairs.
pub struct LostPairs {
    stores: Stores,
    applier: Applier,
    /// Pairs per second, at most.
    rate: u32,
    dry_run: bool,
    listener: Option<Listener>,
}

impl LostPairs {
    /// With `dry_run` it is only counted.
    pub fn new(stores: Stores, applier: Applier, rate: u32, dry_run: bool) -> Self {
        Self { stores, applier, rate: rate.max(1), dry_run, listener: None }
    }

    /// Says what came back.
    #[must_use]
    pub(crate) fn heard_by(self, listener: Listener) -> Self {
        Self { listener: Some(listener), ..self }
    }

    /// Until all pairs were seen, or `stop`. Afterwards the database is believed again, unless this was a dry run.
    pub fn run<'a>(
        &'a self,
        stop: &'a CancellationToken,
        each: impl FnMut(Recovered) + Send + 'a,
    ) -> BoxFuture<'a, Result<Recovered, RecoverError>> {
        self.run_inner(stop, each).boxed()
    }

    async fn run_inner(
        &self,
        stop: &CancellationToken,
        each: impl FnMut(Recovered) + Send,
    ) -> Result<Recovered, RecoverError> {
        let token = if self.dry_run { None } else { Some(self.stores.database.take_repair_token().await?) };
        // What is committed from here on is in the database that is recovered.
        let told = self.stores.cache.commits().await?;
        let latched = self.stores.is_latched();
        let done = self.walk(Walk::Everything, token, stop, each).await?;
        if done.finished && !self.dry_run {
            self.stores.database.forget_went_back(&told).await?;
            self.stores.history.saw_recovery(None);
            if latched {
                // What came back was not told to the cache.
                self.walk(Walk::Counters, token, stop, |_| {}).await?;
            }
        }
        Ok(done)
    }

    /// Without a token it is only counted.
    pub(crate) async fn walk(
        &self,
        walk: Walk,
        token: Option<u64>,
        stop: &CancellationToken,
        mut each: impl FnMut(Recovered) + Send,
    ) -> Result<Recovered, RecoverError> {
        let mut done = Recovered::default();
        let mut cursor = 0;
        while !stop.is_cancelled() {
            let (pairs, next) = self.stores.cache.cached_pairs(cursor, PAGE).await?;
            self.page(&pairs, walk, token, &mut done).await?;
            each(done);
            cursor = next;
            if cursor == 0 {
                done.finished = true;
                break;
            }
            tokio::time::sleep(Duration::from_secs(pairs.len() as u64) / self.rate).await;
        }
        Ok(done)
    }

    async fn page(
        &self,
        pairs: &[Pair],
        walk: Walk,
        token: Option<u64>,
        done: &mut Recovered,
    ) -> Result<(), RecoverError> {
        done.pairs += pairs.len() as u64;
        let newer = self.newer(pairs).await?;
        let waiting = self.stores.database.in_ledger_unfinished(&newer).await?;
        done.in_ledger += waiting.iter().filter(|waits| **waits).count() as u64;
        let lost = newer.iter().zip(waiting).filter(|(_, waits)| !waits);
        let events: Vec<LikeEvent> = lost.map(|((pair, state), _)| event_of(*pair, *state)).collect();
        done.lost += events.len() as u64;
        let Some(token) = token else { return Ok(()) };
        if !events.is_empty() {
            done.applied += self.applier.apply(&events).await?.applied as u64;
            if let Some(listener) = &self.listener {
                listener(&events);
            }
        }
        if walk != Walk::Pairs {
            let resources: BTreeSet<Resource> = pairs.iter().map(|pair| pair.resource).collect();
            let resources: Vec<Resource> = resources.into_iter().collect();
            done.recounted += self.recount(&resources, token).await?;
            if walk == Walk::Counters {
                self.tell(&resources).await?;
            }
        }
        Ok(())
    }

    /// The cache hears what the database says of these, as far as that is newer.
    pub(crate) async fn tell(&self, resources: &[Resource]) -> Result<(), RecoverError> {
        let cached = self.stores.cache.counts(resources).await?;
        let stored = self.stores.database.load_counts(resources).await?;
        let counts = resources.iter().zip(cached).zip(stored);
        let older = counts.filter_map(|((resource, cached), stored)| {
            cached.filter(|cached| cached.stored_revision < stored.revision).map(|_| (*resource, stored))
        });
        let older: Vec<(Resource, StoredCount)> = older.collect();
        if !older.is_empty() {
            self.stores.cache.settle(&Settlement::of_rows(older, [])).await?;
        }
        Ok(())
    }

    /// Pairs that are newer than their rows and not on their way.
    async fn newer(&self, pairs: &[Pair]) -> Result<Vec<(Pair, PairState)>, RecoverError> {
        let cached = self.stores.cache.states(pairs).await?;
        let rows = self.stores.database.load_states(pairs).await?;
        let cached = pairs.iter().zip(cached).filter_map(|(pair, state)| Some((*pair, state?)));
        let rows: BTreeMap<Pair, PairState> = pairs.iter().copied().zip(rows).collect();
        let newer: Vec<(Pair, PairState)> =
            cached.filter(|(pair, state)| rows.get(pair).is_none_or(|row| state.version > row.version)).collect();
        // Under load many are on their way, and one look after another would take longer than they do.
        let looks: Vec<_> = newer.into_iter().map(|(pair, state)| self.unless_journaled(pair, state)).collect();
        let looked: Vec<Option<(Pair, PairState)>> = stream::iter(looks).buffered(LOOKS).try_collect().await?;
        let suspects: Vec<(Pair, PairState)> = looked.into_iter().flatten().collect();
        let again: Vec<Pair> = suspects.iter().map(|(pair, _)| *pair).collect();
        let rows = self.stores.database.load_states(&again).await?;
        let newer = suspects.into_iter().zip(rows).filter(|((_, state), row)| state.version > row.version);
        Ok(newer.map(|(suspect, _)| suspect).collect())
    }

    /// This pair, unless the journal has its event.
    async fn unless_journaled(&self, pair: Pair, state: PairState) -> Result<Option<(Pair, PairState)>, CacheError> {
        let shard = self.stores.shards().of(pair.resource);
        let page = self.stores.cache.journal_page(shard, Version(state.version.0 - 1), 1).await?;
        Ok(page.iter().all(|entry| entry.version != state.version).then_some((pair, state)))
    }

    /// Counters of which the cache has heard a newer revision than the database has.
    pub(crate) async fn recount(&self, resources: &[Resource], token: u64) -> Result<u64, RecoverError> {
        let cached = self.stores.cache.counts(resources).await?;
        let stored = self.stores.database.load_counts(resources).await?;
        let mut recounted = 0;
        for ((resource, cached), stored) in resources.iter().zip(cached).zip(stored) {
            let Some(cached) = cached.filter(|cached| cached.stored_revision > stored.revision) else { continue };
            let above = cached.stored_revision;
            match self.stores.database.repair_count(*resource, above, token, wall_clock()).await? {
                Fenced::Refused => return Err(RecoverError::Fenced),
                Fenced::Done(repaired) => {
                    let counts: [(Resource, StoredCount); 1] = [(*resource, repaired.after)];
                    self.stores.cache.settle(&Settlement::of_rows(counts, [])).await?;
                    recounted += 1;
                }
            }
        }
        Ok(recounted)
    }
}

/// The event that a pair stands for. Always the same id, made at the time of the version.
fn event_of(pair: Pair, state: PairState) -> LikeEvent {
    let seed = format!("{pair} {} {}", state.version, state.liked);
    // FNV-1a, twice as long as needed to tell the pairs of a millisecond apart.
    let hash =
        |basis: u64| seed.bytes().fold(basis, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let (first, second) = (hash(0xcbf2_9ce4_8422_2325).to_be_bytes(), hash(0x6c62_272e_07bb_0142).to_be_bytes());
    let rest = std::array::from_fn(|at| if at < 8 { first[at] } else { second[at - 8] });
    let millis = u64::try_from(state.version.0 / 1_000).unwrap_or(0);
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &rest).into_uuid();
    let intent = LikeIntent { id, pair, action: Action::from_liked(state.liked), idempotency_key: None, trace: None };
    LikeEvent { intent, version: state.version, origin: Origin::Import }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ResourceType;

    #[test]
    fn a_pair_and_its_version_are_always_the_same_event() {
        let pair = Pair::new(7, ResourceType::Video, 9).unwrap();
        let state = PairState { liked: true, version: Version(1_700_000_000_123_456) };
        let event = event_of(pair, state);
        assert_eq!(event, event_of(pair, state));
        assert_eq!(event.intent.id.get_version_num(), 7);
        assert_eq!(event.intent.id.as_u128() >> 80, 1_700_000_000_123);
        let others = [
            event_of(Pair::new(8, ResourceType::Video, 9).unwrap(), state),
            event_of(Pair::new(7, ResourceType::Comment, 9).unwrap(), state),
            event_of(pair, PairState { version: Version(1_700_000_000_123_457), ..state }),
        ];
        assert!(others.iter().all(|other| other.intent.id != event.intent.id));
    }
}
