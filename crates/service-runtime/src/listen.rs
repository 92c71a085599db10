//! Listeners: what stands before every request, and the HTTP that operators use.

pub mod access;
pub mod api_error;
pub(crate) mod expiry;
pub(crate) mod gate;
pub(crate) mod incoming;
pub mod ops;
pub mod request;
pub(crate) mod request_id;
pub(crate) mod tls;
