//! Against a real broker: the shared one, or a private one where it is stopped.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking; helpers too")]

mod addresses;
mod changes;
mod consumer;
mod log;
mod login;
mod meanings;
mod outages;
mod publisher;
mod support;
mod tls;
