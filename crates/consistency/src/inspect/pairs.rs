//! Pairs: rows against history, cached pairs against rows, history against the ledger.

use crate::error::CheckError;
use crate::finding::{Finding, Kind, Side, Subject, Verdict, judge_pair, row_finding};
use crate::inspect::Inspector;
use crate::inspect::pending_refreshes::PendingRefreshes;
use domain::{Action, LikeEvent, LikeIntent, Origin, Pair, PairState, Version};
use event_store::{Behavior, EventFilter, EventStatus, EventStore};
use std::collections::BTreeMap;

/// Of the events of one pair that are read: the one that is looked for is among those around its version.
const EVENTS_OF_A_PAIR: u32 = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PairObservation {
    pair: Pair,
    cached: Option<PairState>,
    row: PairState,
    verdict: Verdict,
}

impl PairObservation {
    fn finding(&self) -> Finding {
        let detail = match self.verdict {
            Verdict::Missing => "the cache accepted what neither row, journal nor ledger has",
            Verdict::WentBack => "the cache has what the database has lost: neither row, journal nor ledger has it",
            Verdict::Stuck => "the event waits in the journal for too long",
            Verdict::Drift if self.cached.is_some_and(|cached| cached.version > self.row.version) => {
                "the cache still shows an event that was discarded"
            }
            _ => "",
        };
        Finding {
            kind: Kind::CachedPair,
            verdict: self.verdict,
            subject: Subject::Pair(self.pair),
            cache: self.cached.map(Side::from),
            stored: Some(self.row.into()),
            detail: detail.to_owned(),
            repair: None,
            event: None,
        }
    }
}

impl Inspector {
    /// Rows that are older than these entries of the history, or completed events of the ledger, each with what it lacks.
    /// They were read before the rows are, and are committed together with them: this needs no second look, but at rows that
    /// `first` shows late.
    pub(crate) async fn rows(&self, first: &EventStore, history: &[Behavior]) -> Result<Vec<Finding>, CheckError> {
        let mut newest: BTreeMap<Pair, Behavior> = BTreeMap::new();
        for behavior in history {
            let order = |behavior: &Behavior| (behavior.version, behavior.action);
            let held = newest.entry(behavior.pair).or_insert(*behavior);
            if order(held) < order(behavior) {
                *held = *behavior;
            }
        }
        let pairs: Vec<Pair> = newest.keys().copied().collect();
        let lacks = |(behavior, row): &(Behavior, PairState)| row.order() < (behavior.version, behavior.action);
        let rows = first.load_states(&pairs).await?;
        let mut lacking: Vec<_> = newest.into_values().zip(rows).filter(lacks).collect();
        if !first.age().is_zero() {
            let pairs: Vec<Pair> = lacking.iter().map(|(behavior, _)| behavior.pair).collect();
            let rows = self.stores.database.load_states(&pairs).await?;
            lacking = lacking.into_iter().map(|(behavior, _)| behavior).zip(rows).filter(lacks).collect();
        }
        if !lacking.is_empty() {
            // The row of an erased user, or of a deleted resource, is gone before its history is.
            let said: Vec<_> = lacking.iter().map(|(behavior, _)| (behavior.pair, behavior.version)).collect();
            let mut fenced = self.stores.database.fenced(&said).await?.into_iter();
            lacking.retain(|_| fenced.next() == Some(false));
        }
        Ok(lacking
            .into_iter()
            .map(|(behavior, row)| row_finding(event_of(&behavior), row, "the row against its history"))
            .collect())
    }

    /// Cached pairs against their rows. `first` is where the first look reads.
    pub(crate) async fn pairs(&self, first: &EventStore, pairs: &[Pair]) -> Result<Vec<Finding>, CheckError> {
        let mut suspects = self.look_at_pairs(first, pairs).await?;
        suspects.retain(|observation| observation.verdict != Verdict::Consistent);
        if suspects.is_empty() {
            return Ok(Vec::new());
        }
        tokio::time::sleep(self.confirm_after).await;
        let stale = suspects.iter().any(|observation| observation.verdict == Verdict::Stale);
        let pending_refreshes = if stale { self.pending_refreshes().await? } else { PendingRefreshes::default() };
        let again: Vec<Pair> = suspects.iter().map(|observation| observation.pair).collect();
        let mut findings = Vec::new();
        for (first, mut observation) in
            suspects.into_iter().zip(self.look_at_pairs(&self.stores.database, &again).await?)
        {
            if observation.verdict == Verdict::Consistent {
                continue;
            }
            if observation != first {
                observation.verdict = Verdict::InFlight;
            } else if observation.verdict == Verdict::Missing {
                let applied = self.applied(&observation).await?;
                observation.verdict = self.ahead(&observation).await?;
                if let (Verdict::Missing | Verdict::WentBack, Some(event)) = (observation.verdict, applied) {
                    findings.push(row_finding(event, observation.row, "the row against an event that was applied"));
                    continue;
                }
            } else if observation.verdict == Verdict::Stale && pending_refreshes.has(observation.pair.resource) {
                observation.verdict = Verdict::InFlight;
            }
            if observation.verdict != Verdict::Consistent {
                findings.push(observation.finding());
            }
        }
        Ok(findings)
    }

    async fn look_at_pairs(&self, rows: &EventStore, pairs: &[Pair]) -> Result<Vec<PairObservation>, CheckError> {
        let cached = self.stores.cache.states(pairs).await?;
        let rows = rows.load_states(pairs).await?;
        let observation = |((pair, cached), row): ((&Pair, Option<PairState>), PairState)| PairObservation {
            pair: *pair,
            cached,
            row,
            verdict: judge_pair(cached, row),
        };
        Ok(pairs.iter().zip(cached).zip(rows).map(observation).collect())
    }

    /// The event of a cached pair that is newer than its row, if ledger or history have it as applied: then the row has lost it.
    /// Asked before the last look at the row, because an event and its row are committed together.
    async fn applied(&self, observation: &PairObservation) -> Result<Option<LikeEvent>, CheckError> {
        let Some(PairState { version, .. }) = observation.cached else { return Ok(None) };
        let pair = observation.pair;
        let story = self.stores.database.pair_history(pair, &[version], EVENTS_OF_A_PAIR).await?;
        let in_ledger = story.events.into_iter().find(|entry| {
            entry.status == EventStatus::Completed && entry.event.pair() == pair && entry.event.version == version
        });
        let in_history = || {
            let entry = story.history.iter().find(|entry| entry.version == version)?;
            Some(event_of(&Behavior { event_id: entry.event_id, pair, action: entry.action, version }))
        };
        Ok(in_ledger.map(|entry| entry.event).or_else(in_history))
    }

    /// Why a cached pair is newer than its row.
    async fn ahead(&self, observation: &PairObservation) -> Result<Verdict, CheckError> {
        let Some(PairState { version, .. }) = observation.cached else { return Ok(Verdict::Consistent) };
        let shard = self.shards.of(observation.pair.resource);
        let page = self.stores.cache.journal_page(shard, Version(version.0 - 1), 1).await?;
        if page.iter().any(|entry| entry.version == version) {
            let old = self.stores.now().since(version) > self.stuck_after;
            return Ok(if old { Verdict::Stuck } else { Verdict::InFlight });
        }
        let pair = observation.pair;
        if self.stores.database.fenced(&[(pair, version)]).await? == [true] {
            // It is erased, or was: then a cache has become what it once was.
            let of_user = self.stores.database.erasure_of(pair.user).await?;
            let of_resource = self.stores.database.deletion_of(pair.resource).await?;
            let mut erasures = of_user.iter().chain(&of_resource).filter(|one| one.fence.covers(pair, version));
            let ended = erasures.all(|erasure| erasure.cleaned_at.is_some());
            return Ok(if ended { Verdict::Drift } else { Verdict::InFlight });
        }
        for status in [EventStatus::Failed, EventStatus::Processing, EventStatus::Dead, EventStatus::Pending] {
            if self.ledger_has(status, observation.pair, version).await? {
                // That is a finding of its own, of the ledger.
                return Ok(Verdict::Consistent);
            }
        }
        if self.ledger_has(EventStatus::Discarded, observation.pair, version).await? {
            // On the list of what the cache is told, from the moment of the discard on.
            let pending_refreshes = self.pending_refreshes().await?;
            return Ok(if pending_refreshes.has(observation.pair.resource) {
                Verdict::InFlight
            } else {
                Verdict::Drift
            });
        }
        // Between the looks at row and journal it may have been committed and settled.
        let now = self.look_at_pairs(&self.stores.database, &[observation.pair]).await?;
        Ok(match self.stores.history.went_back() {
            _ if now.first() != Some(observation) => Verdict::InFlight,
            Some(_) => Verdict::WentBack,
            None => Verdict::Missing,
        })
    }

    pub(crate) async fn ledger_has(
        &self,
        status: EventStatus,
        pair: Pair,
        version: Version,
    ) -> Result<bool, CheckError> {
        let filter = EventFilter {
            status: Some(status),
            resource: Some(pair.resource),
            user: Some(pair.user),
            ..EventFilter::default()
        };
        let page = self.stores.database.list_events(&filter, 100, None).await?;
        Ok(page.events.iter().any(|entry| entry.event.version == version))
    }
}

/// The event that an entry of the history came from, as far as rows are concerned.
fn event_of(behavior: &Behavior) -> LikeEvent {
    let intent = LikeIntent {
        id: behavior.event_id,
        pair: behavior.pair,
        action: behavior.action,
        idempotency_key: None,
        trace: None,
    };
    LikeEvent { intent, version: behavior.version, origin: Origin::Import }
}

/// A pair's state as an action.
pub(crate) const fn action_of(state: Side) -> Action {
    Action::from_liked(state.value != 0)
}
