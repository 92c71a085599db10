//! Deliver: accepted events leave the outbox for the broker, and the consumer turns what the broker brings into rows.

mod afterwards;
mod change_events;
pub mod changes;
pub mod consumer;
pub mod dead_letters;
mod fate;
pub mod kept;
pub mod redo_log;
pub mod relay;
pub mod unpublished;
