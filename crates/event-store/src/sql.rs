//! The connection to the database: pool, dialects, scripts of typed literals, errors, and how a call is bounded.

#[cfg(feature = "mysql")]
pub(crate) mod account;
pub(crate) mod alone;
#[cfg(feature = "mysql")]
pub(crate) mod beats;
pub(crate) mod config;
pub(crate) mod dialect;
pub(crate) mod error;
pub(crate) mod gains;
pub(crate) mod horizon;
#[cfg(feature = "mysql")]
pub(crate) mod hosts;
pub(crate) mod lanes;
pub(crate) mod lately;
#[cfg(feature = "mysql")]
mod login;
#[cfg(feature = "mysql")]
mod mysql;
pub(crate) mod parts;
pub(crate) mod place;
pub(crate) mod plain;
pub(crate) mod pool;
mod probe;
#[cfg(feature = "mysql")]
pub(crate) mod replicas;
pub(crate) mod script;
#[cfg(feature = "mysql")]
pub(crate) mod silence;
pub(crate) mod store;
pub(crate) mod verdict;
