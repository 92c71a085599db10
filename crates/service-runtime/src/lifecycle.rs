//! From the command line to the exit code: start, shared context, waiting for stores, shutdown.

pub(crate) mod admit;
pub(crate) mod ask;
pub(crate) mod context;
pub(crate) mod failpoints;
pub(crate) mod routes;
pub(crate) mod run;
mod session;
pub mod small_page;
pub(crate) mod wait;
