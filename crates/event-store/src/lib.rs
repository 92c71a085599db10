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
//! - What differs between the databases' SQL is in one module, `dialect`. MySQL's client is there with the feature
//!   `mysql` only.
//!
//! Every call is bounded in time and is tried again by itself after a deadlock; see [`StoreError`] for what callers
//! must tell apart.

mod planted;
mod reads;
mod sql;
mod tables;
mod writes;

pub use migrations::partitions::Cut;
pub use reads::audit::{Behavior, CountAudit, CountPage, DatedAhead, LedgerAudit};
pub use reads::errors::{ErrorGroup, ErrorGroups};
pub use reads::history::{HistoryEntry, PairHistory, StoredRow};
pub use reads::lag::RecentLags;
pub use reads::likes::{FreeState, LikeCursor, LikePage, Liked, Within};
pub use reads::standing::{LedgerStanding, Standing};
pub use sql::config::DatabaseConfig;
pub use sql::error::StoreError;
pub use sql::gains::Window;
pub use sql::plain::{check_database_url, connect_plain};
pub use sql::store::EventStore;
pub use sql::verdict::WentBack;
pub use tables::check_runs::{FindingRecord, HourRecord, KindRecord, RunRecord, RunStatus};
pub use tables::event_status::EventStatus;
pub use tables::fences::Erasure;
pub use tables::findings::{ClosedBy, FindingLife, FindingTotals};
pub use tables::glance::{Glance, Turn};
pub use tables::ledger::{EventFilter, EventPage, LedgerEntry, StatusCount};
pub use tables::partitions::Extended;
pub use tables::processes::ProcessRow;
pub use tables::recovery::{RecoveryNote, RecoveryStep};
pub use tables::refreshes::Refresh;
pub use tables::repair_token::Fenced;
pub use tables::rights::{Account, Role};
pub use tables::samples::Sample;
pub use tables::unpublished::{StoredStates, Unpublished, UnpublishedStanding};
pub use tables::writers::WRITERS_KEPT;
pub use writes::apply::{Applied, Marks};
pub use writes::cut::CutStep;
pub use writes::direct::{DirectOutcome, DirectResult, Interrupted, Reserved};
pub use writes::erase::IndexedRows;
pub use writes::import::{HistoryPage, ImportOptions};
pub use writes::operate::{MAX_ACTOR_LEN, Operation, OperatorAction, Pace};
pub use writes::repair::CountRepaired;
pub use writes::retention::{ArchivedTombstones, PairCursor};
pub use writes::retire::Retired;
pub use writes::retry::{ClaimedEvent, FailedEvent, RetryFailure};
pub use writes::walk::{WalkStep, Walked};
