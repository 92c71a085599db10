//! The checker as a process, beside real servers, consumers and stores.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod dead_letters;
mod dead_likes;
mod deployment;
mod election;
mod flow;
mod frozen;
mod in_flight;
mod pipeline;
mod process;
mod wrong_count;
