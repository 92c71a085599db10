//! Processes that die at every point, and wrong versions of the protocol that must be found.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking; helpers too")]

mod aftermath;
mod alarm;
mod backwards;
mod brokers;
mod changes;
mod database_back;
mod database_failover;
mod demoted;
mod erasure;
mod failover;
mod follow;
mod kill;
mod last_word;
mod live;
mod people;
mod planted;
mod recovery;
mod recovery_time;
mod redo;
mod reshard;
mod reshard_lost;
mod reshard_refused;
mod rig;
mod running;
mod slot;
mod system;
