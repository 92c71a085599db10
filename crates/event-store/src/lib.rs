//! SQL adapter: the ledger of events, the likes, their counters and the history of behaviours, on MySQL, MariaDB
//! and SQLite.
//!
//! The database is where duplicates, reordering and replays end: [`EventStore::apply`] takes any batch of events any
//! number of times and leaves every row and every counter as if each event had come once and in order.
//!
//! - Writes are few multi-row statements in the text protocol, several in one round trip; values are typed literals
//!   and strings never reach SQL other than as hexadecimal.
//! - The row of a resource in `like_counts` is locked before anything of that resource is read: that lock is what puts
//!   all writers of a resource in a line. Locks are taken in one order everywhere: ledger, behaviours, counters.
//! - What differs between the databases is in one module, `dialect`.
//!
//! Every call is bounded in time and is tried again by itself after a deadlock; see [`StoreError`] for what callers
//! must tell apart.

mod apply;
mod audit;
mod config;
mod dialect;
mod direct;
mod error;
mod import;
mod ledger;
mod likes;
mod meta;
mod operate;
mod planted;
mod pool;
mod reads;
mod refresh;
mod repair;
mod retention;
mod retry;
mod runs;
mod sql;
mod store;
mod story;

pub use apply::Applied;
pub use audit::{Behavior, CountAudit, CountPage, LedgerAudit};
pub use config::DatabaseConfig;
pub use direct::DirectOutcome;
pub use error::StoreError;
pub use import::{HistoryPage, ImportOptions};
pub use ledger::{EventFilter, EventPage, EventStatus, LedgerEntry, StatusCount};
pub use operate::{MAX_ACTOR_LEN, Operation, OperatorAction, Pace};
pub use reads::{LikeCursor, LikePage, Liked};
pub use refresh::Refresh;
pub use repair::{CountRepaired, Fenced};
pub use retention::{PairCursor, PurgedTombstones};
pub use retry::{ClaimedEvent, FailedEvent, RetryFailure};
pub use runs::{FindingRecord, HourRecord, KindRecord, RunRecord, RunStatus};
pub use store::EventStore;
pub use story::{HistoryEntry, StoredRow, Story};
