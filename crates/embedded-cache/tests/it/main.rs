//! The contract of a cache, recovery after any end, and what is particular to files.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod contract;
mod disk;
mod recovery;
mod repair;
mod support;
