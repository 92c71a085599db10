//! What the cache takes for unchanged: confirmed by the row, or written again.

use super::call::let_cancel;
use super::under_way::Word;
use super::{Acceptor, FILL_TIMEOUT};
use crate::metrics;
use domain::cache::{AcceptOutcome, AcceptRequest, Answer, CacheResult, FirstAnswer, Settlement};
use domain::{LikeIntent, Pair};
use event_store::FreeState;
use planted_bugs::planted;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Most often a row is held by the commit of this very pair's event, a moment long: it is looked at again this long before
/// the word is written a second time. Only the history of the pair gains by the wait, the last word is kept either way.
const HELD_FOR: Duration = Duration::from_secs(1);

/// Time that a call keeps for what comes after the wait.
const RESERVE: Duration = Duration::from_secs(1);

const FIRST_PAUSE: Duration = Duration::from_millis(4);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

impl Acceptor {
    /// Writes again what the cache took for unchanged although the row has moved on, or might have; false if nobody can
    /// say.
    pub(super) async fn confirm(
        &self,
        requests: &mut [AcceptRequest],
        outcomes: &mut [CacheResult<AcceptOutcome>],
        unchanged: &[usize],
    ) -> bool {
        planted!("unchanged_unconfirmed" => true);
        let began = tokio::time::Instant::now();
        let pairs: Vec<Pair> = unchanged.iter().map(|i| requests[*i].intent.pair).collect();
        let until = unchanged.iter().filter_map(|i| requests[*i].until.checked_sub(RESERVE)).min();
        let mut rows = self.free_rows(&pairs, until).await;
        let words: Vec<Word> = unchanged.iter().map(|i| Word::of(&requests[*i], &outcomes[*i])).collect();
        let under_way = match &mut rows {
            Some(rows) => self.under_way(&words, rows, until).await,
            None => HashSet::new(),
        };
        // Then a row may be older than a word that the user said elsewhere.
        let lost = self.stores.history.went_back().is_some();
        let mut moved_on = Vec::new();
        let mut newer = Vec::new();
        for (position, index) in unchanged.iter().enumerate() {
            let Ok(AcceptOutcome::Unchanged(answer)) = outcomes[*index] else { continue };
            match rows.as_ref().map(|rows| rows[position]) {
                Some(row) if !lost && (words[position].is_in(row) || under_way.contains(&position)) => continue,
                Some(FreeState::Row(row)) if !lost && words[position].is_fulfilled_by(row) => {
                    // As wanted, by a newer word: whoever reads this answer has seen that one, and must not read an older one
                    // from the cache after it.
                    outcomes[*index] = Ok(AcceptOutcome::Unchanged(Answer { version: row.version, ..answer }));
                    newer.push((pairs[position], row));
                    continue;
                }
                Some(FreeState::Row(row)) if row.version > answer.version => newer.push((pairs[position], row)),
                Some(_) | None => {}
            }
            moved_on.push(*index);
        }
        let confirmed: Vec<usize> = unchanged.iter().copied().filter(|i| !moved_on.contains(i)).collect();
        if let Err(error) = self.remember_unchanged(requests, outcomes, &confirmed).await {
            // An answer whose key is unknown would not be repeated: as if the call had not reached the cache.
            let keyed = confirmed.into_iter().filter(|i| requests[*i].intent.idempotency_key.is_some());
            keyed.for_each(|i| outcomes[i] = Err(error.clone()));
        }
        if !newer.is_empty() {
            // Raises the clock above these rows, or an event that is written again would lose against them.
            let told =
                self.stores.cache.settle(&Settlement { resources: Vec::new(), pairs: newer, commit: None }).await;
            if let Err(error) = told {
                // Nothing is decided: as if the call had not reached the cache.
                moved_on.into_iter().for_each(|i| outcomes[i] = Err(error.clone()));
                return true;
            }
        }
        if moved_on.is_empty() {
            return true;
        }
        let_cancel(began).await;
        // Its token is taken: this is still the same attempt.
        metrics::confirm_rewrites(moved_on.len());
        let mut again: Vec<AcceptRequest> = moved_on
            .iter()
            .map(|i| {
                let mut request = requests[*i].clone();
                (request.limited, request.rewrite) = (false, true);
                request
            })
            .collect();
        let began = tokio::time::Instant::now();
        let mut asked = self.ask_cache(&again).await;
        // The cache may have lost the counter since, and everything else with it.
        let said = self.ask_with_counts(&mut again, &mut asked, began).await;
        for (i, outcome) in moved_on.into_iter().zip(asked) {
            outcomes[i] = outcome;
        }
        rows.is_some() && said
    }

    /// From now on these keys answer "unchanged".
    async fn remember_unchanged(
        &self,
        requests: &[AcceptRequest],
        outcomes: &[CacheResult<AcceptOutcome>],
        confirmed: &[usize],
    ) -> CacheResult<()> {
        let answers: Vec<FirstAnswer> = confirmed
            .iter()
            .filter_map(|i| {
                let Ok(AcceptOutcome::Unchanged(answer)) = outcomes[*i] else { return None };
                let LikeIntent { pair, action, idempotency_key, .. } = &requests[*i].intent;
                let key = idempotency_key.clone()?;
                Some(FirstAnswer {
                    pair: *pair,
                    key,
                    liked: action.liked(),
                    answer,
                    changed: false,
                    age: Duration::ZERO,
                })
            })
            .collect();
        let remembered = self.remember(answers).await;
        planted!("unremembered_acknowledged" => Ok(()));
        remembered
    }

    pub(super) async fn remember(&self, answers: Vec<FirstAnswer>) -> CacheResult<()> {
        if answers.is_empty() {
            return Ok(());
        }
        let remembered = self.stores.cache.remember(&answers).await;
        if let Err(error) = &remembered
            && error.is_unavailable()
        {
            self.stores.cache_failed(answers.iter().map(|first| first.pair.resource), error);
        }
        remembered
    }

    /// Rows that nobody holds; held ones are looked at again for a moment.
    pub(super) async fn free_rows(&self, pairs: &[Pair], until: Option<Instant>) -> Option<Vec<FreeState>> {
        let mut rows = self.rows(pairs.to_vec()).await?;
        let patience = Instant::now() + HELD_FOR;
        let patience = until.map_or(patience, |until| until.min(patience));
        let mut pause = FIRST_PAUSE;
        loop {
            let held: Vec<usize> = (0..rows.len()).filter(|i| rows[*i] == FreeState::Held).collect();
            if held.is_empty() || Instant::now() + pause > patience {
                return Some(rows);
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
            let Some(again) = self.rows(held.iter().map(|i| pairs[*i]).collect()).await else { return Some(rows) };
            for (i, row) in held.into_iter().zip(again) {
                rows[i] = row;
            }
        }
    }

    async fn rows(&self, pairs: Vec<Pair>) -> Option<Vec<FreeState>> {
        if self.stores.database_circuit.is_open() {
            return None;
        }
        match tokio::time::timeout(FILL_TIMEOUT, self.confirm.ask(pairs)).await {
            Ok(Ok(rows)) => {
                self.stores.database_circuit.success();
                Some(rows)
            }
            Ok(Err(error)) => {
                self.stores.database_circuit.failure(&error);
                None
            }
            Err(elapsed) => {
                self.stores.database_circuit.failure(&elapsed);
                None
            }
        }
    }
}
