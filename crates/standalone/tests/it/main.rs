//! The real program: its first minute, its end at every point, its refusals.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod access;
mod checked;
mod crowd;
mod deleted;
mod deployment;
mod first_minute;
mod hostile;
mod http;
mod killed;
mod long_heads;
mod refusals;
mod strangers;
mod untaken;
mod web;
mod wire;
