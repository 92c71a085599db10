//! The harness from outside.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking; helpers too")]

mod access;
mod configuration;
mod followed;
mod guarded;
mod health;
mod hostile;
mod ops;
mod shutdown;
mod tls;
mod yaml;
