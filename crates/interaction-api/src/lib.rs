//! The gRPC service: checks input, limits callers, and hands likes to the engine.
//!
//! [`serve()`] is the process over any stores, shared by `interaction-server` and `standalone`; [`service`] the calls, [`watch`] and
//! [`hot`] what they say of counts that move, [`admin`] the calls of operators, [`dashboard`] their page;
//! [`convert`] decides what is valid; [`status`] is the one place where errors become gRPC codes; [`limits`] are this
//! process's own limits (the users' are in the cache); [`access`] says which role each call needs.

pub mod access;
pub mod admin;
mod connection;
pub mod convert;
pub mod dashboard;
pub mod health;
pub mod hot;
pub mod limits;
pub mod page;
mod serve;
pub mod service;
pub mod status;
pub mod watch;

pub use serve::{Sockets, serve};
