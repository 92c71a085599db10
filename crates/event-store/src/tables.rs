//! One module per table or group of tables that belong together: their rows, and the statements that one row needs.

pub(crate) mod archive;
pub(crate) mod check_runs;
pub(crate) mod deleted;
pub(crate) mod errors;
pub(crate) mod event_status;
pub(crate) mod fences;
pub(crate) mod findings;
pub(crate) mod fold;
pub(crate) mod glance;
pub(crate) mod keys;
pub(crate) mod ledger;
pub(crate) mod likes;
pub(crate) mod meta;
pub(crate) mod partitions;
pub(crate) mod processes;
pub(crate) mod recovery;
pub(crate) mod refreshes;
pub(crate) mod repair_token;
pub(crate) mod rights;
pub(crate) mod samples;
pub(crate) mod unlogged;
pub(crate) mod unpublished;
pub(crate) mod went_back;
pub(crate) mod writers;
