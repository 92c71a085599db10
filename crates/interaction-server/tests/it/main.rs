//! The real server and consumer on real stores, as callers and operators see them.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking; helpers too")]

mod admin;
mod calls;
mod client;
mod clocks;
mod dashboard;
mod erasing;
mod events;
mod history;
mod hostile;
mod last_word;
mod late_bytes;
mod lists;
mod live;
mod malformed;
mod operations;
mod process;
mod replicas;
mod traces;
mod violations;
