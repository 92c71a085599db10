//! Measures the pipeline against what its parts can do, and against peers that do the same job.
//!
//! Every figure is taken several times, in turn with its reference: same machine, same stores, same run. What counts is
//! the ratio of the two, because absolute figures are the machine's. The load generator, the services and the stores
//! share the machine's cores.
//!
//! The stores run already (`scripts/bench.sh` starts them with `scripts/up.sh`); the services are started here, on empty
//! stores and with the settings that a measurement needs. Only their configuration is used: nothing in them knows that it
//! is measured.
//!
//! Deliberately absent: other machines, networks, more than one broker or database node.

mod bare;
mod broker;
mod calls;
mod cli;
mod cpu;
mod evalsha;
mod load;
mod measure;
mod noop;
mod numbers;
mod peer;
mod pipelined;
mod raw_sql;
mod reading;
mod redis;
mod report;
mod rig;
mod sizes;

use clap::Parser;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // What parts of the system that run in here have to say.
    let levels = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn,sqlx=error".to_owned());
    tracing_subscriber::fmt().with_env_filter(levels).with_writer(std::io::stderr).init();
    match cli::Cli::parse().run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
