//! One run: counts what it compared, repairs, and writes everything down.

use crate::error::CheckError;
use crate::finding::{Finding, Kind, RepairAction, RepairNote, RepairResult, Side, Subject, Verdict};
use crate::metrics;
use crate::repair::Repairer;
use chrono::{DateTime, Utc};
use domain::Resource;
use event_store::{FindingRecord, RunRecord, RunStatus};
use std::collections::HashSet;
use uuid::Uuid;

/// A run that is not at its end.
pub(crate) struct Pass {
    repairer: Repairer,
    kind: &'static str,
    pub(crate) run: RunRecord,
    max_findings: u32,
    dry_run: bool,
    /// Compared and on their way.
    pub(crate) in_flight: u64,
    /// Findings for somebody who listens, in flight ones too.
    heard: Option<Vec<Finding>>,
    /// Resources whose counter this run wrote anew: the cache was told of it.
    recounted: HashSet<Resource>,
}

impl Pass {
    pub(crate) fn new(repairer: Repairer, kind: &'static str, max_findings: u32) -> Self {
        let run = RunRecord {
            id: Uuid::now_v7(),
            kind: kind.to_owned(),
            strategy: repairer.fix.effective().name().to_owned(),
            status: RunStatus::Running.name().to_owned(),
            started_at: repairer.inspector.wall_clock(),
            finished_at: None,
            checked: 0,
            inconsistent: 0,
            repaired: 0,
            coverage: None,
        };
        Self { repairer, kind, run, max_findings, dry_run: false, in_flight: 0, heard: None, recounted: HashSet::new() }
    }

    /// Only says what would be done.
    pub(crate) const fn dry(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Keeps findings until they are taken by [`heard`](Self::heard).
    pub(crate) fn listening(mut self) -> Self {
        self.heard = Some(Vec::new());
        self
    }

    /// What was found since this was last asked.
    pub(crate) fn heard(&mut self) -> Vec<Finding> {
        self.heard.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn compared(&mut self, things: usize) {
        self.run.checked += i64::try_from(things).unwrap_or(i64::MAX);
        metrics::compared(self.kind, things as u64);
    }

    /// Writes findings down, repairs them, and writes down what the repairs did. Gives them back with that.
    pub(crate) async fn take(&mut self, findings: Vec<Finding>) -> Result<Vec<Finding>, CheckError> {
        let mut done = Vec::with_capacity(findings.len());
        for finding in findings {
            done.push(self.take_one(finding).await?);
        }
        Ok(done)
    }

    async fn take_one(&mut self, mut finding: Finding) -> Result<Finding, CheckError> {
        if !finding.verdict.is_wrong() {
            self.in_flight += 1;
            self.hear(&finding);
            return Ok(finding);
        }
        self.run.inconsistent += 1;
        let (kind, verdict) = (finding.kind.name(), finding.verdict.name());
        metrics::found(finding.kind, finding.verdict);
        let written = self.run.inconsistent <= i64::from(self.max_findings);
        let database = self.repairer.inspector.stores.database.clone();
        let mut record = record_of(&finding, self.run.id, self.repairer.inspector.wall_clock());
        if written {
            // Before the repair: what is repaired and then forgotten would be the worse mistake.
            database.record_finding(&record).await?;
        }
        let mut repair = self.repairer.repair_finding(&finding, self.dry_run).await?;
        self.with_the_recount(&finding, &mut repair).await?;
        metrics::repaired(&repair);
        let repaired = repair.is_repaired();
        self.run.repaired += i64::from(repaired);
        let (subject, action, outcome) = (finding.subject, repair.action.name(), repair.outcome.name());
        if finding.verdict == Verdict::Stuck {
            // Looked at every minute, for as long as it takes a person; gauges and health say so.
            tracing::debug!(kind, verdict, ?subject, action, outcome, "inconsistency");
        } else {
            tracing::warn!(kind, verdict, ?subject, action, outcome, "inconsistency");
        }
        finding.repair = Some(repair);
        if written {
            record.details = details(&finding);
            record.repaired_at = repaired.then(|| self.repairer.inspector.wall_clock());
            database.record_repair(&record).await?;
        }
        self.hear(&finding);
        Ok(finding)
    }

    /// A cached counter that the recount of its stored one has just put right is repaired, though its own repair found nothing
    /// more to do.
    async fn with_the_recount(&mut self, finding: &Finding, repair: &mut RepairNote) -> Result<(), CheckError> {
        let Some(resource) = finding.subject.resource() else { return Ok(()) };
        let recounts = matches!(repair.action, RepairAction::Recount | RepairAction::Restore | RepairAction::Row);
        if repair.is_repaired() && recounts {
            self.recounted.insert(resource);
        }
        let found_changed = finding.kind == Kind::CachedCount && repair.outcome == RepairResult::Changed;
        if found_changed && self.recounted.contains(&resource) {
            let seen = self.repairer.inspector.look(resource).await?;
            if seen.verdict == Verdict::Consistent {
                let after = seen.cached.map(Side::from);
                let (action, outcome) = (RepairAction::Settle, RepairResult::Repaired);
                *repair = RepairNote { action, outcome, before: finding.cache, after, token: repair.token };
            }
        }
        Ok(())
    }

    fn hear(&mut self, finding: &Finding) {
        if let Some(heard) = &mut self.heard {
            heard.push(finding.clone());
        }
    }

    /// Writes down how far it is.
    pub(crate) async fn save(&self, status: RunStatus) -> Result<(), CheckError> {
        let strategy = self.repairer.fix.effective().name();
        self.repairer.inspector.stores.database.save_run(&self.run, self.kind, strategy, status).await?;
        Ok(())
    }

    /// The end of a run that looked at everything: what it did not see is wrong no more.
    pub(crate) async fn finish_all(&mut self) -> Result<(), CheckError> {
        let (began, now) = (self.run.started_at, self.repairer.inspector.wall_clock());
        self.repairer.inspector.stores.database.close_findings_not_seen_since(began, now).await?;
        self.finish(RunStatus::Finished).await
    }

    pub(crate) async fn finish(&mut self, status: RunStatus) -> Result<(), CheckError> {
        self.run.finished_at = Some(self.repairer.inspector.wall_clock());
        status.name().clone_into(&mut self.run.status);
        self.save(status).await
    }
}

fn details(finding: &Finding) -> String {
    let Finding { cache, stored, detail, repair, .. } = finding;
    let repair: &Option<RepairNote> = repair;
    serde_json::json!({ "cache": cache, "stored": stored, "detail": detail, "repair": repair }).to_string()
}

fn record_of(finding: &Finding, run_id: Uuid, now: DateTime<Utc>) -> FindingRecord {
    let (resource_type, resource_id, user_id) = match finding.subject {
        Subject::Resource(resource) => (resource.kind.name(), resource.id.get(), None),
        Subject::Pair(pair) => (pair.resource.kind.name(), pair.resource.id.get(), Some(pair.user.get())),
        Subject::Shard { shard } => ("shard", i64::from(shard.0), None),
    };
    FindingRecord {
        run_id,
        resource_type: resource_type.to_owned(),
        resource_id,
        user_id,
        kind: finding.kind.name().to_owned(),
        verdict: finding.verdict.name().to_owned(),
        cache_value: finding.cache.map(|side| side.value),
        stored_value: finding.stored.map(|side| side.value),
        details: details(finding),
        repaired_at: None,
        created_at: now,
    }
}
