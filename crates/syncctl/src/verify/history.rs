//! Judges histories: what stores hold at the end, by the rules of [`mod@traffic::check`], and what no history knows of
//! (behaviours, unfinished work, counters that wait).

use super::report::{Finding, Kind, add_to};
use super::served::Cached;
use super::sql::{EventRow, Sql};
use super::{CACHED_PAIRS, VerifyOptions, connect, excuses, quiet};
use crate::hash::{IdMap, IdSet};
use anyhow::Context;
use domain::{Action, Pair, PairState, Resource, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use traffic::check::{Entry, Observed, Options, PairRow, Report, Stores, check};
use traffic::history::History;

/// How old a count may be that somebody reads, in microseconds: `cache_management.near_cache.ttl`, unless configured.
const COUNT_DELAY: u64 = 100_000;

/// What to judge, beside the stores.
#[derive(Debug, Clone, Default)]
pub struct HistoryOptions {
    /// Histories by one clock; a file may have nothing but faults.
    pub histories: Vec<PathBuf>,
    /// What may be lost.
    pub excuses: Option<PathBuf>,
    /// Whether a run that lacks something which could have gone wrong is a failure.
    pub strict: bool,
    /// What servers said of themselves.
    pub observed: Observed,
}

/// What was found.
#[derive(Debug, Clone, serde::Serialize)]
pub struct HistoryReport {
    /// By the rules.
    #[serde(flatten)]
    pub judged: Report,
    /// Rows read.
    pub rows: usize,
    /// Ledger rows read.
    pub ledger: usize,
    /// Behaviours read.
    pub behaviours: u64,
    /// Pairs found in the cache.
    pub cached_pairs: usize,
    /// Counters read, stored and cached ones.
    pub counters: usize,
    /// Time until all was quiet, in seconds.
    pub waited_s: f64,
    /// Problems that no rule is about.
    pub problems: BTreeMap<Kind, Finding>,
    /// How many pairs, windows and reasons are excused, by reason.
    pub excused_by_reason: BTreeMap<String, u64>,
    /// How many excuses stand in the file whose reason was needed for nothing, by reason.
    pub unused_excuses: BTreeMap<String, u64>,
    /// What the run did not contain, so that it shows nothing about it.
    pub vacuous: Vec<&'static str>,
    /// Whether that is a failure.
    pub strict: bool,
}

impl HistoryReport {
    /// Whether nothing is wrong.
    pub fn is_fine(&self) -> bool {
        self.judged.is_clean() && self.problems.is_empty() && (self.vacuous.is_empty() || !self.strict)
    }
}

impl fmt::Display for HistoryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "read {} rows, {} ledger rows, {} behaviours, {} cached pairs, {} counters; quiet after {:.1} s",
            self.rows, self.ledger, self.behaviours, self.cached_pairs, self.counters, self.waited_s
        )?;
        write!(f, "{}", self.judged)?;
        for (kind, finding) in &self.problems {
            writeln!(f, "{}: {}", kind.title(), finding.count)?;
            finding.examples.iter().try_for_each(|example| writeln!(f, "  {example}"))?;
        }
        for (reason, number) in &self.unused_excuses {
            writeln!(f, "not used: {number} excuses: {reason}")?;
        }
        if !self.vacuous.is_empty() {
            let failure = if self.strict { "VACUOUS" } else { "not in this run" };
            writeln!(f, "{failure}: {}", self.vacuous.join(", "))?;
        }
        writeln!(f, "{}", if self.is_fine() { "all stores agree with the history" } else { "PROBLEMS FOUND" })
    }
}

/// Waits for quiet, reads everything, judges.
pub async fn judge(options: &VerifyOptions, of: &HistoryOptions) -> anyhow::Result<HistoryReport> {
    let history = read_all(&of.histories)?;
    let excuses = of.excuses.as_deref().map_or_else(|| Ok(Vec::new()), excuses::read)?;
    let sql = Sql::connect(&options.database_url).await?;
    let mut cache = connect(options).await?;
    let mut problems = BTreeMap::new();
    let quiet = quiet::wait(&sql, &mut cache, options.wait).await?;
    if let Some(problem) = quiet.problem {
        add_to(&mut problems, Kind::NotQuiet, problem);
    }

    let known: IdSet<Pair> = history.records().iter().filter_map(traffic::history::Record::pair).collect();
    let mut resources: BTreeSet<Resource> = history.records().iter().map(|record| record.resource).collect();
    let mut stores = Stores { observed: of.observed, ..Stores::default() };
    let (mut rows, mut others) = (Vec::new(), IdMap::<Resource, i64>::default());
    sql.likes(|row| {
        if options.shared && !known.contains(&row.pair) {
            *others.entry(row.pair.resource).or_default() += i64::from(row.live);
        }
        rows.push(PairRow { pair: row.pair, state: PairState { liked: row.live, version: row.version } });
    })
    .await?;
    stores.others = others.into_iter().collect();
    let mut changes: IdMap<(Pair, Version), (Action, u32)> = IdMap::default();
    let mut ledger = Vec::new();
    sql.ledger(|row| {
        see_ledger(&row, options.allow_dead, &mut problems);
        if row.status == "completed" {
            changes.insert((row.pair, row.version), (row.action, 0));
        }
        resources.insert(row.pair.resource);
        ledger.push(Entry {
            pair: row.pair,
            action: row.action,
            version: row.version,
            dead: row.status != "completed",
            key: row.key,
            direct: row.direct,
        });
    })
    .await?;
    let behaviours = check_behaviours(&sql, options.shared, &mut changes, &mut problems).await?;

    let resources: Vec<Resource> = resources.into_iter().collect();
    sql.counts(|resource, count| {
        if !options.shared || resources.binary_search(&resource).is_ok() {
            stores.counts.push((resource, count));
        }
    })
    .await?;
    cache
        .counters(&resources, |at, counter| {
            if counter.pending == 0 {
                stores.counts.push((resources[at], counter.served));
            } else {
                let example = format!("{}: {} with {} pending", resources[at], counter.served, counter.pending);
                add_to(&mut problems, Kind::WrongCachedCount, example);
            }
        })
        .await?;
    stores.cached = cached_pairs(&mut cache, known, &rows).await?;
    let (rows_read, ledger_read) = (rows.len(), ledger.len());
    (stores.rows, stores.ledger) = (Some(rows), Some(ledger));

    let mut unused_excuses = BTreeMap::new();
    for excuse in &excuses {
        *unused_excuses.entry(excuse.reason.clone()).or_default() += 1;
    }
    let rules = Options { shared: options.shared, excuses, count_delay: COUNT_DELAY, ..Options::default() };
    let judged = check(&history, &stores, &rules);
    let mut excused_by_reason = BTreeMap::new();
    for (_, reason, number) in judged.excuses() {
        *excused_by_reason.entry(reason.to_owned()).or_default() += number;
        unused_excuses.remove(reason);
    }
    Ok(HistoryReport {
        rows: rows_read,
        ledger: ledger_read,
        behaviours,
        cached_pairs: stores.cached.len(),
        counters: stores.counts.len(),
        waited_s: quiet.waited_s,
        problems,
        excused_by_reason,
        unused_excuses,
        vacuous: judged.coverage.vacuous(),
        strict: of.strict,
        judged,
    })
}

fn read_all(paths: &[PathBuf]) -> anyhow::Result<History> {
    let mut history = History::new();
    for path in paths {
        let read = |path: &Path| History::read(path).with_context(|| path.display().to_string());
        history.absorb(read(path)?);
    }
    Ok(history)
}

fn see_ledger(row: &EventRow, allow_dead: bool, problems: &mut BTreeMap<Kind, Finding>) {
    match row.status.as_str() {
        "completed" => {}
        "dead" | "discarded" if allow_dead => {}
        "dead" | "discarded" => add_to(problems, Kind::DeadLedger, describe(row)),
        status => add_to(problems, Kind::UnfinishedLedger, format!("{}: {status}", describe(row))),
    }
}

/// Each completed event of the ledger is one behaviour, and nothing else is.
async fn check_behaviours(
    sql: &Sql,
    shared: bool,
    changes: &mut IdMap<(Pair, Version), (Action, u32)>,
    problems: &mut BTreeMap<Kind, Finding>,
) -> anyhow::Result<u64> {
    let mut read = 0;
    sql.behaviours(|row| {
        read += 1;
        match changes.get_mut(&(row.pair, row.version)) {
            Some((action, times)) if *action == row.action => {
                *times += 1;
                if *times > 1 {
                    add_to(problems, Kind::DuplicateBehaviour, describe(&row));
                }
            }
            Some(_) => add_to(problems, Kind::ExtraBehaviour, describe(&row)),
            None if shared => {}
            None => add_to(problems, Kind::ExtraBehaviour, describe(&row)),
        }
    })
    .await?;
    for ((pair, version), (action, _)) in changes.iter().filter(|(_, (_, times))| *times == 0) {
        add_to(problems, Kind::MissingBehaviour, format!("{pair}: {} {version}", action.name()));
    }
    Ok(read)
}

async fn cached_pairs(cache: &mut Cached, known: IdSet<Pair>, rows: &[PairRow]) -> anyhow::Result<Vec<PairRow>> {
    let mut pairs: BTreeSet<Pair> = known.into_iter().collect();
    pairs.extend(rows.iter().map(|row| row.pair));
    let pairs: Vec<Pair> = pairs.into_iter().collect();
    let mut cached = Vec::new();
    for chunk in pairs.chunks(CACHED_PAIRS) {
        let states = cache.pairs(chunk).await?;
        cached
            .extend(chunk.iter().zip(states).filter_map(|(pair, state)| Some(PairRow { pair: *pair, state: state? })));
    }
    Ok(cached)
}

fn describe(row: &EventRow) -> String {
    format!("{}: {} {}", row.pair, row.action.name(), row.version)
}
