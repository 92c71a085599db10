//! Runs the whole stack (two servers, two consumers, two checkers, private Redis, MariaDB and RabbitMQ) under load
//! and under seeded faults, heals, waits for quiet, and judges every store by the history of what was asked and answered.
//!
//! First one fault at a time, then several at once; after every heal the time until all is well again is taken, while
//! the load goes on. The same seed gives the same faults in the same order; when exactly they strike is up to the machine.
//!
//! With `--profile failover` the stores are groups (see [`groups`]), whose primaries change, die with their disks, fall behind and
//! split.
//!
//! With `--profile cluster` they are a Redis Cluster, three brokers and a database with a replica (see [`cluster`]), all of whose
//! nodes the programs know.
//!
//! Deliberately absent: a lost disk of a store that is alone, faults of the loader.

mod account;
mod broker;
mod cli;
mod cluster;
mod faults;
mod groups;
mod judge;
mod kinds;
mod notice;
mod plan;
mod random;
mod redis;
mod report;
mod rig;
mod run;
mod served;
mod watch;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
