//! `scripts/test_changes.sh`: a listener to changes, in Python.

use crate::command::{Environment, output, run};
use crate::workspace::script;
use crate::{python, scratch};
use anyhow::Result;

/// Changes for others to hear: docs/clients/python/changes.py listens while likes are sent and consumers, servers, their links
/// and itself fail at every point; at the end it must have what the database has.
///
/// Starts servers of its own. Takes pika from PyPI into a temporary directory; if PyPI cannot be reached it says "not run" and
/// that is no failure. Prints each seed, which is the same trouble again. Exit code 1 if a test failed.
#[derive(clap::Args)]
pub(crate) struct TestChanges {
    /// Sequences of trouble, as 5 or 1,7 or 1-20.
    #[arg(long, value_name = "LIST", default_value = "1-2")]
    seeds: String,
    /// The programs and tests as they are.
    #[arg(long)]
    no_build: bool,
}

pub(crate) fn test(arguments: &TestChanges) -> Result<bool> {
    let venv = scratch("likes-changes")?.join("venv");
    let requirements = script("python_requirements.txt").display().to_string();
    if !python::make_venv(&venv, &["--requirement", &requirements])? {
        println!("not run: PyPI cannot be reached, so there is no RabbitMQ client for Python");
        return Ok(true);
    }
    let mut environment = Environment::clean();
    if !arguments.no_build {
        output(&mut environment.cargo([
            "build",
            "--locked",
            "--workspace",
            "--lib",
            "--bins",
            "--tests",
            "--examples",
        ]))?;
    }
    environment.set("CHANGES_PYTHON", venv.join("bin/python"));
    environment.set("CHANGES_SEEDS", &arguments.seeds);
    // One after the other: each kills what it runs on.
    let chosen = ["test", "--locked", "--workspace", "--test", "it", "changes::"];
    let mut tests = environment.cargo(chosen);
    tests.args(["--", "--nocapture", "--test-threads", "1"]);
    Ok(run(&mut tests).map_err(|error| eprintln!("{error:#}")).is_ok())
}
