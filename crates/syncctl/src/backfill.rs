//! `user_behaviors` becomes rows and counters: after rows were lost, or for history that others brought in.

use crate::Verdict;
use crate::job::{Job, JobOptions, connect};
use crate::output::{Format, counted, print_one};
use crate::progress;
use anyhow::Context;
use domain::{LikeEvent, LikeIntent, Origin};
use indicatif::ProgressBar;
use uuid::Uuid;

/// Name of the note that holds the progress.
const NOTE: &str = "backfill";

/// Broken rows that are named one by one.
const SHOWN: u64 = 10;

/// What a backfill did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct BackfillReport {
    /// Rows read.
    pub rows: u64,
    /// Likes and unlikes folded.
    pub events: u64,
    /// Rows of likes that changed: those that were as they should be did not.
    pub changed: u64,
    /// Rows of other kinds of behaviour.
    pub others: u64,
    /// Rows that cannot be a like.
    pub broken: u64,
}

/// Folds the whole history, oldest event id first, from where an unfinished run stopped.
///
/// New history that is written meanwhile is in its rows already, by whoever wrote it.
pub async fn run(database_url: &str, options: JobOptions, bar: &ProgressBar) -> anyhow::Result<BackfillReport> {
    let store = connect(database_url).await?;
    let mut job = Job::start(store.clone(), options, NOTE.to_owned(), false).await?;
    let mut after = match job.cursor() {
        "" => None,
        text => Some(Uuid::parse_str(text).with_context(|| format!("the noted progress {text:?} is none: --restart"))?),
    };
    let total = store.history_len(after).await.context("could not count user_behaviors")?;
    let mut report = BackfillReport::default();
    loop {
        progress::reach(bar, report.rows, total);
        let page = store.history_page(after, options.batch_size).await.context("could not read user_behaviors")?;
        let Some(last) = page.last else { break };
        let events: Vec<LikeEvent> = page
            .behaviors
            .iter()
            .map(|behavior| LikeEvent {
                intent: LikeIntent {
                    id: behavior.event_id,
                    pair: behavior.pair,
                    action: behavior.action,
                    idempotency_key: None,
                    trace: None,
                },
                version: behavior.version,
                origin: Origin::Import,
            })
            .collect();
        let rows = (page.behaviors.len() + page.broken.len()) as u64 + page.others;
        let refused = job.write(&events, rows, last.to_string()).await?;
        let refused = refused.into_iter().map(|(at, reason)| (page.behaviors[at].event_id, reason));
        for (id, reason) in page.broken.into_iter().chain(refused) {
            report.broken += 1;
            if report.broken <= SHOWN {
                eprintln!("syncctl: event {id}: {reason}");
            }
        }
        report.rows += rows;
        report.others += page.others;
        after = Some(last);
    }
    progress::finish(bar);
    // Complete: the next run begins at the beginning.
    store.set_note(NOTE, None).await.context("could not remove the progress")?;
    store.close().await;
    (report.events, report.changed) = (job.events, job.changed);
    Ok(report)
}

/// Prints the result.
pub fn conclude(report: &BackfillReport, format: Format) -> anyhow::Result<Verdict> {
    print_one(format, report, || {
        println!(
            "{} read: {}, {} changed; {} of other kinds, {} broken",
            counted(report.rows, "row", "rows"),
            counted(report.events, "like or unlike", "likes and unlikes"),
            counted(report.changed, "pair", "pairs"),
            counted(report.others, "row", "rows"),
            report.broken
        );
    })?;
    Ok(Verdict::from_fine(report.broken == 0))
}
