//! Steps of the test run that are more than one command.

use crate::command::{Environment, output, run};
use crate::installation::Installation;
use crate::workspace::{self, Profile, script};
use anyhow::{Context, Result, ensure};
use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Piece {
    Tests,
    UpTwice,
    RunningMetrics,
    UpForLoad,
    GeneratedTrace,
    MovielensTrace,
    Stop,
}

/// Whether containers can be run here, or why not.
pub(crate) fn containers_run() -> Result<(), &'static str> {
    if !fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        return Err("containers need root here");
    }
    if !Command::new("unshare").args(["--mount", "true"]).output().is_ok_and(|output| output.status.success()) {
        return Err("containers cannot be run here: nothing may be mounted, as in a container without privileges");
    }
    Ok(())
}

/// A trace of real users, if somebody put it there: <https://grouplens.org/datasets/movielens/>.
pub(crate) fn movielens() -> PathBuf {
    let beside = || workspace::root().join("../shared/data/movielens/ratings.csv");
    env::var_os("MOVIELENS_RATINGS").map_or_else(beside, PathBuf::from)
}

impl Piece {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tests => "tests",
            Self::UpTwice => "up-twice",
            Self::RunningMetrics => "running-metrics",
            Self::UpForLoad => "up-for-load",
            Self::GeneratedTrace => "generated-trace",
            Self::MovielensTrace => "movielens-trace",
            Self::Stop => "stop",
        }
    }

    pub(crate) fn run(self) -> Result<()> {
        let run_dir = PathBuf::from(env::var_os("RUN_DIR").context("RUN_DIR is not set")?);
        let scratch = run_dir.parent().context("RUN_DIR has no parent")?.to_owned();
        let mut installation = Installation::at(run_dir, Environment::default());
        match self {
            Self::Tests => tests(Installation::at(scratch.join("tests"), Environment::default())),
            Self::UpTwice => up_twice(&installation),
            Self::RunningMetrics => running_metrics(&installation),
            Self::UpForLoad => {
                installation.wipe()?;
                // So that verify may insist that nothing else is there.
                installation.environment.without_rate_limits();
                run(installation.environment.command(script("up.sh")).arg("--no-build"))
            }
            Self::GeneratedTrace => generated_trace(&mut installation, &scratch),
            Self::MovielensTrace => movielens_trace(&mut installation, &scratch),
            Self::Stop => {
                installation.wipe()?;
                ensure!(!installation.directory.exists(), "{} is left", installation.directory.display());
                Ok(())
            }
        }
    }
}

/// All tests share one set of servers, except those that kill theirs.
fn tests(mut installation: Installation) -> Result<()> {
    let started = installation.up(&["--stores-only"]).and_then(|()| {
        for name in ["REDIS_URL", "DATABASE_URL", "AMQP_URL"] {
            installation.environment.set(format!("TEST_{name}"), installation.address(name)?);
            installation.environment.remove(name);
        }
        // Nothing here outlives a crash of the database, so it need not wait for the disk.
        installation.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 0").map(drop)
    });
    let passed = started
        .and_then(|()| run(&mut installation.environment.cargo(["test", "--locked", "--workspace", "--no-fail-fast"])));
    installation.wipe().and(passed)
}

/// The second time it must not restart anything.
fn up_twice(installation: &Installation) -> Result<()> {
    run(installation.environment.command(script("up.sh")).arg("--no-build"))?;
    let before = process_ids(installation)?;
    output(installation.environment.command(script("up.sh")).arg("--no-build"))?;
    ensure!(before == process_ids(installation)?, "up.sh twice restarted something");
    Ok(())
}

fn process_ids(installation: &Installation) -> Result<Vec<(PathBuf, String)>> {
    let mut found = vec![];
    for entry in fs::read_dir(&installation.directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "pid") {
            found.push((path.clone(), fs::read_to_string(&path)?));
        }
    }
    found.sort();
    ensure!(!found.is_empty(), "nothing runs");
    Ok(found)
}

fn running_metrics(installation: &Installation) -> Result<()> {
    let mut check = installation.environment.command(script("check_deploy.sh"));
    for name in ["HTTP_ADDR", "CONSUMER_HTTP_ADDR", "CHECKER_HTTP_ADDR"] {
        check.arg(installation.address(name)?);
    }
    run(&mut check)
}

fn syncctl(installation: &mut Installation, arguments: &[&str]) -> Result<()> {
    for (name, value) in installation.addresses()? {
        installation.environment.set(name, value);
    }
    let program = Profile::from_environment(Profile::Debug)?.program("syncctl");
    run(installation.environment.command(program).args(arguments))
}

/// Where the acknowledgements of the generated traces are.
fn generated(scratch: &Path) -> [String; 2] {
    ["generated-1", "generated-2"].map(|name| scratch.join(name).display().to_string())
}

/// Single likes, then batches.
fn generated_trace(installation: &mut Installation, scratch: &Path) -> Result<()> {
    let [first, second] = generated(scratch);
    let mut load: Vec<_> =
        "load --generate --likes 20000 --users 2000 --resources 500 --unlikes 0.3 --comments 0.2".split(' ').collect();
    let length = load.len();
    load.extend(["--seed", "7", "--concurrency", "64", "--oplog", &first]);
    syncctl(installation, &load)?;
    load.truncate(length);
    load.extend(["--seed", "8", "--concurrency", "4", "--batch", "100", "--oplog", &second]);
    syncctl(installation, &load)?;
    syncctl(installation, &["verify", "--oplog", &first, "--oplog", &second])
}

/// Of the trace, where a debug program replays it.
const DEBUG_RATINGS: &str = "20000";

/// Once, and the same again on top of it.
fn movielens_trace(installation: &mut Installation, scratch: &Path) -> Result<()> {
    let trace = movielens().display().to_string();
    let mut known = generated(scratch).to_vec();
    for name in ["movielens-1", "movielens-2"] {
        let oplog = scratch.join(name).display().to_string();
        let mut load = vec!["load", "--trace", &trace, "--format", "movielens", "--concurrency", "64"];
        load.extend(["--oplog", &oplog]);
        if Profile::from_environment(Profile::Debug)? == Profile::Debug {
            load.extend(["--likes", DEBUG_RATINGS]);
        }
        syncctl(installation, &load)?;
        known.push(oplog);
        let mut verify = vec!["verify"];
        verify.extend(known.iter().flat_map(|oplog| ["--oplog", oplog]));
        syncctl(installation, &verify)?;
    }
    Ok(())
}
