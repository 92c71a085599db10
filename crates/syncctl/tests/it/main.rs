//! Load against a server of our own, verify against real stores, and the command line as a process.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cluster;
mod command_line;
mod configured;
mod documented;
mod errors;
mod events;
mod fake_server;
mod formats;
mod load;
mod migration;
mod movielens;
mod planted;
mod progress;
mod stores;
