//! Against a real broker: the shared one, or a private one where it is stopped.

mod consumer;
mod outages;
mod publisher;
mod support;
