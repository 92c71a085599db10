//! RabbitMQ adapter: topology, publisher, consumer.
//!
//! The only crate that knows AMQP. Events travel as batches: one message carries what one publish call was given
//! ([`domain::codec`] is the body), so the broker's cost per event falls with load.
//!
//! ```text
//! exchange <prefix>.events (direct)  --likes-->  queue <prefix>.likes       quorum, bounded, reject-publish
//!                                                   | more than delivery_limit deliveries
//! exchange <prefix>.dead   (direct)  --likes-->  queue <prefix>.likes.dead  quorum, bounded, reject-publish
//! exchange <prefix>.events (direct)  --likes.logged-->  both queue <prefix>.likes and
//!                                    --log-->    stream <prefix>.log        redo log, bounded in age and bytes
//! exchange <prefix>.changes (topic)   what others listen to, if it is wanted; nobody need listen
//! exchange <prefix>.events (direct)  --probe-->  queue <prefix>.probe       holds the last probe, expires
//! ```
//!
//! - [`Publisher`] says a batch is published only when the broker confirmed exactly that message and did not
//!   return it. Everything else is an error: the journal still holds the events, and publishing twice is harmless.
//! - The redo log ([`LogConfig`], [`Publisher::check_log`], [`LogReader`]) keeps what was published, also after it was consumed.
//! - [`ChangePublisher`] tells of what is committed, [`ChangeListener`] hears it.
//! - [`Consumer`] hands out bodies as they came, but no more of one than any of ours is long. Undecodable ones are for the caller
//!   to judge.
//!
//! Reconnecting is the caller's loop: an object that met an error drops its connection; the publisher opens a new one
//! with its next call, a consumer is replaced by a new one. Every connect declares the topology again, so a deleted
//! queue or a wiped broker needs no hand. The client library's own recovery is deliberately not used, because it
//! hides outages from the circuit breaker. Every wait has a deadline from [`BusConfig`].
//!
//! Without the feature `amqp` there is no client: the configuration is read and checked as ever, and every call of a
//! [`Publisher`] or [`Consumer`] is refused.

mod config;
mod error;
mod log;
mod message;
mod said;
mod turn;

#[cfg(feature = "amqp")]
mod changes;
#[cfg(feature = "amqp")]
mod connection;
#[cfg(feature = "amqp")]
mod consumer;
#[cfg(feature = "amqp")]
mod headers;
#[cfg(feature = "amqp")]
mod log_reader;
#[cfg(feature = "amqp")]
mod log_writer;
#[cfg(feature = "amqp")]
mod planted;
#[cfg(feature = "amqp")]
mod publisher;
#[cfg(feature = "amqp")]
mod sieve;
#[cfg(feature = "amqp")]
mod topology;

#[cfg(not(feature = "amqp"))]
mod absent;

#[cfg(not(feature = "amqp"))]
pub use absent::{ChangeListener, ChangePublisher, Consumer, LogReader, Publisher};
#[cfg(feature = "amqp")]
pub use changes::{ChangeListener, ChangePublisher};
pub use config::{BusConfig, ChangesConfig};
#[cfg(feature = "amqp")]
pub use consumer::Consumer;
pub use error::{BusError, NotConfirmed};
pub use log::{LogConfig, LogMessage, LogStart, LogState, LogStatus};
#[cfg(feature = "amqp")]
pub use log_reader::LogReader;
pub use message::{ChangeMessage, Delivery, Headers, QueueDepth, REASON_HEADER};
#[cfg(feature = "amqp")]
pub use publisher::Publisher;
pub use said::Said;
pub use turn::Turn;
