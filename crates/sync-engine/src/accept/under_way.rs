//! Whether a word that no row has yet is certainly on its way there.
//!
//! The cached pair does not say: it stays after its event has failed, and after an operator has discarded that. The journal
//! gives an event up when the ledger has it, so an event that the journal has and the ledger has not is neither. Where this
//! cannot be shown the word is written again, which is always right.
//!
//! The journal may be all that has such an event: whoever asked for it may have gone before the cache answered. A journal
//! that goes back would lose what was answered here, so this process remembers the event as its own. So it does where a key
//! repeats the first answer.

use super::{Acceptor, FILL_TIMEOUT};
use domain::cache::{AcceptOutcome, AcceptRequest, CacheResult};
use domain::codec::EncodedEvent;
use domain::{LikeIntent, Pair, PairState, Version};
use event_store::FreeState;
use futures::future::join_all;
use planted_bugs::is_planted;
use std::collections::HashSet;
use std::time::{Duration, Instant};
use tokio::time::{timeout, timeout_at};
use uuid::Uuid;

/// A word whose row does not have it for so long is written again, wherever its event may be.
const ON_ITS_WAY: Duration = Duration::from_secs(60);

/// What the cache holds of a pair, and so did not write again.
#[derive(Clone, Copy)]
pub(super) struct Word {
    pair: Pair,
    state: PairState,
}

impl Word {
    /// Of a request that the cache took for unchanged.
    pub(super) fn of(request: &AcceptRequest, outcome: &CacheResult<AcceptOutcome>) -> Self {
        let LikeIntent { pair, action, .. } = request.intent;
        let version = match outcome {
            Ok(AcceptOutcome::Unchanged(answer)) => answer.version,
            _ => Version::ZERO,
        };
        Self { pair, state: PairState { liked: action.liked(), version } }
    }

    /// Whether this row is what the word made of it.
    pub(super) fn is_in(self, row: FreeState) -> bool {
        row == FreeState::Row(self.state)
    }

    /// Whether this row is as wanted, by a newer word.
    pub(super) fn is_fulfilled_by(self, row: PairState) -> bool {
        row.liked == self.state.liked && row.version > self.state.version
    }

    /// Whether this row has not seen the word.
    fn is_missing_in(self, row: FreeState) -> bool {
        match row {
            FreeState::Missing => true,
            FreeState::Row(row) => row.version < self.state.version,
            FreeState::Held => false,
        }
    }
}

impl Acceptor {
    /// Positions of the words that are missing in their rows and on their way there. The rows of the others that were
    /// missing are read once more: they may have come meanwhile.
    pub(super) async fn under_way(
        &self,
        words: &[Word],
        rows: &mut [FreeState],
        until: Option<Instant>,
    ) -> HashSet<usize> {
        let missing: Vec<usize> = (0..words.len()).filter(|i| words[*i].is_missing_in(rows[*i])).collect();
        if missing.is_empty() {
            return HashSet::new();
        }
        if is_planted("pair_believed") {
            return missing.into_iter().collect();
        }
        let now = self.stores.now();
        let young: Vec<usize> =
            missing.iter().copied().filter(|i| now.since(words[*i].state.version) < ON_ITS_WAY).collect();
        let under_way = self.unfailed(words, &young).await;
        let again: Vec<usize> = young.into_iter().filter(|i| !under_way.contains(i)).collect();
        if !again.is_empty() {
            let pairs: Vec<Pair> = again.iter().map(|i| words[*i].pair).collect();
            if let Some(read) = self.free_rows(&pairs, until).await {
                for (i, row) in again.into_iter().zip(read) {
                    rows[i] = row;
                }
            }
        }
        under_way
    }

    /// What a repeated key was answered, and the journal may be all that has, is remembered here too. Where the journal does not
    /// say in time, it is not confirmed: nothing else may be written for a key that has its answer.
    pub(super) async fn keep_repeated(&self, requests: &[AcceptRequest], outcomes: &mut [CacheResult<AcceptOutcome>]) {
        let now = self.stores.now();
        let words: Vec<(usize, Word)> = outcomes
            .iter()
            .enumerate()
            .filter_map(|(i, outcome)| {
                // Also the key of an "unchanged": that relied on the event of this version.
                let Ok(AcceptOutcome::Repeated { answer, .. }) = outcome else { return None };
                let LikeIntent { pair, action, .. } = requests[i].intent;
                let state = PairState { liked: action.liked(), version: answer.version };
                (now.since(answer.version) < ON_ITS_WAY).then_some((i, Word { pair, state }))
            })
            .collect();
        if words.is_empty() {
            return;
        }
        let looks = words.iter().map(|(i, word)| timeout_at(requests[*i].until.into(), self.look_for(*word)));
        let entries = join_all(looks).await;
        for ((i, _), entry) in words.into_iter().zip(entries) {
            match entry {
                Ok(Ok(Some(entry))) => self.relay.remember(entry),
                // A row has it.
                Ok(Ok(None)) => {}
                Ok(Err(_)) | Err(_) => outcomes[i] = Ok(AcceptOutcome::Unconfirmed { written: None }),
            }
        }
    }

    /// Those whose events the journal has and the ledger has not.
    async fn unfailed(&self, words: &[Word], young: &[usize]) -> HashSet<usize> {
        let events = join_all(young.iter().map(|i| self.journal_entry(words[*i]))).await;
        let found: Vec<(usize, Uuid, EncodedEvent)> = young
            .iter()
            .zip(events)
            .filter_map(|(i, entry)| {
                let entry = entry?;
                Some((*i, entry.decode().ok()?.intent.id, entry))
            })
            .collect();
        if found.is_empty() || self.stores.database_circuit.is_open() {
            return HashSet::new();
        }
        let events = found.iter().map(|(_, event, _)| *event).collect();
        match timeout(FILL_TIMEOUT, self.in_ledger.ask(events)).await {
            Ok(Ok(known)) => {
                let unknown = found.into_iter().zip(known).filter(|(_, known)| !known);
                unknown
                    .map(|((i, _, entry), _)| {
                        self.relay.remember(entry);
                        i
                    })
                    .collect()
            }
            Ok(Err(error)) => {
                self.stores.database_circuit.failure(&error);
                HashSet::new()
            }
            Err(elapsed) => {
                self.stores.database_circuit.failure(&elapsed);
                HashSet::new()
            }
        }
    }

    /// The event of a word, if it is in the journal and that says so.
    async fn journal_entry(&self, word: Word) -> Option<EncodedEvent> {
        timeout(FILL_TIMEOUT, self.look_for(word)).await.ok()?.ok()?
    }

    async fn look_for(&self, word: Word) -> CacheResult<Option<EncodedEvent>> {
        let shard = self.stores.shards().of(word.pair.resource);
        let before = Version(word.state.version.0 - 1);
        let page = self.stores.cache.journal_page(shard, before, 1).await?;
        Ok(page.into_iter().next().filter(|entry| entry.version == word.state.version))
    }
}
