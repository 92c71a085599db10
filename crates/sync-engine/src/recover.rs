//! Recover: what got stuck or out of step comes right by itself: outbox entries that nobody delivered, writes around the
//! cache, fills that raced with a settlement, stores that answer again. What somebody has to order is that a database which
//! came back from a copy is told again ([`replay`]).

pub mod catch_up;
mod entry_age;
pub mod lost_pairs;
pub mod probe;
pub mod recheck;
pub mod redeliver;
pub mod replay;
