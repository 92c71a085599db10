//! A call and its answers.

use domain::Version;
use std::time::{Duration, Instant};

/// A call takes effect within this time of its arrival or not at all; a caller's own shorter deadline counts instead.
/// Whoever waited longer, because this process was paused or a store slow, may have asked elsewhere and moved on.
pub const CALL_LIMIT: Duration = Duration::from_secs(3);

/// When a call arrived, in effect: until when it may take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// On the steady clock of this process.
    pub until: Instant,
}

impl Call {
    /// Arrived now, with all its time.
    pub fn arriving_now() -> Self {
        Self::arrived(tokio::time::Instant::now().into_std(), None)
    }

    /// Arrived at that moment; its caller waits for `patience`, if it said so.
    pub fn arrived(at: Instant, patience: Option<Duration>) -> Self {
        Self { until: at + patience.map_or(CALL_LIMIT, |patience| patience.min(CALL_LIMIT)) }
    }
}

/// A step of a call that took longer than this may have been a stop of this process.
const STOPPED: Duration = Duration::from_millis(50);

/// Within this time the runtime reads the sockets of callers.
const CANCELLED_WITHIN: Duration = Duration::from_millis(5);

/// Before the next step of a call takes effect, when the one before began at `since`: if that took long, the caller's
/// cancellation may wait in its socket, and the call is dropped here.
pub(super) async fn let_cancel(since: tokio::time::Instant) {
    if since.elapsed() > STOPPED {
        tokio::time::sleep(CANCELLED_WITHIN).await;
    }
}

/// What the caller of a like is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LikeAnswer {
    /// State after the call.
    pub liked: bool,
    /// Served count, if anybody could say.
    pub count: Option<i64>,
    /// Version of the state.
    pub version: Version,
    /// Whether this call (or the first one of its idempotency key) changed the state.
    pub changed: bool,
    /// Whether a part was unreachable.
    pub degraded: bool,
}

/// Why a like was not accepted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LikeError {
    /// The user is over the limit.
    #[error("too many likes by this user")]
    RateLimited {
        /// When the next one will be allowed.
        retry_after: Duration,
    },
    /// A bound is reached: too much is waiting to be written.
    #[error("overloaded: {what} is at its limit")]
    Overloaded {
        /// Which bound.
        what: &'static str,
        /// When a retry makes sense.
        retry_after: Duration,
    },
    /// Neither cache nor database can keep the promise now.
    #[error("unavailable: {reason}")]
    Unavailable {
        /// What is unreachable.
        reason: String,
        /// When a retry makes sense.
        retry_after: Duration,
    },
    /// The idempotency key was used for the other action on this pair: a key belongs to one call.
    #[error("idempotency_key: was used for the other action on this resource; a key belongs to one call")]
    KeyReused,
    /// The resource is deleted, and not restored.
    #[error("not found: the resource is deleted")]
    Deleted,
    /// The call's time was over before it could take effect; it has not, and will not.
    #[error("expired: the call was held up for too long")]
    Expired,
    /// A store refused the like for a reason of its own.
    #[error("refused: {0}")]
    Refused(String),
}

/// Result of one like.
pub type LikeResult = Result<LikeAnswer, LikeError>;

pub(super) fn no_answer() -> LikeResult {
    Err(LikeError::Refused("no answer".to_owned()))
}
