//! Everything that CI runs: format, lints, docs, all tests on private real servers, and the whole system by its scripts.

mod pieces;

use crate::command::{Environment, install_packages, is_installed, output, run};
use crate::installation::Installation;
use crate::processes::{command_line, end_marked, marked};
use crate::steps::Steps;
use crate::workspace::{self, Profile, script};
use crate::{cleanup, scratch};
use anyhow::{Result, ensure};
use std::io::{IsTerminal, Stdout};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, io, thread};

pub(crate) use pieces::Piece;

/// Everything that CI runs, on a fresh Debian or Ubuntu with Rust and a C compiler.
///
/// Needs no running system and disturbs none: ports are free ones, data lies in a temporary directory. Nothing stays
/// behind, also after Ctrl-C. Exit code 1 if a step failed.
///
/// Tests and the system run the programs of one debug build, with all their assertions; PROFILE=release builds release
/// programs for the system.
#[derive(clap::Args)]
pub(crate) struct Test {
    /// Leaves out what runs on the whole system.
    #[arg(long)]
    fast: bool,
    /// Release programs, and then the heavy sets as well, hours in all: the first minutes from a clean clone, long
    /// chaos, a hundred thousand bad inputs, a million likes under a checker, outages' latency, a full-size migration, the
    /// whole drill of deployments.
    #[arg(long, conflicts_with = "fast")]
    all: bool,
    /// Nothing but the tests on a Redis Cluster: its contract, slots that move (one with 100,000 keys), lost primaries, the kill
    /// matrix, a short chaos run. The others include the first of them.
    #[arg(long, conflicts_with_all = ["fast", "all"])]
    cluster: bool,
    /// With --all: what cannot be fetched is no failure, as without: the database of advisories.
    #[arg(long)]
    offline: bool,
    /// Only steps with one of these words in their name.
    #[arg(long, value_name = "WORD,...", value_delimiter = ',')]
    only: Vec<String>,
}

/// The name that every process of a run carries in its environment.
const MARK: &str = "LIKES_TEST_RUN";

const CLEANED_WITHIN: Duration = Duration::from_secs(5);

/// As long as a machine may take to fetch and unpack packages; in seconds.
const IMAGES_WITHIN: &str = "900";

struct Run<'a> {
    arguments: &'a Test,
    environment: Environment,
    scratch: PathBuf,
    steps: Steps<Stdout>,
    profile: Profile,
}

pub(crate) fn test(arguments: &Test) -> Result<bool> {
    let scratch = scratch("likes-test")?;
    let mark = format!("{MARK}={}", scratch.display());
    let ended = mark.clone();
    cleanup::at_exit(move || {
        let left = end_marked(&ended);
        if !left.is_empty() {
            eprintln!("these do not end: {left:?}");
        }
    });
    // In the foreground and not a step: sudo may ask for a password.
    println!("\n==> packages");
    install()?;

    let profile = Profile::from_environment(if arguments.all { Profile::Release } else { Profile::Debug })?;
    let environment = environment(&scratch, profile);
    let steps = Steps::new(io::stdout(), scratch.clone());
    let mut run = Run { arguments, environment, scratch, steps, profile };
    if arguments.cluster {
        run.on_a_cluster();
    } else {
        run.source();
    }
    if !arguments.fast && !arguments.cluster {
        run.system();
    }
    if arguments.all {
        run.heavy();
    }
    run.steps.look("no process is left", || {
        // Who cleans up after a test process ends a moment after it.
        let waited = Instant::now();
        while !marked(&mark).is_empty() && waited.elapsed() < CLEANED_WITHIN {
            thread::sleep(Duration::from_millis(100));
        }
        marked(&mark).into_iter().map(|pid| format!("still running: {pid} {}", command_line(pid))).collect()
    });
    Ok(run.steps.conclude())
}

/// What every step gets: none of the caller's settings, and the mark.
fn environment(scratch: &Path, profile: Profile) -> Environment {
    let mut environment = Environment::clean();
    environment.set(MARK, scratch);
    environment.set("TMPDIR", scratch);
    environment.set("RUN_DIR", scratch.join("run"));
    environment.set("PROFILE", profile.name());
    if env::var_os("RUST_BACKTRACE").is_none() {
        environment.set("RUST_BACKTRACE", "0");
    }
    if !io::stderr().is_terminal() {
        environment.set("CARGO_TERM_PROGRESS_WHEN", "never");
    }
    if env::var_os("CI").is_some_and(|ci| ci == "true") {
        environment.set("CARGO_INCREMENTAL", "0");
    }
    environment
}

fn install() -> Result<()> {
    let environment = Environment::default();
    run(&mut environment.shell_function("need_packages", &["browser"]))?;
    ensure!(is_installed("cc"), "a C compiler is missing: apt-get install build-essential");
    if !is_installed("promtool") {
        install_packages(&["prometheus"])?;
    }
    for (command, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if output(&mut environment.cargo([command, "--version"])).is_err() {
            run(environment.command("rustup").args(["component", "add", component]))?;
        }
    }
    Ok(())
}

impl Run<'_> {
    fn is_wanted(&self, heading: &str) -> bool {
        self.arguments.only.is_empty() || self.arguments.only.iter().any(|word| heading.contains(word))
    }

    fn step(&mut self, heading: &str, command: Command) -> bool {
        !self.is_wanted(heading) || self.steps.run(heading, command)
    }

    fn cargo<'b>(&mut self, heading: &str, arguments: impl IntoIterator<Item = &'b str>) -> bool {
        let command = self.environment.cargo(arguments);
        self.step(heading, command)
    }

    fn script(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = self.environment.command(script(name));
        command.args(arguments).current_dir(workspace::root());
        command
    }

    /// A step that is itself a task of this program.
    fn piece(&self, piece: Piece) -> Command {
        // The file may be replaced by a build; the process keeps its own.
        let mut command = self.environment.command("/proc/self/exe");
        command.args(["test-piece", piece.name()]).current_dir(workspace::root());
        command
    }

    /// What is checked of the source and by its tests. Lints and docs check it, tests compile it: twice the dependencies
    /// and not once more. So every command selects the whole workspace.
    fn source(&mut self) {
        self.cargo("format", ["fmt", "--all", "--check"]);
        let lints = ["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
        self.cargo("clippy", lints);
        let mut docs = self.environment.cargo(["doc", "--locked", "--workspace", "--no-deps"]);
        docs.env("RUSTDOCFLAGS", "-D warnings");
        self.step("docs", docs);
        // A run of every day must not fail because somebody else's server is away: deny.sh says what it did not check.
        let skips: &[&str] = if self.arguments.all && !self.arguments.offline { &[] } else { &["--skip-unfetched"] };
        self.step("deny.sh", self.script("deny.sh", skips));
        self.step("check_deploy.sh", self.script("check_deploy.sh", &[]));
        self.step("check_contract.sh", self.script("check_contract.sh", &[]));
        self.build();
        self.step("tests", self.piece(Piece::Tests));
    }

    /// Programs stand beside the tests that start them; so built they have the same features.
    fn build(&mut self) {
        self.cargo("build", ["build", "--locked", "--workspace", "--lib", "--bins", "--tests", "--examples"]);
    }

    fn on_a_cluster(&mut self) {
        self.build();
        self.cargo_on_a_cluster("tests on a Redis Cluster", "cluster");
        self.cargo_on_a_cluster("kill matrix on a Redis Cluster", "kill::");
        let chaos = self.script("chaos.sh", &["--profile", "cluster", "--seconds", "60"]);
        self.step("chaos.sh --profile cluster", chaos);
    }

    fn cargo_on_a_cluster(&mut self, heading: &str, tests: &str) {
        let mut command = self.environment.cargo(["test", "--locked", "--workspace", "--test", "it", tests]);
        command.env("KILL_ON_CLUSTER", "1").env("SLOT_KEYS", "100000");
        self.step(heading, command);
    }

    /// The whole system by its scripts, each step on what the steps before it have started.
    fn system(&mut self) {
        if self.profile != Profile::Debug {
            self.cargo("optimized build", self.profile.build_arguments());
        }
        let mut running = self.system_step(true, "up.sh, twice", self.piece(Piece::UpTwice));
        for name in ["verify_sync_service.sh", "test_python_client.sh", "test_event_driven_sync.sh"] {
            self.system_step(running, name, self.script(name, &[]));
        }
        self.step("test_clients.sh", self.script("test_clients.sh", &["--no-build"]));
        self.step("test_changes.sh", self.script("test_changes.sh", &["--no-build", "--seeds", "1"]));
        self.system_step(running, "metrics of running processes", self.piece(Piece::RunningMetrics));
        running &= self.system_step(running, "down.sh --wipe, up.sh for load", self.piece(Piece::UpForLoad));
        self.system_step(running, "generated trace: load, verify", self.piece(Piece::GeneratedTrace));
        if pieces::movielens().is_file() {
            self.system_step(running, "MovieLens trace, twice: load, verify", self.piece(Piece::MovielensTrace));
        }
        self.step("down.sh --wipe", self.piece(Piece::Stop));
        self.system_step(running, "chaos.sh --profile quick", self.script("chaos.sh", &["--profile", "quick"]));
        let drill = self.script("migration_drill.sh", &["--no-build", "--likes", "3000", "--users", "800"]);
        self.system_step(running, "migration_drill.sh", drill);
        // Its peers come from other packages' registries: not part of this.
        let bench = self.script("bench.sh", &["--fast", "--guard", "--no-build", "--no-peers"]);
        self.system_step(running, "bench.sh --fast", bench);
        if !self.arguments.all {
            self.deploy_drill("deploy_drill.sh --short", &["--short"]);
        }
    }

    fn system_step(&mut self, running: bool, heading: &str, command: Command) -> bool {
        if !running {
            if self.is_wanted(heading) {
                self.steps.not_run(heading, "a step before it failed");
            }
            return false;
        }
        let passed = self.step(heading, command);
        if !passed {
            let run_dir = self.scratch.join("run");
            print!("{}", Installation::at(run_dir, self.environment.clone()).log_ends());
        }
        passed
    }

    /// With the programs that are there; the stores' images, and the programs of the release before, are made once and kept.
    fn deploy_drill(&mut self, heading: &str, arguments: &[&str]) {
        if let Err(why) = pieces::containers_run() {
            if self.is_wanted(heading) {
                self.steps.not_run(heading, why);
            }
            return;
        }
        let programs = workspace::target().join(self.profile.name()).display().to_string();
        let cache = workspace::target().join("deploy-drill");
        let cache = cache.display().to_string();
        // Who asks for the drill hears of everything that goes wrong. Others may be without the archives of Debian and Python.
        if !self.arguments.all && self.arguments.only.is_empty() {
            let mut images = self.environment.command("timeout");
            images.arg(IMAGES_WITHIN).arg(script("deploy_drill.sh")).args(["--images", "--short", "--cache", &cache]);
            images.current_dir(workspace::root());
            let why_not = "they cannot be made here: --only deploy_drill says why";
            if !self.steps.prepare("images for deploy_drill.sh", images, why_not) {
                self.steps.not_run(heading, "its images could not be made");
                return;
            }
        }
        let arguments = [arguments, &["--programs", &programs, "--cache", &cache]].concat();
        let drill = self.script("deploy_drill.sh", &arguments);
        self.step(heading, drill);
    }

    /// What takes long, each on an installation of its own.
    fn heavy(&mut self) {
        let movielens = pieces::movielens();
        let trace = movielens.display().to_string();
        let quickstart = if movielens.is_file() { vec!["--trace", trace.as_str()] } else { vec![] };
        self.step("quickstart.sh", self.script("quickstart.sh", &quickstart));
        for seed in ["1", "2", "3"] {
            let chaos = self.script("chaos.sh", &["--seed", seed, "--seconds", "120"]);
            self.step(&format!("chaos.sh --seed {seed} --seconds 120"), chaos);
        }
        self.step("fuzz.sh", self.script("fuzz.sh", &[]));
        self.step("consistency_bench.sh", self.script("consistency_bench.sh", &["--no-build"]));
        self.step("outage_latency.sh", self.script("outage_latency.sh", &["--no-build"]));
        self.step("migration_drill.sh, full size", self.script("migration_drill.sh", &["--no-build"]));
        self.deploy_drill("deploy_drill.sh", &[]);
    }
}

/// Runs one of the steps that are tasks of this program.
pub(crate) fn piece(piece: Piece) -> Result<bool> {
    piece.run()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        test: Test,
    }

    fn parse(line: &str) -> Result<Test, clap::Error> {
        Arguments::try_parse_from(line.split(' ')).map(|arguments| arguments.test)
    }

    #[test]
    fn steps_are_chosen_by_words_of_their_names() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let run = |arguments: &Test| {
            let steps = Steps::new(io::stdout(), directory.path().to_owned());
            let environment = environment(directory.path(), Profile::Debug);
            let run =
                Run { arguments, environment, scratch: directory.path().to_owned(), steps, profile: Profile::Debug };
            ["format", "clippy", "chaos.sh --profile quick"].map(|heading| run.is_wanted(heading))
        };
        assert_eq!(run(&parse("x")?), [true, true, true]);
        assert_eq!(run(&parse("x --only format,chaos")?), [true, false, true]);
        assert!(parse("x --fast --all").is_err());
        Ok(())
    }

    #[test]
    fn every_step_carries_the_mark() -> Result<()> {
        let scratch = Path::new("/scratch");
        let mut step = environment(scratch, Profile::Debug).command("env");
        let said = output(step.args(["sh", "-c", "echo $LIKES_TEST_RUN $RUN_DIR $PROFILE"]))?;
        assert_eq!(said, "/scratch /scratch/run debug");
        Ok(())
    }
}
