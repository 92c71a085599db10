//! Writes that no journal carries. Degraded ones: the database itself gives the version, because no cache did.
//! Synchronous ones: the cache gave it beforehand.

use crate::sql::error::StoreError;
use crate::sql::script::version_of;
use crate::sql::store::EventStore;
use crate::tables::ledger::{existing_ids, read_existing, record_behaviors, record_completed};
use crate::tables::likes::{PairEvent, Reading, Touched, create_missing, fold_events, write_outcome};
use crate::tables::refreshes::remember;
use crate::writes::apply::check_size;
use chrono::{DateTime, Utc};
use domain::{LikeEvent, LikeIntent, Origin, Pair, PairState, StoredCount, Version};
use planted_bugs::is_planted;
use std::collections::{HashMap, HashSet};

/// What became of one direct intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectOutcome {
    /// State of the pair after this intent.
    pub liked: bool,
    /// Whether this intent changed the pair: written by this call, or already in the ledger (accepted by a cache whose
    /// answer got lost) with the row as wanted. Otherwise the pair was changed since, or an equal intent came before.
    pub changed: bool,
    /// Version of the pair's state.
    pub version: Version,
    /// The resource's count, as of the commit of the whole call.
    pub stored: StoredCount,
}

impl EventStore {
    /// Applies intents that no cache has accepted, in order, in one transaction; answers in the same order.
    ///
    /// Version: one more than the row's, or `now` if that is later, decided under the counter's lock. An intent is
    /// written also if the row is as wanted already: an older event that says otherwise may still be on its way, and must
    /// come too late. Only an intent whose id the ledger has, or that repeats one of the same call, writes nothing. With
    /// `remember_refresh` the pairs that changed are put on the list of what the cache must be told
    /// ([`EventStore::take_refreshes`]), in the same transaction.
    pub async fn apply_direct(
        &self,
        intents: &[LikeIntent],
        now: DateTime<Utc>,
        remember_refresh: bool,
    ) -> Result<Vec<DirectOutcome>, StoreError> {
        if intents.is_empty() {
            return Ok(Vec::new());
        }
        check_size(intents.len())?;
        self.transaction("apply_direct", || self.apply_direct_once(intents, None, now, remember_refresh)).await
    }

    /// Applies intents whose versions the cache's clock gave beforehand, in one transaction, and puts the pairs on the list
    /// of what the cache must be told.
    ///
    /// The version stays as it was given, however late this comes: an event that was accepted after it wins, whether it is
    /// in the row already or not. An intent that comes too late writes nothing and is answered with the row as it is.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] also if there is not one version for each intent.
    pub async fn apply_synchronous(
        &self,
        intents: &[LikeIntent],
        versions: &[Version],
        now: DateTime<Utc>,
    ) -> Result<Vec<DirectOutcome>, StoreError> {
        if intents.is_empty() {
            return Ok(Vec::new());
        }
        check_size(intents.len())?;
        if versions.len() != intents.len() {
            return Err(StoreError::Rejected("one version for each intent is needed".into()));
        }
        self.transaction("apply_synchronous", || self.apply_direct_once(intents, Some(versions), now, true)).await
    }

    async fn apply_direct_once(
        &self,
        intents: &[LikeIntent],
        reserved: Option<&[Version]>,
        now: DateTime<Utc>,
        remember_refresh: bool,
    ) -> Result<Vec<DirectOutcome>, StoreError> {
        let mut pairs: Vec<PairEvent> =
            intents.iter().map(|intent| (intent.pair, Version::ZERO, intent.action)).collect();
        pairs.sort_unstable();
        let touched = Touched::by(&pairs);

        let mut tx = self.begin().await?;
        let mut script = self.script();
        let reading = Reading::lock_and_read(&mut script, &touched.resources, &touched.pairs);
        let results = tx.run(&script).await?;
        let mut snapshot = reading.snapshot(&results)?;
        create_missing(&mut tx, self.script(), &touched, &mut snapshot, now).await?;
        // Only now, under the locks, is it final which events the ledger has.
        let mut script = self.script();
        let ledger = existing_ids(&mut script, intents.iter().map(|intent| intent.id));
        let mut written = read_existing(&tx.run(&script).await?, ledger)?;

        let mut states: HashMap<Pair, PairState> = HashMap::new();
        let mut decided_here: HashSet<Pair> = HashSet::new();
        let mut events = Vec::new();
        let mut steps = Vec::with_capacity(intents.len());
        for (index, intent) in intents.iter().enumerate() {
            let state = states.entry(intent.pair).or_insert_with(|| snapshot.state(intent.pair));
            let version = match reserved {
                Some(versions) => versions[index],
                None => version_of(now).max(Version(state.version.0 + 1)),
            };
            if version <= state.version {
                steps.push((*state, false));
                continue;
            }
            let decided = decided_here.contains(&intent.pair) && state.liked == intent.action.liked();
            let known = !decided && !written.insert(intent.id);
            if !decided && !known {
                *state = PairState { liked: intent.action.liked(), version };
                decided_here.insert(intent.pair);
                events.push(LikeEvent { intent: intent.clone(), version, origin: Origin::Direct });
            }
            steps.push((*state, !decided && state.liked == intent.action.liked()));
        }

        let mut pair_events: Vec<PairEvent> =
            events.iter().map(|event| (event.pair(), event.version, event.intent.action)).collect();
        pair_events.sort_unstable();
        let outcome = fold_events(&snapshot, &pair_events);
        if !events.is_empty() {
            let mut by_id: Vec<&LikeEvent> = events.iter().collect();
            by_id.sort_unstable_by_key(|event| event.intent.id);
            let mut script = self.script();
            record_completed(&mut script, &by_id, now);
            record_behaviors(&mut script, &by_id);
            if remember_refresh && !is_planted("direct_forgets_refresh") {
                remember(&mut script, &outcome.pairs, now);
            }
            write_outcome(&mut script, &outcome, now);
            tx.run(&script).await?;
        }
        fail::fail_point!("store.direct_before_commit");
        tx.commit().await?;

        let counts: HashMap<_, _> = outcome.counts.into_iter().collect();
        let answer = |(intent, (state, changed)): (&LikeIntent, (PairState, bool))| {
            let resource = intent.pair.resource;
            let stored = counts.get(&resource).copied().unwrap_or_else(|| snapshot.count(resource));
            DirectOutcome { liked: state.liked, changed, version: state.version, stored }
        };
        Ok(intents.iter().zip(steps).map(answer).collect())
    }
}
