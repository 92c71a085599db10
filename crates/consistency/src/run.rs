//! Run: what is checked when. One checker holds the leader's lease and repairs; every comparison belongs to a run that is
//! written down.

mod again;
pub(crate) mod audit;
pub(crate) mod checker;
pub(crate) mod hot;
pub(crate) mod pass;
pub(crate) mod sweep;
