//! One run: start, load, faults, heal, quiet, verdict.

use crate::account;
use crate::cli::Cli;
use crate::faults::strike;
use crate::plan::{Fault, Plan, Step};
use crate::report::{Heal, Report};
use crate::rig::{Rig, lock};
use crate::watch::{self, Memory};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use test_support::Load;
use tokio::task::JoinSet;

/// After it a round counts as not converged and the run goes on.
const PATIENCE: Duration = Duration::from_secs(40);
const LOAD_END: Duration = Duration::from_secs(60);
const VERIFY_LIMIT: Duration = Duration::from_secs(240);
/// Load before the first fault.
const WARM_UP: Duration = Duration::from_secs(2);

/// Runs everything; files that explain the result are left in `out`.
pub(crate) async fn run(options: &Cli, out: &Path) -> Result<Report> {
    let rig = Arc::new(Rig::start(&options.bin_dir).await.context("start the stack")?);
    let peaks = Arc::new(Memory::default());
    let sampler = tokio::spawn({
        let (rig, peaks) = (Arc::clone(&rig), Arc::clone(&peaks));
        async move { watch::memory(&rig, &peaks).await }
    });
    let oplog = out.join("oplog");
    let load = start_load(&rig, options, &oplog)?;
    let mut report = Report {
        seed: options.seed,
        seconds: options.seconds,
        rss_limit_mib: options.rss_limit_mib,
        converge_limit: options.converge_limit,
        skew: rig.faketime.is_some(),
        ..Report::default()
    };
    let chaos = rounds(&rig, options, &load, &mut report).await;
    let judged = match chaos {
        Ok(()) => judge(&rig, &load, &oplog, out, &mut report).await,
        Err(error) => Err(error),
    };
    sampler.abort();
    report.memory = lock(&peaks).clone();
    keep_logs(&rig, &load, out)?;
    judged.with_context(|| format!("logs are in {}", out.display()))?;
    Ok(report)
}

fn start_load(rig: &Rig, options: &Cli, oplog: &Path) -> Result<Load> {
    let (rate, seed) = (options.rate.to_string(), options.seed.to_string());
    let args = ["--duration", "86400", "--rate", &rate, "--seed", &seed, "--users", "500", "--resources", "100"];
    let more = ["--unlikes", "0.35", "--comments", "0.25", "--concurrency", "64", "--timeout", "3"];
    let keys = ["--retry-for", "3600", "--idempotency-keys"];
    rig.deployment.load_to(&rig.grpc_addrs(), &[&args[..], &more, &keys].concat(), oplog.to_owned())
}

/// The first half of the time single faults, then several at once; the last round is waited for.
async fn rounds(rig: &Arc<Rig>, options: &Cli, load: &Load, report: &mut Report) -> Result<()> {
    let mut plan = Plan::new(options.seed, &options.only, report.skew);
    let start = Instant::now();
    let length = Duration::from_secs(options.seconds);
    tokio::time::sleep(WARM_UP).await;
    while start.elapsed() < length {
        ensure!(load.is_running(), "the load has ended: {}", load.log());
        let round = if start.elapsed() < length / 2 { Vec::from_iter(plan.single()) } else { plan.several() };
        ensure!(!round.is_empty(), "no fault is left to choose from");
        let faults = round.iter().map(|step| step.fault.to_string()).collect::<Vec<_>>().join(" + ");
        eprint!("{:6.1} s  {faults}", start.elapsed().as_secs_f64());
        strike_all(rig, &round).await?;
        rig.healed().await?;
        for step in &round {
            *report.faults.entry(step.fault.kind()).or_default() += 1;
        }
        let converged = watch::converged(rig, PATIENCE).await.map(|took| took.as_secs_f64());
        rig.broker_declared();
        match &converged {
            Ok(seconds) => eprintln!("; well after {seconds:.1} s"),
            Err(problem) => eprintln!("; NOT WELL: {problem}"),
        }
        report.heals.push(Heal { faults, converged });
    }
    Ok(())
}

async fn strike_all(rig: &Arc<Rig>, round: &[Step]) -> Result<()> {
    let counts_as_lost = round.iter().any(|step| step.fault.leaves_only_the_journal());
    let mut tasks = JoinSet::new();
    for step in round.iter().copied() {
        let rig = Arc::clone(rig);
        tasks.spawn(async move { strike(&rig, step, counts_as_lost && step.fault == Fault::FlushRedis).await });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// Ends the load, waits for quiet, compares; then ends the processes, which must do so in order.
async fn judge(rig: &Rig, load: &Load, oplog: &Path, out: &Path, report: &mut Report) -> Result<()> {
    load.terminate()?;
    load.wait_exit(LOAD_END).await.context("the load does not end")?;
    report.load = load.report()?;

    let lost_file = out.join("lost");
    report.verify = verify(rig, oplog, "--lost-file", &lost_file).await?;
    let lost = std::fs::read_to_string(&lost_file).unwrap_or_default();
    let flushed = lock(&rig.flushed).clone();
    let ledger = "SELECT CONCAT_WS(',', user_id, IF(resource_type = 'video', 'v', 'c'), resource_id, version) \
                  FROM sync_events";
    let ledger = if flushed.is_empty() { String::new() } else { rig.deployment.sql(ledger).await? };
    let text = std::fs::read_to_string(oplog).with_context(|| format!("read {}", oplog.display()))?;
    let excused = account::excused(&text, &flushed, &ledger)?;
    report.excused = excused.len();
    report.wrongly_excused = excused.iter().filter(|pair| !lost.lines().any(|line| line == *pair)).cloned().collect();
    if !excused.is_empty() {
        let allow_file = out.join("excused");
        let lines: String = excused.iter().map(|pair| format!("{pair}\n")).collect();
        std::fs::write(&allow_file, lines).with_context(|| format!("write {}", allow_file.display()))?;
        report.verify = verify(rig, oplog, "--allow-loss", &allow_file).await?;
    }

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

async fn verify(rig: &Rig, oplog: &Path, option: &str, file: &Path) -> Result<Value> {
    let file = file.to_str().context("a name that is not UTF-8")?;
    Ok(rig.deployment.verify([oplog], &["--wait", "60", option, file], VERIFY_LIMIT).await?.report)
}

fn keep_logs(rig: &Rig, load: &Load, out: &Path) -> Result<()> {
    let nodes = rig.nodes.iter().map(|node| (node.id.to_string(), node.log()));
    let rest = [
        ("load".to_owned(), load.log()),
        ("redis".to_owned(), rig.deployment.redis().log()),
        ("mariadb".to_owned(), rig.deployment.mariadb().log()),
        ("rabbitmq".to_owned(), rig.deployment.rabbitmq().log()),
    ];
    for (name, log) in nodes.chain(rest) {
        let path = out.join(format!("{name}.log"));
        std::fs::write(&path, log).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
