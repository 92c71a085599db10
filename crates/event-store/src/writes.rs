//! Transactions: apply and its relatives. All take their locks in the same order.

pub(crate) mod apply;
pub(crate) mod cut;
pub(crate) mod direct;
pub(crate) mod erase;
pub(crate) mod fence;
pub(crate) mod gains;
pub(crate) mod import;
pub(crate) mod operate;
pub(crate) mod redact;
pub(crate) mod repair;
pub(crate) mod retention;
pub(crate) mod retire;
pub(crate) mod retry;
pub(crate) mod walk;
pub(crate) mod walk_tombstones;
pub(crate) mod witness;
