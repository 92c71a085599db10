//! `status`: what is wrong now, on one screen.

mod processes;

use crate::Verdict;
use crate::client::ServerArgs;
use crate::output::{Format, Row, counted, print};
use anyhow::Context;
use chrono::{DateTime, Utc};
use clap::Args;
use interaction_proto::v1;
use processes::{Process, Registered, process};
use serde::Serialize;
use std::time::Duration;
use tonic::{Code, Response};

/// A process that takes longer does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Ops addresses of processes whose health is asked, host:port, separated by commas: server 8893, consumer 8894, checker 8895.
    #[arg(long, env = "SYNCCTL_HTTP", value_delimiter = ',', value_parser = parse_address, help_heading = "Access")]
    http: Vec<String>,
}

fn parse_address(text: &str) -> Result<String, String> {
    let known = domain::addresses::split(text).map(|_| text.to_owned());
    known.ok_or_else(|| "expected host:port".to_owned())
}

#[derive(Debug, Serialize)]
pub(crate) struct Trouble {
    kind: String,
    detail: String,
    hint: String,
}

#[derive(Debug, Serialize)]
struct Status {
    /// `ok` or `degraded`; what each process says of itself stands with it.
    status: &'static str,
    troubles: Vec<Trouble>,
    processes: Vec<Process>,
    database_available: bool,
    cache_available: bool,
    pending: u64,
    oldest_age_ms: Option<i64>,
    /// What the database knows; none while it is unreachable.
    #[serde(flatten)]
    stored: Option<Stored>,
}

#[derive(Debug, Serialize)]
struct Stored {
    lag_p50_ms: i64,
    lag_p99_ms: i64,
    lag_newest_ms: i64,
    /// Likes that were accepted within so many seconds are what the lag is of.
    lag_within_s: u64,
    lag_events: u64,
    open_findings: i64,
    consistency_rate: Option<f64>,
    looked: Looked,
    /// Every process that runs, or died within the last day, as it said itself.
    registered: Vec<Registered>,
}

/// When the checkers looked last, within the last hour.
#[derive(Debug, Serialize)]
struct Looked {
    /// At hot resources, what the ledger holds unfinished, and what is open.
    hot_at: Option<DateTime<Utc>>,
    /// The end of the newest look at everything.
    all_at: Option<DateTime<Utc>>,
}

impl Stored {
    fn of(report: &v1::GetConsistencyReportResponse) -> Self {
        let lag = report.lag.unwrap_or_default();
        // Newest first.
        let latest = |kind: &str, at: fn(&v1::ConsistencyRun) -> Option<prost_types::Timestamp>| {
            let at = report.latest_runs.iter().filter(|run| run.kind == kind).find_map(at)?;
            DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).unwrap_or(0))
        };
        let looked =
            Looked { hot_at: latest("hot", |run| run.started_at), all_at: latest("full", |run| run.finished_at) };
        Self {
            lag_p50_ms: lag.p50_ms,
            lag_p99_ms: lag.p99_ms,
            lag_newest_ms: lag.newest_ms,
            lag_within_s: lag.within_s,
            lag_events: lag.events,
            open_findings: report.open,
            consistency_rate: report.consistency_rate,
            looked,
            registered: report.processes.iter().map(Registered::of).collect(),
        }
    }

    fn lag(&self) -> String {
        let Self { lag_p50_ms, lag_p99_ms, lag_newest_ms, lag_within_s, lag_events, .. } = self;
        match lag_events {
            0 => format!("no like of the last {lag_within_s} s arrived at the first attempt"),
            _ => format!(
                "median {lag_p50_ms} ms, p99 {lag_p99_ms} ms over the last {lag_within_s} s; newest {lag_newest_ms} ms"
            ),
        }
    }
}

impl Looked {
    fn in_words(&self, now: DateTime<Utc>) -> String {
        let ago = |at: Option<DateTime<Utc>>| match at.map(|at| (now - at).num_seconds().max(0)) {
            None => "not within the last hour".to_owned(),
            Some(seconds @ 0..120) => format!("{seconds} s ago"),
            Some(seconds) => format!("{} min ago", seconds / 60),
        };
        format!("hot resources {}, everything {}", ago(self.hot_at), ago(self.all_at))
    }
}

/// Kind of trouble: primaries of a cluster are lost, and others are not.
const PARTLY: &str = "cache_partly_unreachable";

/// What the server knows of a store; none if it does not reach it. A store that hangs must not make the screen hang.
async fn ask<T>(answer: impl Future<Output = Result<Response<T>, tonic::Status>>) -> Result<Option<T>, tonic::Status> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(answer)) => Ok(Some(answer.into_inner())),
        Ok(Err(status)) if status.code() != Code::Unavailable => Err(status),
        Ok(Err(_)) | Err(_) => Ok(None),
    }
}

/// `why` is the word of a process whose part it is: it knows what is wrong, and what cures it.
fn unreachable(store: &str, meanwhile: &str, why: Option<String>) -> Trouble {
    let (detail, hint) = match why {
        Some(why) => (format!("the {store} cannot be used: {meanwhile}"), why),
        None => (
            format!("the {store} is unreachable, or of no use: {meanwhile}"),
            "is it running, does it answer, may its user do what likes need? Processes know its last error: \
             --http HOST:8893,HOST:8894,HOST:8895"
                .to_owned(),
        ),
    };
    Trouble { kind: format!("{store}_unreachable"), detail, hint }
}

/// The server could not look at all of the cache; in a cluster that may be a part of it, of which processes say so.
fn without_cache(said: impl Fn(&str) -> Option<String>) -> Trouble {
    match (said("redis"), said("redis_shards")) {
        (None, Some(hint)) => {
            let detail = "a part of the cache cannot be used: likes of its shards are written to the database directly, others go on";
            Trouble { kind: PARTLY.to_owned(), detail: detail.to_owned(), hint }
        }
        (why, _) => unreachable("cache", "likes are written to the database directly", why),
    }
}

/// What processes say of a part: those that were asked just now, then those that the database knows of.
fn said_of(part: &str, asked: &[Process], registered: &[Registered]) -> Option<String> {
    asked.iter().find_map(|one| one.says_of(part)).or_else(|| registered.iter().find_map(|one| one.says_of(part)))
}

pub(crate) fn troubles(said: &[v1::Trouble]) -> Vec<Trouble> {
    let trouble =
        |one: &v1::Trouble| Trouble { kind: one.kind.clone(), detail: one.detail.clone(), hint: one.hint.clone() };
    said.iter().map(trouble).collect()
}

pub(crate) fn say_troubles(troubles: &[Trouble]) {
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
        let report = client.get_consistency_report(v1::GetConsistencyReportRequest { hours: 1 });
        let report = ask(report).await.context("the report was refused")?;
        let stats =
            ask(client.get_cache_stats(v1::GetCacheStatsRequest {})).await.context("the figures were refused")?;
        if report.is_none() && stats.is_none() {
            // Of a cache that it does not reach a server says so.
            let silent = std::io::Error::from(std::io::ErrorKind::TimedOut);
            return Err(silent).with_context(|| format!("{} does not answer", self.server.addr));
        }
        let stats = stats.unwrap_or_default();
        let header = self.server.credentials.read()?.http_header();
        let mut processes = Vec::new();
        for address in &self.http {
            processes.push(process(address, &header).await);
        }
        // Without the database the server says what it knew.
        let said = report.as_ref().map_or(&stats.troubles, |report| &report.troubles);
        let mut troubles = troubles(said);
        if report.is_none() {
            troubles.retain(|one| one.kind != "ledger_unread");
            let why = said_of("mysql", &processes, &[]);
            troubles.push(unreachable("database", "likes wait in the journal and the queue", why));
        }
        let stored = report.as_ref().map(Stored::of);
        if !stats.available {
            let registered = stored.as_ref().map_or(&[][..], |stored| &stored.registered);
            troubles.push(without_cache(|part| said_of(part, &processes, registered)));
        }
        for process in &processes {
            let named = process.troubles(&troubles);
            troubles.extend(named);
        }
        let fine = troubles.is_empty();
        let status = Status {
            status: if fine { "ok" } else { "degraded" },
            troubles,
            processes,
            database_available: report.is_some(),
            cache_available: stats.available,
            pending: stats.shards.iter().map(|shard| shard.pending).sum(),
            oldest_age_ms: stats.shards.iter().filter_map(|shard| shard.oldest_age_ms).max(),
            stored,
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

impl Status {
    fn lines(&self) -> Vec<Line> {
        const UNKNOWN: &str = "unknown";
        let line = |name, value| Line { name, value };
        let reach = |available: bool| if available { "reachable" } else { "unreachable" }.to_owned();
        let partly = self.troubles.iter().any(|one| one.kind == PARTLY);
        let cache = if partly { "partly unreachable".to_owned() } else { reach(self.cache_available) };
        let in_cache = |value: String| if self.cache_available { value } else { UNKNOWN.to_owned() };
        let in_database =
            |value: &dyn Fn(&Stored) -> String| self.stored.as_ref().map_or_else(|| UNKNOWN.to_owned(), value);
        let oldest = self.oldest_age_ms.map_or_else(|| "-".to_owned(), |age| format!("{age} ms"));
        let rate = |stored: &Stored| match stored.consistency_rate {
            // Cut off, not rounded: what is not all is not 100 %.
            Some(rate) => format!("{:.4} %", (rate * 1e6).floor() / 1e4),
            None => "nothing compared".to_owned(),
        };
        vec![
            line("status", self.status.to_owned()),
            line("database", reach(self.database_available)),
            line("cache", cache),
            line("in the journals", in_cache(counted(self.pending, "like", "likes"))),
            line("the oldest of them", in_cache(oldest)),
            line("from like to database", in_database(&Stored::lag)),
            line("wrong, by the checkers", in_database(&|stored| counted(stored.open_findings, "subject", "subjects"))),
            line("consistent, last hour", in_database(&rate)),
            line("latest look", in_database(&|stored| stored.looked.in_words(crate::job::now()))),
        ]
    }

    fn screen(&self, server: &str) -> anyhow::Result<()> {
        println!("{}, as the server at {server} sees it\n", self.status.to_uppercase());
        say_troubles(&self.troubles);
        println!();
        print(Format::Table, &self.lines())?;
        println!();
        match &self.stored {
            Some(stored) => print(Format::Table, &stored.registered)?,
            None => println!("which processes run is unknown"),
        }
        println!();
        if self.processes.is_empty() {
            println!("no process was asked itself: --http HOST:8893,HOST:8894,HOST:8895");
        } else {
            print(Format::Table, &self.processes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_of_no_use_is_told_with_the_word_of_a_process() {
        let shards =
            |part: &str| (part == "redis_shards").then(|| "22 of 64 shards: their primary does not answer".to_owned());
        let partly = without_cache(shards);
        assert_eq!((partly.kind.as_str(), partly.hint), (PARTLY, shards("redis_shards").unwrap()));
        let all = without_cache(|part| Some(format!("{part} is down")));
        assert_eq!((all.kind.as_str(), all.hint.as_str()), ("cache_unreachable", "redis is down"));
        let known =
            |detail: &str| Registered::of(&v1::ProcessState { detail: detail.to_owned(), ..Default::default() });
        let why = "down: OOM command not allowed; raise maxmemory; likes go on";
        let registered = [known(""), known(&format!("flow: slow; redis: {why}; redis_memory: 100 %"))];
        let asked = Process::of_parts(
            "127.0.0.1:8893",
            &serde_json::json!({
                "service": "interaction-server", "status": "degraded",
                "parts": {"redis": {"status": "down", "detail": "unreachable", "last_error": {"error": "NOAUTH; log in"}}},
            }),
        );
        assert_eq!(said_of("redis", &[asked], &registered).as_deref(), Some("unreachable; NOAUTH; log in"));
        let told = unreachable("cache", "meanwhile", said_of("redis", &[], &registered));
        assert_eq!(told.hint, why);
        assert!(!told.detail.contains("unreachable"), "{}", told.detail);
        let nobody = unreachable("cache", "meanwhile", said_of("redis", &[], &registered[..1]));
        assert!(nobody.hint.contains("--http"), "{}", nobody.hint);
    }

    #[test]
    fn the_latest_look_is_said_with_its_age() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0);
        let now = at(1_000).unwrap_or_default();
        let looked = |hot_at, all_at| Looked { hot_at, all_at }.in_words(now);
        assert_eq!(looked(at(988), at(700)), "hot resources 12 s ago, everything 5 min ago");
        assert_eq!(looked(None, None), "hot resources not within the last hour, everything not within the last hour");
    }
}
