//! `GetConsistencyReport`: what the last hours looked like. `GET /consistency/report` stands in [`consistency`], because the
//! checker's process has it too.

use super::{Admin, timestamp};
use crate::request::Violations;
use crate::status;
use consistency::{ConsistencyReport, ProcessState, Report};
use event_store::{FindingLife, FindingRecord, RunRecord};
use interaction_proto::v1;
use sync_engine::stores::standing::Trouble;
use tonic::Status;

pub(super) async fn grpc(
    admin: &Admin,
    request: v1::GetConsistencyReportRequest,
) -> Result<v1::GetConsistencyReportResponse, Status> {
    let mut violations = Violations::default();
    // A message cannot leave a number out: 0 says so.
    let hours = Some(request.hours).filter(|hours| *hours != 0).map(i64::from);
    let request = violations.take("", ConsistencyReport::new(hours));
    let report = violations.given(request)?.call(&admin.checker).await;
    report.map(answer).map_err(|error| status::stores(error.is_unavailable(), "the report", &error))
}

fn answer(report: Report) -> v1::GetConsistencyReportResponse {
    let by_kind = report.by_kind.into_iter().map(|kind| v1::KindCount {
        kind: kind.kind,
        verdict: kind.verdict,
        found: kind.found,
        repaired: kind.repaired,
    });
    let trend = report.trend.into_iter().map(|hour| v1::HourTrend {
        hour: hour.hour,
        runs: hour.runs,
        checked: hour.checked,
        inconsistent: hour.inconsistent,
        repaired: hour.repaired,
    });
    v1::GetConsistencyReportResponse {
        hours: i32::try_from(report.hours).unwrap_or(i32::MAX),
        since: Some(timestamp(report.since)),
        runs: report.runs,
        checked: report.checked,
        inconsistent: report.inconsistent,
        repaired: report.repaired,
        open: report.open,
        consistency_rate: report.consistency_rate,
        nines: report.nines,
        coverage: report.coverage,
        by_kind: by_kind.collect(),
        by_resource: report
            .by_resource
            .into_iter()
            .map(|(name, findings)| v1::ResourceCount { name, findings })
            .collect(),
        lag: Some(v1::LagPercentiles {
            events: report.lag.events as u64,
            p50_ms: report.lag.p50_ms,
            p95_ms: report.lag.p95_ms,
            p99_ms: report.lag.p99_ms,
            max_ms: report.lag.max_ms,
            newest_ms: report.lag.newest_ms,
            within_s: report.lag.within_s,
        }),
        trend: trend.collect(),
        latest_runs: report.latest_runs.into_iter().map(run).collect(),
        latest_findings: report.latest_findings.into_iter().map(recorded).collect(),
        opened: report.opened,
        closed: report.closed,
        troubles: report.troubles.into_iter().map(trouble).collect(),
        findings: report.findings.into_iter().map(life).collect(),
        processes: report.processes.into_iter().map(process).collect(),
    }
}

pub(super) fn trouble(trouble: Trouble) -> v1::Trouble {
    v1::Trouble { kind: trouble.kind.name().to_owned(), detail: trouble.detail, hint: trouble.hint.to_owned() }
}

fn process(process: ProcessState) -> v1::ProcessState {
    v1::ProcessState {
        service: process.service,
        instance: process.instance,
        version: process.version,
        status: process.status,
        detail: process.detail.unwrap_or_default(),
        seen_at: Some(timestamp(process.seen_at)),
        age_ms: process.age_ms,
    }
}

fn life(life: FindingLife) -> v1::FindingLife {
    v1::FindingLife {
        kind: life.kind,
        verdict: life.verdict,
        name: format!("{}:{}", life.resource_type, life.resource_id),
        user_id: life.user_id,
        cache_value: life.cache_value,
        stored_value: life.stored_value,
        details: life.details,
        sightings: life.sightings,
        opened_at: Some(timestamp(life.opened_at)),
        seen_at: Some(timestamp(life.seen_at)),
        outcome: life.outcome.unwrap_or_default(),
        closed_at: life.closed_at.map(timestamp),
        earlier: life.earlier,
    }
}

fn run(run: RunRecord) -> v1::ConsistencyRun {
    v1::ConsistencyRun {
        id: run.id.to_string(),
        kind: run.kind,
        strategy: run.strategy,
        status: run.status,
        started_at: Some(timestamp(run.started_at)),
        finished_at: run.finished_at.map(timestamp),
        checked: run.checked,
        inconsistent: run.inconsistent,
        repaired: run.repaired,
        coverage: run.coverage,
    }
}

fn recorded(finding: FindingRecord) -> v1::RecordedFinding {
    v1::RecordedFinding {
        run_id: finding.run_id.to_string(),
        name: format!("{}:{}", finding.resource_type, finding.resource_id),
        user_id: finding.user_id,
        kind: finding.kind,
        verdict: finding.verdict,
        cache_value: finding.cache_value,
        stored_value: finding.stored_value,
        details: finding.details,
        repaired_at: finding.repaired_at.map(timestamp),
        created_at: Some(timestamp(finding.created_at)),
    }
}
