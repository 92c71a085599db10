//! Imports the old schema: its history and its tables of likes, with string times, surrogate ids, duplicates and soft
//! deletes. [`table`] says which columns are assumed.
//!
//! Every row is a statement about the past (`rows`), every statement an event with a version made from its time and an id
//! made from what it says. Folding them is what live traffic does, so order, repetition and likes given meanwhile do not
//! matter. What cannot be understood is written down and left out.

mod rejects;
mod rows;
mod source;
pub mod table;
mod ticks;
mod time;

use crate::Verdict;
use crate::job::{Job, JobOptions, connect, now};
use crate::output::{Format, counted, print_one};
use crate::progress;
use anyhow::Context;
use chrono::FixedOffset;
use domain::LikeEvent;
use indicatif::ProgressBar;
use rejects::Rejects;
use rows::{Reading, Row, Said};
use source::{Source, SourceRow};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use table::{Column, Renamed, Table};
use ticks::{Ticks, WINDOW};

/// Rows read at once before an import goes on.
const LOOK_BACK: u32 = 10_000;

/// What to import, and how.
#[derive(Debug, Clone)]
pub struct ImportLegacy {
    /// The old database; may be the new one, if its tables have other names.
    pub source_url: String,
    /// The new one.
    pub database_url: String,
    /// Which tables.
    pub tables: Vec<Table>,
    /// What stands before the tables' names.
    pub table_prefix: String,
    /// Columns with other names than assumed.
    pub renamed: Vec<Renamed>,
    /// Columns that mean nothing.
    pub ignored_columns: Vec<String>,
    /// Zone of times that name none.
    pub zone: FixedOffset,
    /// Where rejected rows are written down.
    pub rejects: PathBuf,
    /// Batches, rate, resuming.
    pub job: JobOptions,
}

/// What an import did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct LegacyReport {
    /// Per table.
    pub tables: Vec<TableReport>,
    /// Rejected rows by reason.
    pub rejected: BTreeMap<String, u64>,
}

/// What became of a table's rows, in this run.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct TableReport {
    /// Its name.
    pub table: String,
    /// The id after which this run began.
    pub after: Option<i64>,
    /// Rows read.
    pub rows: u64,
    /// Likes and unlikes they stand for.
    pub events: u64,
    /// Pairs that changed by them.
    pub changed: u64,
    /// Rows of other kinds of behaviour.
    pub others: u64,
    /// Rows rejected.
    pub rejected: u64,
}

/// Imports table by table; each goes on after the last row of the run before, finished or not.
pub async fn run(import: &ImportLegacy, bar: &ProgressBar) -> anyhow::Result<LegacyReport> {
    let source = Source::connect(&import.source_url).await?;
    // All of them before the first row: a wrong name is found at once.
    let mut plans = Vec::new();
    for table in &import.tables {
        let name = format!("{}{}", import.table_prefix, table.name());
        let found = source.columns(&name).await?;
        let columns = table::plan(*table, &name, &found, &import.renamed, &import.ignored_columns)?;
        plans.push((*table, name, columns));
    }
    let store = connect(&import.database_url).await?;
    let mut rejects = Rejects::open(&import.rejects, import.job.restart)?;
    let mut report = LegacyReport::default();
    for (table, name, columns) in plans {
        let note = format!("import:{:016x}:{}", hash(&source_name(import)), table.name());
        let job = Job::start(store.clone(), import.job, note, true).await?;
        let ticks = RefCell::default();
        let mut work = Work { import, source: &source, table, name, columns, ticks, job, rejects: &mut rejects };
        report.tables.push(work.run(bar).await?);
    }
    report.rejected = rejects.into_counts();
    store.close().await;
    source.close().await?;
    Ok(report)
}

/// One table's import.
struct Work<'a> {
    import: &'a ImportLegacy,
    source: &'a Source,
    table: Table,
    name: String,
    columns: Vec<(Column, String)>,
    ticks: RefCell<Ticks>,
    job: Job,
    rejects: &'a mut Rejects,
}

impl Work<'_> {
    async fn run(&mut self, bar: &ProgressBar) -> anyhow::Result<TableReport> {
        let mut after = match self.job.cursor() {
            "" => None,
            text => {
                Some(text.parse::<i64>().with_context(|| format!("the noted progress {text:?} is none: --restart"))?)
            }
        };
        let mut report = TableReport { table: self.name.clone(), after, ..TableReport::default() };
        bar.reset();
        bar.set_message(self.name.clone());
        let total = self.source.len(&self.name, &self.columns, after).await?;
        if let Some(after) = after {
            self.look_back(after).await?;
        }
        loop {
            progress::reach(bar, report.rows, total);
            let limit = self.import.job.batch_size;
            let page = self.source.page(&self.name, &self.columns, after, limit).await?;
            let Some(last) = page.last().map(|row| row.id) else { break };
            let mut events: Vec<LikeEvent> = Vec::with_capacity(page.len());
            let mut ids = Vec::with_capacity(page.len());
            for row in &page {
                match self.read(row) {
                    Said::Events(said) => {
                        ids.extend(said.iter().map(|_| row.id));
                        events.extend(said);
                    }
                    Said::Other => report.others += 1,
                    Said::Broken(reason) => {
                        report.rejected += 1;
                        self.rejects.add(&self.name, row.id, &reason)?;
                    }
                }
            }
            self.rejects.flush()?;
            for (at, reason) in self.job.write(&events, page.len() as u64, last.to_string()).await? {
                report.rejected += 1;
                self.rejects.add(&self.name, ids[at], &reason)?;
            }
            report.rows += page.len() as u64;
            after = Some(last);
        }
        progress::finish(bar);
        self.rejects.flush()?;
        (report.events, report.changed) = (self.job.events, self.job.changed);
        Ok(report)
    }

    /// Reads again the rows up to the last one of the run before, as far as the order of later rows depends on them.
    async fn look_back(&self, after: i64) -> anyhow::Result<()> {
        let mut from = self.source.before(&self.name, &self.columns, after, WINDOW).await?;
        while from.is_none_or(|from| from < after) {
            let page = self.source.page(&self.name, &self.columns, from, LOOK_BACK).await?;
            let Some(last) = page.last().map(|row| row.id) else { break };
            page.iter().filter(|row| row.id <= after).for_each(|row| drop(self.read(row)));
            from = Some(last);
        }
        Ok(())
    }

    fn read(&self, row: &SourceRow) -> Said {
        let value = |column: Column| {
            let at = self.columns.iter().position(|(known, _)| *known == column)?;
            row.values.get(at)?.as_deref()
        };
        let reading = Reading {
            zone: self.import.zone,
            now: now().timestamp_micros(),
            steps: rows::steps(self.table),
            ticks: &self.ticks,
        };
        rows::read(self.table, &Row { values: &value }, reading)
    }
}

/// Names the source without its password: progress belongs to it.
fn source_name(import: &ImportLegacy) -> String {
    let url = import.source_url.as_str();
    let place = url.rsplit_once('@').map_or(url, |(_, place)| place);
    format!("{place}#{}", import.table_prefix)
}

/// FNV-1a: stored, so it must not change.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

/// Prints the result; rejected rows are a problem unless they were expected.
pub fn conclude(
    report: &LegacyReport,
    rejects: &std::path::Path,
    allow_rejects: bool,
    format: Format,
) -> anyhow::Result<Verdict> {
    let rejected: u64 = report.tables.iter().map(|table| table.rejected).sum();
    print_one(format, report, || {
        for table in &report.tables {
            let from = table.after.map_or_else(String::new, |after| format!(" after id {after}"));
            println!(
                "{}: {} read{from}: {}, {} changed; {} of other kinds, {} rejected",
                table.table,
                counted(table.rows, "row", "rows"),
                counted(table.events, "like or unlike", "likes and unlikes"),
                counted(table.changed, "pair", "pairs"),
                counted(table.others, "row", "rows"),
                table.rejected
            );
        }
        for (reason, rows) in &report.rejected {
            println!("  rejected {rows}: {reason}");
        }
        if rejected > 0 {
            println!("rejected rows are named in {}", rejects.display());
        }
    })?;
    Ok(Verdict::from_fine(rejected == 0 || allow_rejects))
}
