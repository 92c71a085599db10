//! Listeners: what stands before every request, and the HTTP that operators use.

pub mod access;
mod address;
mod answer;
pub mod api_error;
pub mod assets;
mod bounds;
mod came;
mod connection;
pub(crate) mod expiry;
mod frames;
pub(crate) mod gate;
pub(crate) mod incoming;
mod leaving;
mod link;
pub mod ops;
mod places;
mod pressure;
pub mod reason;
pub mod request;
pub(crate) mod request_id;
mod slots;
mod socket;
mod sweep;
mod taken;
pub(crate) mod tls;
mod unfinished;
mod unsent;

pub use answer::Answer;
pub use connection::Connection;
pub use link::{Call, Link, Stage};
pub use places::{GREETING, SILENCE};
pub(crate) use places::{Limits, Places};
pub(crate) use pressure::Pressure;
pub use slots::Arrived;
pub use unfinished::{Bounded, RECEIVE_TIMEOUT, Refused, Unfinished, head_len};
pub use unsent::SEND_TIMEOUT;
