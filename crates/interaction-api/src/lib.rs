//! The gRPC service: checks input, limits callers, and hands likes to the engine.
//!
//! [`serve()`] is the process over any stores, shared by `interaction-server` and `standalone`; [`service`] the calls, [`admin`] those of
//! operators; [`dashboard`] their page;
//! [`convert`] decides what is valid; [`status`] is the one place where errors become gRPC codes; [`limits`] are this
//! process's own limits (the users' are in the cache).

pub mod admin;
pub mod convert;
pub mod dashboard;
pub mod health;
pub mod limits;
pub mod page;
mod serve;
pub mod service;
pub mod status;

pub use serve::{Sockets, serve};
