//! The real program: its first minute, its end at every point, its refusals.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod access;
mod checked;
mod first_minute;
mod house;
mod killed;
mod refusals;
