//! One run: start, load, faults, heal, quiet, verdict.

use crate::cli::Cli;
use crate::cluster::Cluster;
use crate::faults::strike;
use crate::groups::Groups;
use crate::judge::{self, Diary};
use crate::kinds::{NodeId, Shape};
use crate::plan::{Plan, Step};
use crate::report::{Heal, Report};
use crate::rig::{Rig, lock};
use crate::watch::{self, Memory, Observed};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use test_support::Load;
use tokio::task::JoinSet;
use traffic::history::now_micros;

/// After it a round counts as not converged and the run goes on.
const PATIENCE: Duration = Duration::from_secs(40);
/// Load before the first fault.
const WARM_UP: Duration = Duration::from_secs(2);

/// Runs everything; files that explain the result are left in `out`.
pub(crate) async fn run(options: &Cli, out: &Path) -> Result<Report> {
    let rig = Arc::new(Rig::start(options).await.context("start the stack")?);
    let peaks = Arc::new(Memory::default());
    let sampler = tokio::spawn({
        let (rig, peaks) = (Arc::clone(&rig), Arc::clone(&peaks));
        async move { watch::memory(&rig, &peaks).await }
    });
    let observed = Arc::new(Observed::default());
    let observer = tokio::spawn({
        let (rig, observed) = (Arc::clone(&rig), Arc::clone(&observed));
        async move { watch::observe(&rig, &observed).await }
    });
    let diary = Diary::begin(out)?;
    let load = start_load(&rig, options, diary.history())?;
    let mut report = Report {
        seed: options.seed,
        seconds: options.seconds,
        rss_limit_mib: options.rss_limit_mib,
        converge_limit: options.converge_limit,
        notice_limit: options.notice_limit,
        half_limit: options.half_limit,
        undegraded: options.undegraded,
        unavailable: unavailable(rig.can_preload || options.shape() != Shape::Single),
        ..Report::default()
    };
    let chaos = rounds(&rig, options, &load, &diary, &mut report).await;
    let judged = match chaos {
        Ok(()) => judge::judge(&rig, &load, &diary, &observed, options.strict, &mut report).await,
        Err(error) => Err(error),
    };
    sampler.abort();
    observer.abort();
    report.memory = lock(&peaks).clone();
    keep_logs(&rig, &load, out)?;
    judged.with_context(|| format!("logs are in {}", out.display()))?;
    Ok(report)
}

/// Faults that this machine cannot bring about.
fn unavailable(can_preload: bool) -> Vec<String> {
    let without = "skew_server, step_clock_* and slow_sync_* need a C compiler (apt-get install gcc)";
    if can_preload { Vec::new() } else { vec![without.to_owned()] }
}

fn start_load(rig: &Rig, options: &Cli, history: &Path) -> Result<Load> {
    let (rate, seed) = (options.rate.to_string(), options.seed.to_string());
    let args = ["--rate", &rate, "--seed", &seed, "--resources", "100", "--timeout", "5", "--connections", "4"];
    rig.deployment.people(&rig.grpc_addrs(), options.people, &args, history.to_owned())
}

/// The first half of the time single faults, then several at once; the last round is waited for.
async fn rounds(rig: &Arc<Rig>, options: &Cli, load: &Load, diary: &Diary, report: &mut Report) -> Result<()> {
    let mut plan = Plan::new(options.seed, &options.only, rig.can_preload).of(options.shape());
    let all: Vec<NodeId> = NodeId::all().collect();
    let start = Instant::now();
    let length = Duration::from_secs(options.seconds);
    tokio::time::sleep(WARM_UP).await;
    while start.elapsed() < length {
        ensure!(load.is_running(), "the load has ended: {}", load.log());
        let round = if start.elapsed() < length / 2 { Vec::from_iter(plan.single()) } else { plan.several() };
        ensure!(!round.is_empty(), "no fault is left to choose from");
        let faults = round.iter().map(|step| step.fault.to_string()).collect::<Vec<_>>().join(" + ");
        eprint!("{:6.1} s  {faults}", start.elapsed().as_secs_f64());
        let struck = strike_all(rig, &round).await?;
        for step in &round {
            *report.faults.entry(step.fault.kind()).or_default() += 1;
        }
        let converged = watch::converged(rig, &all, PATIENCE).await.map(|took| took.as_secs_f64());
        rig.broker_declared();
        // A fault is over when all is well again: until then served counts follow what is on its way.
        for (step, begin) in struck {
            diary.note(&step.fault.to_string(), begin, now_micros())?;
        }
        match &converged {
            Ok(seconds) => eprintln!("; well after {seconds:.1} s"),
            Err(problem) => eprintln!("; NOT WELL: {problem}"),
        }
        report.heals.push(Heal { faults, converged });
    }
    Ok(())
}

/// What was done, and when each began.
async fn strike_all(rig: &Arc<Rig>, round: &[Step]) -> Result<Vec<(Step, u64)>> {
    let mut tasks = JoinSet::new();
    for step in round.iter().copied() {
        let rig = Arc::clone(rig);
        tasks.spawn(async move {
            let begin = now_micros();
            strike(&rig, step).await?;
            anyhow::Ok((step, begin))
        });
    }
    let mut struck = Vec::new();
    while let Some(done) = tasks.join_next().await {
        struck.push(done??);
    }
    Ok(struck)
}

fn keep_logs(rig: &Rig, load: &Load, out: &Path) -> Result<()> {
    let nodes = rig.nodes.iter().map(|node| (node.id.to_string(), node.log()));
    let rest = [
        ("load".to_owned(), load.log()),
        ("redis".to_owned(), rig.deployment.redis().log()),
        ("mariadb".to_owned(), rig.deployment.mariadb().log()),
        ("rabbitmq".to_owned(), rig.deployment.rabbitmq().log()),
    ];
    let groups = rig.groups().map(Groups::logs).unwrap_or_default();
    let cluster = rig.cluster().map(Cluster::logs).unwrap_or_default();
    for (name, log) in nodes.chain(rest).chain(groups).chain(cluster) {
        let path = out.join(format!("{name}.log"));
        std::fs::write(&path, log).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
