//! The protocol: accept, relay, apply, settle, retry, over the adapters' ports.
//!
//! | step | module | promise |
//! |---|---|---|
//! | accept | [`accept`] | answered means: a journal entry or a committed row exists |
//! | switch | [`write_switch`] | likes go through the cache, or to the database first, as an operator orders; versions order both |
//! | relay | [`relay`] | accepted events are published at once, in batches; what is not confirmed stays in the journal |
//! | rescue | [`rescue`] | whatever is left in the journal is published again or applied directly: the journal is the truth, the queue only the fast way |
//! | apply | [`apply`] | one transaction per batch, then settle, then acknowledge; the event that fails alone is parked alone |
//! | retry | [`retry`] | parked events come back with backoff, then end as dead letters |
//! | refresh | [`refresh`] | degraded writes are told to the cache before it serves again |
//! | warm-up | [`warm`] | counters and pairs are cached before somebody asks, never over newer ones |
//! | live counts | [`live`] | whoever watches a count is told its newest value soon, never a history |
//! | traces | [`trace`] | sampled likes, each stage a span of the trace that is its event |
//! | operators | [`events`], [`explain`] | failed events are replayed or discarded, with exactly-once effect; one pair's story is told |
//! | retention | [`retention`] | completed and discarded events and old tombstones are deleted in bounded batches, by one owner at a time |
//!
//! Every step may stop at any point and may happen twice, late or in another order: what is true afterwards is decided
//! by versions ([`domain::fold()`]) in the database and by revisions in the cache, never by "was this seen before".
//!
//! Deliberately absent: a Redis consumer group. The accepting server publishes from memory; the journal is read only
//! for what got stuck, by one lease holder at a time.

pub mod accept;
pub mod apply;
pub mod circuit;
mod config;
mod confirm;
pub mod consume;
pub mod events;
pub mod explain;
pub mod live;
pub mod metrics;
mod planted;
pub mod probe;
pub mod read;
pub mod recheck;
pub mod refresh;
pub mod relay;
pub mod rescue;
pub mod retention;
pub mod retry;
mod stores;
pub mod trace;
pub mod warm;
pub mod write_switch;

pub use config::{CircuitConfig, RetentionConfig, RetryConfig, SyncConfig, WriteMode};
pub use domain::WritePath;
pub use stores::{PrepareError, Stores};
