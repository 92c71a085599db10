//! The project's own tasks. `scripts/` holds the names under which users call them.

mod audit;
mod bench;
mod bulk_reads;
mod cleanup;
mod clients;
mod command;
mod contract;
mod deny;
mod deploy;
mod foreign_client;
mod fuzz;
mod http;
mod installation;
mod listener;
mod load;
mod many_machines;
mod migration;
mod npm;
mod outage;
mod probe;
mod processes;
mod python;
mod quickstart;
mod sbom;
mod steps;
mod test;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "xtask", about, max_term_width = 120)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Test(test::Test),
    CheckDeploy(deploy::CheckDeploy),
    /// Smoke test of a running system: every part answers, and a like arrives everywhere.
    ///
    /// Harmless on a live system: it uses a new user and a new video, and takes its like back (a tombstone and two ledger
    /// rows stay). Needs what scripts/up.sh started, or addresses in the environment: GRPC_ADDR, HTTP_ADDR,
    /// CONSUMER_HTTP_ADDR, CHECKER_HTTP_ADDR, DATABASE_URL, REDIS_URL, and REDIS_PREFIX if keys have one. SYNCCTL names
    /// another syncctl, TOKEN a token with the role operate, PATIENCE the seconds for an event to arrive (20). Exit code 1 if anything failed.
    VerifySyncService,
    /// Walks likes through a running system and looks after each step into every table and key.
    ///
    /// Harmless on a live system: new users and resources, and all likes are taken back at the end (tombstones and ledger
    /// rows stay). Finds the system as verify-sync-service does. Exit code 1 if a step failed.
    TestEventDrivenSync,
    TestPythonClient(foreign_client::TestPythonClient),
    TestClients(clients::TestClients),
    TestChanges(listener::TestChanges),
    CheckContract(contract::CheckContract),
    Quickstart(quickstart::Quickstart),
    MigrationDrill(migration::MigrationDrill),
    OutageLatency(outage::OutageLatency),
    BulkReads(bulk_reads::BulkReads),
    ConsistencyBench(audit::ConsistencyBench),
    Bench(bench::Bench),
    ManyMachines(many_machines::ManyMachines),
    Fuzz(fuzz::Fuzz),
    Deny(deny::Deny),
    Sbom(sbom::Sbom),
    /// A step of the test run.
    #[command(hide = true)]
    TestPiece {
        piece: test::Piece,
    },
}

fn main() -> ExitCode {
    let passed = cleanup::watch_signals().and_then(|()| run(Arguments::parse().task));
    cleanup::run_all();
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the task found everything in order.
fn run(task: Task) -> Result<bool> {
    match task {
        Task::Test(arguments) => test::test(&arguments),
        Task::CheckDeploy(arguments) => deploy::check(&arguments),
        Task::VerifySyncService => probe::verify(),
        Task::TestEventDrivenSync => probe::walk(),
        Task::TestPythonClient(arguments) => foreign_client::test(&arguments),
        Task::TestClients(arguments) => clients::test(&arguments),
        Task::TestChanges(arguments) => listener::test(&arguments),
        Task::CheckContract(contract::CheckContract {}) => contract::check(),
        Task::Quickstart(arguments) => quickstart::quickstart(&arguments),
        Task::MigrationDrill(arguments) => migration::drill(&arguments),
        Task::OutageLatency(arguments) => outage::measure(&arguments),
        Task::BulkReads(arguments) => bulk_reads::measure(&arguments),
        Task::ConsistencyBench(arguments) => audit::measure(&arguments),
        Task::Bench(arguments) => bench::measure(&arguments),
        Task::ManyMachines(arguments) => many_machines::measure(&arguments),
        Task::Fuzz(arguments) => fuzz::fuzz(&arguments),
        Task::Deny(arguments) => deny::deny(&arguments),
        Task::Sbom(arguments) => sbom::write(&arguments),
        Task::TestPiece { piece } => test::piece(piece),
    }
}

/// A temporary directory that is removed at the end.
fn scratch(name: &str) -> Result<PathBuf> {
    let directory = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir()?.keep();
    let path = directory.clone();
    cleanup::at_exit(move || _ = std::fs::remove_dir_all(&path));
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use clap::CommandFactory;
    use std::collections::BTreeSet;

    /// The words in a text that are options.
    fn options(text: &str) -> BTreeSet<String> {
        let words = text.split(|char: char| !char.is_ascii_alphanumeric() && char != '-');
        words.filter(|word| word.starts_with("--") && word.len() > 2).map(str::to_owned).collect()
    }

    #[test]
    fn every_script_says_the_options_of_its_task() -> Result<()> {
        let command = Arguments::command();
        let mut called = BTreeSet::new();
        for entry in std::fs::read_dir(workspace::script(""))? {
            let path = entry?.path();
            if path.is_dir() {
                continue;
            }
            let text = std::fs::read_to_string(&path)?;
            let Some((head, call)) = text.split_once("/xtask.sh\" ") else { continue };
            let name = call.split_whitespace().next().context("a call without a task")?;
            let task = command.find_subcommand(name).with_context(|| format!("{}: no task {name}", path.display()))?;
            assert_eq!(path.file_stem().map(|stem| stem.to_string_lossy().replace('_', "-")).as_deref(), Some(name));
            let known = task.get_arguments().filter_map(|argument| argument.get_long());
            let known: BTreeSet<_> = known.chain(["help"]).map(|long| format!("--{long}")).collect();
            assert_eq!(options(head), known, "{}", path.display());
            called.insert(name.to_owned());
        }
        let tasks = command.get_subcommands().filter(|task| !task.is_hide_set()).map(|task| task.get_name().to_owned());
        assert_eq!(called, tasks.collect(), "each task has its script");
        Ok(())
    }

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
