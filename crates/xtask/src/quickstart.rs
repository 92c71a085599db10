//! `scripts/quickstart.sh`: the first minutes with the project.

use crate::command::{Environment, output, run, start};
use crate::workspace::{Profile, root};
use crate::{cleanup, http, scratch};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::env;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The first minutes with the project, from a clean clone of what is committed: `cargo run --release`, likes, kill -9, again,
/// and everything is there.
///
/// The build is a cold one unless CARGO_TARGET_DIR names a directory to reuse. PROFILE=debug builds a debug program in a
/// fraction of the time. Exit code 1 if anything is missing.
#[derive(clap::Args)]
pub(crate) struct Quickstart {
    /// Replays a MovieLens ratings.csv as well, with five kill -9 during it.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Leaves the clone behind.
    #[arg(long)]
    keep: bool,
}

/// Long, because cargo may have to wait for others who build.
const READY: Duration = Duration::from_secs(300);
/// Answers between two kills.
const BETWEEN_KILLS: usize = 3000;
const POLL: Duration = Duration::from_millis(50);

/// What runs and must not be left.
type Running = Arc<Mutex<Option<Child>>>;

struct Session {
    environment: Environment,
    work: PathBuf,
    clone: PathBuf,
    profile: Profile,
    syncctl: PathBuf,
    grpc: String,
    http: String,
    server: Running,
    load: Running,
}

pub(crate) fn quickstart(arguments: &Quickstart) -> Result<bool> {
    let trace = arguments.trace.as_ref().map(fs::canonicalize).transpose().context("--trace")?;
    let work = if arguments.keep {
        let work = tempfile::Builder::new().prefix("quickstart-").tempdir()?.keep();
        let shown = work.display().to_string();
        cleanup::at_exit(move || eprintln!("left in {shown}"));
        work
    } else {
        scratch("quickstart")?
    };
    let mut session = Session::new(work)?;
    session.build()?;
    let seen = session.run(trace);
    if seen.is_err() {
        let log = fs::read(session.work.join("server.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let lines: Vec<_> = log.lines().collect();
        eprintln!("--- the server's last lines\n{}", lines[lines.len().saturating_sub(25)..].join("\n"));
    }
    seen?;
    eprintln!("everything is there");
    Ok(true)
}

impl Session {
    fn new(work: PathBuf) -> Result<Self> {
        let mut environment = Environment::clean();
        environment.set("CARGO_TERM_PROGRESS_WHEN", "never");
        // Load of one user may be high here.
        environment.set("INTERACTION__RATE_LIMITING__USER_ACTION__ENABLED", "false");
        let profile = Profile::from_environment(Profile::Release)?;
        let clone = work.join("clone");
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| clone.join("target"), PathBuf::from);
        let (server, load) = (Running::default(), Running::default());
        for running in [Arc::clone(&server), Arc::clone(&load)] {
            cleanup::at_exit(move || _ = end(&running, Signal::SIGKILL));
        }
        let syncctl = target.join(profile.name()).join("syncctl");
        let [grpc, http] = [free_address()?, free_address()?];
        Ok(Self { environment, work, clone, profile, syncctl, grpc, http, server, load })
    }

    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = self.environment.cargo(arguments.iter().copied());
        command.args(self.profile.flags()).current_dir(&self.clone);
        command
    }

    fn build(&self) -> Result<()> {
        let mut clone = self.environment.command("git");
        run(clone.args(["clone", "--quiet"]).arg(root()).arg(&self.clone))?;
        let started = Instant::now();
        run(&mut self.cargo(&["build", "--quiet", "--locked"]))?;
        let reused = if env::var_os("CARGO_TARGET_DIR").is_some() { ", reusing what was built before" } else { "" };
        eprintln!("built in {} s{reused}", started.elapsed().as_secs());
        Ok(())
    }

    fn run(&mut self, trace: Option<PathBuf>) -> Result<()> {
        self.likes_survive()?;
        let generated = self.work.join("generated").display().to_string();
        let load =
            "--generate --likes 15000 --first-user 1000 --users 2000 --resources 300 --unlikes 0.3 --comments 0.2";
        self.replay(2, &generated, &load.split(' ').collect::<Vec<_>>())?;
        let verified = self.verify(&["--shared", "--oplog", &generated])?;
        eprintln!("15000 generated operations, two kill -9: {}", agreement(&verified));
        if let Some(trace) = trace {
            // On data of its own, so that verify may insist that nothing else is there.
            self.stop()?;
            fs::remove_dir_all(self.clone.join("interaction-data"))?;
            self.start()?;
            self.wait_until_ready()?;
            let oplog = self.work.join("movielens").display().to_string();
            let trace = trace.display().to_string();
            self.replay(5, &oplog, &["--trace", &trace, "--format", "movielens"])?;
            let verified = self.verify(&["--oplog", &oplog])?;
            let operations = verified.lines().find(|line| line.to_ascii_lowercase().contains("operations"));
            let operations = operations.unwrap_or_default();
            eprintln!("MovieLens, five kill -9: {operations} {}", agreement(&verified));
        }
        eprintln!("resident memory: {} MiB", self.resident_kib()? / 1024);
        self.stop()
    }

    fn likes_survive(&mut self) -> Result<()> {
        self.start()?;
        self.wait_until_ready()?;
        for user in ["1", "2", "3"] {
            self.syncctl(&["like", "--addr", &self.grpc, user, "video:42"])?;
        }
        self.expect_likes(3)?;
        end(&self.server, Signal::SIGKILL);
        self.start()?;
        self.wait_until_ready()?;
        self.expect_likes(3)?;
        self.syncctl(&["like", "--addr", &self.grpc, "1", "video:42"])?;
        self.syncctl(&["unlike", "--addr", &self.grpc, "2", "video:42"])?;
        self.expect_likes(2)?;
        eprintln!("three likes, kill -9, restart: all there");
        Ok(())
    }

    fn start(&self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.work.join("server.log"))?;
        // cargo becomes the program: the process id stays.
        let mut server = self.cargo(&["run", "--quiet", "--locked"]);
        server.args(["--", "--grpc-addr", &self.grpc, "--http-addr", &self.http]);
        *lock(&self.server) = Some(start(server.stdout(log.try_clone()?).stderr(log))?);
        Ok(())
    }

    fn wait_until_ready(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            if let Ok(answer) = http::get(&self.http, "/health")
                && answer.status == 200
                && serde_json::from_str::<Value>(&answer.body).is_ok_and(|health| health["status"] == "ok")
            {
                return Ok(());
            }
            ensure!(is_running(&self.server)?, "the server ended");
            ensure!(started.elapsed() < READY, "the server is not ready after {} s", READY.as_secs());
            sleep(POLL);
        }
    }

    fn stop(&self) -> Result<()> {
        match end(&self.server, Signal::SIGTERM) {
            Some(status) if status.success() => Ok(()),
            status => bail!("the server did not end well: {status:?}"),
        }
    }

    fn syncctl(&self, arguments: &[&str]) -> Result<String> {
        output(self.environment.command(&self.syncctl).args(arguments))
    }

    fn verify(&self, arguments: &[&str]) -> Result<String> {
        let database = format!("sqlite:{}", self.clone.join("interaction-data/interaction.db").display());
        let mut all = vec!["verify", "--grpc-addr", &self.grpc, "--http-addr", &self.http, "--database-url", &database];
        all.extend(arguments);
        self.syncctl(&all)
    }

    fn expect_likes(&self, count: u64) -> Result<()> {
        let seen = self.syncctl(&["counts", "--addr", &self.grpc, "video:42", "-o", "tsv"])?;
        ensure!(seen.ends_with(&format!("video:42\t{count}\t0")), "video:42 should have {count} likes: {seen}");
        Ok(())
    }

    /// Load that the server is killed under, each time after some more answers.
    fn replay(&self, kills: usize, oplog: &str, arguments: &[&str]) -> Result<()> {
        let said = self.work.join("load");
        let mut load = self.environment.command(&self.syncctl);
        load.args(["load", "--addr", &self.grpc, "--concurrency", "64", "--retry-for", "120", "--oplog", oplog]);
        load.args(arguments).stdout(File::create(&said)?).stderr(File::options().append(true).open(&said)?);
        *lock(&self.load) = Some(start(&mut load)?);
        for _ in 0..kills {
            let enough = answers(oplog) + BETWEEN_KILLS;
            while answers(oplog) < enough {
                let said = || fs::read_to_string(&said).unwrap_or_default();
                ensure!(is_running(&self.load)?, "the load ended before the server could be killed: {}", said());
                sleep(POLL);
            }
            end(&self.server, Signal::SIGKILL);
            self.start()?;
        }
        self.wait_until_ready()?;
        let ended = lock(&self.load).take().map(|mut load| load.wait()).transpose()?;
        let said = fs::read_to_string(&said).unwrap_or_default();
        ensure!(ended.is_some_and(|status| status.success()), "the load was not answered: {said}");
        Ok(())
    }

    fn resident_kib(&self) -> Result<u64> {
        let pid = lock(&self.server).as_ref().context("no server")?.id();
        resident_kib(&fs::read_to_string(format!("/proc/{pid}/status"))?)
    }
}

fn resident_kib(status: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no resident memory")?;
    Ok(line.split_whitespace().next().context("no resident memory")?.parse()?)
}

/// An address of this machine where nothing listens.
fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// Lines of an oplog so far.
fn answers(oplog: &str) -> usize {
    fs::read(oplog).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count()
}

/// What verify says when it is content.
fn agreement(verified: &str) -> &str {
    verified.find("all stores agree").map_or("", |start| verified[start..].lines().next().unwrap_or_default())
}

fn lock(running: &Running) -> std::sync::MutexGuard<'_, Option<Child>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_running(running: &Running) -> Result<bool> {
    Ok(match lock(running).as_mut() {
        Some(child) => child.try_wait()?.is_none(),
        None => false,
    })
}

/// Sends a signal and waits for the end.
fn end(running: &Running, signal: Signal) -> Option<std::process::ExitStatus> {
    let mut child = lock(running).take()?;
    let pid = Pid::from_raw(i32::try_from(child.id()).ok()?);
    kill(pid, signal).ok()?;
    child.wait().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_ended_and_gone() -> Result<()> {
        let running = Running::default();
        assert!(!is_running(&running)? && end(&running, Signal::SIGKILL).is_none());
        *lock(&running) = Some(start(Command::new("sleep").arg("60"))?);
        assert!(is_running(&running)?);
        assert!(end(&running, Signal::SIGTERM).is_some_and(|status| !status.success()));
        assert!(!is_running(&running)?);
        Ok(())
    }

    #[test]
    fn reports_are_read() -> Result<()> {
        assert_eq!(agreement("a\nfine: all stores agree on 7 pairs\nb"), "all stores agree on 7 pairs");
        assert_eq!(agreement("a"), "");
        assert_eq!(resident_kib("Name:\tx\nVmRSS:\t   2048 kB\n")?, 2048);
        assert!(resident_kib("Name:\tx\n").is_err());
        Ok(())
    }
}
