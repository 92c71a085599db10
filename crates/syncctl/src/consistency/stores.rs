//! The checker's own code on the stores, without a server.

use super::{CONFIRM_AFTER, StoreArgs};
use crate::UsageError;
use crate::cli::interrupt_on_signal;
use anyhow::{Context, bail, ensure};
use consistency::{AutoFix, Checker, ConsistencyConfig, Finding, Kind, Progress, Strategy, Subject, Verdict};
use domain::ShardCount;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use settings::Settings;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Findings printed; the report file has all of them.
const PRINTED: usize = 50;

/// A checker on these stores. Their schema must be current, and the cache must hold the database's number of shards.
pub(super) async fn checker(args: &StoreArgs, strategy: Strategy) -> anyhow::Result<Checker> {
    let mut settings = Settings::default();
    settings.database.url = args.database_url.clone().into();
    settings.redis.url = args.redis_url.clone().into();
    settings.redis.key_prefix.clone_from(&args.redis_prefix);
    settings.redis.ca_file.clone_from(&args.redis_ca_file);
    settings.redis.validate().map_err(UsageError)?;
    let database = event_store::EventStore::connect(&settings.database).await?;
    let pending = database.pending_migrations().await.context("could not read the state of the schema")?;
    ensure!(pending.is_empty(), "the schema is not current: syncctl migrate, or another database was meant");
    let shards = database.remembered("shards").await?;
    database.close().await;
    let Some(shards) = shards else { bail!("the database has no number of shards: no service has ever used it") };
    let shards: u16 = shards.parse().with_context(|| format!("number of shards, {shards:?}"))?;
    settings.event_driven_sync.shards = ShardCount::new(shards)?;
    let stores = settings.stores().await?;
    stores.cache.prepare().await.context("cache")?;
    stores.cache.ping().await.context("cache")?;
    let config = ConsistencyConfig {
        max_rate: args.max_rate,
        history: Duration::from_secs(u64::from(args.history_days) * 86_400),
        stuck_after: Duration::from_secs_f64(args.stuck_after),
        confirm_after: CONFIRM_AFTER,
        // No lease is held: this is how long a token is used, and one step may repair a lot.
        lease: Duration::from_secs(120),
        auto_fix: AutoFix { enabled: true, strategy, dry_run: false },
        ..ConsistencyConfig::default()
    };
    config.validate().map_err(anyhow::Error::msg)?;
    Ok(Checker::new(stores, config, format!("syncctl-{}", std::process::id())))
}

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
pub(super) async fn audit(checker: &Checker, args: &StoreArgs, apply: bool) -> anyhow::Result<Summary> {
    let mut report = match &args.report {
        Some(path) => Some(File::create(path).with_context(|| format!("could not create {}", path.display()))?),
        None => None,
    }
    .map(BufWriter::new);
    let interrupt = CancellationToken::new();
    tokio::spawn(interrupt_on_signal(interrupt.clone()));
    let began = Instant::now();
    let bar = if args.json { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
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
    bar.finish_and_clear();
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
    if args.json {
        println!("{text}");
    } else {
        print(&summary, &heard.first, apply)?;
    }
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
    let counting = matches!(phase, "videos" | "comments") && known_resources > 0;
    if counting && bar.length().is_none() {
        let style = ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} {msg} eta {eta}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_length(known_resources);
    }
    if counting {
        bar.set_position(resources);
    } else {
        bar.tick();
    }
    bar.set_message(format!("{phase}: {checked} compared, {inconsistent} wrong, {repaired} repaired"));
}

fn print(summary: &Summary, first: &[Finding], apply: bool) -> anyhow::Result<()> {
    for finding in first {
        println!("{}", line_of(finding)?);
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
pub(super) fn line_of(finding: &Finding) -> anyhow::Result<String> {
    debug_assert!(finding.verdict != Verdict::Consistent);
    Ok(serde_json::to_string(finding)?)
}
