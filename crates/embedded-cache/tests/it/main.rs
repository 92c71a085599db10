//! The contract of a cache, recovery after any end, and what is particular to files.

mod contract;
mod disk;
mod recovery;
mod support;
