//! The gRPC services over any stores: check input, limit callers, hand likes to the engine, answer operators.
//!
//! | room | what |
//! |---|---|
//! | [`assembly`] | the parts of a process that accepts likes; `interaction-server` and `standalone` start it |
//! | `grpc` | the gRPC stack: bounds, reflection, health, roles, and how it ends |
//! | [`service`] | the calls of callers; their limits, hot lists and streams |
//! | [`admin`] | the calls of operators, by gRPC and HTTP, a file for each |
//! | [`dashboard`] | their page |
//! | `openapi` | the description of ops HTTP, from the routes themselves |
//! | [`request`] | from the wire to the domain: what is valid, and how a mistake is named |
//! | [`status`] | the one place where errors become codes |
//!
//! Rooms use only rooms further down in this order.

pub mod admin;
pub mod assembly;
pub mod dashboard;
mod grpc;
mod openapi;
pub mod request;
pub mod service;
pub mod status;

pub use assembly::{Assembly, Running};
pub use grpc::Sockets;
