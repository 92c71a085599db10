//! The protocol on real servers: what is promised must hold whatever is unreachable, late, doubled or broken.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking; helpers too")]

mod apply;
mod blame;
mod changes;
mod cluster;
mod cold;
mod consume;
mod dead_letters;
mod degraded;
mod deletion;
mod erasure;
mod errors;
mod flood;
mod full_letters;
mod future_rows;
mod journal;
mod keys;
mod leases;
mod near_cache;
mod not_found;
mod operators;
mod partitions;
mod racing;
mod redo_log;
mod relay;
mod repeated;
mod rig;
mod simulated;
mod startup;
mod surroundings;
mod switching;
mod trace;
mod warm;
