//! The redo log's settings, and what is known of it: the same with and without the client.

use serde::Deserialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// `rabbitmq.log`: a stream beside the likes queue that keeps what was published, also after it was consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Whether there is to be one; a broker without streams goes on without.
    pub enabled: bool,
    /// What is older is dropped; whole seconds.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    /// Most bytes on each node that has a replica; the oldest are dropped. Only whole files are dropped, of one part in 64 of
    /// this each, so the log is larger than its bounds by up to one.
    pub max_bytes: u64,
    /// Longest wait for the log's part in a confirm: what comes next goes without the log, and the message that waited once
    /// more. At most half of `rabbitmq.confirm_timeout` counts.
    #[serde(with = "humantime_serde")]
    pub confirm_timeout: Duration,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            max_age: Duration::from_secs(24 * 3_600),
            max_bytes: 4 << 30,
            confirm_timeout: Duration::from_secs(1),
        }
    }
}

impl LogConfig {
    const LEAST_AGE: Duration = Duration::from_secs(60);
    const MOST_AGE: Duration = Duration::from_secs(3_650 * 24 * 3_600);
    const LEAST_BYTES: u64 = 16 << 20;
    const MOST_BYTES: u64 = 1 << 50;

    pub(crate) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if !(Self::LEAST_AGE..=Self::MOST_AGE).contains(&self.max_age) {
            return Err(("log.max_age", "must be 1m to 3650days"));
        }
        if !(Self::LEAST_BYTES..=Self::MOST_BYTES).contains(&self.max_bytes) {
            return Err(("log.max_bytes", "must be 16777216 to 1125899906842624"));
        }
        if self.confirm_timeout.is_zero() {
            return Err(("log.confirm_timeout", "must be longer than 0"));
        }
        Ok(())
    }

    /// Bytes of one file; small ones cost the broker descriptors, and it takes no larger ones than 3 GB.
    #[cfg(feature = "amqp")]
    pub(crate) fn segment_bytes(&self) -> u64 {
        (self.max_bytes / 64).clamp(4 << 20, 1 << 30)
    }
}

/// Whether the log takes what is published.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LogState {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// It is bound beside the queue.
    Up,
    /// It is there and does not answer, or its node or the broker does not; likes go on without it, and it is looked at again.
    Down(String),
    /// This broker has none for us, in its words; likes go on without it.
    Absent(String),
    /// Nobody wants it.
    Off,
}

/// What this process knows of the log. Clones are the same knowledge.
#[derive(Debug, Clone, Default)]
pub struct LogStatus(Arc<Mutex<LogState>>);

impl LogStatus {
    /// As it was last seen.
    pub fn get(&self) -> LogState {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[cfg(feature = "amqp")]
    pub(crate) fn is_up(&self) -> bool {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) == LogState::Up
    }

    /// Says how it is from here on; whether that is news.
    #[cfg(feature = "amqp")]
    pub(crate) fn set(&self, state: LogState) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let news = *known != state;
        *known = state;
        news
    }
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStart {
    /// At the oldest message.
    First,
    /// At what was published at this time (milliseconds since 1970), or a little before: clocks differ.
    At(i64),
    /// At the message with this number.
    Offset(u64),
}

/// One message of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogMessage {
    /// Its number; they are in order of publication, and some are left out.
    pub offset: u64,
    /// When it was published, by the publisher's clock (milliseconds since 1970); what somebody else put there has none.
    pub at: Option<i64>,
    /// As published; may be anything.
    pub body: bytes::Bytes,
}
