//! `scripts/bench.sh`: what the program `bench` needs around it.

use crate::command::{Environment, install_packages, is_installed, outcome, output, run, start};
use crate::installation::Installation;
use crate::workspace::{Profile, root, target};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Measures the pipeline against what its parts can do, and against peers.
///
/// Each figure several times, in turn with its reference, on private servers in a temporary directory. Prints a table with
/// medians, spreads and targets; writes crates/bench/results.json (measurements that are left out keep their rows there).
/// Peers (i) need Node.js and Python. The machine should do nothing else meanwhile. Exit code 0 also if a target is missed:
/// the table says so.
#[derive(clap::Args)]
pub(crate) struct Bench {
    /// Only proves that everything runs: seconds in all, figures mean nothing and are not kept.
    #[arg(long)]
    fast: bool,
    /// Exit code 1 if something costs twice as much as it used to (n).
    #[arg(long)]
    guard: bool,
    /// Only these measurements.
    #[arg(long, value_name = "a,b,...")]
    only: Option<String>,
    /// Uses the programs as they are.
    #[arg(long)]
    no_build: bool,
    /// Of each figure.
    #[arg(long, value_name = "N")]
    runs: Option<String>,
    /// Of each run.
    #[arg(long, value_name = "S")]
    seconds: Option<String>,
    /// Adds 10^7 pairs to h (15 GB of disk).
    #[arg(long)]
    ten_million: bool,
    /// Leaves the peers out.
    #[arg(long)]
    no_peers: bool,
}

pub(crate) fn measure(arguments: &Bench) -> Result<bool> {
    // What is measured is optimized as far as it goes; where figures mean nothing, as everywhere else.
    let profile = Profile::from_environment(if arguments.fast { Profile::Release } else { Profile::Dist })?;
    ensure!(arguments.fast || profile != Profile::Debug, "only --fast makes sense with debug programs");
    let environment = Environment::clean();
    run(&mut environment.shell_function("need_packages", &[]))?;
    if !is_installed("redis-benchmark") {
        install_packages(&["redis-tools"])?;
    }
    if !arguments.no_build {
        run(&mut environment.cargo(profile.build_arguments()))?;
    }
    let peers = target().join("bench-peers");
    let with_peers = wants_peers(arguments);
    if with_peers && let Err(error) = install_peers(&environment, &peers, arguments.fast) {
        // A quick look must not depend on package registries; the measurement says what it leaves out.
        ensure!(arguments.fast, "peers could not be installed: {error:#}");
        eprintln!("peers could not be installed, measuring without them: {error:#}");
    }
    let (mut installation, work) = Installation::private("likes-bench", environment.clone(), false)?;
    installation.up(&["--stores-only", "--no-build"])?;
    let results = if arguments.fast { work.join("results.json") } else { root().join("crates/bench/results.json") };
    let program = profile.program("bench");
    let mut bench = environment.command(&program);
    bench.env("RUN_DIR", &installation.directory).arg("--results").arg(results);
    bench.arg("--bin-dir").arg(program.parent().context("the program is nowhere")?);
    let flags = [(arguments.fast, "--fast"), (arguments.ten_million, "--ten-million"), (arguments.guard, "--guard")];
    for (wanted, flag) in flags {
        bench.args(wanted.then_some(flag));
    }
    for (name, value) in [("--only", &arguments.only), ("--runs", &arguments.runs), ("--seconds", &arguments.seconds)] {
        bench.args(value.iter().flat_map(|value| [name, value]));
    }
    if with_peers {
        bench.arg("--peers-dir").arg(peers);
    }
    let status = start(&mut bench)?.wait()?;
    // A broker that it paused cannot stop.
    let rabbitmq = fs::read_to_string(installation.directory.join("rabbitmq.pid")).unwrap_or_default();
    _ = outcome(Command::new("kill").args(["-CONT", rabbitmq.trim()]));
    Ok(status.success())
}

/// They are measurement i.
fn wants_peers(arguments: &Bench) -> bool {
    let measured = arguments.only.as_ref().is_none_or(|only| only.to_ascii_lowercase().contains('i'));
    measured && !arguments.no_peers
}

fn install_peers(environment: &Environment, directory: &Path, fast: bool) -> Result<()> {
    let mut missing = vec![];
    if !is_installed("node") || !is_installed("npm") {
        missing.extend(["nodejs", "npm"]);
    }
    let mut python = environment.command("python3");
    if !is_installed("python3") || !outcome(python.args(["-c", "import ensurepip, venv"]))?.status.success() {
        missing.push("python3-venv");
    }
    if !missing.is_empty() {
        ensure!(!fast, "{} missing", missing.join(" "));
        install_packages(&missing)?;
    }
    let npm = "npm install --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel error";
    install_peer(environment, directory, "bullmq", "package.json", npm)?;
    install_peer(environment, directory, "outbox", "package.json", npm)?;
    let pip = "rm -rf venv && python3 -m venv venv && venv/bin/pip install --quiet --requirement requirements.txt";
    install_peer(environment, directory, "celery", "requirements.txt", pip)
}

/// Copies its sources beside what they need; the command installs that, in the copy, if the list of it is another one than
/// before.
fn install_peer(environment: &Environment, peers: &Path, name: &str, list: &str, install: &str) -> Result<()> {
    let directory = peers.join(name);
    fs::create_dir_all(&directory)?;
    for entry in fs::read_dir(root().join("crates/bench/peers").join(name))? {
        let entry = entry?;
        fs::copy(entry.path(), directory.join(entry.file_name()))?;
    }
    let (wanted, installed) = (fs::read(directory.join(list))?, directory.join("installed"));
    if fs::read(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    eprintln!("installing what the peer {name} needs");
    output(environment.command("sh").args(["-c", install]).current_dir(&directory))?;
    Ok(fs::write(installed, wanted)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        bench: Bench,
    }

    #[test]
    fn peers_are_measured_unless_left_out() {
        for (line, expected) in [
            ("x", true),
            ("x --only a,I", true),
            ("x --only a,b", false),
            ("x --no-peers", false),
            ("x --only i --no-peers", false),
        ] {
            let arguments = Arguments::try_parse_from(line.split(' ')).map(|arguments| arguments.bench);
            assert!(arguments.is_ok_and(|arguments| wants_peers(&arguments) == expected), "{line}");
        }
    }
}
