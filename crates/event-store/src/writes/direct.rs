//! Writes that no journal carries. Degraded ones: the database itself gives the version, because no cache did.
//! Synchronous ones: the cache gave it beforehand.

use crate::sql::error::StoreError;
use crate::sql::lanes::Turn;
use crate::sql::parts::Parts;
use crate::sql::pool::Tx;
use crate::sql::script::version_of;
use crate::sql::store::EventStore;
use crate::tables::deleted::{read_deleted, select_deleted};
use crate::tables::fences::{self, Held};
use crate::tables::fold::{PairChange, PairEvent, fold_events};
use crate::tables::keys::{self, NewKey};
use crate::tables::ledger::{existing_ids, read_versions, record_behaviors, record_completed};
use crate::tables::likes::{Reading, Touched, create_missing, write_outcome};
use crate::tables::refreshes::remember;
use crate::tables::unpublished::note_pairs;
use crate::writes::apply::check_size;
use chrono::{DateTime, Utc};
use domain::{LikeEvent, LikeIntent, Origin, Pair, PairState, StoredCount, Version};
use planted_bugs::is_planted;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};
use uuid::Uuid;

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
    /// The resource's count, as of the commit of the transaction that this intent was in.
    pub stored: StoredCount,
    /// How long ago the call was that this answer is repeated from; zero if it is this one.
    pub key_age: Duration,
}

/// What was found out beforehand about one synchronous intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    /// The version that the cache's clock gave.
    pub version: Version,
    /// The row that makes the intent no change, if the caller has seen it: as long as the row is that, the intent's key is
    /// written, and nothing else.
    pub unless: Option<PairState>,
}

impl From<Version> for Reserved {
    fn from(version: Version) -> Self {
        Self { version, unless: None }
    }
}

/// What one intent came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectResult {
    /// Decided, now or when its idempotency key was first used.
    Decided(DirectOutcome),
    /// Its idempotency key belongs to the other action on this pair; nothing was written.
    KeyReused,
    /// The resource is deleted; nothing was written.
    Deleted,
}

/// A call that was written in several transactions (the server does not take so much at once), of which a later one failed.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Interrupted {
    /// Of the first intents, in order: these are committed, whatever the error says.
    pub decided: Vec<DirectResult>,
    /// Of all the others.
    #[source]
    pub error: StoreError,
}

impl From<StoreError> for Interrupted {
    fn from(error: StoreError) -> Self {
        Self { decided: Vec::new(), error }
    }
}

impl EventStore {
    /// Applies intents that no cache has accepted, in order, in one transaction; answers in the same order. What the server
    /// does not take at once (`max_allowed_packet`) is written in several transactions, one after the other.
    ///
    /// Version: one more than the row's, or `now` if that is later, decided under the counter's lock. An intent is
    /// written also if the row is as wanted already: an older event that says otherwise may still be on its way, and must
    /// come too late. That of an erased user is above the erasure: it is a new word. Only an intent whose id the ledger has, or that
    /// repeats one of the same call, writes nothing, and one of a resource that is deleted. With `remember_refresh` the pairs that
    /// changed are put on the list of what the cache must be told ([`EventStore::take_refreshes`]), in the same transaction.
    ///
    /// The call takes effect by `until` or never. Waiting for locks, and every repetition after a deadlock, is within that
    /// time, and it is looked at once more when all is written, under the locks: from there on whoever writes one of
    /// these pairs comes later, however long the commit takes.
    ///
    /// # Errors
    /// Of the intents that are not decided. [`StoreError::TooLate`]: `until` was over; nothing of them is or will be written.
    pub async fn apply_direct(
        &self,
        intents: &[LikeIntent],
        now: DateTime<Utc>,
        until: Instant,
        remember_refresh: bool,
    ) -> Result<Vec<DirectResult>, Interrupted> {
        if intents.is_empty() {
            return Ok(Vec::new());
        }
        check_size(intents.len())?;
        self.in_parts("apply_direct", Write { intents, reserved: None, now, until, remember_refresh }).await
    }

    /// Applies intents whose versions the cache's clock gave beforehand, in one transaction, and puts the pairs on the list
    /// of what the cache must be told.
    ///
    /// The version stays as it was given, however late this comes: an event that was accepted after it wins, whether it is
    /// in the row already or not. An intent that comes too late writes nothing and is answered with the row as it is.
    /// The key of an intent that changes nothing is kept all the same, and its pair listed, so that the cache hears of it.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] also if there is not one reservation for each intent; [`StoreError::TooLate`] as of
    /// [`apply_direct`](Self::apply_direct).
    pub async fn apply_synchronous(
        &self,
        intents: &[LikeIntent],
        reserved: &[Reserved],
        now: DateTime<Utc>,
        until: Instant,
    ) -> Result<Vec<DirectResult>, Interrupted> {
        if intents.is_empty() {
            return Ok(Vec::new());
        }
        check_size(intents.len())?;
        if reserved.len() != intents.len() {
            return Err(StoreError::Rejected("one version for each intent is needed".into()).into());
        }
        let write = Write { intents, reserved: Some(reserved), now, until, remember_refresh: true };
        self.in_parts("apply_synchronous", write).await
    }

    /// In one transaction, unless the server does not take so much at once. What an earlier part wrote is said, whatever becomes of
    /// the next: its callers must not take it for undone. Which of the failed part is written stays open only after a commit
    /// whose answer is lost.
    async fn in_parts(&self, name: &'static str, whole: Write<'_>) -> Result<Vec<DirectResult>, Interrupted> {
        let mut parts = Parts::of(whole.intents.len());
        let mut decided = Vec::with_capacity(whole.intents.len());
        while let Some(part) = parts.next() {
            let intents = &whole.intents[part.clone()];
            let write = Write { intents, reserved: whole.reserved.map(|versions| &versions[part.clone()]), ..whole };
            match self.transaction(name, || self.apply_direct_once(&write)).await {
                Ok(results) => {
                    decided.extend(results);
                    parts.written(&part);
                }
                Err(error) => {
                    if let Err(error) = parts.failed(&part, error) {
                        return Err(Interrupted { decided, error });
                    }
                }
            }
        }
        Ok(decided)
    }

    async fn apply_direct_once(&self, write: &Write<'_>) -> Result<Vec<DirectResult>, StoreError> {
        // A transaction that is not ready to commit by then is dropped, and so rolled back.
        let ready = self.ready_to_commit(write);
        let (tx, turn, changes, results) = if is_planted("direct_without_deadline") {
            ready.await?
        } else {
            tokio::time::timeout_at(write.until.into(), ready).await.unwrap_or(Err(StoreError::TooLate))?
        };
        fail::fail_point!("store.direct_before_commit");
        tx.commit().await?;
        turn.map(|turn| turn.committed(self.latest_clock()));
        self.gains.add(changes.iter().map(PairChange::gain), self.horizon.latest());
        Ok(results)
    }

    /// Everything but the commit.
    async fn ready_to_commit(&self, write: &Write<'_>) -> Result<Ready, StoreError> {
        let Write { intents, reserved, now, until, remember_refresh } = *write;
        let mut pairs: Vec<PairEvent> =
            intents.iter().map(|intent| (intent.pair, Version::ZERO, intent.action)).collect();
        pairs.sort_unstable();
        let touched = Touched::by(&pairs);

        let mut tx = self.begin().await?;
        let mut script = self.script();
        let held = fences::hold(&mut script);
        // Whoever deletes or restores one writes a fence, and so waits.
        let deleted = select_deleted(&mut script, touched.resources.iter().copied());
        let reading = Reading::lock_and_read(&mut script, &touched.resources, &touched.pairs);
        let results = tx.run(&script).await?;
        let deleted = read_deleted(&results, deleted)?;
        let held = Held::of(&mut tx, self.script(), &results, held).await?;
        // Nothing of these intents is older than that, where the row gives the version.
        let oldest = |index: usize| reserved.map_or(version_of(now), |reserved| reserved[index].version);
        let said = intents.iter().enumerate().map(|(index, intent)| (intent.pair, oldest(index)));
        let fences = held.fences(&mut tx, self.script(), said).await?;
        let mut snapshot = reading.snapshot(&results, self.horizon.for_writes())?;
        create_missing(&mut tx, self.script(), &touched, &mut snapshot, now).await?;
        // Only now, under the locks, is it final which events the ledger has.
        let mut script = self.script();
        let ledger = existing_ids(&mut script, intents.iter().map(|intent| intent.id));
        let asked = keys::known(&mut script, intents.iter(), self.idempotency_ttl);
        let results = tx.run(&script).await?;
        let completed = read_versions(&results, ledger)?;
        let mut written: HashSet<Uuid> = completed.keys().copied().collect();
        let mut known_keys = keys::read_known(&results, asked)?;

        let mut states: HashMap<Pair, PairState> = HashMap::new();
        let mut decided_here: HashSet<Pair> = HashSet::new();
        let mut events = Vec::new();
        let (mut new_keys, mut keys_alone) = (Vec::new(), Vec::new());
        let mut steps: Vec<Step> = Vec::with_capacity(intents.len());
        for (index, intent) in intents.iter().enumerate() {
            if deleted.contains(&intent.pair.resource) {
                steps.push(Err(DirectResult::Deleted));
                continue;
            }
            let key = intent.idempotency_key.clone().map(|key| (intent.pair, key));
            if let Some(first) = key.as_ref().and_then(|key| known_keys.get(key)) {
                let same = first.state.liked == intent.action.liked();
                steps.push(if same {
                    Ok((first.state, first.changed, first.age))
                } else {
                    Err(DirectResult::KeyReused)
                });
                continue;
            }
            let state = states.entry(intent.pair).or_insert_with(|| snapshot.state(intent.pair));
            let fence = fences.up_to(intent.pair).unwrap_or(Version::ZERO);
            let version = match reserved {
                Some(reserved) => reserved[index].version,
                None => version_of(now).max(Version(state.version.max(fence).0 + 1)),
            };
            let seen = reserved.and_then(|reserved| reserved[index].unless);
            if state.liked == intent.action.liked() && (version <= state.version || seen == Some(*state)) {
                steps.push(Ok((*state, false, Duration::ZERO)));
                if let (Some(key), Some(new)) = (key, NewKey::of(intent, state.version, false)) {
                    known_keys.insert(key, new.known);
                    new_keys.push(new);
                    keys_alone.push((intent.pair, *state));
                }
                continue;
            }
            // Reserved before the erasure, it comes too late as well.
            if version <= state.version.max(fence) {
                steps.push(Ok((*state, false, Duration::ZERO)));
                continue;
            }
            let decided = decided_here.contains(&intent.pair) && state.liked == intent.action.liked();
            let known = !decided && !written.insert(intent.id);
            if !decided && !known {
                *state = PairState { liked: intent.action.liked(), version };
                decided_here.insert(intent.pair);
                events.push(LikeEvent { intent: intent.clone(), version, origin: Origin::Direct });
            }
            // One that the cache had accepted, and that was committed meanwhile, is answered as what it was: the row may be
            // another word's by now.
            let (told, changed) = match completed.get(&intent.id) {
                Some(version) if known => (PairState { liked: intent.action.liked(), version: *version }, true),
                _ => (*state, !decided && state.liked == intent.action.liked()),
            };
            steps.push(Ok((told, changed, Duration::ZERO)));
            if let (Some(key), Some(new)) = (key, NewKey::of(intent, told.version, changed)) {
                known_keys.insert(key, new.known);
                new_keys.push(new);
            }
        }

        let mut pair_events: Vec<PairEvent> =
            events.iter().map(|event| (event.pair(), event.version, event.intent.action)).collect();
        pair_events.sort_unstable();
        let outcome = fold_events(&snapshot, &pair_events, self.horizon.revision());
        let mut turn = None;
        if !events.is_empty() || !new_keys.is_empty() {
            let mut by_id: Vec<&LikeEvent> = events.iter().collect();
            by_id.sort_unstable_by_key(|event| event.intent.id);
            let mut script = self.script();
            record_completed(&mut script, &by_id, self.marks_unlogged(), now);
            record_behaviors(&mut script, &by_id);
            if remember_refresh && !is_planted("direct_forgets_refresh") {
                remember(&mut script, &outcome.pairs, now);
                remember(&mut script, &keys_alone, now);
            }
            write_outcome(&mut script, &outcome, now);
            if self.notes_changes {
                note_pairs(&mut script, outcome.changed_pairs.iter().map(|change| change.pair), now);
            }
            keys::record(&mut script, &new_keys, self.idempotency_ttl);
            turn = Some(self.numbered(&mut tx, script).await?);
        }

        let counts: HashMap<_, _> = outcome.counts.into_iter().collect();
        let answer = |(intent, step): (&LikeIntent, Step)| {
            let (state, changed, key_age) = match step {
                Ok(decided) => decided,
                Err(refused) => return refused,
            };
            let resource = intent.pair.resource;
            let stored = counts.get(&resource).copied().unwrap_or_else(|| snapshot.count(resource));
            DirectResult::Decided(DirectOutcome {
                liked: state.liked,
                changed,
                version: state.version,
                stored,
                key_age,
            })
        };
        let results = intents.iter().zip(steps).map(answer).collect();
        if Instant::now() >= until && !is_planted("direct_without_deadline") {
            return Err(StoreError::TooLate);
        }
        Ok((tx, turn, outcome.changed_pairs, results))
    }
}

/// The pair's state after an intent, whether that changed it, and how old its key is; or what else it came to.
type Step = Result<(PairState, bool, Duration), DirectResult>;

/// A transaction, its place in the order of commits, what it changes, and its answers.
type Ready = (Tx, Option<Turn>, Vec<PairChange>, Vec<DirectResult>);

/// What one transaction writes.
#[derive(Clone, Copy)]
struct Write<'w> {
    intents: &'w [LikeIntent],
    /// Taken beforehand, one each; without them the row decides.
    reserved: Option<&'w [Reserved]>,
    now: DateTime<Utc>,
    until: Instant,
    remember_refresh: bool,
}
