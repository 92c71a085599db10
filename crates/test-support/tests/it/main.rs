//! The servers, the proxy and the cleaning up, on real processes.

mod binary;
mod deployment;
mod groups;
mod leftovers;
mod preload;
mod proxy;
mod servers;
