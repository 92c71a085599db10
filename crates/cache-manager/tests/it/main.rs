//! The contract of a cache, and what is particular to Redis, on real servers.

mod addresses;
mod arity;
mod before;
mod cluster;
mod cluster_contract;
mod commits;
mod confirmed;
mod contract;
mod deleted;
mod following;
mod held;
mod lifetimes;
mod login;
mod meanings;
mod nodes;
mod numbers;
mod outages;
mod promoted;
mod repair;
mod reshard;
mod server;
mod support;
mod tls;
mod words;
