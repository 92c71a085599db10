//! `check`, `repair`, `reconcile`, `recover`, `warmup`: the consistency service for operators.
//!
//! `check` and `warmup` ask a server. `repair` and `reconcile` work on the stores themselves, with the checker's own
//! code, and need no server: a repair takes a newer fencing token than whoever has the leader.

#[cfg(feature = "distributed")]
mod checker;
mod recover;
mod stores;

use crate::cache_args::CacheArgs;
use crate::client::{ServerArgs, parse_resource, to_proto};
use crate::output::{Format, Row, counted, print, print_one};
use crate::{UsageError, Verdict};
use anyhow::Context;
#[cfg(feature = "distributed")]
use checker::checker;
use clap::{Args, ValueEnum};
use consistency::{CheckOutcome, Finding, RepairNote, Side, Strategy, Subject};
use domain::Resource;
use interaction_proto::v1;
pub(crate) use recover::RecoverArgs;
use serde::Serialize;
use std::path::PathBuf;

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// video:ID or comment:ID.
    #[arg(required = true, value_parser = parse_resource)]
    resources: Vec<Resource>,
}

/// Arguments of `warmup`.
#[derive(Debug, Args)]
pub(crate) struct WarmupArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// So many resources of each kind with the largest counts.
    #[arg(long, default_value_t = 0)]
    top: i32,
    /// Resources and pairs of so many newest events.
    #[arg(long, default_value_t = 0)]
    recent: i32,
    /// These: video:ID or comment:ID. Without any of all, what the server is configured to.
    #[arg(value_parser = parse_resource)]
    resources: Vec<Resource>,
}

/// The stores, and how they are gone through.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// Database, for example mysql://user:password@host/name.
    #[arg(long, env = "DATABASE_URL", help_heading = "Stores", hide_env_values = true)]
    pub(super) database_url: String,
    #[command(flatten)]
    pub(super) cache: CacheArgs,
    /// Most comparisons per second.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_rate: u32,
    /// Days of history that rows are compared with; fewer than tombstones are kept.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(super) history_days: u32,
    /// Seconds after which what is on its way is stuck.
    #[arg(long, default_value_t = 60.0, value_parser = crate::cli::positive)]
    pub(super) stuck_after: f64,
    /// Write every finding to this file, one JSON object per line, and a summary as the last line.
    #[arg(long)]
    pub(super) report: Option<PathBuf>,
    /// The same as -o json.
    #[arg(long)]
    pub(super) json: bool,
}

/// Arguments of `reconcile`.
#[derive(Debug, Args)]
pub(crate) struct ReconcileArgs {
    #[command(flatten)]
    stores: StoreArgs,
}

/// Arguments of `repair`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["resources", "all"]))]
pub(crate) struct RepairArgs {
    #[command(flatten)]
    stores: StoreArgs,
    /// Everything; otherwise the resources given.
    #[arg(long)]
    all: bool,
    /// Really repair; otherwise it is only said what would be done.
    #[arg(long)]
    apply: bool,
    /// Who is believed where both sides are settled and differ.
    #[arg(long, value_enum, default_value_t = Believe::DatabaseFirst)]
    strategy: Believe,
    /// video:ID or comment:ID.
    #[arg(value_parser = parse_resource)]
    resources: Vec<Resource>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Believe {
    DatabaseFirst,
    CacheFirst,
}

impl CheckArgs {
    /// Asks the server about each resource; repairs nothing. Problems if anything is wrong; lag is not.
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        let mut client = self.server.connect_admin().await?;
        let (mut fine, mut rows) = (true, Vec::new());
        for resource in self.resources {
            let request = v1::CheckConsistencyRequest { resource: Some(to_proto(resource)), dry_run: true };
            let answer = client.check_consistency(request).await.context("the check was refused")?.into_inner();
            fine &= matches!(answer.verdict(), v1::ConsistencyVerdict::Consistent | v1::ConsistencyVerdict::InFlight);
            let empty =
                CheckRow { resource: resource.to_string(), verdict: word(answer.verdict()), ..CheckRow::default() };
            if answer.findings.is_empty() {
                rows.push(empty);
                continue;
            }
            rows.extend(answer.findings.iter().map(|finding| CheckRow {
                resource: resource.to_string(),
                verdict: word(finding.verdict()),
                user: finding.user_id,
                compared: finding.kind.clone(),
                cache: finding.cache.as_ref().map(side),
                database: finding.stored.as_ref().map(side),
                detail: finding.detail.clone(),
                repair: finding.repair.as_ref().map(|note| format!("{}: {}", note.action, note.outcome)),
            }));
        }
        print(format, &rows)?;
        Ok(Verdict::from_fine(fine))
    }
}

impl WarmupArgs {
    /// Has the server warm its cache.
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        let request = v1::WarmUpRequest {
            top_resources: self.top,
            recent_events: self.recent,
            resources: self.resources.into_iter().map(to_proto).collect(),
        };
        let mut client = self.server.connect_admin().await?;
        let report = client.warm_up(request).await.context("the warm-up was refused")?.into_inner();
        let v1::WarmUpResponse { counters, counters_filled, pairs, pairs_filled, took_ms } = report;
        let warmed = Warmed { counters, counters_filled, pairs, pairs_filled, took_ms };
        print_one(format, &warmed, || {
            println!(
                "newly cached: {counters_filled} of {}, {pairs_filled} of {}, in {took_ms} ms",
                counted(counters, "counter", "counters"),
                counted(pairs, "pair", "pairs"),
            );
        })?;
        Ok(Verdict::Fine)
    }
}

impl ReconcileArgs {
    /// Compares everything and repairs nothing. Problems if anything is wrong.
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        let checker = checker(&self.stores, Strategy::ReportOnly).await?;
        let summary = stores::audit(&checker, &self.stores, false, format).await?;
        Ok(Verdict::from_fine(summary.finished && summary.inconsistent == 0))
    }
}

impl RepairArgs {
    /// Repairs, or says what would be done. Problems if something is wrong and not repaired.
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        let strategy = match self.strategy {
            Believe::DatabaseFirst => Strategy::DatabaseFirst,
            Believe::CacheFirst => Strategy::CacheFirst,
        };
        if self.stores.report.is_some() && !self.all {
            return Err(UsageError("--report needs --all".to_owned()).into());
        }
        let checker = checker(&self.stores, strategy).await?;
        if self.all {
            let summary = stores::audit(&checker, &self.stores, self.apply, format).await?;
            return Ok(Verdict::from_fine(summary.finished && summary.inconsistent == summary.repaired));
        }
        let (mut fine, mut outcomes) = (true, Vec::new());
        for resource in self.resources {
            let outcome: CheckOutcome = if self.apply {
                checker.repair(resource).await.with_context(|| format!("{resource} was not repaired"))?
            } else {
                checker.check(resource, true).await.with_context(|| format!("{resource} could not be checked"))?
            };
            let repaired = |one: &Finding| one.repair.as_ref().is_some_and(RepairNote::is_repaired);
            fine &= outcome.findings.iter().all(|one| !one.verdict.is_wrong() || repaired(one));
            outcomes.push((resource, outcome));
        }
        // One object a line, as --json has printed it since before -o.
        if self.stores.json {
            for (_, outcome) in &outcomes {
                println!("{}", serde_json::to_string(outcome)?);
            }
        } else {
            let rows: Vec<_> = outcomes.iter().flat_map(|(resource, outcome)| rows_of(*resource, outcome)).collect();
            print(format, &rows)?;
        }
        Ok(Verdict::from_fine(fine))
    }
}

/// The findings of a resource; of one without any, what was found of it.
fn rows_of(resource: Resource, outcome: &CheckOutcome) -> Vec<CheckRow> {
    if outcome.findings.is_empty() {
        let (resource, verdict) = (resource.to_string(), outcome.verdict.name().to_owned());
        return vec![CheckRow { resource, verdict, ..CheckRow::default() }];
    }
    outcome.findings.iter().map(CheckRow::of).collect()
}

/// What a warm-up did.
#[derive(Serialize)]
struct Warmed {
    counters: u64,
    counters_filled: u64,
    pairs: u64,
    pairs_filled: u64,
    took_ms: u64,
}

/// `IN_FLIGHT` of the contract as `in_flight`.
fn word(verdict: v1::ConsistencyVerdict) -> String {
    verdict.as_str_name().trim_start_matches("CONSISTENCY_VERDICT_").to_lowercase()
}

fn side(side: &v1::ConsistencySide) -> String {
    in_words(side.value, [("version", side.version), ("revision", side.revision), ("pending", side.pending)])
}

fn side_of(side: Side) -> String {
    let Side { value, version, revision, pending } = side;
    let version = version.map(|version| version.0);
    in_words(value, [("version", version), ("revision", revision), ("pending", pending)])
}

fn in_words(value: i64, more: [(&str, Option<i64>); 3]) -> String {
    let mut text = value.to_string();
    for (name, value) in more {
        text.extend(value.map(|value| format!(" {name} {value}")));
    }
    text
}

/// A finding; of a resource without one, that it is consistent.
#[derive(Debug, Default, Serialize)]
struct CheckRow {
    resource: String,
    verdict: String,
    user: Option<i64>,
    compared: String,
    cache: Option<String>,
    database: Option<String>,
    detail: String,
    repair: Option<String>,
}

impl CheckRow {
    fn of(finding: &Finding) -> Self {
        let (resource, user) = match finding.subject {
            Subject::Pair(pair) => (pair.resource.to_string(), Some(pair.user.get())),
            Subject::Resource(resource) => (resource.to_string(), None),
            Subject::Shard { shard } => (format!("shard:{}", shard.0), None),
        };
        Self {
            resource,
            user,
            verdict: finding.verdict.name().to_owned(),
            compared: finding.kind.name().to_owned(),
            cache: finding.cache.map(side_of),
            database: finding.stored.map(side_of),
            detail: finding.detail.clone(),
            repair: finding.repair.as_ref().map(|note| format!("{}: {}", note.action.name(), note.outcome.name())),
        }
    }
}

impl Row for CheckRow {
    const HEADERS: &'static [&'static str] =
        &["RESOURCE", "VERDICT", "USER", "COMPARED", "CACHE", "DATABASE", "DETAIL", "REPAIR"];

    fn cells(&self) -> Vec<String> {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            self.resource.clone(),
            self.verdict.clone(),
            self.user.map_or_else(|| "-".to_owned(), |user| user.to_string()),
            if self.compared.is_empty() { "-".to_owned() } else { self.compared.clone() },
            text(&self.cache),
            text(&self.database),
            self.detail.clone(),
            text(&self.repair),
        ]
    }
}

#[cfg(feature = "distributed")]
use checker::stores as open_stores;

#[cfg(not(feature = "distributed"))]
async fn open_stores(_: &StoreArgs) -> anyhow::Result<sync_engine::Stores> {
    Err(crate::not_built_in("--redis-url"))
}

#[cfg(not(feature = "distributed"))]
async fn checker(_: &StoreArgs, _: Strategy) -> anyhow::Result<consistency::Checker> {
    Err(crate::not_built_in("--redis-url"))
}
