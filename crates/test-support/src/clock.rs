//! This machine's clock, for tests.

use std::time::SystemTime;

/// Now; becomes a `DateTime` by `into()`.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn wall_clock() -> SystemTime {
    SystemTime::now()
}
