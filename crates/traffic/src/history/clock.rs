//! The clock of histories that several processes of one machine write.

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Microseconds since the machine started, the same for every process on it; nobody can set it.
pub fn now_micros() -> u64 {
    // The kernel refuses only clocks that it does not have.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
