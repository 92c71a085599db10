//! What the last hours looked like.

pub(crate) mod check_consistency;
pub(crate) mod consistency_report;
mod page;
pub(crate) mod routes;

use crate::error::CheckError;
use crate::finding::Verdict;
use crate::run::checker::Checker;
use chrono::{DateTime, TimeDelta, Utc};
use event_store::{FindingLife, FindingRecord, HourRecord, KindRecord, ProcessRow, RunRecord};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Serialize;
use std::collections::BTreeMap;
use sync_engine::operate::standings;
use sync_engine::stores::lag::{Lag, WITHIN};
use sync_engine::stores::standing::{Trouble, troubles};
use utoipa::ToSchema;

const RUNS: u32 = 50;

/// Kinds of runs that come by themselves.
const SWEEPS: [&str; 2] = ["full", "hot"];

const FINDINGS: u32 = 200;
const RESOURCES: usize = 20;

/// `GET /consistency/report`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = ConsistencyReport)]
pub struct Report {
    /// Hours looked back.
    pub hours: u32,
    /// How long ago, at most, runs and findings were so: they may be read from a replica of the database. 0: they are up to date.
    pub max_age_ms: u64,
    /// From then on.
    pub since: DateTime<Utc>,
    /// Runs.
    pub runs: i64,
    /// Things compared in all of them.
    pub checked: i64,
    /// Things found wrong.
    pub inconsistent: i64,
    /// Those of them that were repaired.
    pub repaired: i64,
    /// Subjects with something wrong now, each counted once, however many looks saw it.
    pub open: i64,
    /// Findings that began within these hours.
    pub opened: i64,
    /// Findings that ended within these hours: repaired, or seen consistent.
    pub closed: i64,
    /// What is wrong with accepted likes now, as health, page and alerts say it; none if nothing is.
    #[schema(value_type = Vec<Object>)]
    pub troubles: Vec<Trouble>,
    /// Part of the comparisons that found both sides equal, or one of them only late, 0 to 1; none if nothing was compared.
    #[schema(required)]
    pub consistency_rate: Option<f64>,
    /// The same as nines: 0.999 is 3. None if nothing was wrong, or nothing compared.
    #[schema(required)]
    pub nines: Option<f64>,
    /// Coverage of the newest full sweep.
    #[schema(required)]
    pub coverage: Option<f64>,
    /// What was found.
    #[schema(value_type = Vec<Object>)]
    pub by_kind: Vec<KindRecord>,
    /// Resources with most findings that are open, or were last seen within these hours: `video:1` and how many.
    #[schema(value_type = Vec<Vec<Value>>)]
    pub by_resource: Vec<(String, u64)>,
    /// From acceptance to commit, of likes of the last minute.
    pub lag: LagReport,
    /// By hour.
    #[schema(value_type = Vec<Object>)]
    pub trend: Vec<HourRecord>,
    /// Newest runs, and the newest sweeps that came to their end.
    #[schema(value_type = Vec<Object>)]
    pub latest_runs: Vec<RunRecord>,
    /// Newest looks that found something.
    #[schema(value_type = Vec<Object>)]
    pub latest_findings: Vec<FindingRecord>,
    /// What became of each finding, open ones first.
    #[schema(value_type = Vec<Object>)]
    pub findings: Vec<FindingLife>,
    /// Who runs, as each says itself, and who died within the last day.
    pub processes: Vec<ProcessState>,
}

/// A process, as it said itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProcessState {
    /// Which program.
    pub service: String,
    /// Its name among its kind.
    pub instance: String,
    /// Version of the program.
    pub version: String,
    /// `ok`, `degraded` or `down`.
    pub status: String,
    /// Which parts are not well; none if all are.
    #[schema(required)]
    pub detail: Option<String>,
    /// Its last word, by its own clock.
    pub seen_at: DateTime<Utc>,
    /// Milliseconds since then, by the clock of who answers.
    pub age_ms: i64,
}

impl ProcessState {
    fn of(row: ProcessRow, now: DateTime<Utc>) -> Self {
        let age_ms = (now - row.seen_at).num_milliseconds().max(0);
        let ProcessRow { service, instance, version, status, detail, seen_at, .. } = row;
        Self { service, instance, version, status, detail, seen_at, age_ms }
    }
}

/// Milliseconds from acceptance to commit, of likes accepted within the last minute: as health, page and alerts have it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct LagReport {
    /// Seconds within which they were accepted.
    pub within_s: u64,
    /// Likes that were looked at; without one the rest is 0.
    pub events: usize,
    /// Median.
    pub p50_ms: i64,
    /// 95th percentile.
    pub p95_ms: i64,
    /// 99th percentile.
    pub p99_ms: i64,
    /// Longest.
    pub max_ms: i64,
    /// Of the one that was accepted last.
    pub newest_ms: i64,
}

impl LagReport {
    /// None: no like of the last minute is committed.
    pub fn of(lag: Option<Lag>) -> Self {
        let Lag { events, p50_ms, p95_ms, p99_ms, max_ms, newest_ms } = lag.unwrap_or_default();
        Self { within_s: WITHIN.as_secs(), events, p50_ms, p95_ms, p99_ms, max_ms, newest_ms }
    }
}

impl Checker {
    /// Reads what all checkers wrote in the last hours; at most as far back as reports are kept.
    pub fn report(&self, hours: u32) -> BoxFuture<'_, Result<Report, CheckError>> {
        self.report_inner(hours).boxed()
    }

    /// Part of the comparisons of the last hours that ended well, 0 to 1; none if nothing was compared.
    pub fn consistency_rate(&self, hours: u32) -> BoxFuture<'_, Result<Option<f64>, CheckError>> {
        async move {
            let database = self.inspector().stores.database.on_replicas();
            let since = self.inspector().wall_clock() - TimeDelta::hours(i64::from(hours));
            let trend = database.runs_by_hour(since).await?;
            Ok(rate_of(&trend, &database.findings_by_kind(since).await?))
        }
        .boxed()
    }

    async fn report_inner(&self, hours: u32) -> Result<Report, CheckError> {
        let database = self.inspector().stores.database.on_replicas();
        let since = self.inspector().wall_clock() - TimeDelta::hours(i64::from(hours));
        let trend = database.runs_by_hour(since).await?;
        let by_kind = database.findings_by_kind(since).await?;
        let latest_findings = database.findings_since(since, FINDINGS).await?;
        let mut latest_runs = database.runs_since(since, RUNS).await?;
        // Who has single resources checked again and again hides no sweep.
        for sweep in database.latest_finished(&SWEEPS, since).await? {
            if latest_runs.iter().all(|run| run.id != sweep.id) {
                latest_runs.push(sweep);
            }
        }
        let totals = database.finding_totals(since).await?;
        let findings = database.finding_lives(since, FINDINGS).await?;
        let figures = standings::fresh(&self.inspector().stores).await?;
        let lag = LagReport::of(figures.lag);

        let sum = |part: fn(&HourRecord) -> i64| trend.iter().map(part).sum::<i64>();
        let (checked, inconsistent) = (sum(|hour| hour.checked), sum(|hour| hour.inconsistent));
        let repaired = sum(|hour| hour.repaired);
        let consistency_rate = rate_of(&trend, &by_kind);
        let nines = consistency_rate.filter(|rate| *rate < 1.0).map(|rate| -(1.0 - rate).log10());
        let mut of_resource: BTreeMap<String, u64> = BTreeMap::new();
        for finding in &findings {
            *of_resource.entry(format!("{}:{}", finding.resource_type, finding.resource_id)).or_default() += 1;
        }
        let mut by_resource: Vec<(String, u64)> = of_resource.into_iter().collect();
        by_resource.sort_by_key(|(_, found)| std::cmp::Reverse(*found));
        by_resource.truncate(RESOURCES);
        let coverage = latest_runs.iter().filter(|run| run.kind == "full").find_map(|run| run.coverage);
        let processes = database.processes().await?.into_iter().map(|row| ProcessState::of(row, figures.at)).collect();
        Ok(Report {
            hours,
            max_age_ms: u64::try_from(database.age().as_millis()).unwrap_or(u64::MAX),
            since,
            runs: sum(|hour| hour.runs),
            checked,
            inconsistent,
            repaired,
            open: i64::try_from(totals.open).unwrap_or(i64::MAX),
            opened: totals.opened,
            closed: totals.closed,
            troubles: troubles(&figures),
            consistency_rate,
            nines,
            coverage,
            by_kind,
            by_resource,
            lag,
            trend,
            latest_runs,
            latest_findings,
            findings,
            processes,
        })
    }
}

/// What is only late is not different.
fn rate_of(trend: &[HourRecord], by_kind: &[KindRecord]) -> Option<f64> {
    let sum = |part: fn(&HourRecord) -> i64| trend.iter().map(part).sum::<i64>();
    let (checked, inconsistent) = (sum(|hour| hour.checked), sum(|hour| hour.inconsistent));
    let late: i64 = by_kind.iter().filter(|one| one.verdict == Verdict::Stuck.name()).map(|one| one.found).sum();
    let different = (inconsistent - late).clamp(0, checked);
    (checked > 0).then(|| 1.0 - different as f64 / checked as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_says_of_which_time_it_is() {
        assert_eq!(LagReport::of(None), LagReport { within_s: 60, ..LagReport::default() });
        let lag = LagReport::of(Some(Lag { events: 9, p50_ms: 1, p95_ms: 2, p99_ms: 3, max_ms: 4, newest_ms: 1 }));
        let expected = LagReport { within_s: 60, events: 9, p50_ms: 1, p95_ms: 2, p99_ms: 3, max_ms: 4, newest_ms: 1 };
        assert_eq!(lag, expected);
    }
}
