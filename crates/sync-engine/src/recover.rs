//! Recover: what got stuck or out of step comes right by itself: outbox entries that nobody delivered, writes around the
//! cache, fills that raced with a settlement, stores that answer again, a database that became what it once was
//! ([`automatic`]; its steps, [`replay`] and [`lost_pairs`], can be ordered, too).

pub mod automatic;
pub mod catch_up;
mod entry_age;
pub(crate) mod fences;
pub mod lost_pairs;
pub(crate) mod pace;
pub mod probe;
pub mod recheck;
mod recovery_journals;
mod recovery_report;
mod recovery_work;
pub mod redeliver;
pub mod replay;
