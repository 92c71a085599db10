//! Judges a run by its history.

use crate::account;
use crate::kinds::NodeId;
use crate::report::Report;
use crate::rig::{Rig, lock};
use crate::served;
use crate::watch::{self, Observed};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;
use test_support::{Load, try_eventually};
use traffic::history::{Fault, HistoryWriter};

const LOAD_END: Duration = Duration::from_secs(60);
/// Of the sweep that is under way and the next one.
const SWEEP_LIMIT: Duration = Duration::from_secs(120);
const QUIET_LIMIT: Duration = Duration::from_secs(40);
const VERIFY_LIMIT: Duration = Duration::from_secs(240);

/// What happened: the history of the people, and another one with the faults, by the same clock.
pub(crate) struct Diary {
    history: PathBuf,
    faults: PathBuf,
    excuses: PathBuf,
    writer: Mutex<HistoryWriter>,
}

impl Diary {
    pub(crate) fn begin(out: &Path) -> Result<Self> {
        let faults = out.join("faults");
        let writer = HistoryWriter::create(&faults).with_context(|| format!("create {}", faults.display()))?;
        let writer = Mutex::new(writer);
        Ok(Self { history: out.join("history"), faults, excuses: out.join("excuses"), writer })
    }

    /// Where the people write.
    pub(crate) fn history(&self) -> &Path {
        &self.history
    }

    /// Notes a fault.
    pub(crate) fn note(&self, name: &str, begin: u64, end: u64) -> Result<()> {
        let mut writer = lock(&self.writer);
        writer.append_fault(&Fault { name: name.into(), begin, end })?;
        writer.flush()?;
        Ok(())
    }
}

/// Ends the load, waits for quiet, judges; then ends the processes, which must do so in order.
pub(crate) async fn judge(
    rig: &Rig,
    load: &Load,
    diary: &Diary,
    observed: &Observed,
    strict: bool,
    report: &mut Report,
) -> Result<()> {
    load.terminate()?;
    load.wait_exit(LOAD_END).await.context("the load does not end")?;
    report.load = load.report()?;

    if rig.groups().is_ok() || rig.cluster().is_ok() {
        swept(rig).await?;
    }
    report.excuses = excuse(rig, diary).await?;
    report.findings.clone_from(&lock(&rig.findings));
    report.notes.clone_from(&lock(&rig.notes));
    report.notices.clone_from(&lock(&rig.notices));
    report.halves.clone_from(&lock(&rig.halves));
    let absences = lock(&rig.absences).clone();
    if !absences.is_empty() {
        report.served = Some(served::served(&diary.history, &absences)?);
    }
    let (asked_again, rewrites) = observed.numbers();
    let (asked_again, rewrites) = (asked_again.to_string(), rewrites.to_string());
    let excuses = diary.excuses.to_str().context("a name that is not UTF-8")?;
    let mut args = vec!["--wait", "60", "--excuses", excuses, "--asked-again", &asked_again];
    args.extend(["--confirm-rewrites", &rewrites]);
    args.extend(strict.then_some("--strict"));
    let histories = [diary.history.as_path(), diary.faults.as_path()];
    report.verify = rig.deployment.judge(histories, &args, VERIFY_LIMIT).await?.report;

    for node in &rig.nodes {
        if !node.stop().await? {
            report.bad_exits.push(node.id.to_string());
        }
        let log = node.log();
        let panics = log.lines().filter(|line| line.contains("panicked"));
        report.panics.extend(panics.map(|line| format!("{}: {line}", node.id)));
    }
    Ok(())
}

/// What a promoted cache has from before, of words that were settled meanwhile, is for the checkers to put right: waits until
/// one has gone through everything since all was quiet.
async fn swept(rig: &Rig) -> Result<()> {
    if let Err(problem) = watch::converged(rig, &NodeId::all().collect::<Vec<_>>(), QUIET_LIMIT).await {
        lock(&rig.findings).push(format!("after the load: {problem}"));
    }
    let now = rig.deployment.sql("SELECT UTC_TIMESTAMP(6)").await?;
    let sweeps = format!(
        "SELECT COUNT(*) FROM consistency_runs WHERE kind = 'full' AND status = 'finished' AND started_at > '{}'",
        now.trim()
    );
    let some = async || match rig.deployment.sql(&sweeps).await {
        Ok(count) if count.trim() != "0" => Ok(()),
        other => Err(format!("{other:?}")),
    };
    if let Err(error) = try_eventually(SWEEP_LIMIT, "a sweep", some).await {
        lock(&rig.findings).push(format!("{error:#}"));
    }
    Ok(())
}

/// Writes down what may be lost.
async fn excuse(rig: &Rig, diary: &Diary) -> Result<Vec<String>> {
    let flushes = lock(&rig.flushes).clone();
    let ledger = "SELECT CONCAT_WS(',', user_id, IF(resource_type = 'video', 'v', 'c'), resource_id, version) \
                  FROM sync_events";
    let ledger = if flushes.is_empty() { String::new() } else { rig.deployment.sql(ledger).await? };
    let excuses = account::excuses(&flushes, &ledger, &rig.record());
    let lines: Vec<String> = excuses.iter().map(ToString::to_string).collect();
    let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    std::fs::write(&diary.excuses, text).with_context(|| format!("write {}", diary.excuses.display()))?;
    Ok(lines)
}
