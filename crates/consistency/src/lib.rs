//! The checker: proves that cache and database agree, tells lag from drift, and repairs without making anything worse.
//!
//! | compared | how | repaired by |
//! |---|---|---|
//! | cached counter and stored counter | cache first, then database; what is wrong must be the same at a second look | settling again; compare-and-set on the counter as it was seen |
//! | stored counter and live rows | one statement, so one snapshot | recount under the counter's lock, revision + 1 |
//! | rows and history (`user_behaviors`) | a row is never older than an entry read before it | applying the entry again: versions decide |
//! | history and ledger | every completed event of `data_consistency.history` is in the history | applying the event again |
//! | cached pairs and rows | every pair of the history that is cached; a newer cached pair must have its event in the journal | settling again; compare-and-set on the pair as it was seen |
//! | ledger | unfinished events that nobody takes up | reported: the retries' work |
//! | journals | entries that are too old, entries that the database has, foreign ones; accepted − settled = length | entries that the ledger has are settled |
//!
//! What is pending, or on the list of writes that the cache will be told, is *in flight*, never inconsistent, and is never written to: a repair carries what it saw, and what
//! changed since is left alone. All repairs carry a fencing token that both stores compare with the newest one
//! ([`repair::leader`]), so a checker that was paused and comes back can write nothing.
//!
//! Counters are derived from rows whatever the strategy: `cache_first` means that a cached like which no row has is
//! brought to the database, where `database_first` only reports it: erasing it could erase an accepted like.
//!
//! Deliberately absent: a search of the history by resource (it has no such index), so a deleted row is found by the
//! full sweep, not on demand; and any repair of what is merely late: that is the rescuer's and the retries' work.

mod config;
mod error;
mod finding;
mod inspect;
mod metrics;
pub mod openapi;
pub mod repair;
mod report;
mod run;

pub use config::{AutoFix, ConsistencyConfig, ReportConfig, Strategy};
pub use error::CheckError;
pub use finding::{CountConclusion, Finding, Kind, RepairAction, RepairNote, RepairResult, Side, Subject, Verdict};
pub use report::check_consistency::{CheckConsistency, named_resource};
pub use report::consistency_report::ConsistencyReport;
pub use report::routes::{described_routes, routes};
pub use report::{LagReport, ProcessState, Report};
pub use run::audit::Progress;
pub use run::checker::{CheckOutcome, Checker};
