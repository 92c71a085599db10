//! Brings back from cached pairs what a database has lost that became what it once was.
//!
//! A cached pair that is newer than its row, and in no journal, was settled: the database had it. So it is applied again, by
//! its version, under an id that follows from pair and version: whoever does this twice, or stops half way and begins
//! again, changes nothing twice, and whatever else brings the event back (a queue, a log, a user) wins or loses by version
//! as ever. Counters come right by the transitions of their rows; one that the cache knows a newer revision of is counted
//! again, above that revision, so that the cache believes it.
//!
//! The order of the looks makes the proof: pair, journal, row. What has left the journal was committed before. One walk is
//! enough: a pair that is cached all the time is seen in it, and what is settled behind it, by a process that was slow, comes
//! with the number of a commit that the database does not have, which is the next verdict.
//!
//! # What it costs
//!
//! Every pair is compared: a like can have waited for any time before its commit, so no version is too old to be lost. Pages
//! are compared side by side ([`at_once`](LostPairs::at_once)), each with a few reads of the cache and one of the
//! database; counters afterwards, once each.
//!
//! # What is not here
//!
//! What is not cached any more nobody has, and what a user did before the last word of a pair is not in the pair: both
//! need a log of events. This is one step of a whole recovery ([`automatic`](super::automatic)); by itself it loses nothing either:
//! consumers go on meanwhile.

mod former;

use crate::apply::{Applier, DatabaseUnreachable};
use crate::clock::wall_clock;
use crate::recover::catch_up::RefreshError;
use crate::recover::fences;
use crate::recover::pace::Pace;
use crate::recover::replay::Listener;
use crate::stores::Stores;
use domain::cache::{CacheError, Settlement};
use domain::{Action, LikeEvent, LikeIntent, Origin, Pair, PairState, Resource, Version};
use event_store::{Fenced, StoreError};
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_util::sync::CancellationToken;

/// Pairs looked at together, about.
const PAGE: usize = 1_000;

/// Looks at the journals that are under way together, of each page.
const LOOKS: usize = 32;

/// Counters looked at together.
const COUNTERS: usize = 500;

/// Resources that are remembered until their counters are looked at, about 50 MB; beyond it the pairs are gone through once
/// more.
const RESOURCES: usize = 1_000_000;

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

impl From<RefreshError> for RecoverError {
    fn from(error: RefreshError) -> Self {
        match error {
            RefreshError::Cache(error) => error.into(),
            RefreshError::Store(error) => error.into(),
        }
    }
}

/// What a walk through the cached pairs came to.
#[derive(Debug, Default)]
struct Walked {
    done: Recovered,
    /// Of the pairs that were seen; none if these were too many.
    resources: Option<BTreeSet<Resource>>,
}

impl Walked {
    fn add(&mut self, page: Recovered, mut resources: BTreeSet<Resource>) {
        self.done += page;
        if let Some(all) = &mut self.resources {
            all.append(&mut resources);
        }
        self.resources = self.resources.take().filter(|all| all.len() <= RESOURCES);
    }
}

/// Goes through the cached pairs.
#[derive(Clone)]
pub struct LostPairs {
    stores: Stores,
    applier: Applier,
    /// Pairs per second, at most.
    rate: u32,
    /// Pages of them at a time.
    at_once: usize,
    dry_run: bool,
    listener: Option<Arc<Listener>>,
}

impl LostPairs {
    /// With `dry_run` it is only counted.
    pub fn new(stores: Stores, applier: Applier, rate: u32, dry_run: bool) -> Self {
        Self { stores, applier, rate: rate.max(1), at_once: 1, dry_run, listener: None }
    }

    /// Compares so many pages at a time.
    #[must_use]
    pub fn at_once(self, pages: usize) -> Self {
        Self { at_once: pages.max(1), ..self }
    }

    /// Says what came back.
    #[must_use]
    pub(crate) fn heard_by(self, listener: Listener) -> Self {
        Self { listener: Some(Arc::new(listener)), ..self }
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
        let done = self.bring_back(token, BTreeSet::new, stop, each).await?;
        if done.finished && !self.dry_run {
            self.stores.database.forget_went_back(&told).await?;
            self.stores.history.saw_recovery(None);
        }
        Ok(done)
    }

    /// Brings back every pair that lacks, then makes every cached counter of theirs, and of `touched`, what the rows say.
    /// Without a token it is only counted.
    pub(crate) async fn bring_back(
        &self,
        token: Option<u64>,
        touched: impl FnOnce() -> BTreeSet<Resource>,
        stop: &CancellationToken,
        mut each: impl FnMut(Recovered) + Send,
    ) -> Result<Recovered, RecoverError> {
        if token.is_some() {
            fences::bring_back(&self.stores).await?;
        }
        let mut walked = self.walk(token, false, stop, &mut each).await?;
        self.walk_former(token, stop, &mut walked).await?;
        let Walked { mut done, resources } = walked;
        let Some(token) = token.filter(|_| done.finished) else { return Ok(done) };
        if resources.is_none() {
            let again = self.walk(Some(token), true, stop, &mut |_| {}).await?.done;
            done.finished = again.finished;
            done.recounted += again.recounted;
        }
        let mut resources = resources.unwrap_or_default();
        resources.append(&mut touched());
        done.recounted += self.count_again(&Vec::from_iter(resources), token).await?;
        each(done);
        Ok(done)
    }

    /// Goes through all pairs. `counters`: looks at those of each page with it.
    async fn walk(
        &self,
        token: Option<u64>,
        counters: bool,
        stop: &CancellationToken,
        each: &mut (impl FnMut(Recovered) + Send),
    ) -> Result<Walked, RecoverError> {
        let at_end = Arc::new(AtomicBool::new(false));
        let scan = Scan {
            stores: self.stores.clone(),
            cursor: Some(0),
            pace: Pace::new(self.rate),
            stop: stop.clone(),
            at_end: Arc::clone(&at_end),
        };
        let pages = stream::try_unfold(scan, Scan::next);
        let walker = self.clone();
        let pages = pages.map_ok(move |pairs| walker.clone().page(pairs, token, counters));
        let mut pages = std::pin::pin!(pages.try_buffered(self.at_once));
        let mut walked = Walked { done: Recovered::default(), resources: Some(BTreeSet::new()) };
        while let Some((page, resources)) = pages.try_next().await? {
            walked.add(page, resources);
            each(walked.done);
        }
        walked.done.finished = at_end.load(Ordering::Relaxed);
        Ok(walked)
    }

    async fn page(
        self,
        pairs: Vec<Pair>,
        token: Option<u64>,
        counters: bool,
    ) -> Result<(Recovered, BTreeSet<Resource>), RecoverError> {
        let resources: BTreeSet<Resource> = pairs.iter().map(|pair| pair.resource).collect();
        let mut done = self.bring_newer(pairs.len() as u64, self.newer(&pairs).await?, token).await?;
        if let Some(token) = token.filter(|_| counters) {
            done.recounted = self.count_again(&Vec::from_iter(resources.iter().copied()), token).await?;
        }
        Ok((done, resources))
    }

    /// Brings back those of so many pairs that are newer than their rows.
    async fn bring_newer(
        &self,
        pairs: u64,
        mut newer: Vec<(Pair, PairState)>,
        token: Option<u64>,
    ) -> Result<Recovered, RecoverError> {
        let mut done = Recovered { pairs, ..Recovered::default() };
        if !newer.is_empty() {
            // What is behind a fence is not lost: it is gone.
            let said: Vec<_> = newer.iter().map(|(pair, state)| (*pair, state.version)).collect();
            let mut fenced = self.stores.database.fenced(&said).await?.into_iter();
            newer.retain(|_| fenced.next() == Some(false));
        }
        if !newer.is_empty() {
            let waiting = self.stores.database.in_ledger_unfinished(&newer).await?;
            done.in_ledger = waiting.iter().filter(|waits| **waits).count() as u64;
            let lost = newer.iter().zip(waiting).filter(|(_, waits)| !waits);
            let events: Vec<LikeEvent> = lost.map(|((pair, state), _)| event_of(*pair, *state)).collect();
            done.lost = events.len() as u64;
            if token.is_some() && !events.is_empty() {
                done.applied = self.applier.apply(&events).await?.applied as u64;
                if let Some(listener) = &self.listener {
                    listener(&events);
                }
            }
        }
        Ok(done)
    }

    /// Counts again what the cache has heard a newer revision of, and tells it what the database says of the others, as far as
    /// that is newer.
    async fn count_again(&self, resources: &[Resource], token: u64) -> Result<u64, RecoverError> {
        let batches: Vec<_> = resources.chunks(COUNTERS).map(|batch| self.count_some_again(batch, token)).collect();
        let counted: Vec<u64> = stream::iter(batches).buffer_unordered(self.at_once).try_collect().await?;
        Ok(counted.iter().sum())
    }

    async fn count_some_again(&self, resources: &[Resource], token: u64) -> Result<u64, RecoverError> {
        let cached = self.stores.cache.counts(resources).await?;
        let stored = self.stores.database.load_counts(resources).await?;
        let (mut newer, mut recounted) = (Vec::new(), 0);
        for ((resource, cached), stored) in resources.iter().zip(cached).zip(stored) {
            let Some(cached) = cached else { continue };
            if cached.stored_revision > stored.revision {
                let above = cached.stored_revision;
                match self.stores.database.repair_count(*resource, above, token, wall_clock()).await? {
                    Fenced::Refused => return Err(RecoverError::Fenced),
                    Fenced::Done(repaired) => newer.push((*resource, repaired.after)),
                }
                recounted += 1;
            } else if cached.stored_revision < stored.revision {
                newer.push((*resource, stored));
            }
        }
        if !newer.is_empty() {
            self.stores.cache.settle(&Settlement::of_rows(newer, [])).await?;
        }
        Ok(recounted)
    }

    /// Pairs that are newer than their rows and not on their way.
    async fn newer(&self, pairs: &[Pair]) -> Result<Vec<(Pair, PairState)>, RecoverError> {
        let cached = self.stores.cache.states(pairs).await?;
        self.newer_than_rows(pairs.iter().zip(cached).filter_map(|(pair, state)| Some((*pair, state?))).collect()).await
    }

    async fn newer_than_rows(&self, cached: Vec<(Pair, PairState)>) -> Result<Vec<(Pair, PairState)>, RecoverError> {
        let pairs: Vec<Pair> = cached.iter().map(|(pair, _)| *pair).collect();
        let rows = self.stores.database.load_states(&pairs).await?;
        let newer = cached.into_iter().zip(rows).filter(|((_, state), row)| state.version > row.version);
        let newer: Vec<(Pair, PairState)> = newer.map(|(pair, _)| pair).collect();
        // Under load many are on their way, and one look after another would take longer than they do.
        let looks: Vec<_> = newer.into_iter().map(|(pair, state)| self.unless_journaled(pair, state)).collect();
        let looked: Vec<Option<(Pair, PairState)>> = stream::iter(looks).buffered(LOOKS).try_collect().await?;
        let suspects: Vec<(Pair, PairState)> = looked.into_iter().flatten().collect();
        if suspects.is_empty() {
            return Ok(suspects);
        }
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
}

/// Where a walk is.
struct Scan {
    stores: Stores,
    /// None: at the end.
    cursor: Option<u64>,
    pace: Pace,
    stop: CancellationToken,
    at_end: Arc<AtomicBool>,
}

impl Scan {
    /// The next page, each pair in it once.
    async fn next(mut self) -> Result<Option<(Vec<Pair>, Self)>, RecoverError> {
        let mut page = BTreeSet::new();
        while page.len() < PAGE
            && let Some(cursor) = self.cursor
        {
            if self.stop.is_cancelled() {
                return Ok(None);
            }
            // A cache has other keys, too.
            let (pairs, next) = self.stores.cache.cached_pairs(cursor, PAGE as u32).await?;
            page.extend(pairs);
            self.cursor = (next != 0).then_some(next);
        }
        if self.cursor.is_none() {
            self.at_end.store(true, Ordering::Relaxed);
        }
        if page.is_empty() {
            return Ok(None);
        }
        self.pace.passed(page.len()).await;
        Ok(Some((Vec::from_iter(page), self)))
    }
}

impl std::ops::AddAssign for Recovered {
    fn add_assign(&mut self, more: Self) {
        self.pairs += more.pairs;
        self.lost += more.lost;
        self.applied += more.applied;
        self.in_ledger += more.in_ledger;
        self.recounted += more.recounted;
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
