//! The embedded cache: pairs and counters in memory, the journal in files of its own. Nothing to install.
//!
//! Same port and same contract tests as the Redis cache. What is particular here:
//!
//! - **Answered is kept.** A like is answered after its record was handed to the operating system
//!   ([`Durability::Process`]: survives `kill -9`) or reached the disk ([`Durability::Host`]: survives a power failure).
//!   One thread writes whatever was appended while the write before was under way, so many likes share one sync.
//! - **Files.** `journal-<number>.log`: a header with every shard's accounting, then records, each with its checksum. Accepted
//!   and settled likes are both recorded. A file whose likes are all settled is deleted; every start begins a new one.
//!   Torn bytes at the end of the last file were never answered and are cut off; a damaged record anywhere else is a
//!   reason not to start.
//! - **After a restart** the journal, the shard clocks and the accounting are as they were. Pairs with unsettled likes are
//!   cached as "seen", counters are not cached: they are filled from the database, and each settlement heals them.
//!   Idempotency keys of unsettled likes are remembered. Forgotten are all other pairs, counters and keys, users' limits
//!   and leases.
//! - **A full disk** refuses likes ([`domain::cache::CacheError::Unavailable`]) and the writer tries on; a refused like
//!   may take effect later, as with any cache that did not answer.
//! - **Time** comes from the machine's clocks: versions from the wall clock, but never backwards within a shard, also
//!   across restarts; lifetimes and limits from the monotonic clock.
//! - **Memory** is bounded by [`EmbeddedConfig`]: what was not used for longest is forgotten first, except counters with
//!   likes on their way.
//!
//! The journal is hand-written: a storage engine would keep a log of its own beneath it, so an answer would cost two writes,
//! and none deletes a file by the accounting of shards.
//!
//! Deliberately absent: a second process on the same directory (a lock refuses it), compaction, and checkpoints of the
//! cached pairs (the database has them).

mod cache;
mod config;
mod error;
mod generations;
mod lease;
mod record;
mod recovery;
mod segment;
mod shard;
mod shards;
mod users;
mod wal;
mod writer;

pub use cache::{EmbeddedCache, Recovered};
pub use config::{Durability, EmbeddedConfig};
pub use error::OpenError;
