//! RabbitMQ adapter: topology, publisher, consumer.
//!
//! The only crate that knows AMQP. Events travel as batches: one message carries what one publish call was given
//! ([`domain::codec`] is the body), so the broker's cost per event falls with load.
//!
//! ```text
//! exchange <prefix>.events (direct)  --likes-->  queue <prefix>.likes       quorum, bounded, reject-publish
//!                                                   | more than delivery_limit deliveries
//! exchange <prefix>.dead   (direct)  --likes-->  queue <prefix>.likes.dead  quorum, bounded, reject-publish
//! ```
//!
//! - [`Publisher`] says a batch is published only when the broker confirmed exactly that message and did not
//!   return it. Everything else is an error: the journal still holds the events, and publishing twice is harmless.
//! - [`Consumer`] hands out bodies as they came. Undecodable ones are for the caller to judge.
//!
//! Reconnecting is the caller's loop: an object that met an error drops its connection; the publisher opens a new one
//! with its next call, a consumer is replaced by a new one. Every connect declares the topology again, so a deleted
//! queue or a wiped broker needs no hand. The client library's own recovery is deliberately not used, because it
//! hides outages from the circuit breaker. Every wait has a deadline from [`BusConfig`].

mod config;
mod connection;
mod consumer;
mod error;
mod headers;
mod planted;
mod publisher;
mod topology;

pub use config::BusConfig;
pub use consumer::{Consumer, Delivery};
pub use error::{BusError, NotConfirmed};
pub use headers::{Headers, REASON_HEADER};
pub use publisher::{Publisher, QueueDepth};
