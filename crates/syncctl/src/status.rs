//! `status` and `report`: what is wrong now, on one screen, and what was found.

use crate::Verdict;
use crate::client::ServerArgs;
use crate::events::time_of;
use crate::http::fetch;
use crate::output::{Format, Row, print};
use anyhow::Context;
use clap::Args;
use interaction_proto::v1;
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// A process that takes longer does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Ops addresses of processes whose health is asked, host:port, separated by commas: server 8893, consumer 8894, checker 8895.
    #[arg(long, env = "SYNCCTL_HTTP", value_delimiter = ',')]
    http: Vec<String>,
}

/// Arguments of `report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// How far to look back, in hours.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(i32).range(1..=720))]
    hours: i32,
    /// Also findings that are closed.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Serialize)]
struct Trouble {
    kind: String,
    detail: String,
    hint: String,
}

#[derive(Debug, Serialize)]
struct Process {
    address: String,
    name: String,
    status: String,
    /// Parts that are not ok, with what they say.
    wrong: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Status {
    /// `ok` or `degraded`; what each process says of itself stands with it.
    status: &'static str,
    troubles: Vec<Trouble>,
    processes: Vec<Process>,
    cache_available: bool,
    pending: u64,
    oldest_age_ms: Option<i64>,
    lag_p50_ms: i64,
    lag_p99_ms: i64,
    open_findings: i64,
    consistency_rate: Option<f64>,
}

fn troubles(report: &v1::GetConsistencyReportResponse) -> Vec<Trouble> {
    let trouble =
        |one: &v1::Trouble| Trouble { kind: one.kind.clone(), detail: one.detail.clone(), hint: one.hint.clone() };
    report.troubles.iter().map(trouble).collect()
}

fn say_troubles(troubles: &[Trouble]) {
    if troubles.is_empty() {
        println!("nothing is wrong with accepted likes");
    }
    for trouble in troubles {
        println!("! {}", trouble.detail);
        println!("    {}", trouble.hint);
    }
}

impl StatusArgs {
    /// One screen; problems if anything is wrong.
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        let mut client = self.server.connect_admin().await?;
        let request = v1::GetConsistencyReportRequest { hours: 1 };
        let report = client.get_consistency_report(request).await.context("the report was refused")?.into_inner();
        let request = v1::GetCacheStatsRequest {};
        let stats = client.get_cache_stats(request).await.context("the figures were refused")?.into_inner();
        let header = self.server.credentials.read()?.http_header();
        let mut processes = Vec::new();
        for address in &self.http {
            processes.push(process(address, &header).await);
        }
        let troubles = troubles(&report);
        let fine = troubles.is_empty() && stats.available && processes.iter().all(|process| process.status == "ok");
        let lag = report.lag.unwrap_or_default();
        let status = Status {
            status: if fine { "ok" } else { "degraded" },
            troubles,
            processes,
            cache_available: stats.available,
            pending: stats.shards.iter().map(|shard| shard.pending).sum(),
            oldest_age_ms: stats.shards.iter().filter_map(|shard| shard.oldest_age_ms).max(),
            lag_p50_ms: lag.p50_ms,
            lag_p99_ms: lag.p99_ms,
            open_findings: report.open,
            consistency_rate: report.consistency_rate,
        };
        match format {
            Format::Json => println!("{}", serde_json::to_string(&status)?),
            Format::Tsv => print(format, &status.lines())?,
            Format::Table => status.screen(&self.server.addr)?,
        }
        Ok(Verdict::from_fine(fine))
    }
}

#[derive(Serialize)]
struct Line {
    name: &'static str,
    value: String,
}

impl Row for Line {
    const HEADERS: &'static [&'static str] = &["WHAT", "VALUE"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.to_owned(), self.value.clone()]
    }
}

impl Row for Process {
    const HEADERS: &'static [&'static str] = &["ADDRESS", "PROCESS", "HEALTH", "WHAT IS WRONG"];

    fn cells(&self) -> Vec<String> {
        vec![self.address.clone(), self.name.clone(), self.status.clone(), self.wrong.join("; ")]
    }
}

impl Status {
    fn lines(&self) -> Vec<Line> {
        let line = |name, value| Line { name, value };
        let oldest = self.oldest_age_ms.map_or_else(|| "-".to_owned(), |age| format!("{age} ms"));
        let rate = self.consistency_rate.map_or_else(
            || "nothing compared".to_owned(),
            |rate| {
                // Cut off, not rounded: what is not all is not 100 %.
                format!("{:.4} %", (rate * 1e6).floor() / 1e4)
            },
        );
        vec![
            line("status", self.status.to_owned()),
            line("database", "reachable".to_owned()),
            line("cache", if self.cache_available { "reachable" } else { "unreachable" }.to_owned()),
            line("in the journals", format!("{} likes", self.pending)),
            line("the oldest of them", oldest),
            line("from like to database", format!("median {} ms, p99 {} ms", self.lag_p50_ms, self.lag_p99_ms)),
            line("open findings", self.open_findings.to_string()),
            line("consistent, last hour", rate),
        ]
    }

    fn screen(&self, server: &str) -> anyhow::Result<()> {
        println!("{}, as the server at {server} sees it\n", self.status.to_uppercase());
        say_troubles(&self.troubles);
        println!();
        print(Format::Table, &self.lines())?;
        if !self.processes.is_empty() {
            println!();
            print(Format::Table, &self.processes)?;
        }
        Ok(())
    }
}

/// What a process says of itself.
async fn process(address: &str, header: &str) -> Process {
    let unreachable = |why: String| Process {
        address: address.to_owned(),
        name: "-".to_owned(),
        status: "unreachable".to_owned(),
        wrong: vec![why],
    };
    let body = match tokio::time::timeout(PATIENCE, fetch(address, "/health", header)).await {
        Err(_) => return unreachable(format!("no answer within {} s", PATIENCE.as_secs())),
        Ok(Err(error)) => return unreachable(format!("{error:#}")),
        Ok(Ok(body)) => body,
    };
    let Ok(health) = serde_json::from_str::<Value>(&body) else { return unreachable("not health".to_owned()) };
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let wrong = health["parts"].as_object().into_iter().flatten().filter(|(_, part)| part["status"] != "ok");
    Process {
        address: address.to_owned(),
        name: text(&health["service"]),
        status: text(&health["status"]),
        wrong: wrong.map(|(name, part)| format!("{name}: {}", part["detail"].as_str().unwrap_or_default())).collect(),
    }
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
            state,
        }
    }
}

impl ReportArgs {
    /// What is wrong, and what was found; problems if anything is wrong now.
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        let mut client = self.server.connect_admin().await?;
        let request = v1::GetConsistencyReportRequest { hours: self.hours };
        let report = client.get_consistency_report(request).await.context("the report was refused")?.into_inner();
        let troubles = troubles(&report);
        let lives = report.findings.iter().filter(|life| self.all || life.closed_at.is_none());
        let rows: Vec<_> = lives.map(FindingRow::of).collect();
        if format == Format::Table {
            say_troubles(&troubles);
            let rate = report.consistency_rate.map_or_else(
                || "nothing compared".to_owned(),
                |rate| format!("{:.4} % of {} comparisons fine", (rate * 1e6).floor() / 1e4, report.checked),
            );
            println!(
                "last {} h: {rate}; {} findings opened, {} closed; {} subjects open now\n",
                report.hours, report.opened, report.closed, report.open
            );
        }
        print(format, &rows)?;
        Ok(Verdict::from_fine(troubles.is_empty()))
    }
}
