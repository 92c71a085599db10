//! This machine's clock, in one place.

use chrono::{DateTime, Utc};

/// For the ledger's own times, reports and traces; never to order likes: [`Stores::now`](crate::Stores::now) does that.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn wall_clock() -> DateTime<Utc> {
    DateTime::from(std::time::SystemTime::now())
}
