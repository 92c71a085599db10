//! Operator command line of the like pipeline.
//!
//! - `load` sends likes, from a trace or generated, and writes down every acknowledged operation ([`load`], [`oplog`]).
//! - `load --people` sends what real people would, and keeps a history of it ([`people`]).
//! - `verify` computes from such logs what must be stored and compares every store with it ([`verify`]).
//! - `migrate` brings the database to the current schema.
//! - `import-legacy` imports the old schema ([`legacy`]), `backfill` folds `user_behaviors` into rows ([`backfill`]); both
//!   go on where they stopped ([`job`]).
//! - `write-path` switches between synchronous and event-driven writes, for all servers, without a restart.
//! - `reshard`: another number of shards, under load (`reshard`).
//! - `config` answers for every key of a configuration, also of the old system's (`configuration`).
//! - `check`, `repair`, `reconcile`, `recover`, `warmup`: the consistency service for operators (`consistency`).
//! - `redo-log`: what the redo log has (`redo`).
//! - `events`: a server's ledger for operators (`events`); `explain`: the story of one pair (`explain`).
//! - `erase-user`: everything that a user did goes (`erase`); `export-user`, `undo-likes` (`of_users`).
//! - `delete-resource`, `restore-resource`: a resource goes with its likes, and comes again without them (`delete`).
//! - `like`, `unlike`, `counts`, `states`, `watch`, `hot` are single calls for humans ([`commands`]).
//!
//! `verify` reads the stores itself and shares nothing with the code that writes them but the types of `domain`: a rule
//! that is wrong there must not be wrong here too.
//!
//! - `status`: what is wrong now (`status`); `report`: what was found (`report`); `cache-stats`: what the journals hold (`lists`).
//! - `dead-letters`: likes that were given up, and what lies in the dead-letter queue (`dead_letters`).
//!
//! Results are tables, JSON or tab-separated (`output`); long commands show how far they are ([`progress`]). Exit codes: 0 all well, 1 something wrong was found or the command
//! failed, 2 a command line that makes no sense, 64 a configuration file that cannot be used, 69 a server or store that is
//! unreachable.

pub mod backfill;
mod cache_args;
mod changes;
pub mod cli;
pub mod client;
mod clock;
pub mod commands;
mod configuration;
mod consistency;
pub mod credentials;
mod dead_letters;
mod delete;
mod environment;
mod erase;
mod events;
mod explain;
mod failure;
pub mod hash;
mod hot;
mod http;
pub mod job;
mod leftovers;
pub mod legacy;
mod lists;
pub mod load;
mod migrate;
mod of_users;
#[cfg(feature = "distributed")]
mod open;
pub mod oplog;
pub mod output;
pub mod people;
pub mod progress;
mod redo;
mod report;
mod reshard;
mod status;
pub mod trace;
pub mod verify;

pub use traffic::{Operation, generate};

use std::ffi::OsString;
use std::process::ExitCode;

/// Exit code when problems were found or the command failed.
pub const EXIT_FAILED: u8 = 1;

/// Exit code of a command line that makes no sense.
pub const EXIT_USAGE: u8 = 2;

/// Exit code of a configuration file that cannot be used, as of every program.
pub const EXIT_CONFIG: u8 = 64;

/// Exit code when a server or a store is unreachable.
pub const EXIT_UNREACHABLE: u8 = 69;

/// A configuration file that cannot be used; ends with [`EXIT_CONFIG`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UnusableConfig(pub String);

/// A command line that makes no sense; ends with [`EXIT_USAGE`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// What needs a client that this program was built without; ends with [`EXIT_USAGE`].
pub(crate) fn not_built_in(what: &str) -> anyhow::Error {
    let build = "cargo build --release -p syncctl --features distributed";
    UsageError(format!("{what}: this syncctl was built without clients of Redis and MySQL; {build}")).into()
}

/// Refuses a url that cannot be used, and a database whose client this program was built without.
pub(crate) fn has_client_of(option: &str, database_url: &str) -> anyhow::Result<()> {
    event_store::check_database_url(database_url).map_err(|wrong| UsageError(format!("{option}: {wrong}")))?;
    if cfg!(feature = "distributed") || database_url.starts_with("sqlite:") {
        return Ok(());
    }
    Err(not_built_in("a database that is not sqlite:"))
}

/// What a command found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing wrong.
    Fine,
    /// Problems, already printed.
    Problems,
    /// Nothing wrong, as far as could be asked; what could not be is already said.
    Unknown,
}

impl Verdict {
    /// [`Verdict::Fine`] if `fine`.
    pub const fn from_fine(fine: bool) -> Self {
        if fine { Self::Fine } else { Self::Problems }
    }
}

/// Runs the command line, prints its result to standard output and errors to standard error.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    failure::end_with_the_reader();
    let cli = match cli::Cli::parse_with(args, &environment::Environment::of_process()) {
        Ok(cli) => cli,
        Err(error) => return failure::tell_usage(&error),
    };
    match cli.run() {
        Ok(Verdict::Fine) => ExitCode::SUCCESS,
        Ok(Verdict::Problems) => ExitCode::from(EXIT_FAILED),
        Ok(Verdict::Unknown) => ExitCode::from(EXIT_UNREACHABLE),
        Err(error) => failure::Failure::of(&error).tell(),
    }
}
