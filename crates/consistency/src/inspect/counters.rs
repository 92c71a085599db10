//! Counters: cached against stored, stored against live rows.

use crate::error::CheckError;
use crate::finding::{Finding, Kind, Side, Subject, Verdict, is_evidence, judge_cached, judge_stored};
use crate::inspect::pending_refreshes::PendingRefreshes;
use crate::inspect::{Inspector, PAGE};
use domain::cache::{CachedCount, JournalPages};
use domain::{Resource, StoredCount, Version};
use event_store::{CountAudit, EventStore};

/// Most journal entries searched for those of one resource.
const SEARCHED: usize = 20_000;

/// What was seen of one resource: the cache first, then the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CountObservation {
    pub(crate) resource: Resource,
    pub(crate) cached: Option<CachedCount>,
    /// `live` is what the database stands for: a stored count that is wrong says nothing about the cache.
    pub(crate) audit: CountAudit,
    pub(crate) verdict: Verdict,
}

impl CountObservation {
    /// The counter as it ought to be.
    pub(crate) fn truth(&self) -> StoredCount {
        StoredCount { count: self.audit.live, ..self.audit.stored.unwrap_or_default() }
    }

    fn finding(&self) -> Finding {
        let detail = match (self.verdict, self.cached) {
            (Verdict::Drift, Some(cached)) if cached.stored_revision > self.truth().revision => {
                "the cache has heard of a revision that the database does not have, and cannot have had".to_owned()
            }
            (Verdict::WentBack, _) => "the cache has heard of a revision that the database does not have".to_owned(),
            (Verdict::Orphan, _) => "pending entries that no journal has".to_owned(),
            _ => String::new(),
        };
        Finding {
            kind: Kind::CachedCount,
            verdict: self.verdict,
            subject: Subject::Resource(self.resource),
            cache: self.cached.map(Side::from),
            stored: Some(self.truth().into()),
            detail,
            repair: None,
            event: None,
        }
    }

    fn stored_finding(&self) -> Option<Finding> {
        let verdict = judge_stored(self.audit.stored, self.audit.live);
        (verdict != Verdict::Consistent).then(|| Finding {
            kind: Kind::StoredCount,
            verdict,
            subject: Subject::Resource(self.resource),
            cache: self.audit.stored.map(Side::from),
            stored: Some(self.audit.live.into()),
            detail: "like_counts against live rows".to_owned(),
            repair: None,
            event: None,
        })
    }
}

impl Inspector {
    /// Both comparisons of these resources. What is consistent is left out; what is in flight is not.
    pub(crate) async fn counts(&self, resources: &[Resource]) -> Result<Vec<Finding>, CheckError> {
        let cached = self.stores.cache.counts(resources).await?;
        let audits = self.stores.database.audit_counts(resources).await?;
        self.judge_counts(resources, cached, audits).await
    }

    /// The same where the stored counts are known to be right, but for `suspects`: without counting rows again. `first` is where the
    /// first look reads: what looks wrong in a replica is looked at again where nothing is late.
    pub(crate) async fn counts_but(
        &self,
        first: &EventStore,
        resources: &[Resource],
        suspects: &[Resource],
    ) -> Result<Vec<Finding>, CheckError> {
        let rest: Vec<Resource> = resources.iter().copied().filter(|one| !suspects.contains(one)).collect();
        let cached = self.stores.cache.counts(&rest).await?;
        let stored = first.load_counts(&rest).await?;
        let audit = |(resource, stored): (&Resource, StoredCount)| CountAudit {
            resource: *resource,
            stored: Some(stored),
            live: stored.count,
        };
        let audits = rest.iter().zip(stored).map(audit).collect();
        let mut findings = self.judge_counts(&rest, cached, audits).await?;
        if !suspects.is_empty() {
            findings.extend(self.counts(suspects).await?);
        }
        Ok(findings)
    }

    async fn judge_counts(
        &self,
        resources: &[Resource],
        cached: Vec<Option<CachedCount>>,
        audits: Vec<CountAudit>,
    ) -> Result<Vec<Finding>, CheckError> {
        let now = self.stores.now();
        let mut findings = Vec::new();
        let mut suspects = Vec::new();
        for ((resource, cached), audit) in resources.iter().zip(cached).zip(audits) {
            let observation = self.observation(*resource, cached, audit, now);
            // One snapshot: no second look can make this right again.
            findings.extend(observation.stored_finding());
            match observation.verdict {
                Verdict::Consistent => {}
                Verdict::InFlight => findings.push(observation.finding()),
                _ => suspects.push(observation),
            }
        }
        if suspects.is_empty() {
            return Ok(findings);
        }
        tokio::time::sleep(self.confirm_after).await;
        let stale = suspects.iter().any(|observation| observation.verdict == Verdict::Stale);
        let pending_refreshes = if stale { self.pending_refreshes().await? } else { PendingRefreshes::default() };
        for first in suspects {
            let second = self.look(first.resource).await?;
            let same = second.cached == first.cached && second.truth() == first.truth();
            let mut observation =
                if same { second } else { CountObservation { verdict: settled_or_moving(second.verdict), ..second } };
            if observation.verdict == Verdict::Stuck && !self.has_entries(observation.resource).await? {
                observation.verdict = if self.is_evidence(&observation) { Verdict::WentBack } else { Verdict::Orphan };
            }
            if observation.verdict == Verdict::Stale && pending_refreshes.has(observation.resource) {
                observation.verdict = Verdict::InFlight;
            }
            if observation.verdict != Verdict::Consistent {
                findings.push(observation.finding());
            }
        }
        Ok(findings)
    }

    /// Whether the cache knows of something newer than the database has: it is no reason to lower the cache. A stored count that
    /// is wrong says nothing of that, as long as nothing else says that the database lacks something: whoever broke it
    /// may have broken its revision.
    pub(crate) fn is_evidence(&self, seen: &CountObservation) -> bool {
        let stored = seen.audit.stored.unwrap_or_default();
        let believed = judge_stored(seen.audit.stored, seen.audit.live) == Verdict::Consistent
            || self.stores.history.went_back().is_some();
        believed && seen.cached.is_some_and(|cached| is_evidence(cached, stored, self.stores.now()))
    }

    /// One resource, now.
    pub(crate) async fn look(&self, resource: Resource) -> Result<CountObservation, CheckError> {
        let cached = self.stores.cache.counts(&[resource]).await?.into_iter().next().flatten();
        let audits = self.stores.database.audit_counts(&[resource]).await?;
        let audit = audits.first().copied().unwrap_or(CountAudit { resource, stored: None, live: 0 });
        Ok(self.observation(resource, cached, audit, self.stores.now()))
    }

    fn observation(
        &self,
        resource: Resource,
        cached: Option<CachedCount>,
        audit: CountAudit,
        now: Version,
    ) -> CountObservation {
        let mut observation = CountObservation { resource, cached, audit, verdict: Verdict::Consistent };
        let mut truth = observation.truth();
        if judge_stored(audit.stored, audit.live) != Verdict::Consistent && !self.is_evidence(&observation) {
            // Its revision says nothing either, but live rows do.
            truth.revision = cached.map_or(0, |cached| cached.stored_revision);
        }
        observation.verdict = judge_cached(cached, truth, now, self.stuck_after);
        observation
    }

    /// Whether the journal has entries of this resource; yes if it is too long to be searched.
    pub(crate) async fn has_entries(&self, resource: Resource) -> Result<bool, CheckError> {
        let shard = self.shards.of(resource);
        let mut pages = JournalPages::new(self.stores.cache.as_ref(), shard, PAGE, SEARCHED / PAGE);
        while let Some(page) = pages.next().await? {
            if page.iter().any(|entry| entry.decode().is_ok_and(|event| event.pair().resource == resource)) {
                return Ok(true);
            }
        }
        Ok(!pages.reached_end())
    }
}

/// What changed between two looks is alive: it is judged by the next check.
const fn settled_or_moving(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Consistent => Verdict::Consistent,
        _ => Verdict::InFlight,
    }
}
