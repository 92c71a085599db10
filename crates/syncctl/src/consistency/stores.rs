//! An audit by the checker's own code, without a server.

use super::{CheckRow, StoreArgs};
use crate::cli::interrupt_on_signal;
use crate::output::{self, Format, print_one};
use crate::progress;
use anyhow::Context;
use consistency::{Checker, Finding, Kind, Progress, Subject, Verdict};
use indicatif::ProgressBar;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Findings printed; the report file has all of them.
const PRINTED: usize = 50;

/// What an audit came to.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// False if it was interrupted.
    pub(super) finished: bool,
    run_id: Option<uuid::Uuid>,
    took_s: f64,
    checked: i64,
    pub(super) inconsistent: i64,
    pub(super) repaired: i64,
    in_flight: usize,
    coverage: Option<f64>,
    by_kind: BTreeMap<String, i64>,
}

/// Goes through everything, with a bar, and prints what it came to.
pub(super) async fn audit(checker: &Checker, args: &StoreArgs, apply: bool, format: Format) -> anyhow::Result<Summary> {
    let format = format.or_json(args.json);
    let mut report = match &args.report {
        Some(path) => Some(File::create(path).with_context(|| format!("could not create {}", path.display()))?),
        None => None,
    }
    .map(BufWriter::new);
    let interrupt = CancellationToken::new();
    tokio::spawn(interrupt_on_signal(interrupt.clone()));
    let began = Instant::now();
    let bar = progress::spinner(format);
    let mut heard = Heard::default();
    let mut written: anyhow::Result<()> = Ok(());
    let run = checker
        .audit(apply, &interrupt, |progress, findings| {
            show(&bar, progress);
            heard.progress = Some(progress);
            for finding in findings {
                if let (Ok(()), Some(report)) = (&written, &mut report) {
                    written = line_of(&finding).and_then(|line| Ok(writeln!(report, "{line}")?));
                    if written.is_err() {
                        interrupt.cancel();
                    }
                }
                heard.take(finding);
            }
        })
        .await?;
    progress::finish(&bar);
    written.context("could not write the report")?;
    let progress = heard.progress;
    let summary = Summary {
        finished: run.is_some(),
        run_id: run.as_ref().map(|run| run.id),
        took_s: began.elapsed().as_secs_f64(),
        checked: progress.map_or(0, |progress| progress.checked),
        inconsistent: progress.map_or(0, |progress| progress.inconsistent),
        repaired: progress.map_or(0, |progress| progress.repaired),
        in_flight: heard.in_flight.len(),
        coverage: run.as_ref().and_then(|run| run.coverage),
        by_kind: heard.by_kind,
    };
    let text = serde_json::to_string(&summary)?;
    if let Some(mut report) = report {
        writeln!(report, "{{\"summary\":{text}}}")
            .and_then(|()| report.flush())
            .context("could not write the report")?;
    }
    let mut said = Ok(());
    print_one(format, &summary, || said = print(&summary, &heard.first, apply))?;
    said?;
    Ok(summary)
}

/// What an audit said so far.
#[derive(Default)]
struct Heard {
    progress: Option<Progress>,
    by_kind: BTreeMap<String, i64>,
    first: Vec<Finding>,
    in_flight: BTreeSet<(Kind, Subject)>,
}

impl Heard {
    fn take(&mut self, finding: Finding) {
        if !finding.verdict.is_wrong() {
            self.in_flight.insert((finding.kind, finding.subject));
            return;
        }
        *self.by_kind.entry(format!("{} {}", finding.kind.name(), finding.verdict.name())).or_default() += 1;
        if self.first.len() < PRINTED {
            self.first.push(finding);
        }
    }
}

fn show(bar: &ProgressBar, progress: Progress) {
    let Progress { phase, checked, inconsistent, repaired, resources, known_resources } = progress;
    let counting = phase == "counters" && known_resources > 0;
    if counting && bar.length().is_none() {
        progress::counts(bar);
    }
    if counting {
        progress::reach(bar, resources, known_resources);
    } else {
        bar.tick();
    }
    bar.set_message(format!("{phase}: {checked} compared, {inconsistent} wrong, {repaired} repaired"));
}

fn print(summary: &Summary, first: &[Finding], apply: bool) -> anyhow::Result<()> {
    if !first.is_empty() {
        output::print(Format::Table, &first.iter().map(CheckRow::of).collect::<Vec<_>>())?;
    }
    let more = usize::try_from(summary.inconsistent).unwrap_or(0).saturating_sub(first.len());
    if more > 0 {
        println!("and {more} more");
    }
    for (kind, found) in &summary.by_kind {
        println!("{kind}: {found}");
    }
    println!(
        "{}{} compared in {:.1} s, {} wrong, {} {}, {} in flight, coverage {}",
        if summary.finished { "" } else { "interrupted: " },
        summary.checked,
        summary.took_s,
        summary.inconsistent,
        summary.repaired,
        if apply { "repaired" } else { "repaired (nothing was to be written)" },
        summary.in_flight,
        summary.coverage.map_or_else(|| "unknown".to_owned(), |part| format!("{:.2}%", part * 100.0)),
    );
    Ok(())
}

/// A finding as one line of JSON.
fn line_of(finding: &Finding) -> anyhow::Result<String> {
    debug_assert!(finding.verdict != Verdict::Consistent);
    Ok(serde_json::to_string(finding)?)
}
