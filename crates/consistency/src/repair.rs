//! Repairs. Each is one atomic write that carries what was seen and the fencing token; none is needed for correctness of
//! the others, so stopping anywhere is harmless.

pub mod leader;

use crate::config::{AutoFix, Strategy};
use crate::error::CheckError;
use crate::finding::{Finding, Kind, RepairAction, RepairNote, RepairResult, Side, Subject, Verdict, judge_stored};
use crate::inspect::Inspector;
use crate::inspect::pairs::action_of;
use crate::repair::leader::Leader;
use domain::cache::{CountRepair, PairRepair, RepairOutcome, SettledResource, Settlement};
use domain::{LikeEvent, LikeIntent, Origin, Pair, PairState, Resource, ShardId, StoredCount, Version};
use event_store::{Applied, EventStatus, Fenced};
use uuid::Uuid;

/// Repairs what an [`Inspector`] found.
#[derive(Clone)]
pub(crate) struct Repairer {
    pub(crate) inspector: Inspector,
    pub(crate) leader: Leader,
    pub(crate) fix: AutoFix,
}

type Repaired = Result<RepairNote, CheckError>;

fn note(action: RepairAction, outcome: RepairResult, before: Option<Side>, after: Option<Side>) -> RepairNote {
    RepairNote { action, outcome, before, after, token: None }
}

impl Repairer {
    /// What would be done about a finding; none if that is another part's work, or a person's.
    fn action(&self, finding: &Finding) -> Option<RepairAction> {
        Some(match (finding.kind, finding.verdict) {
            (Kind::StoredCount, Verdict::Drift | Verdict::Missing) => RepairAction::Recount,
            (Kind::CachedCount | Kind::CachedPair, Verdict::Stale) => RepairAction::Settle,
            (Kind::CachedCount, Verdict::Drift | Verdict::Orphan) => RepairAction::CachedCount,
            (Kind::CachedPair, Verdict::Drift) if self.fix.strategy == Strategy::DatabaseFirst => {
                RepairAction::CachedPair
            }
            (Kind::CachedPair, Verdict::Drift | Verdict::Missing | Verdict::WentBack)
                if self.fix.strategy == Strategy::CacheFirst =>
            {
                RepairAction::Row
            }
            (Kind::Row | Kind::History, Verdict::Missing | Verdict::Drift) => RepairAction::Restore,
            (Kind::Accounting, Verdict::Drift) => RepairAction::Accounting,
            (Kind::Journal, Verdict::Orphan) if finding.stored.is_some() => RepairAction::SettleEntry,
            _ => return None,
        })
    }

    /// Repairs one finding as configured; the note is also given where nothing was to be done.
    pub(crate) async fn repair_finding(&self, finding: &Finding, dry_run: bool) -> Repaired {
        let Some(action) = self.action(finding).filter(|_| self.fix.effective() != Strategy::ReportOnly) else {
            return Ok(note(RepairAction::Nothing, RepairResult::Reported, None, None));
        };
        if dry_run || self.fix.dry_run {
            return Ok(note(action, RepairResult::DryRun, finding.cache, finding.stored));
        }
        let Some(token) = self.leader.token() else { return Ok(note(action, RepairResult::NotLeader, None, None)) };
        let mut repaired = match (action, finding.subject) {
            (RepairAction::Recount, Subject::Resource(resource)) => self.recount(resource, token).await?,
            (RepairAction::Settle | RepairAction::CachedCount, Subject::Resource(resource)) => {
                self.cached_count(finding, resource, token).await?
            }
            (RepairAction::Settle | RepairAction::CachedPair, Subject::Pair(pair)) => {
                self.cached_pair(finding, pair, token).await?
            }
            (RepairAction::Row, Subject::Pair(pair)) => self.row(finding, pair, token).await?,
            (RepairAction::Restore, Subject::Pair(pair)) => self.restore(finding, pair, token).await?,
            (RepairAction::SettleEntry, Subject::Pair(pair)) => self.settle_entry(finding, pair).await?,
            (RepairAction::Accounting, Subject::Shard { shard }) => self.accounting(shard, token).await?,
            // An action about something else than the finding is none.
            (RepairAction::Recount | RepairAction::CachedCount, Subject::Pair(_))
            | (
                RepairAction::CachedPair | RepairAction::Row | RepairAction::Restore | RepairAction::SettleEntry,
                Subject::Resource(_),
            )
            | (
                RepairAction::Nothing | RepairAction::Forget | RepairAction::Accounting,
                Subject::Pair(_) | Subject::Resource(_),
            )
            | (_, Subject::Shard { .. }) => note(RepairAction::Nothing, RepairResult::Reported, None, None),
        };
        repaired.token = Some(token);
        if repaired.outcome == RepairResult::Fenced {
            self.leader.lost();
        }
        Ok(repaired)
    }

    async fn settle_count(&self, resource: Resource, stored: StoredCount) -> Result<(), CheckError> {
        self.inspector.stores.cache.settle(&Settlement::of_rows([(resource, stored)], [])).await?;
        Ok(())
    }

    async fn recount(&self, resource: Resource, token: u64) -> Repaired {
        let seen = self.inspector.look(resource).await?;
        // A count above what the cache was told would lower it, and the evidence would be gone.
        if self.inspector.is_evidence(&seen) {
            return Ok(note(RepairAction::Recount, RepairResult::Reported, None, None));
        }
        let above = seen.cached.map_or(0, |cached| cached.stored_revision);
        let now = self.inspector.wall_clock();
        match self.inspector.stores.database.repair_count(resource, above, token, now).await? {
            Fenced::Refused => Ok(note(RepairAction::Recount, RepairResult::Fenced, None, None)),
            Fenced::Done(repaired) if !repaired.changed() => {
                Ok(note(RepairAction::Recount, RepairResult::Changed, None, None))
            }
            Fenced::Done(repaired) => {
                self.settle_count(resource, repaired.after).await?;
                Ok(note(
                    RepairAction::Recount,
                    RepairResult::Repaired,
                    repaired.before.map(Side::from),
                    Some(repaired.after.into()),
                ))
            }
        }
    }

    async fn cached_count(&self, finding: &Finding, resource: Resource, token: u64) -> Repaired {
        // Seen anew: what was found may be repaired already, by settling or by the recount just before.
        let seen = self.inspector.look(resource).await?;
        let Some(cached) = seen.cached else {
            return Ok(note(RepairAction::CachedCount, RepairResult::Changed, None, None));
        };
        if self.inspector.is_evidence(&seen) || judge_stored(seen.audit.stored, seen.audit.live) != Verdict::Consistent
        {
            return Ok(note(RepairAction::CachedCount, RepairResult::Changed, None, None));
        }
        let before = Some(cached.into());
        let after = Some(Side { pending: Some(0), ..seen.truth().into() });
        if seen.verdict == Verdict::Stale {
            self.settle_count(resource, seen.truth()).await?;
            return Ok(note(RepairAction::Settle, RepairResult::Repaired, before, after));
        }
        let abandoned = finding.verdict == Verdict::Orphan && cached.pending > 0;
        let still = seen.verdict == Verdict::Drift || abandoned && seen.verdict == Verdict::Stuck;
        // The search comes after the look: what was accepted later changes the version that the repair compares.
        if !still || abandoned && self.inspector.has_entries(resource).await? {
            return Ok(note(RepairAction::CachedCount, RepairResult::Changed, before, None));
        }
        let stored = if abandoned { self.stored(resource).await? } else { seen.truth() };
        let repair = CountRepair { resource, seen: cached, stored, abandoned };
        let outcome = self.inspector.stores.cache.repair_count(&repair, token).await?;
        Ok(cache_note(RepairAction::CachedCount, outcome, before, after))
    }

    /// What the shard says of itself is seen anew; nobody but the two numbers is concerned.
    async fn accounting(&self, shard: ShardId, token: u64) -> Repaired {
        let status = self.inspector.stores.cache.shard_status().await?;
        let seen = status.into_iter().find(|one| one.shard == shard && !one.is_conserved());
        let Some(seen) = seen else { return Ok(note(RepairAction::Accounting, RepairResult::Changed, None, None)) };
        let outcome = self.inspector.stores.cache.repair_accounting(&seen, token).await?;
        let (before, after) = (seen.accepted.cast_signed(), (seen.settled + seen.journal_len).cast_signed());
        Ok(cache_note(RepairAction::Accounting, outcome, Some(before.into()), Some(after.into())))
    }

    async fn stored(&self, resource: Resource) -> Result<StoredCount, CheckError> {
        Ok(self.inspector.stores.database.load_counts(&[resource]).await?.first().copied().unwrap_or_default())
    }

    async fn cached_pair(&self, finding: &Finding, pair: Pair, token: u64) -> Repaired {
        let (Some(cache), Some(_)) = (finding.cache, finding.stored) else {
            return Ok(note(RepairAction::CachedPair, RepairResult::Changed, None, None));
        };
        let row = self.row_of(pair).await?;
        let (before, after) = (Some(cache), Some(Side::from(row)));
        let seen = state_of(cache);
        if seen.version > row.version && self.discarded(pair, seen.version).await? {
            self.inspector.stores.cache.forget_states(&[(pair, seen.version)]).await?;
            return Ok(note(RepairAction::Forget, RepairResult::Repaired, before, after));
        }
        if seen.version < row.version {
            self.inspector.stores.cache.settle(&Settlement::of_rows([], [(pair, row)])).await?;
            return Ok(note(RepairAction::Settle, RepairResult::Repaired, before, after));
        }
        if seen.version > row.version {
            return Ok(note(RepairAction::CachedPair, RepairResult::Changed, before, None));
        }
        let outcome = self.inspector.stores.cache.repair_pair(&PairRepair { pair, seen, row }, token).await?;
        Ok(cache_note(RepairAction::CachedPair, outcome, before, after))
    }

    /// `cache_first`: what the cache says becomes a row.
    async fn row(&self, finding: &Finding, pair: Pair, token: u64) -> Repaired {
        let Some(cache) = finding.cache else { return Ok(note(RepairAction::Row, RepairResult::Changed, None, None)) };
        let row = self.row_of(pair).await?;
        let seen = state_of(cache);
        if seen.version < row.version || seen.liked == row.liked {
            return Ok(note(RepairAction::Row, RepairResult::Changed, Some(row.into()), None));
        }
        if self.discarded(pair, seen.version).await? {
            // An operator has decided that already, against the cache.
            return self.cached_pair(finding, pair, token).await;
        }
        // At equal versions the row would win or tie; one more is the smallest that says what the cache says.
        let version = seen.version.max(Version(row.version.0 + 1));
        let intent =
            LikeIntent { id: Uuid::now_v7(), pair, action: action_of(cache), idempotency_key: None, trace: None };
        self.apply(RepairAction::Row, LikeEvent { intent, version, origin: Origin::Import }, Some(row.into()), token)
            .await
    }

    /// A row or a history that lacks an event gets it again.
    async fn restore(&self, finding: &Finding, pair: Pair, token: u64) -> Repaired {
        let Some(event) = finding.event.as_deref().filter(|event| event.pair() == pair) else {
            return Ok(note(RepairAction::Restore, RepairResult::Reported, None, None));
        };
        self.apply(RepairAction::Restore, event.clone(), finding.cache, token).await
    }

    async fn apply(&self, action: RepairAction, event: LikeEvent, before: Option<Side>, token: u64) -> Repaired {
        let pair = event.pair();
        let stores = &self.inspector.stores;
        match stores.database.restore(std::slice::from_ref(&event), token, self.inspector.wall_clock()).await? {
            Fenced::Refused => Ok(note(action, RepairResult::Fenced, before, None)),
            Fenced::Done(Applied { counts, pairs, .. }) => {
                let after = pairs.iter().find(|(of, _)| *of == pair).map(|(_, state)| Side::from(*state));
                stores.cache.settle(&Settlement::of_rows(counts, pairs)).await?;
                // A row that vanished around the store left its counter behind: that is wrong now, or was before.
                self.recount(pair.resource, token).await?;
                Ok(note(action, RepairResult::Repaired, before, after))
            }
        }
    }

    async fn settle_entry(&self, finding: &Finding, pair: Pair) -> Repaired {
        let Some(version) = finding.cache.and_then(|side| side.version) else {
            return Ok(note(RepairAction::SettleEntry, RepairResult::Changed, None, None));
        };
        let (stored, row) = (self.stored(pair.resource).await?, self.row_of(pair).await?);
        let settled = SettledResource { resource: pair.resource, entries: vec![version], stored: Some(stored) };
        let settlement = Settlement { resources: vec![settled], pairs: vec![(pair, row)], commit: None };
        let report = self.inspector.stores.cache.settle(&settlement).await?;
        let outcome = if report.removed > 0 { RepairResult::Repaired } else { RepairResult::Changed };
        Ok(note(RepairAction::SettleEntry, outcome, finding.cache, None))
    }

    async fn discarded(&self, pair: Pair, version: Version) -> Result<bool, CheckError> {
        self.inspector.ledger_has(EventStatus::Discarded, pair, version).await
    }

    async fn row_of(&self, pair: Pair) -> Result<PairState, CheckError> {
        Ok(self.inspector.stores.database.load_states(&[pair]).await?.first().copied().unwrap_or_default())
    }
}

/// `after` only says something where it was written.
fn cache_note(action: RepairAction, outcome: RepairOutcome, before: Option<Side>, after: Option<Side>) -> RepairNote {
    note(action, outcome.into(), before, after.filter(|_| outcome == RepairOutcome::Repaired))
}

fn state_of(side: Side) -> PairState {
    PairState { liked: side.value != 0, version: side.version.unwrap_or_default() }
}
