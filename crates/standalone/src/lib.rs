//! The whole product in one process, with nothing to install: gRPC, ops HTTP and a page, over an embedded cache with a
//! journal on disk and SQLite as the database.
//!
//! The services are those of the separate programs ([`interaction_api::Assembly`] and the engine's tasks); only the stores
//! differ, and there is no broker: the relay applies events directly. Everything lies below one data directory:
//!
//! | path | what |
//! |---|---|
//! | `journal/` | accepted likes until they are in the database; its lock keeps a second process out |
//! | `interaction.db` | SQLite: the same tables as MySQL's |
//!
//! After a crash the journal is applied before anything is served ([`replay`](mod@replay)), so counts are right from the first answer.

mod args;
mod demo;
mod hello;
pub mod replay;
mod serve;

use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program until it is told to stop, and gives its exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Huge pages would make a third more memory resident than this program uses: its allocator asks for them, two megabytes at a
    // time. Before there are threads, which would have some already. Where the kernel cannot do that, it is only the memory.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_thp_disable(true);
    match args::Args::try_parse_from(args) {
        Ok(args) => {
            let (options, plan) = args.into_parts();
            service_runtime::run(options, move |context, settings| serve::serve(context, settings, plan))
        }
        Err(error) => {
            // Nothing can be done about a closed terminal.
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(service_runtime::EXIT_CONFIG) } else { ExitCode::SUCCESS }
        }
    }
}
