//! Compares every store with what the logs or histories of `load` say must be there.
//!
//! Each store is read once, row by row, and leaves marks on the operations (`oracle`); afterwards the marks are judged
//! pair by pair (`check`). A history is judged by the rules of [`mod@traffic::check`] instead ([`judge`]). Nothing here
//! is shared with the code that writes the stores, but the types of `domain`.

#[cfg(feature = "distributed")]
mod cache;
mod check;
mod excuses;
mod history;
#[cfg(feature = "distributed")]
mod nodes;
mod oracle;
mod quiet;
mod report;
mod served;
mod sql;

pub use history::{HistoryOptions, HistoryReport, judge};
pub use report::{Finding, Kind, VerifyReport};

use crate::UsageError;
use crate::credentials::Credentials;
use crate::hash::{IdMap, IdSet};
use anyhow::Context;
use check::Check;
use domain::{Pair, ResourceType};
use oracle::Oracle;
use served::{Cached, Served};
use sql::Sql;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::time::Duration;
use traffic::lines::lines;

/// Cached pairs asked for at a time.
const CACHED_PAIRS: usize = 20_000;

/// What to compare.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Logs in the order of their runs.
    pub oplogs: Vec<PathBuf>,
    /// Database.
    pub database_url: String,
    /// Cache.
    pub redis_url: String,
    /// What all keys of the cache start with.
    pub redis_prefix: String,
    /// Asked instead of the cache: a server whose cache nobody else can read.
    pub served_by: Option<ServedBy>,
    /// Longest wait for quiet.
    pub wait: Duration,
    /// Losses that are no failure.
    pub allowed_loss: AllowedLoss,
    /// Whether dead and discarded events are no failure: their pairs may be in any earlier state.
    pub allow_dead: bool,
    /// Whether others wrote too, so that rows outside the logs are no failure.
    pub shared: bool,
}

/// Addresses of a server, `host:port`.
#[derive(Debug, Clone)]
pub struct ServedBy {
    /// gRPC.
    pub grpc: String,
    /// Ops HTTP.
    pub http: String,
    /// What it is shown.
    pub credentials: Credentials,
}

/// Lost pairs that are no failure: they may be in any earlier state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedLoss {
    /// Any this many.
    pub number: u64,
    /// These.
    pub pairs: IdSet<Pair>,
}

impl AllowedLoss {
    /// From a number, or the name of a file of lines `user,v|c,id`.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        if let Ok(number) = text.parse() {
            return Ok(Self { number, pairs: IdSet::default() });
        }
        let unread = || format!("--allow-loss: could not read {text}");
        let file = File::open(text).with_context(unread)?;
        let mut pairs = IdSet::default();
        for (number, line) in lines(BufReader::new(file)).enumerate() {
            let line = line.with_context(unread)?;
            let pair = parse_loss_line(&line).ok_or_else(|| {
                UsageError(format!("{text}, line {}: expected user,v|c,id, got {line:?}", number + 1))
            })?;
            pairs.insert(pair);
        }
        Ok(Self { number: 0, pairs })
    }
}

/// A lost pair as a line of the file that [`AllowedLoss::parse`] reads.
pub fn loss_line(pair: Pair) -> String {
    format!("{},{},{}\n", pair.user, pair.resource.kind.letter(), pair.resource.id)
}

fn parse_loss_line(line: &str) -> Option<Pair> {
    let mut fields = line.split(',');
    let user = fields.next()?.parse().ok()?;
    let kind = ResourceType::from_letter(fields.next()?)?;
    let pair = Pair::new(user, kind, fields.next()?.parse().ok()?).ok()?;
    fields.next().is_none().then_some(pair)
}

/// Waits for quiet, then compares.
pub async fn run(options: &VerifyOptions) -> anyhow::Result<VerifyReport> {
    let oracle = Oracle::read(&options.oplogs)?;
    let sql = Sql::connect(&options.database_url).await?;
    let mut cache = connect(options).await?;
    let (operations, acknowledged, pairs) = oracle.sizes();
    let resources = oracle.resources().len();
    let report = VerifyReport { operations, acknowledged, pairs, resources, ..VerifyReport::default() };
    let mut check = Check {
        options,
        oracle,
        report,
        outside_live: IdMap::default(),
        strange_rows: BTreeMap::new(),
        strange_behaviours: BTreeMap::new(),
        allowance: options.allowed_loss.number,
    };
    let quiet = quiet::wait(&sql, &mut cache, options.wait).await?;
    check.report.waited_s = quiet.waited_s;
    if let Some(problem) = quiet.problem {
        check.report.add(Kind::NotQuiet, problem);
    }
    sql.likes(|row| check.see_row(row)).await?;
    sql.behaviours(|row| check.see_behaviour(&row)).await?;
    sql.repeated_event_ids(|id, times| {
        check.report.add(Kind::DuplicateBehaviour, format_args!("event {id}: {times} times"));
    })
    .await?;
    sql.ledger(|row| check.see_ledger(&row)).await?;
    let live = check.judge_pairs();
    check.check_counts(&sql, &live).await?;
    check.check_cached_counts(&mut cache, &live).await?;
    check.check_cached_pairs(&mut cache).await?;
    Ok(check.report)
}

async fn connect(options: &VerifyOptions) -> anyhow::Result<Cached> {
    match &options.served_by {
        Some(server) => Ok(Cached::Server(Served::connect(server).await?)),
        #[cfg(feature = "distributed")]
        None => Ok(Cached::Redis(cache::Cache::connect(&options.redis_url, &options.redis_prefix).await?)),
        #[cfg(not(feature = "distributed"))]
        None => Err(crate::not_built_in("--redis-url")),
    }
}
