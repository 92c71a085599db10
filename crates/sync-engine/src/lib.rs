//! The protocol: accept, relay, apply, settle, retry, over the adapters' ports.
//!
//! | room | what | promise |
//! |---|---|---|
//! | [`accept`] | one round trip to the cache; the database alone while the cache is unreachable, or first while an operator orders that | answered means: an outbox entry or a committed row exists |
//! | [`deliver`] | [`relay`](deliver::relay) publishes accepted events in batches; [`consumer`](deliver::consumer) takes them from the broker | what is not confirmed stays in the outbox (the *journal*) |
//! | [`apply`] | one transaction per batch, then settle, then acknowledge; [`retry`](apply::retry) brings failed events back with backoff | the event that fails alone is parked alone, and ends as a dead letter |
//! | [`recover`] | [`redeliver`](recover::redeliver) stuck outbox entries, [`catch_up`](recover::catch_up) of the cache with writes around it, [`recheck`](recover::recheck) of fills, [`probe`](recover::probe)s of the stores, [`automatic`](recover::automatic) recovery of a database that went back | nothing has to be done by hand |
//! | [`read`] | counts and states; [`warm_up`](read::warm_up) before somebody asks, [`live`](read::live) counts for watchers | a fill never replaces what is newer |
//! | [`operate`] | [`events`](operate::events) replayed or discarded, [`explain`](operate::explain), [`erase`](operate::erase) a user, [`retention`](operate::retention) | exactly-once effect; bounded batches, one owner at a time |
//! | [`stores`] | cache, database (for likes a [port](stores::like_database)), their [`circuit_breaker`](stores::circuit_breaker)s, the [`write_switch`](stores::write_switch) | |
//! | [`trace`], [`metrics`], [`clock`] | sampled likes as spans; every metric's name; this machine's time | |
//!
//! Rooms use only rooms further down in this order: accept and operate, read, recover, deliver, apply, stores.
//!
//! Every step may stop at any point and may happen twice, late or in another order: what is true afterwards is decided
//! by versions ([`domain::fold()`]) in the database and by revisions in the cache, never by "was this seen before".
//!
//! Entry points return boxed futures: an `async fn` is compiled again in every crate that awaits it.
//!
//! Deliberately absent: a Redis consumer group. The accepting server publishes from memory; the journal is read only
//! for what got stuck, by one lease holder at a time.

pub mod accept;
pub mod apply;
pub mod clock;
mod config;
pub mod deliver;
pub mod metrics;
pub mod operate;
mod planted;
pub mod read;
pub mod recover;
pub mod stores;
pub mod trace;

pub use config::{CircuitConfig, RecoveryConfig, RetentionConfig, RetryConfig, SyncConfig, WriteMode};
pub use domain::WritePath;
pub use stores::{PrepareError, Stores};
