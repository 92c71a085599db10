//! What the checker says, for the wire.

mod events;

pub(super) use events::{Deeds, discarded, events, explanation, filter, replayed, selection};

use super::{CacheStats, oldest_age_ms};
use crate::convert::wire_resource;
use consistency::{CheckOutcome, Finding, RepairNote, Report, Side, Subject, Verdict};
use event_store::{FindingRecord, RunRecord};
use interaction_proto::v1;

type Time = chrono::DateTime<chrono::Utc>;

pub(super) fn outcome(outcome: CheckOutcome) -> v1::CheckConsistencyResponse {
    v1::CheckConsistencyResponse {
        resource: Some(wire_resource(outcome.resource)),
        verdict: verdict(outcome.verdict).into(),
        run_id: outcome.run_id.to_string(),
        leader: outcome.leader,
        findings: outcome.findings.into_iter().map(finding).collect(),
    }
}

const fn verdict(verdict: Verdict) -> v1::ConsistencyVerdict {
    match verdict {
        Verdict::Consistent => v1::ConsistencyVerdict::Consistent,
        Verdict::InFlight => v1::ConsistencyVerdict::InFlight,
        Verdict::Stuck => v1::ConsistencyVerdict::Stuck,
        Verdict::Stale => v1::ConsistencyVerdict::Stale,
        Verdict::Drift => v1::ConsistencyVerdict::Drift,
        Verdict::Missing => v1::ConsistencyVerdict::Missing,
        Verdict::Orphan => v1::ConsistencyVerdict::Orphan,
    }
}

fn finding(finding: Finding) -> v1::ConsistencyFinding {
    let user_id = match finding.subject {
        Subject::Pair(pair) => Some(pair.user.get()),
        Subject::Resource(_) | Subject::Shard { .. } => None,
    };
    v1::ConsistencyFinding {
        kind: finding.kind.name().to_owned(),
        verdict: verdict(finding.verdict).into(),
        user_id,
        cache: finding.cache.map(side),
        stored: finding.stored.map(side),
        detail: finding.detail,
        repair: finding.repair.map(repair),
    }
}

fn side(side: Side) -> v1::ConsistencySide {
    v1::ConsistencySide {
        value: side.value,
        version: side.version.map(|version| version.0),
        revision: side.revision,
        pending: side.pending,
    }
}

fn repair(note: RepairNote) -> v1::ConsistencyRepair {
    v1::ConsistencyRepair {
        action: note.action.name().to_owned(),
        outcome: note.outcome.name().to_owned(),
        before: note.before.map(side),
        after: note.after.map(side),
    }
}

pub(super) fn report(report: Report) -> v1::GetConsistencyReportResponse {
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
        }),
        trend: trend.collect(),
        latest_runs: report.latest_runs.into_iter().map(run).collect(),
        latest_findings: report.latest_findings.into_iter().map(recorded).collect(),
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

pub(super) fn stats(stats: &CacheStats) -> v1::GetCacheStatsResponse {
    let accounting = |shard| {
        let oldest_age_ms = oldest_age_ms(shard).map(|age| i64::try_from(age).unwrap_or(i64::MAX));
        v1::ShardAccounting {
            shard: shard.shard.0.into(),
            accepted: shard.accepted,
            settled: shard.settled,
            pending: shard.journal_len,
            oldest_age_ms,
        }
    };
    v1::GetCacheStatsResponse {
        available: stats.available,
        shards: stats.shards.iter().map(accounting).collect(),
        hits: stats.reads.hits,
        misses: stats.reads.misses,
        without_cache: stats.reads.without_cache,
    }
}

fn timestamp(time: Time) -> prost_types::Timestamp {
    // Fewer than a thousand million, always.
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0);
    prost_types::Timestamp { seconds: time.timestamp(), nanos }
}
