//! `report`: what is wrong now, and what the checkers found.

use crate::client::ServerArgs;
use crate::events::{parse_time, time_of};
use crate::output::{Format, Row, counted, print};
use crate::status::{Trouble, say_troubles, troubles};
use crate::{UsageError, Verdict};
use anyhow::Context;
use chrono::{DateTime, Utc};
use clap::Args;
use interaction_proto::v1;
use serde::Serialize;

/// As far as a report looks back.
const MOST_HOURS: i32 = 720;

/// Arguments of `report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// How far to look back, in hours.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(i32).range(1..=i64::from(MOST_HOURS)))]
    hours: i32,
    /// The same: since a time such as 2026-01-31T07:00:00Z, or how long ago, such as 90s, 30m, 1h or 2d; to the next full hour.
    #[arg(long, value_parser = parse_time, conflicts_with = "hours")]
    since: Option<DateTime<Utc>>,
    /// Also findings that are closed.
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct FindingRow {
    opened_at: String,
    subject: String,
    kind: String,
    verdict: String,
    cache: Option<i64>,
    database: Option<i64>,
    sightings: i64,
    /// How often the same was found before, and closed.
    earlier: i64,
    state: String,
}

impl Row for FindingRow {
    const HEADERS: &'static [&'static str] =
        &["OPENED", "SUBJECT", "COMPARED", "VERDICT", "CACHE", "DATABASE", "SEEN", "STATE"];

    fn cells(&self) -> Vec<String> {
        let side = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        vec![
            self.opened_at.clone(),
            self.subject.clone(),
            self.kind.clone(),
            self.verdict.clone(),
            side(self.cache),
            side(self.database),
            self.sightings.to_string(),
            self.state.clone(),
        ]
    }
}

impl FindingRow {
    fn of(life: &v1::FindingLife) -> Self {
        let user = life.user_id.map_or_else(String::new, |user| format!(" user {user}"));
        let earlier = match life.earlier {
            0 => String::new(),
            1 => "; found once before".to_owned(),
            times => format!("; found {times} times before"),
        };
        let state = match (life.closed_at, life.outcome.as_str()) {
            (None, _) => "open".to_owned(),
            (Some(at), "consistent") => format!("seen consistent {}", time_of(Some(at))),
            (Some(at), outcome) => format!("{outcome} {}", time_of(Some(at))),
        };
        Self {
            opened_at: time_of(life.opened_at),
            subject: format!("{}{user}", life.name),
            kind: life.kind.clone(),
            verdict: life.verdict.clone(),
            cache: life.cache_value,
            database: life.stored_value,
            sightings: life.sightings,
            earlier: life.earlier,
            state: state + &earlier,
        }
    }
}

/// A report.
#[derive(Serialize)]
struct Told {
    hours: i32,
    troubles: Vec<Trouble>,
    consistency_rate: Option<f64>,
    checked: i64,
    opened: i64,
    closed: i64,
    open: i64,
    findings: Vec<FindingRow>,
}

impl ReportArgs {
    /// What is wrong, and what was found; problems if anything is wrong now.
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        let hours = self.hours()?;
        let mut client = self.server.connect_admin().await?;
        let request = v1::GetConsistencyReportRequest { hours };
        let report = client.get_consistency_report(request).await.context("the report was refused")?.into_inner();
        let troubles = troubles(&report.troubles);
        let lives = report.findings.iter().filter(|life| self.all || life.closed_at.is_none());
        let rows: Vec<_> = lives.map(FindingRow::of).collect();
        let v1::GetConsistencyReportResponse { hours, checked, consistency_rate, opened, closed, open, .. } = report;
        let fine = troubles.is_empty();
        match format {
            Format::Json => {
                let told = Told { hours, troubles, consistency_rate, checked, opened, closed, open, findings: rows };
                println!("{}", serde_json::to_string(&told)?);
            }
            Format::Tsv => print(format, &rows)?,
            Format::Table => {
                say_troubles(&troubles);
                let rate = consistency_rate.map_or_else(
                    || "nothing compared".to_owned(),
                    |rate| {
                        let compared = counted(checked, "comparison", "comparisons");
                        format!("{:.4} % of {compared} fine", (rate * 1e6).floor() / 1e4)
                    },
                );
                let opened = counted(opened, "finding", "findings");
                let open = counted(open, "subject", "subjects");
                println!("last {hours} h: {rate}; {opened} opened, {closed} closed; {open} open now\n");
                print(format, &rows)?;
            }
        }
        Ok(Verdict::from_fine(fine))
    }

    /// How far to look back.
    fn hours(&self) -> Result<i32, UsageError> {
        let Some(since) = self.since else { return Ok(self.hours) };
        let seconds = (crate::job::now() - since).num_seconds();
        let hours = i32::try_from(seconds.max(1).saturating_add(3_599) / 3_600).unwrap_or(i32::MAX);
        if hours > MOST_HOURS {
            return Err(UsageError(format!("--since: a report looks back {MOST_HOURS} hours at most")));
        }
        Ok(hours)
    }
}
