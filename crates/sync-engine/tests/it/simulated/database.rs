//! The database in memory: rows, counters, ledger, keys, and locks that are held while a transaction runs. It keeps the rules
//! of `event-store`, whose own tests show them on real databases.

use super::chance::Chance;
use super::link::{Caller, Link};
use chrono::{DateTime, Utc};
use domain::cache::{Answer, FirstAnswer};
use domain::{LikeEvent, LikeIntent, Origin, Pair, PairState, Resource, StoredCount, Version, fold};
use event_store::{DirectOutcome, DirectResult, FreeState, Interrupted, Refresh, Reserved, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant as StdInstant};
use sync_engine::stores::like_database::{LikeDatabase, StoreResult};
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, sleep, timeout_at};

#[derive(Default)]
pub(super) struct Tables {
    pub(super) rows: BTreeMap<Pair, PairState>,
    pub(super) counts: BTreeMap<Resource, StoredCount>,
    pub(super) ledger: Vec<LikeEvent>,
    pub(super) refreshes: Vec<Refresh>,
    keys: BTreeMap<(Pair, String), (PairState, bool)>,
    last_refresh: i64,
    /// Pairs that a transaction has read to change them.
    held: BTreeSet<Pair>,
}

/// All servers' database.
pub(super) struct Database {
    tables: Mutex<Tables>,
    locks: Mutex<BTreeMap<Resource, Arc<tokio::sync::Mutex<()>>>>,
    chance: Chance,
}

/// A batch in the database, as the cache must hear of it.
pub(super) struct Applied {
    pub(super) counts: Vec<(Resource, StoredCount)>,
    pub(super) pairs: Vec<(Pair, PairState)>,
}

impl Database {
    pub(super) fn new(chance: Chance) -> Self {
        Self { tables: Mutex::default(), locks: Mutex::default(), chance }
    }

    pub(super) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the consumer does with a batch.
    pub(super) async fn apply(&self, events: &[LikeEvent]) -> Applied {
        let pairs: BTreeSet<Pair> = events.iter().map(LikeEvent::pair).collect();
        let _locks = self.hold(&pairs).await;
        sleep(self.chance.millis(0, 5)).await;
        let mut tables = self.tables();
        for event in events {
            tables.write(event.clone());
            if let Some(key) = event.intent.idempotency_key.clone() {
                let state = PairState { liked: event.intent.action.liked(), version: event.version };
                tables.keys.entry((event.pair(), key)).or_insert((state, true));
            }
        }
        tables.release(&pairs);
        let resources: BTreeSet<Resource> = pairs.iter().map(|pair| pair.resource).collect();
        Applied {
            counts: resources.into_iter().map(|resource| (resource, tables.count(resource))).collect(),
            pairs: pairs.into_iter().map(|pair| (pair, tables.row(pair))).collect(),
        }
    }

    /// Locks counters, in one order everywhere, then these rows.
    async fn hold(&self, pairs: &BTreeSet<Pair>) -> Vec<OwnedMutexGuard<()>> {
        let resources: BTreeSet<Resource> = pairs.iter().map(|pair| pair.resource).collect();
        let mut held = Vec::new();
        for resource in resources {
            let lock =
                Arc::clone(self.locks.lock().unwrap_or_else(PoisonError::into_inner).entry(resource).or_default());
            held.push(lock.lock_owned().await);
        }
        self.tables().held.extend(pairs);
        held
    }

    /// A write around the cache.
    async fn write_around(
        &self,
        intents: &[LikeIntent],
        reserved: Option<&[Reserved]>,
        now: DateTime<Utc>,
        until: Instant,
        caller: Caller,
    ) -> StoreResult<Vec<DirectResult>> {
        let pairs: BTreeSet<Pair> = intents.iter().map(|intent| intent.pair).collect();
        let Ok(_locks) = timeout_at(until, self.hold(&pairs)).await else { return Err(StoreError::TooLate) };
        sleep(self.chance.millis(0, 10)).await;
        // A transaction whose client has gone is rolled back, unless the commit was sent already.
        if Instant::now() >= until || !caller.waits() {
            self.tables().release(&pairs);
            return Err(StoreError::TooLate);
        }
        // Decided: whoever writes one of these pairs comes later, however long the commit takes.
        sleep(Duration::from_millis(self.chance.one_of(&[0, 0, 3, 40, 150]))).await;
        let mut tables = self.tables();
        let results = tables.write_all_around(intents, reserved, now);
        tables.release(&pairs);
        Ok(results)
    }
}

impl Tables {
    pub(super) fn row(&self, pair: Pair) -> PairState {
        self.rows.get(&pair).copied().unwrap_or(PairState::UNTOUCHED)
    }

    fn count(&self, resource: Resource) -> StoredCount {
        self.counts.get(&resource).copied().unwrap_or_default()
    }

    fn knows(&self, event: uuid::Uuid) -> bool {
        self.ledger.iter().any(|known| known.intent.id == event)
    }

    fn release(&mut self, pairs: &BTreeSet<Pair>) {
        self.held.retain(|pair| !pairs.contains(pair));
    }

    fn free(&self, pair: Pair) -> FreeState {
        match self.rows.get(&pair) {
            _ if self.held.contains(&pair) => FreeState::Held,
            Some(row) => FreeState::Row(*row),
            None => FreeState::Missing,
        }
    }

    /// Ledger, row and counter of one event. True if it changed the row.
    fn write(&mut self, event: LikeEvent) -> bool {
        let pair = event.pair();
        let folded = fold(self.row(pair), [(event.version, event.intent.action)]);
        if folded.changed {
            self.rows.insert(pair, folded.state);
            let count = self.counts.entry(pair.resource).or_default();
            count.count += folded.delta;
            count.revision += 1;
            count.last_version = count.last_version.max(folded.state.version);
        }
        if !self.knows(event.intent.id) {
            self.ledger.push(event);
        }
        folded.changed
    }

    /// The cache is to be told.
    fn list(&mut self, pair: Pair, version: Version, listed_at: DateTime<Utc>) {
        self.last_refresh += 1;
        self.refreshes.push(Refresh { id: self.last_refresh, pair, version, listed_at });
    }

    fn write_all_around(
        &mut self,
        intents: &[LikeIntent],
        reserved: Option<&[Reserved]>,
        now: DateTime<Utc>,
    ) -> Vec<DirectResult> {
        let mut decided = BTreeSet::new();
        let steps: Vec<Option<(PairState, bool)>> = intents
            .iter()
            .enumerate()
            .map(|(index, intent)| {
                let (pair, liked) = (intent.pair, intent.action.liked());
                let key = intent.idempotency_key.clone().map(|key| (pair, key));
                if let Some((state, changed)) = key.as_ref().and_then(|key| self.keys.get(key)) {
                    return (state.liked == liked).then_some((*state, *changed));
                }
                let row = self.row(pair);
                let version = match reserved {
                    Some(reserved) => reserved[index].version,
                    None => Version(now.timestamp_micros()).max(Version(row.version.0 + 1)),
                };
                let seen = reserved.and_then(|reserved| reserved[index].unless);
                if row.liked == liked && (version <= row.version || seen == Some(row)) {
                    if let Some(key) = key {
                        self.keys.insert(key, (row, false));
                        self.list(pair, row.version, now);
                    }
                    return Some((row, false));
                }
                if version <= row.version {
                    return Some((row, false));
                }
                let repeats = decided.contains(&pair) && row.liked == liked;
                if !repeats && !self.knows(intent.id) {
                    self.write(LikeEvent { intent: intent.clone(), version, origin: Origin::Direct });
                    decided.insert(pair);
                    self.list(pair, version, now);
                }
                let state = self.row(pair);
                let changed = !repeats && state.liked == liked;
                if let Some(key) = key {
                    self.keys.insert(key, (PairState { liked, version: state.version }, changed));
                }
                Some((state, changed))
            })
            .collect();
        let answer = |(intent, step): (&LikeIntent, Option<(PairState, bool)>)| {
            let Some((state, changed)) = step else { return DirectResult::KeyReused };
            let stored = self.count(intent.pair.resource);
            DirectResult::Decided(DirectOutcome {
                liked: state.liked,
                changed,
                version: state.version,
                stored,
                key_age: Duration::ZERO,
            })
        };
        intents.iter().zip(steps).map(answer).collect()
    }
}

/// The database as one server reaches it.
pub(super) struct LinkedDatabase {
    pub(super) database: Arc<Database>,
    pub(super) link: Arc<Link>,
}

impl LinkedDatabase {
    async fn ask<T, F>(&self, work: impl FnOnce(Arc<Database>, Caller) -> F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: Future<Output = StoreResult<T>> + Send + 'static,
    {
        let answer = self.link.call(|caller| work(Arc::clone(&self.database), caller)).await;
        answer.unwrap_or_else(|| Err(StoreError::Unavailable("no answer".into())))
    }

    async fn read<T: Send + 'static>(&self, read: impl FnOnce(&mut Tables) -> T + Send + 'static) -> StoreResult<T> {
        self.ask(|database, _| async move { Ok(read(&mut database.tables())) }).await
    }
}

#[async_trait::async_trait]
impl LikeDatabase for LinkedDatabase {
    async fn load_counts(&self, resources: &[Resource]) -> StoreResult<Vec<StoredCount>> {
        let resources = resources.to_vec();
        self.read(move |tables| resources.iter().map(|resource| tables.count(*resource)).collect()).await
    }

    async fn load_states(&self, pairs: &[Pair]) -> StoreResult<Vec<PairState>> {
        let pairs = pairs.to_vec();
        self.read(move |tables| pairs.iter().map(|pair| tables.row(*pair)).collect()).await
    }

    async fn load_free_states(&self, pairs: &[Pair]) -> StoreResult<Vec<FreeState>> {
        let pairs = pairs.to_vec();
        self.read(move |tables| pairs.iter().map(|pair| tables.free(*pair)).collect()).await
    }

    async fn in_ledger(&self, events: &[uuid::Uuid]) -> StoreResult<Vec<bool>> {
        let events = events.to_vec();
        self.read(move |tables| events.iter().map(|event| tables.knows(*event)).collect()).await
    }

    async fn apply_direct(
        &self,
        intents: &[LikeIntent],
        now: DateTime<Utc>,
        until: StdInstant,
    ) -> Result<Vec<DirectResult>, Interrupted> {
        let intents = intents.to_vec();
        let written = self.ask(move |database, caller| async move {
            database.write_around(&intents, None, now, until.into(), caller).await
        });
        Ok(written.await?)
    }

    async fn apply_synchronous(
        &self,
        intents: &[LikeIntent],
        reserved: &[Reserved],
        now: DateTime<Utc>,
        until: StdInstant,
    ) -> Result<Vec<DirectResult>, Interrupted> {
        let (intents, reserved) = (intents.to_vec(), reserved.to_vec());
        let written = self.ask(move |database, caller| async move {
            database.write_around(&intents, Some(&reserved), now, until.into(), caller).await
        });
        Ok(written.await?)
    }

    async fn refreshes_after(&self, after: i64, limit: u32) -> StoreResult<Vec<Refresh>> {
        self.read(move |tables| {
            let listed = tables.refreshes.iter().filter(|refresh| refresh.id > after);
            listed.take(limit as usize).copied().collect()
        })
        .await
    }

    async fn delete_refreshes(&self, ids: &[i64]) -> StoreResult<()> {
        let ids = ids.to_vec();
        self.read(move |tables| tables.refreshes.retain(|refresh| !ids.contains(&refresh.id))).await
    }

    async fn load_keys(&self, pairs: &[Pair], _: i64, _: u32) -> StoreResult<(Vec<FirstAnswer>, Option<i64>)> {
        let pairs = pairs.to_vec();
        let known = move |tables: &mut Tables| {
            let of_pairs = tables.keys.iter().filter(|((pair, _), _)| pairs.contains(pair));
            let first = of_pairs.map(|((pair, key), (state, changed))| FirstAnswer {
                pair: *pair,
                key: key.clone(),
                liked: state.liked,
                answer: Answer { count: None, version: state.version },
                changed: *changed,
                age: Duration::ZERO,
            });
            (first.collect(), None)
        };
        self.read(known).await
    }
}
